"""What a self-steering sample is, and what its solver leaves in the log, which leaves out what is None."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

from inspect_ai.util import StoreModel
from pydantic import BaseModel, ConfigDict, Field, model_validator

from self_steering.solvers.prompts import self_steer as prompts
from self_steering.solvers.readings import FreeplayArm, treatment
from self_steering.steering.calls import FramingName
from self_steering.steering.operations import ADD_ALONE, HOLDING, OPERATIONS, Operation
from self_steering.steering.plan import PlanError, Treatment
from self_steering.vectors.catalogue import VectorEntry, entry_of

Intent = Literal["neutral", "helpful", "mandatory"]
Framed = Literal["drugs", "aids", "vectors", "none"]
Labels = Literal["names", "opaque"]
Directions = Literal["overlapping", "orthogonal"]
Gauge = Literal["none", "true", "yoked", "inverted", "constant", "reminder"]
NO_GAUGE: Gauge = "none"
Ending = Literal["end_session", "turns", "sitter", "context", "base", "declined"]

RANDOM_DIRECTION = "random direction"
CORE_VECTORS = (
    "calm",
    "anxious",
    "melancholic",
    "curious",
    "focused",
    "creative",
    "dumbed_down",
    "honest",
    "golden_gate",
    "goblins",
)
TASK_MENU = (
    "focused",
    "persistent",
    "calm",
    "creative",
    "caffeine",
    "curious",
    "amphetamine",
    "honest",
    "dumbed_down",
    "ego_death",
)


class Condition(BaseModel):
    """One sample's condition.

    Attributes:
        framing: Words of the tools; none for the baseline without tools, in which steering is mentioned nowhere.
        arm: real; placebo (strength zero); random (a seeded random direction of the same norm under the true label);
            mislabelled (another vector of the menu under this label); prompt_only (nothing: the tool tells the effect in words).
        intent: neutral (there if wanted), helpful (others found them useful) or mandatory (one must be taken).
        menu: The vectors that can be taken.
        labels: What they are called: by their names with their effects told, or by opaque labels (x1, x2, …), dealt anew in each
            sample, of which nothing is told: they are known only by trying.
        own: What the library says of those that the catalogue lacks or tells otherwise.
        operators: What can be done with them, a tool each; left out of logs where they can only be added.
        directions: Overlapping as the library has them; or orthogonal: each vector of the menu without what it shares with those
            before it on the menu. Random directions are as they are. Left out of logs where they overlap.
        gauge: What the tool says that reads how strong a state is in the model's own messages: none, there is no such tool; true,
            how strong it is; yoked, how strong it is at the same turn of another rollout; inverted, minus how strong it is;
            constant, always 1; reminder, no number but a request to consider it. Left out of logs where there is no such tool.
        seed: Seed of the order that the list tool shows, of random directions, of labels, and of sampling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    framing: Framed = "vectors"
    arm: FreeplayArm = "real"
    intent: Intent = "neutral"
    menu: tuple[str, ...] = TASK_MENU
    labels: Labels = "names"
    own: dict[str, VectorEntry] = {}
    operators: tuple[Operation, ...] = Field(default=ADD_ALONE, exclude_if=lambda value: value == ADD_ALONE)
    directions: Directions = Field(default="overlapping", exclude_if=lambda value: value == "overlapping")
    gauge: Gauge = Field(default=NO_GAUGE, exclude_if=lambda value: value == NO_GAUGE)
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        if len(set(self.menu)) != len(self.menu) or not self.menu:
            raise ValueError(f"menu is {self.menu}; name vectors of the library, each once")
        if not self.operators or len(set(self.operators)) != len(self.operators):
            raise ValueError(f"operators is {self.operators}; name at least one of {', '.join(OPERATIONS)}, each once")
        if self.arm == "prompt_only" and self.operators != ADD_ALONE:
            raise ValueError(
                f"operators is {', '.join(self.operators)} and arm prompt_only; words cannot tell them apart: leave one out"
            )
        if self.gauge != NO_GAUGE and (self.arm == "prompt_only" or self.framing == "none"):
            without = (
                "arm prompt_only; nothing is steered" if self.arm == "prompt_only" else "framing none; it has no tools"
            )
            raise ValueError(f"gauge is {self.gauge} and {without}: leave one out")
        if self.arm == "mislabelled" and len(self.menu) < 2:
            raise ValueError(f"menu is {self.menu}; the mislabelled arm needs at least two vectors to swap")
        if self.arm == "mislabelled" and self.labels == "opaque":
            raise ValueError(
                "labels is opaque and arm mislabelled; opaque labels say nothing that could be wrong: leave out one"
            )
        return self

    @classmethod
    def of_sample(cls, metadata: Mapping[str, Any], menu: Sequence[str]) -> Self:
        """Return the condition that a sample's metadata tells: framing and seed, and with tools arm, intent and labels."""
        names = ["framing", "seed"]
        if metadata["framing"] != "none":
            names += ["arm", "intent", *(name for name in ("labels", "directions", "gauge") if name in metadata)]
        operators = tuple(metadata.get("operators", "add").split(","))
        return cls(**{name: metadata[name] for name in names}, menu=tuple(menu), operators=operators)

    @property
    def tools_framing(self) -> FramingName | None:
        """The framing of the tools; None where there are none."""
        return None if self.framing == "none" else self.framing

    @property
    def offered(self) -> dict[str, str]:
        """For each label that can be taken, in the order that this sample's list tool shows, the vector that it stands for."""
        shown = list(self.menu)
        random.Random(f"menu/{self.seed}").shuffle(shown)
        if self.labels == "names":
            return {name: name for name in shown}
        labels = [f"x{number}" for number in range(1, len(shown) + 1)]
        random.Random(f"opaque/{self.seed}").shuffle(labels)
        return dict(zip(labels, shown, strict=True))

    @property
    def effects(self) -> dict[str, str]:
        """For each label, in the same order, the one-line effect of what it stands for."""
        return {label: entry_of(vector, self.own).effect for label, vector in self.offered.items()}

    @property
    def listed(self) -> dict[str, str]:
        """For each label, in the same order, what the list tool says of it."""
        return self.effects if self.labels == "names" else dict.fromkeys(self.offered, prompts.UNTOLD)

    def stands_for(self, label: str) -> str:
        """Return the vector that a label stands for: of a name itself; of an opaque label that is not offered, nothing."""
        return label if self.labels == "names" else self.offered.get(label, "")

    def applied(self, label: str) -> str:
        """Return which vector is applied when `label` is taken."""
        name = self.stands_for(label)
        if self.arm != "mislabelled":
            return name
        # A cycle through a shuffled menu: no label keeps its own vector.
        cycle = sorted(self.menu)
        random.Random(f"labels/{self.seed}").shuffle(cycle)
        return cycle[(cycle.index(name) + 1) % len(cycle)]

    def treatments(self, default_doses: Mapping[str, float]) -> dict[str, Treatment]:
        """Return what taking each label does.

        Args:
            default_doses: For each vector of the library the multiple of it that dose 1.0 adds.

        Raises:
            PlanError: The library lacks a vector of the menu.
        """
        missing = [name for name in self.menu if name not in default_doses]
        if missing:
            raise PlanError(
                f"the menu has {', '.join(missing)}, which the library lacks; it has {', '.join(sorted(default_doses))}"
            )
        result = {}
        for label in self.offered:
            applied = self.applied(label)
            before = self.menu[: self.menu.index(applied)] if self.directions == "orthogonal" else ()
            result[label] = treatment(
                self.arm,
                applied,
                default_doses[applied],
                self.seed % 2**31,
                apart_from=() if self.arm == "random" else before,
            )
        return result


