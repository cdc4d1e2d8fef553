"""Evals that are ended from outside: killed at random moments and gone on with, beside one that is left alone; interrupted."""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from inspect_ai.log import EvalLog, read_eval_log

from self_steering.steering.models import load_model
from tests.support.models import save_tiny_model
from tests.support.small_library import STATES, save_library

KILLS = 6
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_CRASHED = ("terminate called", "Fatal Python error", "Segmentation fault", "core dumped", "Aborted")
_ROOT = Path(__file__).resolve().parents[2]
_INSPECT = Path(sys.executable).with_name("inspect")
_PATIENCE = 120  # seconds; only reached where something hangs
_PARAMETERS = {
    "vectors": "all",
    "arm": "real,placebo,random,other,opposite",
    "options": 2,
    "rotations": 2,
    "random_directions": 2,
}


def save_model_and_library(folder: Path) -> tuple[Path, Path]:
    """Save a tiny model and a library for it."""
    model = save_tiny_model(folder / "model", "llama")
    return model, Path(save_library(folder / "library", load_model(str(model)).fingerprint, names=STATES))


def start(*arguments: str, logs: Path) -> "subprocess.Popen[bytes]":
    """Start Inspect's command line in a session of its own, logging to `logs`, and saying all to a file beside it."""
    told = {"INSPECT_DISPLAY": "plain", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "INSPECT_LOG_DIR": str(logs)}
    logs.parent.mkdir(parents=True, exist_ok=True)
    with logs.with_name(f"{logs.name}.said").open("ab") as said:
        return subprocess.Popen(  # noqa: S603  our own command line
            [_INSPECT, *arguments],
            cwd=_ROOT,
            env={**os.environ, **told},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def evaluation(model: Path, library: Path) -> list[str]:
    """Return the arguments of an introspection eval of twenty samples."""
    given = [f"-T{name}={value}" for name, value in {**_PARAMETERS, "library": library}.items()]
    return [
        "eval",
        "evals/introspection.py",
        "--model",
        f"nnsight/{model}",
        "--log-buffer=1",
        "--max-samples=2",
        *given,
    ]


def newest(logs: Path) -> Path | None:
    """Return the newest log that holds anything."""
    found = sorted(logs.glob("*.eval"), key=lambda path: path.stat().st_mtime_ns)
    return next((path for path in reversed(found) if _names(path)), None)


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as log:
            return log.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def _finished(logs: Path) -> dict[str, int]:
    return {path.name: sum(name.startswith("samples/") for name in _names(path)) for path in logs.glob("*.eval")}


def kill_at_random(process: "subprocess.Popen[bytes]", logs: Path, rng: random.Random) -> None:
    """Kill a run some random time after it has finished a random number of samples of its own."""
    before = _finished(logs)
    wanted, delay = rng.randrange(4), rng.uniform(0, 0.4)
    deadline = time.monotonic() + _PATIENCE

    def gone_far() -> bool:
        new = {name: count for name, count in _finished(logs).items() if name not in before}
        # A retry's log begins with what was finished before.
        return bool(new) and sum(new.values()) >= wanted + max(before.values(), default=0)

    while not gone_far() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def killed_and_gone_on_with(folder: Path, seed: int) -> list[str]:
    """Kill an eval and its retries, let the last one finish, and return what is not as it should be."""
    rng = random.Random(f"kill/{seed}")
    model, library = save_model_and_library(folder)
    command, alone, logs = evaluation(model, library), folder / "alone", folder / "killed"
    if start(*command, logs=alone).wait(_PATIENCE):
        return [f"the eval that nobody killed failed: {_last_words(alone)}"]
    whole, failures, done = _read(alone), [], {}
    for number in range(KILLS):
        log = newest(logs)
        again = ["eval-retry", str(log), "--log-buffer=1", "--max-samples=2"] if log else command
        kill_at_random(start(*again, logs=logs), logs, rng)
        now = _kept(_read(logs))
        lost = [name for name, uuid in done.items() if now.get(name) != uuid]
        if lost:
            failures.append(f"kill {number}: {len(lost)} finished samples were lost or run again, such as {lost[0]}")
        done = now
    log = newest(logs)
    final = ["eval-retry", str(log), "--log-buffer=1"] if log and _read(logs).status != "success" else None
    if final and start(*final, logs=logs).wait(_PATIENCE):
        return [*failures, f"the last retry failed: {_last_words(logs)}"]
    after = _read(logs)
    if after.status != "success":
        failures.append(f"after the last retry the log's status is {after.status}")
    lost = [name for name, uuid in done.items() if _kept(after).get(name) != uuid]
    if lost:
        failures.append(f"the last retry lost {len(lost)} finished samples, such as {lost[0]}")
    if scores_of(after) != scores_of(whole):
        differ = [name for name, value in scores_of(whole).items() if scores_of(after).get(name) != value]
        failures.append(f"{len(differ)} samples are scored otherwise than in the run that nobody killed: {differ[:3]}")
    return failures


def interrupted(folder: Path, how: signal.Signals) -> list[str]:
    """Interrupt an eval once, as a terminal or a scheduler does, and return what is not as it should be.

    Args:
        folder: Where `save_model_and_library` saved what is run.
        how: The signal.
    """
    logs = folder / how.name
    process = start(*evaluation(folder / "model", folder / "library"), logs=logs)
    deadline = time.monotonic() + _PATIENCE
    while not any(count > 1 for count in _finished(logs).values()) and process.poll() is None:
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            return ["nothing was finished that could be interrupted"]
        time.sleep(0.02)
    os.killpg(process.pid, how)
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return [f"it still ran {_PATIENCE} seconds after"]
    said, failures = logs.with_name(f"{logs.name}.said").read_text(errors="replace"), []
    if crashed := [words for words in _CRASHED if words in said]:
        failures.append(f"it ended in a crash ({code}): {crashed[0]}")
    if code in (-signal.SIGABRT, -signal.SIGSEGV):
        failures.append(f"it ended by signal {-code}")
    if not _kept(_read(logs)):
        failures.append("the log holds none of the samples that were finished")
    if start("eval-retry", str(newest(logs)), "--log-buffer=1", logs=logs).wait(_PATIENCE):
        failures.append(f"it cannot be gone on with: {_last_words(logs)}")
    elif _read(logs).status != "success":
        failures.append(f"once gone on with, its status is {_read(logs).status}")
    return failures


def _read(logs: Path) -> EvalLog:
    path = newest(logs)
    return read_eval_log(str(path)) if path else EvalLog.model_construct(status="started", samples=[])


def _kept(log: EvalLog) -> dict[str, str]:
    return {str(sample.id): sample.uuid or "" for sample in log.samples or [] if sample.scores and not sample.error}


def scores_of(log: EvalLog) -> dict[str, str]:
    """Return each sample's scores to eight digits: which other samples share a batch may move the last bits."""

    def rounded(value: object) -> str:
        if isinstance(value, dict):
            # What it cost depends on what was cached, and a killed run's cache is gone.
            return str({key: rounded(one) for key, one in sorted(value.items()) if key != "computed_tokens"})
        return f"{value:.8g}" if isinstance(value, float) else str(value)

    return {
        str(sample.id): str({name: rounded(score.value) for name, score in (sample.scores or {}).items()})
        for sample in log.samples or []
    }


def _last_words(logs: Path) -> str:
    return logs.with_name(f"{logs.name}.said").read_text(errors="replace")[-500:]
