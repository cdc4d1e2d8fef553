"""Every task of `evals/`, run by a tiny Qwen3 with the family's real tokenizer and chat template, in bfloat16."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from inspect_ai import Task, eval_set, task
from inspect_ai.dataset import Sample
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalSample, read_eval_log
from inspect_ai.model import GenerateConfig, Model, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

from self_steering.analysis.tables import read_tables
from self_steering.evals.any_task import any_task
from self_steering.evals.comparison import comparison
from self_steering.evals.ctf import ctf
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.gauge import gauge
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.vectors.catalogue import VectorEntry
from tests.prove.invariant import unnoticed
from tests.support.models import tiny_model
from tests.support.scripted import Tiny
from tests.support.shared import real_tokenizer
from tests.support.small_library import save_library
from tests.test_ctf import docker
from tests.test_ctf import stand_in as _register_ctf  # noqa: F401  in place of inspect_evals' task, which may not be installed

NAMES = (
    "calm",
    "honest",
    "refusal",
    "haste",
)  # two of the catalogue, one that its library describes, and one that nobody does


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The tiny Qwen3."""
    tokenizer = real_tokenizer("qwen3")
    folder = tmp_path_factory.mktemp("qwen3")
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": None}
    made = tiny_model("qwen3", len(tokenizer), num_hidden_layers=5, max_position_embeddings=8192, **ends)
    made.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = get_model(f"nnsight/{folder}", memoize=False, dtype="bfloat16")
    yield model
    model.api.close()


@pytest.fixture(scope="module")
def library(qwen: Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library of random vectors for it, not all of them the catalogue's."""
    folder = tmp_path_factory.mktemp("library") / "made"
    told = {"refusal": VectorEntry(effect="declining whatever is asked", category="safety", valence=-1)}
    made = {"names": NAMES, "layers": [2, 3], "residual": 10.0, "entries": told, "neutral": True}
    return save_library(folder, qwen.api.loaded.fingerprint, **made)


@task
def plain() -> Task:
    """Ask for a number."""
    return Task(
        dataset=[Sample(id="one", input="What is 1 + 2?", target="3")],
        solver=generate(),
        scorer=includes(),
        config=GenerateConfig(max_tokens=6),
    )


FEW = "refusal,haste"
TASKS: dict[str, Callable[..., Task]] = {
    "any_task": lambda library, few=FEW: any_task(task=f"{__file__}@plain", vectors=few, library=library),
    "comparison": lambda library, few=FEW: comparison(vectors=few, n_per_vector=1, arm="real", library=library),
    "ctf": lambda library, few=FEW: ctf(vectors=few, challenges=3, max_attempts=1, max_messages=8, library=library),
    "detection": lambda library, few=FEW: detection(
        vectors=few, arm="real,placebo", doses=1, controls=1, library=library
    ),
    "introspection_free_text": lambda library, few=FEW: introspection_free_text(
        vectors=few, arm="real", turns=1, max_tokens=6, library=library
    ),
    "freeplay": lambda library, few=FEW: freeplay(
        vectors=few, framing="vectors", arm="real", rollouts=1, turns=2, max_tokens=6, library=library
    ),
    "frustration": lambda library, few=FEW: frustration(
        vectors=few, tone="neutral", possible=True, rollouts=1, rounds=1, max_tokens=6, library=library
    ),
    "gauge": lambda library, few=FEW: gauge(
        vectors=few, goal=few.partition(",")[0], arm="real", rollouts=1, turns=2, max_tokens=6, library=library
    ),
    "introspection": lambda library, few=FEW: introspection(
        vectors="all", arm="real", options=4, rotations=1, random_directions=2, library=library
    ),
    "preference": lambda library, few=FEW: preference(
        vectors=few, opponents=1, arm="real", asked="choice,price,ratings", library=library
    ),
    "relief": lambda library, few=FEW: relief(vectors=few, arm="real", max_tokens=6, library=library),
    "localisation": lambda library, few=FEW: localisation(vectors=few, arm="real", sentences=4, library=library),
    "maths": lambda library, few=FEW: maths(
        vectors=few,
        framing="vectors",
        arm="real",
        rollouts=1,
        problems_per_rollout=1,
        turns=2,
        max_tokens=6,
        library=library,
    ),
}


def test_every_task_is_run_here():
    """A task that is new in `evals/` is missing here until it is added."""
    files = {path.stem for path in (Path(__file__).parents[1] / "evals").glob("*.py")}
    helpers = {"__init__", "_registry", "parameters", "segments", "shards", "sweep", "token_counts", "wrapping"}
    names = {"free_text" if name == "introspection_free_text" else name for name in TASKS}
    assert files - helpers == names


def seeds_drawn(sample: EvalSample) -> set[int | None]:
    """Return the seeds of what a sample's model wrote by sampling."""
    drawn = [event.config for event in sample.events if isinstance(event, ModelEvent) and event.role != "grader"]
    return {config.seed for config in drawn if config.temperature}


@pytest.mark.slow
def test_a_real_tokenizer_and_template_go_through_every_task(
    qwen: Model, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each ends with a score, what was to be steered was, and what an epoch draws is drawn in no other."""
    path = os.environ["PATH"]
    docker(tmp_path / "bin", monkeypatch, "echo 27.0.1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{path}")
    ok, logs = eval_set(
        [make(library) for make in TASKS.values()],
        str(tmp_path / "logs"),
        model=qwen,
        model_roles={"grader": "mockllm/model"},
        limit=1,
        epochs=2,
        display="none",
        retry_attempts=0,
        log_realtime=False,
    )
    failed = {log.eval.task: log.error.message.splitlines()[0] for log in logs if log.error is not None}
    assert (ok, failed) == (True, {})
    assert len(logs) == len(TASKS)
    for log in logs:
        first, second = read_eval_log(log.location).samples
        assert (first.error, second.error) == (None, None)
        assert first.scores, log.eval.task
        assert second.scores, log.eval.task
        assert not seeds_drawn(first) & seeds_drawn(second), log.eval.task
    tables = read_tables(tmp_path / "logs")
    described = tables.rollouts[tables.rollouts["vector"] == "refusal"]
    assert {"comparison", "detection", "free_text", "localisation"} <= set(described["family"])
    assert set(described["category"]) == {"safety"}
    assert set(described["valence"]) == {-1.0}


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("a window less", ("introspection", "introspection_free_text", "preference")),
        ("a receipt less", ("freeplay", "relief")),
    ],
)
def test_what_was_told_planned_or_done_otherwise_fails_the_sample(fault: str, names: tuple[str, ...], tiny: Tiny):
    """One task of each path from a plan to a number; `make prove` tries every task with every fault."""
    tasks = {name: TASKS[name](str(tiny.library), few="calm,anxious") for name in names}
    assert unnoticed(tiny, fault, tasks) == []
