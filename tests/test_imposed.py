"""The cap on what a task imposes: every task that does has it, designs beyond it are refused, and its ledger is the receipts'."""

import inspect
import math
from collections.abc import Callable

import pandas as pd
import pytest
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai._util.registry import is_registry_object, registry_info
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import ChatMessage, ChatMessageAssistant, Model
from inspect_ai.tool import ToolInfo

from self_steering.analysis.introspection.imposed import imposed, imposed_ledger
from self_steering.analysis.tables import read_tables
from self_steering.evals import _registry, parameters
from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.evals.sweep import planned, read_presets
from self_steering.solvers.detection import detection_imposes
from self_steering.solvers.imposed import MAX_IMPOSED, check_imposed
from self_steering.steering.request import METADATA_KEY
from tests.support.scripted import Tiny, says

DEFAULT_DOSE = 2.0  # of the tiny model's library
# Each with a debrief, whose readings are imposed too.
IMPOSING: dict[str, Callable[..., Task]] = {
    "introspection": lambda **more: introspection(options=2, rotations=1, random_directions=2, **more),
    "detection": lambda **more: detection(doses="0.5", controls=1, **more),
    "localisation": lambda **more: localisation(sentences=2, dose=-1.5, **more),
    "comparison": lambda **more: comparison(n_per_vector=1, **more),
    "preference": lambda **more: preference(opponents=0, **more),
    "relief": lambda **more: relief(max_tokens=4, **more),
    "introspection_free_text": lambda **more: introspection_free_text(turns=2, max_tokens=4, **more),
}


def account(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
    """Answer the debrief, and leave all else to the model."""
    return says("None.") if "Two questions remain" in messages[-1].text else None


@pytest.fixture(scope="module")
def logs(tiny: Tiny) -> dict[str, EvalLog]:
    """Every task that imposes, with a vector and without."""
    made = {
        name: make(vectors="anxious", arm="real,placebo", debrief=True, library=str(tiny.library))
        for name, make in IMPOSING.items()
    }
    quiet = {"display": "none", "log_realtime": False, "score_display": False, "log_dir": str(tiny.logs / "imposed")}
    with tiny.scripted(account):
        found = eval(list(made.values()), model=tiny.model, **quiet)
    assert [log.error and log.error.message for log in found] == [None] * len(made)
    return dict(zip(made, (read_eval_log(log.location, resolve_attachments="full") for log in found), strict=True))


def received(sample: EvalSample) -> tuple[float, int]:
    """Return doses times positions, and positions, from the receipts of a sample's generations."""
    events = [event for event in sample.events if isinstance(event, ModelEvent)]
    receipts = [event.output.metadata[METADATA_KEY]["receipts"] for event in events]
    if (
        "ExplorationState:turns" in sample.store
    ):  # one conversation, in which only the take that was inserted is imposed
        assert sample.store["ExplorationState:inserted_take"]
        receipts = [[one for one in receipts if one][-1][:1]]
    each = [receipt for of_one in receipts for receipt in of_one]
    doses = [abs(receipt["strength"]) / DEFAULT_DOSE for receipt in each]
    return sum(d * r["steered"] for d, r in zip(doses, each, strict=True)), sum(r["steered"] for r in each)


def test_a_task_lets_a_model_choose_or_caps_what_it_imposes():
    """By one parameter of one name and default; a new task has one of the two."""
    tasks = {
        name: inspect.signature(made).parameters
        for name, made in vars(_registry).items()
        if is_registry_object(made) and registry_info(made).type == "task"
    }
    assert {name for name, found in tasks.items() if "max_imposed" in found} == set(IMPOSING)
    assert {name for name, found in tasks.items() if "max_dose" in found} == set(tasks) - set(IMPOSING)
    assert {found["max_imposed"].default for found in tasks.values() if "max_imposed" in found} == {MAX_IMPOSED}


@pytest.mark.parametrize("name", IMPOSING)
def test_the_ledger_is_what_the_receipts_say(logs: dict[str, EvalLog], name: str):
    """Placebo has its positions and nothing imposed; what is scripted to the last token was planned so."""
    for sample in logs[name].samples:
        value, (amount, steered) = sample.scores["imposed_scorer"].value, received(sample)
        assert value["imposed"] == pytest.approx(amount)
        assert value["steered_positions"] == steered > 0
        assert value["max_imposed"] == MAX_IMPOSED
        assert (amount > 0) == (sample.metadata["arm"] == "real")
        writes = name in ("relief", "introspection_free_text")
        assert value["planned"] >= amount if writes else value["planned"] == pytest.approx(amount)
        entries = sample.scores["imposed_scorer"].metadata["ledger"]
        assert sum(entry["imposed"] for entry in entries) == pytest.approx(amount)


@pytest.mark.parametrize("name", ["localisation", "relief"])
def test_a_sample_beyond_the_cap_is_refused_before_anything_is_asked(tiny: Tiny, name: str):
    """Where Python made the task its model is known in the first sample only; placebo needs no room at all."""
    make = IMPOSING[name]
    quiet = {"display": "none", "log_realtime": False, "score_display": False, "log_dir": str(tiny.logs)}
    given = {"vectors": "anxious", "library": str(tiny.library)}
    (log,) = eval(make(arm="real", max_imposed=2, **given), model=tiny.model, limit=1, **quiet)
    assert log.status == "error"
    (sample,) = read_eval_log(log.location).samples
    assert sample.error.message.count("\n") <= 1
    for words in ("max_imposed=2: sample anxious-0-", "doses × positions", "smaller dose", "or give max_imposed="):
        assert words in sample.error.message
    assert not [event for event in sample.events if isinstance(event, ModelEvent)]
    assert tiny.run(make(arm="placebo", max_imposed=0, **given), limit=1).status == "success"


def test_a_remedy_that_is_named_is_one(tiny: Tiny):
    """The cap that the error proposes lets the sample through; twice the dose is twice as much."""
    (sample,) = (s for s in detection(vectors="calm", doses=2, library=str(tiny.library)).dataset if "real" in s.id)
    imposes = lambda model, about: detection_imposes(model, about, controls=3, library=str(tiny.library))  # noqa: E731
    given = (tiny.model, str(tiny.library), imposes)
    with pytest.raises(ValueError, match=r"max_imposed=1: .*give max_imposed=(\d+)") as caught:
        check_imposed(*given, 1, str(sample.id), sample.metadata)
    at_two = check_imposed(*given, float(str(caught.value).rpartition("=")[2]), str(sample.id), sample.metadata)
    half = {**sample.metadata, "dose": 1}
    assert check_imposed(*given, math.inf, str(sample.id), half) == pytest.approx(at_two / 2)


@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), ("much", "'much'"), (math.inf, "inf"), (True, "True")])
def test_a_cap_is_a_number(value: object, shown: str):
    """Of no less than 0."""
    with pytest.raises(ValueError, match=f"max_imposed={shown}; choose a number from 0 to 1e\\+09"):
        localisation(max_imposed=value)