def asked(operation: Operation, name: str) -> str:
    """Return what a take asked for: its name and, where it is no addition, its operation."""
    return name if operation == "add" else f"{operation} {name}"


class Take(BaseModel):
    """One call of the take tool.

    Attributes:
        turn: Number of the turn, of those that the model wrote.
        order: Number of the call in the sample.
        name: What was asked for; empty where the call names nothing.
        taken: What was applied: a vector, or `random direction`; empty for a call that failed.
        dose: The dose that was asked for; None where it is no number.
        strength: Strength of the operation, of an addition the multiple of the direction; 0 under placebo, None for a call that
            failed.
        ok: Whether the call succeeded; None where the sample ended before its answer.
        scripted: Whether the task inserted it.
        after_sitter: Whether the trip sitter had cleared effects before.
        operation: What was to be done with it; left out of logs where it was added.
    """

    turn: int
    order: int
    name: str
    taken: str
    dose: float | None = None
    strength: float | None = None
    ok: bool | None = None
    scripted: bool
    after_sitter: bool
    operation: Operation = Field(default="add", exclude_if=lambda value: value == "add")

    @property
    def asked(self) -> str:
        """What was asked for, and for which operation where it is no addition: `ablate calm`."""
        return asked(self.operation, self.name)


class Exposure(BaseModel):
    """One effect and how much of the conversation it steered, from the engine's receipts.

    Attributes:
        name: What was taken.
        applied: The vector that was applied, or `random direction`.
        dose: The dose.
        strength: Strength of the operation, of an addition the multiple of the direction.
        start: First message that was steered.
        stop: First message that was no longer; None while it is active.
        positions: Token positions that it steered, generated ones among them, up to the last generation.
        in_thoughts: How many of them are tokens of thoughts.
        operation: What was done; left out of logs where it was added.
    """

    name: str
    applied: str
    dose: float
    strength: float
    start: int
    stop: int | None = None
    positions: int
    in_thoughts: int = 0
    operation: Operation = Field(default="add", exclude_if=lambda value: value == "add")

    @property
    def asked(self) -> str:
        """What was asked for, and for which operation where it is no addition: `ablate calm`."""
        return asked(self.operation, self.name)


