"""Evals run by Inspect's command line in a process of its own, and what their logs have so far."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from inspect_ai.log import EvalLog

ROOT = Path(__file__).parents[2]
INSPECT = Path(sys.executable).with_name("inspect")


def inspect(*arguments: str, folder: Path) -> subprocess.Popen:
    """Start Inspect's command line, logging to `folder/logs` and printing to `folder/output`."""
    environment = {
        **os.environ,
        "INSPECT_DISPLAY": "plain",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # a tiny model gains nothing from more, and loses much where cores are shared
        "INSPECT_LOG_DIR": str(folder / "logs"),
    }
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(  # noqa: S603  our own command line
            [INSPECT, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
        )


def finished(folder: Path) -> int:
    """Return how many samples the one log in `folder` has by now."""
    for path in folder.glob("*.eval"):
        try:
            with zipfile.ZipFile(path) as log:
                names = log.namelist()
        except (zipfile.BadZipFile, OSError):
            return 0
        return sum(name.startswith("samples/") for name in names)
    return 0


def kept(log: EvalLog) -> dict[str, tuple]:
    """Return what a retry must not change of each sample: its id, start and score."""
    return {str(s.id): (s.uuid, s.started_at, s.scores["introspection_scorer"].value) for s in log.samples or []}
