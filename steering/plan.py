"""From messages to windows: which stretch of a conversation is steered by what, as a pure function.

The transcript is the only truth. Nothing else remembers what is active: the plan is replayed from the messages each
time, travels in the request, and lands in the log. It speaks of messages; only the provider knows tokens.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Literal, Self

from inspect_ai.model import ChatMessage
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from self_steering.steering.calls import DEFAULT_DOSE, Active, active_takes
from self_steering.steering.operations import HOLDING, Operation
from self_steering.vectors.shown import shown

MAX_DOSE = 10.0
_SINGLE = 2.0**-23  # the distance from 1 to the next number in float32, in which additions are summed
Site = Literal["both", "user", "assistant", "answers"]


class PlanError(ValueError):
    """A plan that cannot be applied; the message names the value, the valid choices and the remedy."""


class Direction(BaseModel):
    """Which residual-stream direction is added, or operated along.

    Attributes:
        vector: Name of a vector of the library.
        random_seed: If set, not the vector itself but one of a seeded set of random directions, orthogonal to the vector
            and to each other, with the vector's norm in each layer.
        random_index: Which of the set.
        apart_from: Vectors of the library with which it is to have nothing in common: what the vector shares with them is taken off
            in each layer, and what is left is made as long as the vector was; left out of logs where there are none.

    Example:
        >>> Direction(vector="calm", random_seed=7).label  # as long as `calm` in each layer, and orthogonal to it
        'random direction, norm of calm'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vector: str
    random_seed: int | None = None
    random_index: int = 0
    apart_from: tuple[str, ...] = Field(default=(), exclude_if=lambda value: value == ())

    @property
    def label(self) -> str:
        """What it is called where no tool has named it."""
        return self.vector if self.random_seed is None else f"random direction, norm of {self.vector}"


class Treatment(BaseModel):
    """What taking a label really does: an arm maps labels to treatments, the model sees only labels.

    Attributes:
        direction: What is added, or operated along.
        unit_strength: Multiple of the direction added at dose 1.0; 0 is the placebo, of every operation.

    Example:
        >>> placebo = Treatment(direction=Direction(vector="calm"), unit_strength=0)
        >>> placebo.unit_strength
        0.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Direction
    unit_strength: float

    def at(self, operation: Operation, dose: float) -> tuple[float, float | None]:
        """Return strength and target of an operation at a dose, as `Window` has them.

        The dose of an addition and of a clamp counts in multiples of the direction times `unit_strength`, so that a clamp at dose 1
        holds the projection where an addition of dose 1 would take that of a neutral text. That of a gain is its strength.

        Example:
            >>> calm = Treatment(direction=Direction(vector="calm"), unit_strength=0.6)
            >>> [calm.at(operation, 2.0) for operation in ("add", "clamp", "gain")]
            [(1.2, None), (1.0, 1.2), (2.0, None)]
        """
        if operation == "add":
            return dose * self.unit_strength, None
        on = float(self.unit_strength != 0)
        return (on, dose * self.unit_strength) if operation in HOLDING else (on * dose, None)


class Window(BaseModel):
    """A stretch of conversation during which one direction is active.

    Attributes:
        label: What the model called it.
        direction: What is added, or operated along.
        dose: The number that the model passed; of an ablation, which takes none, 0.
        strength: Multiple of the direction that is added: h' = h + strength * v, at each of its layers. h' is not
            renormalised. Of other operations their strength (`operations`): 1 of a clamp or an ablation, the gain of a gain; 0
            changes nothing, by the same way.
        start: Index of the first message that is steered, from its first token.
        stop: Index of the first message that is no longer steered; None while the window is open, so that all that
            follows, generated tokens too, is steered.
        part: `whole` steers all tokens of its messages. `answer` steers what one assistant message says to the user, without its
            thoughts, its calls, and what the template writes around them; and what is generated, if no thought is open there.
        tokens: Of a window over one message, the first of its tokens that is steered and the first that is no longer, counted from
            the message's first; None steers all.
        operation: What is done with the direction; left out of logs where it is added.
        target: Of a clamp and an ablation, where the projection is held: so many multiples of the direction from the mean of
            neutral text; left out of others.

    Example:
        >>> window = Window(label="d1", direction=Direction(vector="calm"), dose=2.0, strength=1.2, start=3, stop=6)
        >>> window.stop - window.start  # messages 3, 4 and 5
        3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    direction: Direction
    dose: float
    strength: float
    start: int
    stop: int | None = None
    part: Literal["whole", "answer"] = "whole"
    tokens: tuple[int, int] | None = None
    operation: Operation = Field(default="add", exclude_if=lambda value: value == "add")
    target: float | None = Field(default=None, exclude_if=lambda value: value is None)

    @field_validator("dose", "strength", "target")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number; give a number such as 1.0")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start < 0 or (self.stop is not None and self.stop < self.start):
            raise ValueError(f"window over messages {self.start} to {self.stop}; expected 0 <= start <= stop")
        if (self.target is not None) != (self.operation in HOLDING):
            raise ValueError(
                f"{self.operation} with target {self.target}; give one to {' and '.join(sorted(HOLDING))}, and to nothing else"
            )
        if self.tokens is not None and (
            self.stop != self.start + 1 or self.part != "whole" or not 0 <= self.tokens[0] < self.tokens[1]
        ):
            raise ValueError(
                f"tokens {self.tokens} of messages {self.start} to {self.stop}; name one message, and first and last + 1"
            )
        return self


