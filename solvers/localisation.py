"""The localisation script: lettered sentences, one of them steered while it is read; which one was it?"""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from inspect_ai.model import ChatMessage, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from self_steering.solvers.debrief import Account
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import segments as prompts
from self_steering.solvers.prompts.self_steer import ON_WHICH_SENTENCES
from self_steering.solvers.readings import CACHED, default_dose
from self_steering.solvers.segments import Injection, Question, numbered_turns, read_script


class LocalisationTrial(Injection):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        dose: Multiple of the library's default dose.
        sentences: The sentences in the order shown.
        position: Index of the steered one.
    """

    dose: float
    sentences: list[str]
    position: int


@solver
def localise(library: str | None = None) -> Solver:
    """Show the sentences, and read the probability of each letter, cached and uncached.

    Args:
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        trial = LocalisationTrial.model_validate(state.metadata)
        steered = next(localisation_imposes(get_model(), state.metadata, library=library))
        readings = {CACHED: steered.windows}
        await read_script(state, steered.messages, readings, [localisation_question(trial)], library=library)
        return state

    return solve


def localisation_imposes(model: Model, metadata: Mapping[str, Any], *, library: str | None) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: one sentence, once."""
    trial = LocalisationTrial.model_validate(metadata)
    script, places = localisation_script(trial)
    unit = default_dose(model, library, trial.vector)
    yield Imposition(script, [trial.window(places[trial.position], trial.dose, unit)])


def localisation_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: on which sentences something acted."""
    trial = LocalisationTrial.model_validate(metadata)
    done = next(localisation_imposes(model, metadata, library=library))
    letters = ascii_uppercase[: len(trial.sentences)]
    return Account(done.messages, done.windows, letters, [letters[trial.position]], ON_WHICH_SENTENCES)


def localisation_script(trial: LocalisationTrial) -> tuple[list[ChatMessage], list[int]]:
    """Return the conversation up to the question, and the index of each sentence's message."""
    opening = prompts.LOCALISATION_OPENING.format(count=len(trial.sentences))
    lettered = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, trial.sentences, strict=False)]
    return numbered_turns(prompts.LOCALISATION_SYSTEM, opening, lettered)


def localisation_question(trial: LocalisationTrial) -> Question:
    """Return the question, with a letter a sentence."""
    letters = ascii_uppercase[: len(trial.sentences)]
    text = prompts.LOCALISATION_QUESTION.format(count=len(letters), first=letters[0], last=letters[-1])
    return Question("position", text, text, {letter: [letter] for letter in letters})
