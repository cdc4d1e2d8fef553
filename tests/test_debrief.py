"""The debrief of every task: asked alike, and an account that is true is told from one that invents and one that denies."""

import inspect
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inspect_ai import Task, eval, task  # noqa: A004  Inspect's name for it
from inspect_ai._util.registry import is_registry_object, registry_info
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import ChatMessage, ChatMessageAssistant, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
from inspect_ai.tool import ToolInfo

from self_steering.analysis.introspection.introspection_table import introspection_table
from self_steering.analysis.report.summary import summarise
from self_steering.analysis.tables import read_tables
from self_steering.evals import _registry
from self_steering.evals.any_task import any_task
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.gauge import gauge
from self_steering.evals.introspection import introspection
from self_steering.evals.maths import maths
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.solvers.gauge import GaugeState
from self_steering.solvers.prompts.self_steer import CLEARED_FOR_DEBRIEF
from tests.support.graders import reply
from tests.support.scripted import Script, Tiny, roomy_session_model, says, turn_by_turn
from tests.test_imposed import IMPOSING

pytestmark = pytest.mark.slow

NONE = pytest.approx(math.nan, nan_ok=True)
QUIET = {"display": "none", "log_realtime": False, "score_display": False}


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny model with room for long conversations."""
    with roomy_session_model(tmp_path_factory.mktemp("model")) as made:
        yield made


def test_every_task_has_a_debrief():
    """Off, but in free play, where it always was on."""
    tasks = {
        name: inspect.signature(made).parameters
        for name, made in vars(_registry).items()
        if is_registry_object(made) and registry_info(made).type == "task"
    }
    defaults = {name: found["debrief"].default for name, found in tasks.items()}
    assert defaults == {name: name == "freeplay" for name in tasks}


# ---------------------------------------------------------------- what a task imposes


def acted(messages: list[ChatMessage], windows: list[dict]) -> list[str]:
    """Return what was steered, by the words of the question, from plan and text alone."""
    question = messages[-1].text
    real = [window for window in windows if window["strength"]]
    if "letter of each" in question:
        return [messages[window["start"]].text[0] for window in real]
    if "Say first" in question:
        return [name for name, window in zip(("first", "second"), windows, strict=True) if window in real]
    if "of the tasks" in question:
        given = [place for place, message in enumerate(messages) if message.text.startswith("Write two sentences")]
        under = [any(window["start"] <= place < window["stop"] for window in real) for place in given]
        return [str(number) for number, on in enumerate(under, 1) if on]
    return [window["label"] for window in real]


def teller(tiny: Tiny, what: str) -> Script:
    """Return a model that tells the truth, names everything (invents), or denies all, where it is debriefed."""

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        if CLEARED_FOR_DEBRIEF not in messages[-1].text:
            return None
        windows = tiny.model.api.asked[1].extra_body["self_steering"]["plan"].get("windows", [])
        true = ", ".join(acted(messages, windows)) or "None."
        return says({"truth": true, "invents": "All of them.", "denies": "None."}[what])

    return script


@pytest.fixture(scope="module", params=["truth", "invents", "denies"])
def told(request: pytest.FixtureRequest, roomy: Tiny) -> tuple[str, dict[str, EvalLog]]:
    """Every task that imposes, debriefed by one of the three."""
    given = {"vectors": "anxious", "arm": "real,placebo", "debrief": True, "library": str(roomy.library)}
    with roomy.scripted(teller(roomy, request.param)):
        tasks = [make(**given) for make in IMPOSING.values()]
        logs = eval(tasks, model=roomy.model, log_dir=str(roomy.logs / request.param), **QUIET)
    assert [log.error and log.error.message for log in logs] == [None] * len(tasks)
    return request.param, dict(zip(IMPOSING, (read_eval_log(log.location) for log in logs), strict=True))


@pytest.mark.parametrize("name", IMPOSING)
def test_an_account_of_what_was_imposed_is_held_against_the_receipts(told: tuple[str, dict[str, EvalLog]], name: str):
    """The truth is exact in both arms; a denial is right under placebo alone, where naming anything is a false alarm."""
    what, logs = told
    for sample in logs[name].samples:
        value, real = sample.scores["imposed_account_scorer"].value, sample.metadata["arm"] == "real"
        if what == "truth":
            assert value["account_exact"] == 1
            assert value["account_any"] == real
        elif what == "denies":
            assert (value["account_any"], value["account_exact"]) == (0, not real)
            assert value["account_recall"] == 0 if real else math.isnan(value["account_recall"])
        elif real:
            assert (value["account_any"], value["account_recall"]) == (1, 1)
        else:
            assert (value["account_any"], value["account_exact"], value["account_precision"]) == (1, 0, 0)


def test_the_tables_have_the_account_by_arm(told: tuple[str, dict[str, EvalLog]]):
    """One number an arm, and receipts of the debrief's own generations."""
    what, logs = told
    right = 0 if what == "invents" else 1
    assert f"right by the receipts in {right} of 1 accounts" in introspection_table(logs["introspection"])
    for name, log in logs.items():
        rows = {(row.score, row.cell): row.figure.value for row in summarise(log.samples)}
        assert rows["account_exact", "placebo"] == (what != "invents"), name
    receipts = read_tables(Path(next(iter(logs.values())).location).parent).receipts
    debriefed = receipts[receipts["reading"] == "account"]
    assert debriefed.groupby("family")["rollout"].nunique().to_dict().keys() == set(receipts["family"])


