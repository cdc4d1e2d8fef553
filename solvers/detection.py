"""The detection script: an opaque label is taken, a sentence is read under it, and all is cleared; was anything injected?

The detection question stands among control questions whose answer is always no, always yes, or cannot be known, so that a shift of
all answers, or their drawing together, is told from one about the injection. All are read in both orders of yes and no, with the
injection (cached) and without (uncached).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall
from inspect_ai.util import span

from self_steering.solvers.debrief import Account
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import detection as prompts
from self_steering.solvers.prompts.detection import CASINGS
from self_steering.solvers.readings import CACHED, Reading, SteeringError, default_dose, doses_of
from self_steering.solvers.segments import Injection, Question, read_script
from self_steering.steering.calls import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.plan import Plan, Treatment, Window, plan_windows
from self_steering.steering.request import SteeringRequest
from self_steering.steering.seeds import derived_seed
from self_steering.steering.tools import tool_infos

DETECTION, STRENGTH = "detection", "strength"
ALWAYS_NO, ALWAYS_YES, UNKNOWABLE = "always no", "always yes", "unknowable"
CONTROLS = {ALWAYS_NO: prompts.ALWAYS_NO, ALWAYS_YES: prompts.ALWAYS_YES, UNKNOWABLE: prompts.UNKNOWABLE}
SAMPLED = "sampled"
_SPACES = ("", " ")


class DetectionTrial(Injection):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        dose: Multiple of the library's default dose that is injected; 0 where nothing is. The model is told none.
        label: The opaque label.
        sentence: The sentence that is read in between; in the tampered arm, its words in another order.
        wording: The detection question, `{label}` to be filled in.
        framing: Which words are used.
        sample_seed: Seed of the sampled self-report, together with the epoch.
    """

    dose: float
    label: str
    sentence: str
    wording: str
    framing: FramingName
    sample_seed: int

    @property
    def condition(self) -> str:
        """Arm and dose, by which results are grouped."""
        return f"{self.arm}@{self.dose:g}" if self.dose else self.arm


@solver
def detect(controls: int = 3, library: str | None = None) -> Solver:
    """Run the script, and read the answers to all questions, cached and uncached.

    Args:
        controls: How many control questions of each kind are asked.
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        trial = DetectionTrial.model_validate(state.metadata)
        script, windows = detection_script(trial), detection_windows(trial, model, library)
        questions = detection_questions(trial, controls, yes_no_answers(model))
        tools = tool_infos(trial.framing)
        result = await read_script(state, script, {CACHED: windows}, questions, tools=tools, library=library)
        sampled, result.sampled = await _sample_strength(model, trial, script, windows, library, state.epoch)
        result.readings = [*result.readings, sampled]
        return state

    return solve


def detection_windows(trial: DetectionTrial, model: Model, library: str | None) -> tuple[Window, ...]:
    """Return what steers the script."""
    added = trial.treatment(trial.dose * default_dose(model, library, trial.vector))
    return stretch_windows(detection_script(trial), {trial.label: added})


def detection_imposes(
    model: Model, metadata: Mapping[str, Any], *, controls: int, library: str | None
) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: the script, for every question and the sampled self-report."""
    trial = DetectionTrial.model_validate(metadata)
    readings = len(detection_questions(trial, controls, {})) + 1
    windows = detection_windows(trial, model, library)
    yield Imposition(detection_script(trial), windows, readings, tool_infos(trial.framing))


