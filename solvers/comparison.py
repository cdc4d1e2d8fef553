"""The comparison script: two sentences steered by the same vector, one harder; which one?

The text never changes. Both assignments of the two doses to the two sentences are read, each with the two options in both orders,
so that a liking for a sentence, a place or a letter cancels.
"""

from functools import partial

from inspect_ai.model import ChatMessage, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from self_steering.solvers.prompts import segments as prompts
from self_steering.solvers.readings import default_dose
from self_steering.solvers.segments import UNCACHED, Injection, Question, StretchState, numbered_turns, read_questions

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
        model = get_model()
        trial = ComparisonTrial.model_validate(state.metadata)
        unit = default_dose(model, library, trial.vector)
        script, places = comparison_script(trial)
        questions = comparison_questions()
        doses = {FIRST_HARDER: (trial.stronger, trial.weaker), SECOND_HARDER: (trial.weaker, trial.stronger)}
        read = partial(read_questions, steered_from=places[0], library=library)
        readings = []
        for name, of_name in doses.items():
            windows = [trial.window(place, dose, unit) for place, dose in zip(places, of_name, strict=True)]
            found, asked, output = await read(model, name, script, windows, questions)
            readings += found
            if name == FIRST_HARDER:
                state.messages, state.output = [*asked, output.message], output
        uncached, _, _ = await read(model, UNCACHED, script, (), questions)
        StretchState(store=state.store).readings = [*readings, *uncached]
        return state

    return solve


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