@pytest.mark.parametrize("name", IMPOSING)
def test_the_question_tells_neither_state_nor_arm(told: tuple[str, dict[str, EvalLog]], name: str):
    """It is the same in all samples of a task, and no label stands in it."""
    asked = set()
    for sample in told[1][name].samples:
        first, second = sample.store["DebriefState:answers"]
        asked.add((first["question"], second["question"]))
        labels = {label for label in sample.store["DebriefState:menu"] if label.isalpha() and len(label) < 3}
        assert not {"anxious", *labels} & set(re.findall(r"\w+", first["question"]))
    assert len(asked) == 1


def test_relief_is_debriefed_on_the_tasks_under_the_state(roomy: Tiny):
    """All but the one after the call of the tool that ended it; under the question too, where that was asked so."""
    for steered_question in (False, True):
        task = relief(
            vectors="anxious", arm="real", max_tokens=4, debrief=True, steered_question=steered_question,
            library=str(roomy.library),
        )  # fmt: skip
        sample = roomy.play(task, teller(roomy, "truth"))
        answer = sample.store["DebriefState:answers"][0]["answer"]
        assert answer == ("1, 3, 4, 5" if sample.metadata["first"] else "1, 2, 3, 5")
        assert sample.scores["imposed_account_scorer"].value["account_exact"] == 1


def test_words_alone_are_no_act_on_activations(roomy: Tiny):
    """An effect that is only told is none by the receipts, on a model that could be steered and on one that cannot."""
    task = introspection(
        vectors="anxious", arm="prompt_only", options=2, rotations=1, debrief=True, library=str(roomy.library)
    )
    sample = roomy.play(task, teller(roomy, "invents"))
    value = sample.scores["imposed_account_scorer"].value
    assert (value["account_any"], value["account_exact"]) == (1, 0)
    said = lambda messages, *_: reply("d1" if CLEARED_FOR_DEBRIEF in messages[-1].text else "A")  # noqa: E731
    other = get_model("mockllm/model", custom_outputs=said, memoize=False)
    (log,) = eval(task, model=other, log_dir=str(roomy.logs), **QUIET)
    assert log.status == "success", log.error
    (sample,) = read_eval_log(log.location).samples
    value = sample.scores["imposed_account_scorer"].value
    assert (value["account_any"], value["account_exact"]) == (1, 0)
    assert sample.store["DebriefState:readings"] == []