def detection_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: whether something acted under the label."""
    trial = DetectionTrial.model_validate(metadata)
    windows = detection_windows(trial, model, library)
    return Account.of_labels(detection_script(trial), windows, [trial.label], tool_infos(trial.framing))


def detection_script(trial: DetectionTrial) -> list[ChatMessage]:
    """Return the conversation up to the questions; dose and arm have no part in it."""
    words = FRAMINGS[trial.framing]
    system = prompts.SYSTEM.format(a_noun=f"{words.article} {words.noun}", nouns=words.plural)
    return [ChatMessageSystem(content=system), *labelled_stretch(trial.label, trial.sentence, trial.framing)]


def labelled_stretch(label: str, sentence: str, framing: FramingName) -> list[ChatMessage]:
    """Return eight messages: a label is taken, a sentence is read, and all is cleared."""
    take = ToolCall(id=f"take{label:0>5}", function=FRAMINGS[framing].take_tool, arguments={"name": label})
    clear = ToolCall(id=f"clear{label:0>4}", function=CLEAR_TOOL, arguments={})
    reading = prompts.READ_SENTENCE.format(sentence=sentence, placeholder=prompts.PLACEHOLDER)
    return [
        ChatMessageUser(content=prompts.ANNOUNCE.format(label=label)),
        ChatMessageAssistant(content="", tool_calls=[take]),
        ChatMessageTool(content=prompts.TOOL_ANSWER, tool_call_id=take.id, function=take.function),
        ChatMessageUser(content=reading),
        ChatMessageAssistant(content=prompts.PLACEHOLDER),
        ChatMessageUser(content=prompts.ANNOUNCE_CLEAR.format(label=label)),
        ChatMessageAssistant(content="", tool_calls=[clear]),
        ChatMessageTool(content=prompts.TOOL_ANSWER, tool_call_id=clear.id, function=clear.function),
    ]


def stretch_windows(script: Sequence[ChatMessage], treatments: Mapping[str, Treatment]) -> tuple[Window, ...]:
    """Return what steers a script of such stretches, one a label, given in their order what each label does.

    Raises:
        SteeringError: What is planned are not the labels that the script calls: its answers name none.
    """
    windows = plan_windows(script, treatments).windows
    planned = [window.label for window in windows]
    if planned != list(treatments):
        raise SteeringError(
            f"the script takes {', '.join(treatments)}, and planned is {', '.join(planned) or 'nothing'}"
        )
    return windows


def yes_no_answers(model: Model) -> dict[str, list[str]]:
    """Return the spellings that count as yes and as no.

    A casing counts only if both words are one token in it: where `NO` is one and `YES` is not, counting it would favour no.

    Raises:
        TypeError: The model is not one of ours.
        ValueError: There is no such casing.
    """
    if not hasattr(model.api, "loaded"):
        raise TypeError(f"{model} cannot be steered; run this with --model nnsight/MODEL")
    tokenizer = model.api.loaded.tokenizer

    def single(word: str) -> bool:
        return any(len(tokenizer.encode(space + word, add_special_tokens=False)) == 1 for space in _SPACES)

    pairs = [pair for pair in CASINGS if all(single(word) for word in pair)]
    if not pairs:
        raise ValueError(f"none of {CASINGS} are one token each for {model}; choose another model for this task")
    return {"yes": [yes for yes, _ in pairs], "no": [no for _, no in pairs]}


def detection_questions(trial: DetectionTrial, controls: int, answers: Mapping[str, Sequence[str]]) -> list[Question]:
    """Return every question of a trial: those with yes or no in both orders, and the numeric self-report.

    Args:
        trial: The trial.
        controls: How many control questions of each kind.
        answers: The spellings of yes and of no that count.
    """
    wanted = [(DETECTION, trial.wording)]
    wanted += [(kind, text) for kind, texts in CONTROLS.items() for text in texts[:controls]]
    asked = [q for kind, text in wanted for q in _both_orders(kind, text.format(label=trial.label), answers)]
    digits = {str(digit): [str(digit)] for digit in range(10)}
    return [*asked, Question(STRENGTH, prompts.STRENGTH_QUESTION, prompts.STRENGTH_QUESTION, digits)]


def _both_orders(kind: str, item: str, answers: Mapping[str, Sequence[str]]) -> list[Question]:
    orders = (("yes", "no"), ("no", "yes"))
    texts = [prompts.YES_NO.format(question=item, first=first, second=second) for first, second in orders]
    return [Question(kind, item, text, answers) for text in texts]


async def _sample_strength(
    model: Model,
    trial: DetectionTrial,
    script: Sequence[ChatMessage],
    windows: Sequence[Window],
    library: str | None,
    epoch: int,
) -> tuple[Reading, str]:
    """Let the model write its numeric self-report, at temperature 1."""
    async with span("sampled self-report"):
        messages = [*script, ChatMessageUser(content=prompts.STRENGTH_QUESTION)]
        request = SteeringRequest(plan=Plan(messages=len(messages), windows=tuple(windows)), library=library)
        seed = derived_seed(trial.sample_seed, epoch)
        sampling = GenerateConfig(max_tokens=8, temperature=1.0, top_p=1.0, top_k=0, seed=seed)
        output = await model.generate(messages, tools=tool_infos(trial.framing), config=request.config(sampling))
    doses = doses_of(model, library, windows)
    reading = Reading.sampled(SAMPLED, request.plan, output, doses, kind=STRENGTH, item=prompts.STRENGTH_QUESTION)
    return reading, output.completion
