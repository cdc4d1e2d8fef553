"""The evaluation reports in the entries for inspect_evals' register: written from logs, or refused in one line."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from inspect_ai.log import EvalLog, EvalRevision, write_eval_log

from self_steering.analysis.cli import main as self_steering_command
from self_steering.evals.comparison import comparison
from tests.support.inspect_runs import ROOT
from tests.support.scripted import roomy_session_model

REVISION = EvalRevision(type="git", origin="", commit="1234abc", dirty=False)
OTHER = "nnsight/another-model"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    """A run of one task on a tiny model, as if the code had been committed."""
    with roomy_session_model(tmp_path_factory.mktemp("model")) as tiny:
        log = tiny.run(comparison(vectors=["calm", "anxious"], n_per_vector=1, library=str(tiny.library)))
    return log.model_copy(update={"eval": log.eval.model_copy(update={"revision": REVISION})})


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """The entries that ship, to be written to."""
    return Path(shutil.copytree(ROOT / "register", tmp_path / "register"))


def saved(log: EvalLog, path: Path, status: str = "success", **of_eval: object) -> Path:
    """Write a log with other particulars to `path`."""
    changed = log.model_copy(update={"status": status, "eval": log.eval.model_copy(update=of_eval)})
    write_eval_log(changed, str(path))
    return path


def register(entries: Path, *logs: Path) -> int:
    return self_steering_command(["register", *map(str, logs), "--entries", str(entries)])


def test_an_entry_carries_what_the_logs_of_its_task_carry(measured: EvalLog, entries: Path, tmp_path: Path):
    """The headline metrics of each model, and the command, commit and version that they came of; the rest of it stays."""
    before = {path: path.read_text(encoding="utf-8") for path in entries.glob("*/eval.yaml")}
    logs = [saved(measured, tmp_path / "one.eval"), saved(measured, tmp_path / "other.eval", model=OTHER)]
    assert register(entries, *logs) == 0
    path = entries / "comparison" / "eval.yaml"
    assert {other for other, text in before.items() if other.read_text(encoding="utf-8") != text} == {path}
    text = path.read_text(encoding="utf-8")
    own = before[path].partition("evaluation_report:")[0]
    assert text.startswith(own)
    report = yaml.safe_load(text)["evaluation_report"]
    assert (report["commit"], report["version"]) == (REVISION.commit, str(measured.eval.task_version))
    assert [row["model"] for row in report["results"]] == [measured.eval.model, OTHER]
    given = {name: metric.value for score in measured.results.scores for name, metric in score.metrics.items()}
    for row in report["results"]:
        assert row["task"] == "comparison"
        assert {one["key"]: one["value"] for one in row["metrics"]} == pytest.approx(given, abs=1e-4)
    assert f"--model {measured.eval.model},{OTHER}" in report["command"]
    assert "-T vectors=calm,anxious -T n_per_vector=1" in report["command"]
    assert sum(f"{len(measured.samples)} samples" in note for note in report["notes"]) == 2
    fingerprint = measured.samples[0].output.metadata["self_steering"]["fingerprint"]
    assert all(fingerprint in note for note in report["notes"][:2])


def test_written_again_it_says_the_same(measured: EvalLog, entries: Path, tmp_path: Path):
    """The second time the report replaces the first."""
    log = saved(measured, tmp_path / "one.eval")
    path = entries / "comparison" / "eval.yaml"
    assert register(entries, log) == 0
    once = path.read_text(encoding="utf-8")
    assert register(entries, log) == 0
    assert path.read_text(encoding="utf-8") == once


DIRTY = {"revision": REVISION.model_copy(update={"dirty": True})}
REFUSED: dict[str, tuple[Callable[[EvalLog, Path], list[Path]], str]] = {
    "uncommitted": (lambda log, to: [saved(log, to / "a.eval", **DIRTY)], "not committed"),
    "no revision": (lambda log, to: [saved(log, to / "a.eval", revision=None)], "not committed"),
    "unfinished": (lambda log, to: [saved(log, to / "a.eval", status="error")], "eval-retry"),
    "no entry": (
        lambda log, to: [saved(log, to / "a.eval", task="self_steering/gsm8k")],
        "no entry .* gsm8k.*comparison",
    ),
    "a model twice": (lambda log, to: [saved(log, to / f"{n}.eval") for n in "ab"], "several logs of"),
    "two versions": (
        lambda log, to: [saved(log, to / "a.eval"), saved(log, to / "b.eval", model=OTHER, task_version="7-C")],
        "differ in version",
    ),
    "two sets of parameters": (
        lambda log, to: [
            saved(log, to / "a.eval"),
            saved(log, to / "b.eval", model=OTHER, task_args_passed={"seed": 3}),
        ],
        "differ in parameters",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_run_again_is_refused(
    measured: EvalLog, entries: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
):
    """One line that says what to do, and nothing is written."""
    make, said = REFUSED[case]
    before = {path: path.read_bytes() for path in entries.glob("*/eval.yaml")}
    assert register(entries, *make(measured, tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error)
    assert {path: path.read_bytes() for path in entries.glob("*/eval.yaml")} == before