class SitterCheck(BaseModel):
    """One judgement of the trip sitter.

    Attributes:
        turn: After which turn.
        lost: Whether the model was found to be lost; None where no judgement could be had.
        reason: Why, or what failed.
        by: Who judged: rules or model.
        action: What was done: nothing, cleared or ended.
    """

    turn: int
    lost: bool | None = None
    reason: str
    by: str
    action: Literal["nothing", "cleared", "ended"] = "nothing"


class Answer(BaseModel):
    """A debrief question and what the model answered."""

    question: str
    answer: str


class SelfSteerState(StoreModel):
    """What the solver leaves for scorers and tables.

    Attributes:
        condition: The sample's condition.
        takes: Every take call, in order, failed ones too.
        clears: Clear calls that succeeded.
        calls: Tool calls of all kinds that the model made.
        unread_calls: Those of them that could not be read, or were too many.
        looked_like_a_call: How often its text looked like a call and was none of an offered tool.
        exposures: How much each effect steered.
        turns: Turns that the model wrote.
        ended: What ended the session; empty where it was cut off.
        sitter_checks: The trip sitter's judgements.
        sitter_clears: How often it cleared all effects.
        sitter_errors: How often no judgement could be had.
        opted_in: Whether the model asked for the tools; None where it was not asked, or gave no clear answer.
        opt_in_answer: Its own words.
        debrief: The closing interview.
        computed_tokens: Tokens that were computed.
        prompt_tokens: Tokens that computing each generation alone would have taken.
        simulated: Whether the model could not be steered, and was told in words what it would have been steered by.
    """

    condition: dict[str, Any] = Field(default_factory=dict)
    takes: list[Take] = Field(default_factory=list)
    clears: int = 0
    calls: int = 0
    unread_calls: int = 0
    looked_like_a_call: int = 0
    exposures: list[Exposure] = Field(default_factory=list)
    turns: int = 0
    ended: str = ""
    sitter_checks: list[SitterCheck] = Field(default_factory=list)
    sitter_clears: int = 0
    sitter_errors: int = 0
    opted_in: bool | None = None
    opt_in_answer: str = ""
    debrief: list[Answer] = Field(default_factory=list)
    computed_tokens: int = 0
    prompt_tokens: int = 0
    simulated: bool = False

    def read_condition(self) -> Condition:
        """Return the condition that the session was held under."""
        return Condition.model_validate(self.condition)


def operators_noted(operators: Iterable[Operation]) -> dict[str, str]:
    """Return what a sample's metadata says of its operators: nothing where vectors can only be added."""
    return {} if tuple(operators) == ADD_ALONE else {"operators": ",".join(operators)}


def needs_neutral(operators: Iterable[Operation], gauges: Iterable[str]) -> bool:
    """Return whether the mean of neutral text is needed: some operation holds on to it, or some gauge counts from it."""
    return bool(HOLDING & set(operators) or set(gauges) - {NO_GAUGE})


class Level(BaseModel):
    """How strong a state is in some of the model's own messages, in doses, and what that follows from.

    Attributes:
        turn: Number of the last of these messages, of those that the model wrote.
        name: What it is called: what a take of this name moves, whatever its arm puts behind the label.
        last: How many of its messages are measured.
        value: (projection - neutral) / per_dose: 0 is ordinary text, 1 where taking dose 1 would bring it.
        projection: Mean of h·v/‖v‖ over all tokens of these messages, after all steering, at the monitor layer.
        neutral: The same over the neutral stories.
        per_dose: What dose 1 adds to it, at all layers up to the monitor layer; under placebo what it would add. A clamp at dose 1
            holds less: it counts what is added at its own layer (`operations`).
        positions: How many tokens there are.
        computed_tokens: Tokens that were computed for it.
    """

    turn: int
    name: str
    last: int
    value: float
    projection: float
    neutral: float
    per_dose: float
    positions: int
    computed_tokens: int


class GaugeReading(BaseModel):
    """One answer of the tool that reads.

    Attributes:
        level: What was true.
        shown: The number in the answer; None where there was none.
        other: Of a yoked gauge, the level in the other rollout that was shown.
    """

    level: Level
    shown: float | None = None
    other: Level | None = None


class GaugeState(StoreModel):
    """What is left of the gauge; only in samples that have one, or whose state is to be brought somewhere.

    Attributes:
        readings: Every answer of the tool that reads, in order.
        levels: How strong the state that is to be brought somewhere was after each turn, over that turn's message.
        other: Of a yoked gauge, how many turns the other rollout has.
    """

    readings: list[GaugeReading] = Field(default_factory=list)
    levels: list[Level] = Field(default_factory=list)
    other: int | None = None