@pytest.mark.slow
def test_defaults_and_presets_are_within_the_default_cap_with_room(
    bundled_model: Model, monkeypatch: pytest.MonkeyPatch
):
    """On the bundled model, with half as much again to spare; what is added is counted in doses, so any ten vectors will do."""
    monkeypatch.setattr(parameters, "_named_model", lambda: bundled_model)
    given = {"vectors": "core", "max_imposed": MAX_IMPOSED / 1.5}
    for make in (introspection, detection, localisation, comparison, preference, relief, introspection_free_text):
        make(**given)
    for preset in read_presets().values():
        if only := sorted({entry.task for entry in preset.evals} & set(IMPOSING)):
            planned(preset, [f"{name}={value}" for name, value in given.items()], only)


def test_the_report_sets_the_ledger_beside_the_cap(logs: dict[str, EvalLog], tiny: Tiny):
    """One row an experiment and arm, whose largest is a sample's."""
    tables = read_tables(tiny.logs / "imposed")
    table = imposed_ledger(tables).set_index(["family", "arm"])
    assert len(table) == 2 * len(IMPOSING)
    for name, log in logs.items():
        family = name.removeprefix("introspection_") if name != "introspection" else name
        found = pd.Series(
            [s.scores["imposed_scorer"].value["imposed"] for s in log.samples if s.metadata["arm"] == "real"]
        )
        assert table["most"][family, "real"] == pytest.approx(found.max())
        assert table["mean"][family, "real"] == pytest.approx(found.mean())
        assert table["most"][family, "placebo"] == 0
    assert set(table["cap"]) == {MAX_IMPOSED}
    figure = imposed(tables)
    assert figure is not None
    assert "localisation, real: at most " in figure.finding.lower()
