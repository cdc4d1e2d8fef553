"""An eval that is killed goes on where it stood."""

import signal
import time
from pathlib import Path

import pytest
from inspect_ai import eval_retry
from inspect_ai.log import list_eval_logs, read_eval_log

from self_steering.analysis.introspection.introspection_table import introspection_tables
from self_steering.steering.models import load_model
from tests.support.inspect_runs import ROOT, finished, inspect, kept
from tests.support.models import save_tiny_model
from tests.support.small_library import STATES, save_library

pytestmark = pytest.mark.slow

ARMS = ("real", "placebo")
SAMPLES = len(STATES) * len(ARMS)
PATIENCE = 240  # seconds; only reached where something hangs


def test_a_killed_eval_is_finished_by_a_retry_that_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed once samples are in the log, the retry finishes with all of them, and those that were done are kept as they were."""
    model = save_tiny_model(tmp_path / "model", "llama")
    save_library(tmp_path / "library", load_model(str(model)).fingerprint, names=STATES)
    parameters = {"vectors": "all", "options": 2, "rotations": 1, "arm": ",".join(ARMS)}
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
    assert killed.status == "started", (tmp_path / "output").read_text()
    assert 0 < len(before) < SAMPLES
    with pytest.raises(ValueError, match="is not finished"):
        introspection_tables(killed)

    monkeypatch.chdir(ROOT)
    (second,) = eval_retry(first.name, log_dir=str(logs), display="none")
    whole = read_eval_log(second.location)
    after = kept(whole)
    assert whole.status == "success"
    assert len(after) == SAMPLES
    assert {name: after[name] for name in before} == before
    assert all(value["clean_receipt"] == 1 for _, _, value in after.values())
    assert {row["n"] for row in introspection_tables(whole)["arms"]} == {str(len(STATES))}
