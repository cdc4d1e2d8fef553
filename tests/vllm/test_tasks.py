"""The same tasks on both engines: every read-out, receipt and score."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog

from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.freeplay import freeplay
from self_steering.evals.gauge import gauge
from self_steering.evals.localisation import localisation
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.steering.calls import READ_TOOL
from tests.support.scripted import Script, Tiny, own_words, says, tiny_session_model, turn_by_turn
from tests.vllm.pairs import BLOCK, SIZES, TOLERANCE

ROOM = 8192
READ = (READ_TOOL, {"name": "calm"})
# What the model says is given: of two tokens that are as likely, each engine would take its own.
PLAYED = turn_by_turn(
    says("One.", ("take_vector", {"name": "calm", "dose": 1.5})),
    says("Two.", ("clamp_vector", {"name": "honest", "dose": 1.0}), ("ablate_vector", {"name": "anxious"})),
    says("Three.", ("scale_vector", {"name": "calm", "dose": -0.5}), READ),
    says("Four.", ("clear_effects", {}), READ),
    says("Five."),
)
RELATIVE = 5e-3
"""Of projections and of what is worked out from read-outs: sums of hundreds of numbers, in the order of each engine."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tiny, Tiny]]:
    """The same tiny model and library on transformers and on vLLM."""
    sizes = {**SIZES, "max_position_embeddings": ROOM}
    on_vllm = {"engine": "vllm", "block_size": BLOCK, "max_model_len": ROOM}
    with ExitStack() as stack:
        made = [
            stack.enter_context(tiny_session_model(tmp_path_factory.mktemp(name), sizes=sizes, **arguments))
            for name, arguments in (("transformers", {}), ("vllm", on_vllm))
        ]
        yield made[0], made[1]


def scripted_tasks(library: str) -> Mapping[str, Callable[[], Task]]:
    """Return the tasks in which all that stands before a question is given, and only read."""
    own = {"library": library, "vectors": "calm,anxious"}
    return {
        "preference": lambda: preference(**own, opponents=1, asked="all", arm="all"),
        "relief": lambda: relief(**own, temperature=0, max_tokens=4),
        "detection": lambda: detection(**own, doses="1,-1"),
        "localisation": lambda: localisation(**own, sentences=3),
        "comparison": lambda: comparison(**own, n_per_vector=1),
    }


def played_tasks(library: str) -> Mapping[str, Callable[[], Task]]:
    """Return the tasks in which a model plays, here with words that are given."""
    own = {
        "library": library,
        "vectors": "all",
        "framing": "vectors",
        "turns": 5,
        "rollouts": 1,
        "max_tokens": 4,
        "temperature": 0,
    }
    return {
        "freeplay": lambda: freeplay(
            **own, operators="all", gauge="true", arm="real,random", sitter="none", debrief=False
        ),
        "gauge": lambda: gauge(**own, gauge="true,yoked", arm="real"),
    }


def numbers_of(log: EvalLog) -> dict[tuple[Any, ...], float]:
    """Return every read-out and score of a log, and every projection of its receipts."""
    found: dict[tuple[Any, ...], float] = {}
    for sample in log.samples:
        for number, event in enumerate(event for event in sample.events if isinstance(event, ModelEvent)):
            told = (event.output.metadata or {})["self_steering"]
            for name, value in (told.get("readout") or {}).items():
                found[sample.id, number, "readout", name] = value
            for place, receipt in enumerate(told["receipts"]):
                for name in ("projection_before", "projection_after"):
                    if receipt[name] is not None:
                        found[sample.id, number, place, name] = receipt[name]
        for scorer, score in (sample.scores or {}).items():
            values = score.value if isinstance(score.value, dict) else {"value": score.value}
            found |= {(sample.id, scorer, k): v for k, v in values.items() if isinstance(v, int | float)}
    return found


def steered_in(log: EvalLog) -> list[tuple[Any, ...]]:
    """Return where what was steered, of each generation."""
    return [
        (
            sample.id,
            r["label"],
            r.get("operation", "add"),
            r["strength"],
            tuple(r["layers"]),
            r["start"],
            r["stop"],
            r["steered"],
        )
        for sample in log.samples
        for event in sample.events
        if isinstance(event, ModelEvent)
        for r in (event.output.metadata or {})["self_steering"]["receipts"]
    ]


def compare(both: tuple[Tiny, Tiny], make: Callable[[str], Callable[[], Task]], script: Script) -> None:
    one, other = (tiny.run(make(str(tiny.library))(), script) for tiny in both)
    assert len(steered_in(one)) > 3
    assert steered_in(one) == steered_in(other)
    ours, theirs = numbers_of(one), numbers_of(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 20
    for key, value in ours.items():
        room = TOLERANCE if "readout" in key else RELATIVE * max(1.0, abs(value))
        assert theirs[key] == pytest.approx(value, abs=room, nan_ok=True), key


@pytest.mark.parametrize("name", list(scripted_tasks("")))
def test_what_a_scripted_task_reads_is_the_same_on_both_engines(both: tuple[Tiny, Tiny], name: str):
    """Choices, prices, ratings, wanted tools, detections: each log-probability, what was steered, and what is made of it."""
    compare(both, lambda library: scripted_tasks(library)[name], own_words)


@pytest.mark.parametrize("name", list(played_tasks("")))
def test_what_a_model_does_to_itself_is_the_same_on_both_engines(both: tuple[Tiny, Tiny], name: str):
    """Adding, clamping, ablating and scaling, and what a gauge reads of it, true and yoked."""
    compare(both, lambda library: played_tasks(library)[name], PLAYED)
