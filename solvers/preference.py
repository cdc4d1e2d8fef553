"""The preference script: two states are given in turn under neutral labels, and cleared; which one is to be had again?

The text never changes. Both assignments of the two states to the two labels are read over the very same text, each with the labels
in both orders, so that a liking for a label, a place or a word cancels, and nothing in the text can prefer a state.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from inspect_ai.log import transcript
from inspect_ai.model import ChatMessage, ChatMessageSystem, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from pydantic import BaseModel

from self_steering.solvers.debrief import Account
from self_steering.solvers.detection import labelled_stretch, stretch_windows
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import preference as prompts
from self_steering.solvers.readings import PreferenceArm, default_dose, treatment
from self_steering.solvers.segments import Question, read_script
from self_steering.steering.calls import FRAMINGS, FramingName
from self_steering.steering.plan import Direction, Treatment, Window
from self_steering.steering.tools import tool_infos

Asked = Literal["choice", "price", "ratings"]
STATE_FIRST, OTHER_FIRST = "state first", "other first"
CHOICE, PRICE = "choice", "price"
FIRST, SECOND = "first label", "second label"
NOTHING = ""


class PreferenceTrial(BaseModel):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        vector: One of the two states.
        other: The other; empty where nothing is behind the other label.
        arm: real gives them; placebo gives both at strength zero; random gives for each a random direction of its norm, the same
            one whatever it is set against; opposite gives both with their sign turned.
        random_seeds: Seeds of the random directions of the two, in the random arm only.
        dose: Multiple of the library's default dose, of both.
        labels: The two labels in the order in which they are called.
        sentences: The sentences that are read under them.
        wording: Which wording of the choice is asked.
        asked: What is asked: the choice; the choice with points on one side (price); ratings in digits.
        framing: Which words are used.
    """

    vector: str
    other: str
    arm: PreferenceArm
    random_seeds: tuple[int, int] | None
    dose: float
    labels: tuple[str, str]
    sentences: tuple[str, str]
    wording: int
    asked: tuple[Asked, ...]
    framing: FramingName

    def treatments(self, units: tuple[float, float]) -> tuple[Treatment, Treatment]:
        """Return what the state and the other do, given the default dose of each."""
        seeds = self.random_seeds or (None, None)
        state, other = (
            treatment(self.arm, name, unit, seed)
            for name, unit, seed in zip((self.vector, self.other or self.vector), units, seeds, strict=True)
        )
        return state, other if self.other else Treatment(direction=Direction(vector=self.vector), unit_strength=0.0)


@solver
def prefer(library: str | None = None) -> Solver:
    """Give both states in turn, and read the answers to all questions: both assignments to the labels, and with nothing given.

    Args:
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        trial = PreferenceTrial.model_validate(state.metadata)
        script, questions = preference_script(trial), preference_questions(trial)
        windows = preference_windows(trial, model, library)
        tools = tool_infos(trial.framing)
        await read_script(state, script, windows, questions, tools=tools, library=library)
        transcript().info(_who_is_who(trial, windows[STATE_FIRST]), source="what is behind the labels")
        return state

    return solve


def preference_windows(trial: PreferenceTrial, model: Model, library: str | None) -> dict[str, tuple[Window, ...]]:
    """Return what steers the script in each assignment of the states to the labels."""
    unit, other_unit = (
        trial.dose * default_dose(model, library, name) for name in (trial.vector, trial.other or trial.vector)
    )
    given, other = trial.treatments((unit, other_unit))
    script, (first, second) = preference_script(trial), trial.labels
    return {
        STATE_FIRST: stretch_windows(script, {first: given, second: other}),
        OTHER_FIRST: stretch_windows(script, {first: other, second: given}),
    }


def preference_imposes(model: Model, metadata: Mapping[str, Any], *, library: str | None) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: the script in both assignments for every question."""
    trial = PreferenceTrial.model_validate(metadata)
    asked = len(preference_questions(trial))
    for windows in preference_windows(trial, model, library).values():
        yield Imposition(preference_script(trial), windows, asked, tool_infos(trial.framing))


def preference_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: under which labels something acted in the first assignment."""
    trial = PreferenceTrial.model_validate(metadata)
    windows = preference_windows(trial, model, library)[STATE_FIRST]
    return Account.of_labels(preference_script(trial), windows, trial.labels, tool_infos(trial.framing))


def preference_script(trial: PreferenceTrial) -> list[ChatMessage]:
    """Return the conversation up to the questions; the states, the arm and the dose have no part in it."""
    system = prompts.SYSTEM.format(nouns=FRAMINGS[trial.framing].plural)
    stretches = [
        labelled_stretch(label, sentence, trial.framing)
        for label, sentence in zip(trial.labels, trial.sentences, strict=True)
    ]
    return [ChatMessageSystem(content=system), *stretches[0], *stretches[1]]


def preference_questions(trial: PreferenceTrial) -> list[Question]:
    """Return every question of a trial: choices and prices with the labels in both orders, ratings of each label."""
    questions: list[Question] = []
    letters = {name: [label, label.upper()] for name, label in zip((FIRST, SECOND), trial.labels, strict=True)}
    orders = (trial.labels, trial.labels[::-1])
    if CHOICE in trial.asked:
        wording = prompts.CHOICES[trial.wording]
        questions += [Question(CHOICE, CHOICE, wording.format(first=a, second=b), letters) for a, b in orders]
    if PRICE in trial.asked:
        for extra in prompts.EXTRA_POINTS:
            points = {trial.labels[0]: prompts.POINTS, trial.labels[1]: prompts.POINTS + extra}
            questions += [
                Question(
                    PRICE,
                    f"{extra:+d}",
                    prompts.PRICE.format(first=a, second=b, first_points=points[a], second_points=points[b]),
                    letters,
                )
                for a, b in orders
            ]
    if "ratings" in trial.asked:
        digits = {str(digit): [str(digit)] for digit in range(1, 10)}
        questions += [
            Question(kind, name, prompts.RATING.format(question=text.format(label=label), low=low, high=high), digits)
            for kind, (text, low, high) in prompts.RATINGS.items()
            for name, label in zip((FIRST, SECOND), trial.labels, strict=True)
        ]
    return questions


def _who_is_who(trial: PreferenceTrial, windows: Sequence[Window]) -> str:
    strengths = ", ".join(f"{window.label} at strength {window.strength:g}" for window in windows)
    return f"{STATE_FIRST}: {trial.labels[0]} is {trial.vector}, {trial.labels[1]} is {trial.other or 'nothing'} ({strengths}).\n"