class Plan(BaseModel):
    """All windows of a conversation.

    Attributes:
        messages: How many messages the conversation has; the provider refuses a plan made for another number.
        windows: Windows in the order in which they were opened; where several are active they act in that order (`operations`),
            and additions add up.

    Example:
        >>> open_window = Window(label="d1", direction=Direction(vector="calm"), dose=1.0, strength=0.6, start=2)
        >>> plan = Plan(messages=4, windows=(open_window,))
        >>> plan.without_windows()  # the uncached reading
        Plan(messages=4, windows=())
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: int
    windows: tuple[Window, ...] = ()

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for window in self.windows:
            if window.start > self.messages or (window.stop or 0) > self.messages:
                raise ValueError(
                    f"window {window.label!r} spans messages {window.start} to {window.stop}, but the conversation has "
                    f"{self.messages}; make the plan from the very messages that are sent"
                )
        return self

    def without_windows(self) -> "Plan":
        """Return the plan of the uncached reading: the same conversation, nothing steered."""
        return Plan(messages=self.messages)


def at_site(plan: Plan, messages: Sequence[ChatMessage], site: Site) -> Plan:
    """Return a plan that steers, of every window, only the messages of one side.

    Args:
        plan: The plan.
        messages: The conversation that it was made for.
        site: `assistant` steers what the assistant said (and will say while a window is open), `user` everything else: user
            messages and tools' answers; `answers` steers of the assistant's side only what it says to the user, without thoughts
            and calls; `both` changes nothing.
    """
    if site == "both":
        return plan
    assistant = site != "user"
    ours = [(message.role == "assistant") == assistant for message in messages]
    windows: list[Window] = []
    for window in plan.windows:
        stop = len(messages) if window.stop is None else window.stop
        runs = groupby(range(window.start, stop), key=ours.__getitem__)
        spans: list[tuple[int, int | None]] = [
            (run[0], run[-1] + 1) for keep, found in runs if keep and (run := list(found))
        ]
        if site == "answers":
            every = [index for start, end in spans for index in range(start, end or stop)]
            last = len(messages) - 1 if window.stop is None else None  # it is continued
            spans = [(index, index + 1) for index in every if messages[index].text.strip() or index == last]
        if window.stop is None and assistant:
            spans = [*spans[:-1], (spans[-1][0], None)] if spans and ours[-1] else [*spans, (len(messages), None)]
        update: dict[str, object] = {"part": "answer"} if site == "answers" else {}
        windows += [window.model_copy(update={**update, "start": start, "stop": end}) for start, end in spans]
    return Plan(messages=plan.messages, windows=tuple(windows))


def check_dose(
    dose: object,
    max_dose: float = MAX_DOSE,
    what: str = "dose",
    min_dose: float = 0.0,
    operation: Operation = "add",
) -> float:
    """Return `dose` as a float; of an ablation, which takes none, 0.

    Args:
        dose: The value.
        max_dose: Largest absolute dose.
        what: What it is called in errors.
        min_dose: Smallest absolute dose but 0; a projection may be held as little off the neutral mean as it likes.
        operation: What the dose is of.

    Raises:
        PlanError: It is no finite number within ±`max_dose`, or too small. Negative doses are valid: they invert the effect.
    """
    if operation == "ablate":
        return 0.0
    # isfinite raises on whole numbers that are too large for a float.
    odd = isinstance(dose, float) and not math.isfinite(dose)
    if odd or isinstance(dose, bool) or not isinstance(dose, int | float):
        raise PlanError(
            f"{what} {shown(dose)} is not a finite number; pass a number from {-max_dose:g} to {max_dose:g}"
        )
    if abs(dose) > max_dose:
        raise PlanError(f"{what} {shown(dose)} is out of range; pass a number from {-max_dose:g} to {max_dose:g}")
    if 0 < abs(dose) < min_dose and operation not in HOLDING:
        raise PlanError(
            f"{what} {shown(dose)} is too small to have any effect; pass 0, or a number of at least {_rounded_up(min_dose):g} "
            "or its negative"
        )
    return float(dose)


def check_sum(doses: Sequence[float], min_dose: float) -> None:
    """Refuse a dose that takes nearly all of those that are active back.

    What is left of them would be lost where it is added, as a dose would that is too small by itself. Where nothing is left but a
    rounding error, nothing is added, as by a dose of 0.

    Args:
        doses: Those of one name that are active, and last the new one.
        min_dose: Smallest absolute dose but 0.

    Raises:
        PlanError: Their sum is too small.
    """
    *before, dose = doses
    left, rounding = math.fsum(doses), _SINGLE * math.fsum(map(abs, doses))
    if rounding < abs(left) < min_dose and before:
        active = math.fsum(before)
        raise PlanError(
            f"dose {dose:g} would leave {left:.2g} of the {active:g} that is active, too little to have any effect; pass "
            f"{-active:g} to take it back, or another number"
        )


def _rounded_up(number: float) -> float:
    """Return the next number of two digits that is no smaller."""
    digit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / digit) * digit


def plan_windows(
    messages: Sequence[ChatMessage],
    treatments: Mapping[str, Treatment],
    *,
    outside_clears: Collection[int] = (),
    max_dose: float = MAX_DOSE,
) -> Plan:
    """Replay a conversation into its plan.

    A take call, of any operation's tool, in assistant message k opens a window at message k + 1, so that the tool's answer is
    steered. It closes at the end of the assistant message that calls `clear_effects`, or before a message in `outside_clears`.
    Calls that could not be parsed, or that the tool answered with an error, never took effect and open nothing.

    Args:
        messages: The conversation, as it is sent to the model.
        treatments: For every label that can be taken, what taking it does.
        outside_clears: Indices of messages before which all effects were cleared from outside; the number of messages
            stands for the one that is generated next.
        max_dose: Largest absolute dose.

    Example:
        >>> from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser
        >>> from inspect_ai.tool import ToolCall
        >>> take = ToolCall(id="1", function="take_vector", arguments={"name": "calm"})
        >>> messages = [
        ...     ChatMessageUser(content="Explore."),
        ...     ChatMessageAssistant(content="", tool_calls=[take]),
        ...     ChatMessageTool(content="calm is active at dose 1.", tool_call_id="1"),
        ... ]
        >>> treatments = {"calm": Treatment(direction=Direction(vector="calm"), unit_strength=0.6)}
        >>> [(window.label, window.strength, window.start, window.stop) for window in plan_windows(messages, treatments).windows]
        [('calm', 0.6, 2, None)]

    Raises:
        PlanError: An effective call names an unknown label or an invalid dose, or there is no message to clear before.
    """
    nowhere = sorted(i for i in outside_clears if not 0 <= i <= len(messages))
    if nowhere:
        raise PlanError(f"outside_clears has {nowhere}; pass indices of messages, from 0 to {len(messages)}")
    windows = [_window(one, treatments, max_dose) for one in active_takes(messages, outside_clears)]
    return Plan(messages=len(messages), windows=tuple(w for w in windows if w.start != w.stop))


def _window(taken: Active, treatments: Mapping[str, Treatment], max_dose: float) -> Window:
    call = taken.call.call
    label = call.arguments.get("name")
    if not isinstance(label, str) or label not in treatments:
        raise PlanError(f"unknown name {shown(label)} in {call.function}; valid names: {', '.join(sorted(treatments))}")
    operation = taken.call.operation
    dose = check_dose(call.arguments.get("dose", DEFAULT_DOSE), max_dose, operation=operation)
    treatment = treatments[label]
    strength, target = treatment.at(operation, dose)
    return Window(
        label=label,
        direction=treatment.direction,
        dose=dose,
        strength=strength,
        start=taken.start,
        stop=taken.stop,
        operation=operation,
        target=target,
    )