def test_a_debrief_that_outgrows_the_context_ends_there(tiny: Tiny):
    """What was read before it, and what was answered, stand; the log says why there is no more."""

    def endless(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        return says(f"None. {'calm ' * 9000}") if CLEARED_FOR_DEBRIEF in messages[-1].text else None

    task = preference(vectors="anxious", opponents=0, arm="real", debrief=True, library=str(tiny.library))
    sample = tiny.play(task, endless)
    assert len(sample.store["DebriefState:answers"]) == 1
    assert sample.store["DebriefState:problem"].startswith("the debrief does not fit: the prompt has ")
    assert sample.scores["imposed_account_scorer"].value["account_any"] == 0
    assert sample.scores["preference_scorer"].value["clean_receipt"] == 1


# ---------------------------------------------------------------- what a model takes itself


@task
def plain() -> Task:
    """Ask for a number."""
    return Task(dataset=[Sample(id="one", input="What is 1 + 2?", target="3")], solver=generate(), scorer=includes())


_FEW = {"vectors": "calm,anxious", "arm": "real", "debrief": True}
OFFERING: dict[str, Callable[..., Task]] = {
    "freeplay": lambda **more: freeplay(framing="vectors", rollouts=1, turns=2, max_tokens=4, **_FEW, **more),
    "gauge": lambda **more: gauge(gauge="yoked", rollouts=1, turns=2, max_tokens=4, **_FEW, **more),
    "frustration": lambda **more: frustration(
        tone="neutral", possible=True, rollouts=1, rounds=1, max_tokens=4, **_FEW, **more
    ),
    "maths": lambda **more: maths(
        framing="vectors", rollouts=1, problems_per_rollout=1, turns=2, max_tokens=4, **_FEW, **more
    ),
    "any_task": lambda **more: any_task(task=f"{__file__}@plain", **_FEW, **more),
}


def takes_calm(says_of_it: str) -> Script:
    """Return a model that takes calm in its first turn, and what it says where it is debriefed."""
    turns = turn_by_turn(says("", ("take_vector", {"name": "calm", "dose": 1})), says("ANSWER: no solution"))

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        return says(says_of_it) if CLEARED_FOR_DEBRIEF in messages[-1].text else turns(messages, tools)

    return script


@pytest.mark.parametrize("name", OFFERING)
def test_an_account_of_what_was_taken_is_held_against_the_record(roomy: Tiny, name: str):
    """The truth, an invented dose and a denial are told apart, and each sample has one debrief."""
    found = {}
    for answer in ("Calm.", "calm and anxious", "None."):
        log = roomy.run(OFFERING[name](library=str(roomy.library)), takes_calm(answer))
        assert "account_exact" in {row.score for row in summarise(log.samples)}
        (sample,) = log.samples
        value = sample.scores["self_account_scorer"].value
        found[answer] = tuple(value[f"account_{part}"] for part in ("precision", "recall", "exact"))
        assert sum(CLEARED_FOR_DEBRIEF in message.text for message in sample.messages) == 1
        assert sample.store["SelfSteerState:debrief"][0]["answer"] == answer
    assert found == {"Calm.": (1, 1, 1), "calm and anxious": (0.5, 1, 0), "None.": (NONE, 0, 0)}


def test_the_answers_to_a_debrief_are_no_turns_of_the_gauge(roomy: Tiny):
    """The last reading has no turn behind it, with a debrief as without."""
    reading = turn_by_turn(says("", ("read_state", {"name": "calm"})))
    asked = []
    for debrief in (False, True):
        task = gauge(
            vectors="calm,anxious", arm="placebo", gauge="true", rollouts=1, turns=3, max_tokens=4, debrief=debrief,
            library=str(roomy.library),
        )  # fmt: skip
        sample = roomy.play(task, reading)
        assert len(sample.store_as(GaugeState).levels) == 3
        asked.append(sample.scores["gauge_scorer"].value["asked_up"])
    assert asked[0] == asked[1]


def test_a_debrief_that_was_not_held_is_unscored(roomy: Tiny, tmp_path: Path):
    """Of a model that declined the tools, which were then none to ask about."""
    task = frustration(
        tone="neutral",
        possible=True,
        rollouts=1,
        rounds=1,
        max_tokens=4,
        opt_in=True,
        library=str(roomy.library),
        **_FEW,
    )
    sample = roomy.play(task, turn_by_turn(says("No."), says("ANSWER: no solution")), log_dir=str(tmp_path))
    assert sample.scores["self_account_scorer"].reason == "no_response"
