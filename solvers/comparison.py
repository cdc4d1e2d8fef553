"""The comparison script: two sentences steered by the same vector, one harder; which one?

The text never changes. Both assignments of the two doses to the two sentences are read, each with the two options in both orders,
so that a liking for a sentence, a place or a letter cancels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inspect_ai.model import ChatMessage, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from self_steering.solvers.debrief import Account
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import segments as prompts
from self_steering.solvers.prompts.self_steer import ON_WHICH_OF_TWO
from self_steering.solvers.readings import default_dose
from self_steering.solvers.segments import Injection, Question, numbered_turns, read_script

FIRST_HARDER, SECOND_HARDER = "first harder", "second harder"
FIRST, SECOND = "first", "second"


class ComparisonTrial(Injection):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        weaker: The smaller dose, as a multiple of the library's default dose.
        stronger: The larger dose.
        sentences: The two sentences in the order shown.
    """

    weaker: float
    stronger: float
    sentences: tuple[str, str]


@solver
def compare(library: str | None = None) -> Solver:
    """Show both sentences, and read which one the model says was steered harder.

    Args:
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        first, second = comparison_imposes(get_model(), state.metadata, library=library)
        steerings = {FIRST_HARDER: first.windows, SECOND_HARDER: second.windows}
        await read_script(state, first.messages, steerings, comparison_questions(), library=library)
        return state

    return solve


def comparison_imposes(model: Model, metadata: Mapping[str, Any], *, library: str | None) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: both sentences, the first harder, then the second, for both questions."""
    trial = ComparisonTrial.model_validate(metadata)
    unit = default_dose(model, library, trial.vector)
    script, places = comparison_script(trial)
    for doses in ((trial.stronger, trial.weaker), (trial.weaker, trial.stronger)):
        windows = [trial.window(place, dose, unit) for place, dose in zip(places, doses, strict=True)]
        yield Imposition(script, windows, len(comparison_questions()))


def comparison_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: on which of the two sentences something acted, the first having been steered harder."""
    done = next(comparison_imposes(model, metadata, library=library))
    return Account(done.messages, done.windows, [FIRST, SECOND], [[FIRST], [SECOND]], ON_WHICH_OF_TWO)


def comparison_script(trial: ComparisonTrial) -> tuple[list[ChatMessage], list[int]]:
    """Return the conversation up to the question, and the index of each sentence's message."""
    return numbered_turns(prompts.COMPARISON_SYSTEM, prompts.COMPARISON_OPENING, trial.sentences)


def comparison_questions() -> list[Question]:
    """Return the question with its two options in both orders."""
    first, second = prompts.PLACES
    item = "harder"
    return [
        Question(item, item, prompts.COMPARISON_QUESTION.format(a=first, b=second), {FIRST: ["A"], SECOND: ["B"]}),
        Question(item, item, prompts.COMPARISON_QUESTION.format(a=second, b=first), {FIRST: ["B"], SECOND: ["A"]}),
    ]
