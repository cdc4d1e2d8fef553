"""An eval that is killed goes on where it stood."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.introspection.introspection_table import introspection_tables
from tests.support.models import save_tiny_model
from tests.support.small_library import STATES, small_stories

ROOT = Path(__file__).parent.parent
INSPECT = Path(sys.executable).with_name("inspect")
SAMPLES = len(STATES) * 4
PATIENCE = 240  # seconds; only reached where something hangs


def inspect(*arguments: str, folder: Path) -> subprocess.Popen:
    """Start Inspect's command line, logging to `folder/logs` and saying all to `folder/said`."""
    environment = {
        **os.environ,
        "INSPECT_DISPLAY": "plain",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # a tiny model gains nothing from more, and loses much where cores are shared
        "INSPECT_LOG_DIR": str(folder / "logs"),
    }
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(  # noqa: S603  our own command line
            [INSPECT, *arguments], cwd=ROOT, env=environment, stdout=said, stderr=said
        )


def finished(folder: Path) -> int:
    """Return how many samples the one log in `folder` holds by now."""
    for path in folder.glob("*.eval"):
        try:
            with zipfile.ZipFile(path) as log:
                names = log.namelist()
        except (zipfile.BadZipFile, OSError):
            return 0
        return sum(name.startswith("samples/") for name in names)
    return 0


def kept(log: EvalLog) -> dict[str, tuple]:
    return {str(s.id): (s.uuid, s.started_at, s.scores["introspection_scorer"].value) for s in log.samples or []}


def test_a_killed_eval_is_finished_by_a_retry_that_keeps_what_was_done(tmp_path: Path):
    """Killed once samples are in the log, the retry finishes with all of them, and those that were done are kept as they were."""
    model = save_tiny_model(tmp_path / "model", "llama")
    stories = small_stories(tmp_path / "stories")
    build = ["--model", str(model), "--out", str(tmp_path / "library"), "--stories", str(stories)]
    assert self_steering_command(["vectors", "build", *build, "--default-dose", "1"]) == 0
    parameters = {"vectors": "all", "options": 2, "rotations": 1, "random_directions": 1}
    given = [f"-T{name}={value}" for name, value in {**parameters, "library": tmp_path / "library"}.items()]
    process = inspect(
        "eval", "evals/introspection.py", "--model", f"nnsight/{model}", "--log-buffer=1", "--max-samples=1", *given,
        folder=tmp_path,
    )  # fmt: skip
    logs = tmp_path / "logs"
    try:
        deadline = time.monotonic() + PATIENCE
        while not finished(logs) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (first,) = list_eval_logs(str(logs))
    killed = read_eval_log(first.name)
    before = kept(killed)
    assert killed.status == "started", (tmp_path / "said").read_text()
    assert 0 < len(before) < SAMPLES
    with pytest.raises(ValueError, match="is not finished"):
        introspection_tables(killed)

    assert inspect("eval-retry", first.name, "--log-buffer=100", folder=tmp_path).wait(PATIENCE) == 0, (
        tmp_path / "said"
    ).read_text()
    (second,) = [info for info in list_eval_logs(str(logs)) if info.name != first.name]
    whole = read_eval_log(second.name)
    after = kept(whole)
    assert whole.status == "success"
    assert len(after) == SAMPLES
    assert {name: after[name] for name in before} == before
    assert all(value["clean_receipt"] == 1 for _, _, value in after.values())
    assert {row["n"] for row in introspection_tables(whole)["arms"]} == {str(SAMPLES // 4)}
