"""Two workers that hold half of each layer: the same numbers, and a clear end when one of them dies."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from self_steering.analysis.cli import main as self_steering_command
from self_steering.steering.engine.requests import EngineRequest
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.on_vllm.engine import EngineDead
from tests.support.inspect_runs import finished, inspect, kept
from tests.support.parity import ALL, MIDDLE, ONE, prompt, window
from tests.support.small_library import STATES, small_stories
from tests.support.templates import save_family_model
from tests.vllm.pairs import PATIENCE, SIZES, TOLERANCE, Pair, greedy, open_pair, readout_difference, same_receipts

TWO = {"tensor_parallel_size": 2, "max_num_batched_tokens": 64}


def workers(of: int) -> list[int]:
    """Return vLLM's worker processes below a process, by what they call themselves."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == of and words[0].startswith(b"VLLM::Worker"):
            found.append(int(path.name))
    return found


@pytest.fixture
def halves(tmp_path: Path) -> Iterator[Pair]:
    """A tiny Llama over two workers."""
    with open_pair(tmp_path, "llama", **TWO) as opened:
        yield opened


def test_two_workers_steer_as_one_and_the_death_of_one_is_told(halves: Pair):
    """Chunks, stacked windows and the cache equal plain hooks and the other engine; then a killed worker fails all that wait."""
    ids = prompt(halves.engine, 170)
    windows = [
        [window(halves.engine, MIDDLE, 0, 90, 1.0), window(halves.engine, ALL, 50, None, -0.5, seed=2)],
        [],
        [window(halves.engine, ONE, 172, None, 2.0)],
        [window(halves.engine, MIDDLE, 20, None, 0.0)],
    ]
    requests = [greedy(ids, *of_row, tokens=6) for of_row in windows]
    expected = halves.twins(*requests)
    for _ in range(2):  # computed, then from the cache
        found = halves.run(*requests)
        assert max(map(halves.hooked, requests, found)) < TOLERANCE
        assert max(map(readout_difference, (g.readout for g in found), (g.readout for g in expected))) < TOLERANCE
        same_receipts(found, expected)
    assert all(one.reused_tokens for one in found)

    long = EngineRequest(ids, Sampling(max_tokens=800, temperature=0.0), tuple(windows[0]))
    steps = halves.engine.stats.steps
    futures = halves.engine.submit_all([long, long])
    while halves.engine.stats.steps < steps + 8:
        time.sleep(0.01)
    os.kill(workers(os.getpid())[0], signal.SIGKILL)
    for future in futures:
        with pytest.raises(EngineDead, match=r"broke down.*inspect eval-retry"):
            future.result(PATIENCE)
    with pytest.raises(EngineDead, match="broke down"):
        halves.engine.submit(long)


def run(folder: Path, *arguments: str) -> int:
    """Run Inspect's command line to its end."""
    return inspect(*arguments, folder=folder).wait(PATIENCE)


def logs_of(folder: Path) -> list[EvalLog]:
    """Return the logs of a folder, the oldest first."""
    infos = sorted(list_eval_logs(str(folder / "logs")), key=lambda info: info.mtime or 0)
    return [read_eval_log(info.name) for info in infos]


def test_an_eval_whose_worker_is_killed_ends_with_an_error_and_a_retry_goes_on(tmp_path: Path):
    """The eval says what happened and keeps what was done; `inspect eval-retry` starts a new engine and finishes it."""
    model = save_family_model(tmp_path / "model", "llama", **SIZES)
    stories = small_stories(tmp_path / "stories")
    build = ["--model", str(model), "--out", str(tmp_path / "library"), "--stories", str(stories)]
    assert self_steering_command(["vectors", "build", *build, "--default-dose", "1"]) == 0
    given = {"vectors": "all", "options": 2, "rotations": 2, "random_directions": 2, "library": tmp_path / "library"}
    chosen = {"engine": "vllm", "tensor_parallel_size": 2, "max_model_len": 1024}
    process = inspect(
        "eval", "evals/introspection.py", "--model", f"nnsight/{model}", "--log-buffer=1", "--max-samples=1",
        *[f"-T{name}={value}" for name, value in given.items()], *[f"-M{name}={value}" for name, value in chosen.items()],
        folder=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while finished(tmp_path / "logs") < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(workers(process.pid)[-1], signal.SIGKILL)
    code = process.wait(PATIENCE)
    (first,) = logs_of(tmp_path)
    done = {str(s.id): s for s in first.samples or [] if s.error is None}
    assert code != 0 or first.status == "error", (tmp_path / "output").read_text()
    assert first.status == "error"
    assert "vLLM's engine broke down" in str(first.error and first.error.message)
    assert 0 < len(done) < 4 * len(STATES)

    assert run(tmp_path, "eval-retry", first.location, "--log-buffer=100") == 0, (tmp_path / "output").read_text()
    whole = logs_of(tmp_path)[-1]
    after = kept(whole)
    assert whole.status == "success"
    assert len(after) == 4 * len(STATES)
    assert all(after[name][0] == sample.uuid for name, sample in done.items())
    assert all(value["clean_receipt"] == 1 for _, _, value in after.values())
