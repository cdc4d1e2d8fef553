"""What the free-text experiment writes down: what is done in a sample, and what came of it."""

from typing import Any, Literal

from inspect_ai.util import StoreModel
from pydantic import BaseModel, Field

from self_steering.solvers import free_text_prompts as prompts
from self_steering.solvers.introspection_prompts import OPAQUE_LABEL
from self_steering.steering.framings import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.plan import Direction, Plan, Treatment

Arm = Literal["real", "placebo", "random", "other"]
ReadingName = Literal["cached", "uncached"]
Form = Literal["submitted", "prose", "forced"]


class FreeTextTrial(BaseModel):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        vector: The vector whose effect a description is graded against.
        arm: real applies `vector`; placebo applies it at strength zero; random applies a random direction of its norm;
            other applies another vector, while the grade is still for `vector`.
        applied: The vector that is applied, or whose norm the random direction takes.
        random_seed: Seed of the random direction, in the random arm only.
        distractor: A vector that is not applied in any arm, whose effect the description is graded against for comparison.
        dose: The dose of a take call that is inserted; the model chooses its own otherwise.
        primer: Which primer stands in the system prompt.
        framing: Which words are used.
        prompt: Which wording of the task is used.
        seed: Seed of everything that is sampled, the same in all arms.
    """

    vector: str
    arm: Arm
    applied: str
    random_seed: int | None = None
    distractor: str
    dose: float
    primer: str
    framing: FramingName
    prompt: str
    seed: int

    def treatment(self, unit: float) -> Treatment:
        """Return what taking the opaque label does, given the applied vector's default dose."""
        return Treatment(
            direction=Direction(vector=self.applied, random_seed=self.random_seed),
            unit_strength=0.0 if self.arm == "placebo" else unit,
        )

    def fill(self, text: str, **more: object) -> str:
        """Return one of the prompts with this trial's words in it."""
        words = FRAMINGS[self.framing]
        return text.format(
            label=OPAQUE_LABEL,
            noun=words.noun,
            a_noun=f"{words.article} {words.noun}",
            take_tool=words.take_tool,
            clear_tool=CLEAR_TOOL,
            submit_tool=prompts.SUBMIT_TOOL,
            **more,
        )


class Turn(BaseModel):
    """One generation.

    Attributes:
        name: Which one.
        plan: What was to be steered.
        receipts: What the engine did, one entry a window.
        computed_tokens: Tokens that were computed for it.
        prompt_tokens: Tokens of its prompt.
    """

    name: str
    plan: Plan
    receipts: list[dict[str, Any]]
    computed_tokens: int
    prompt_tokens: int


class Description(BaseModel):
    """One description of the effect.

    Attributes:
        name: cached or uncached.
        text: The model's own words.
        form: submitted through the tool; prose, the whole text of the closing turn; forced, where the cached turn had
            submitted, the uncached one did not, and was made to.
    """

    name: ReadingName
    text: str
    form: Form


class ExplorationState(StoreModel):
    """What the solver leaves for the scorer.

    Attributes:
        turns: Every generation, in order.
        descriptions: The cached and the uncached one; empty where there is none.
        inserted_take: Whether the take call was inserted, as the model had not taken the label in its first turn.
        active: Whether an effect was active while the description was written.
        problem: Why there is no description.
    """

    turns: list[Turn] = Field(default_factory=list)
    descriptions: list[Description] = Field(default_factory=list)
    inserted_take: bool = False
    active: bool = False
    problem: str = "the sample ended before a description was written"
