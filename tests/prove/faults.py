"""Faults: killed and interrupted runs, full disks, failing helpers, limits, cancellation, and memory that runs out."""

import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.prove import company, disk, kill
from tests.prove.invariant import FAULTS, unnoticed
from tests.prove.outcome import Outcome
from tests.support.scripted import roomy_session_model, tiny_session_model
from tests.test_every_task import TASKS, docker

_FAILING = ("raises", "hangs", "nonsense")


def run(seed: int = 0) -> Outcome:
    """Try every fault."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        failures += held("killed at random moments", lambda: kill.killed_and_gone_on_with(folder, seed))
        for how in kill.INTERRUPTS:
            failures += held(f"interrupted by {how.name}", partial(kill.interrupted, folder, how))
        full = partial(disk.full_disk_faults, folder / "disks", folder / "model", folder / "library")
        failures += held("full disk", full)
        with tiny_session_model(folder / "session") as tiny:
            cases = {
                **{f"a grader that {how}": partial(company.grader_faults, tiny, how) for how in _FAILING},
                **{f"a monitor that {how}": partial(company.monitor_faults, tiny, how) for how in _FAILING},
                "a time limit": partial(company.limit_faults, tiny, time_limit=2),
                "a token limit": partial(company.limit_faults, tiny, token_limit=900),
                "a message limit": partial(company.limit_faults, tiny, message_limit=9),
                "cancelled neighbours": company.cancelled_neighbours,
                "nothing left behind": company.nothing_left_behind,
                "memory that runs out": partial(company.memory_faults, tiny),
            }
            for name, case in cases.items():
                failures += held(name, case)
        for fault in FAULTS:
            failures += held(fault, partial(_in_every_task, folder / fault.replace(" ", "_"), fault))
    count = kill.KILLS + len(kill.INTERRUPTS) + len(disk.CASES) + len(cases) + len(FAULTS)
    return Outcome("faults", count, failures)


def _in_every_task(folder: Path, fault: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch, roomy_session_model(folder / "model") as tiny:
        docker(folder / "bin", patch, "echo 27.0.1")
        return unnoticed(
            tiny, fault, {name: make(str(tiny.library), few="calm,anxious") for name, make in TASKS.items()}
        )


def held(name: str, case: Callable[[], list[str]]) -> list[str]:
    """Return what did not hold in a case; a case that breaks off did not hold."""
    try:
        return [f"{name}: {found}" for found in case()]
    except Exception:  # noqa: BLE001  the other cases are to be tried
        return [f"{name}: {traceback.format_exc(limit=-3)}"]
