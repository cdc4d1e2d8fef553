"""A full disk: whatever is being written says so, and leaves nothing that a later run would take for whole."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspect_ai.log import read_eval_log
from safetensors import safe_open

from tests.prove.judge import CommandError, command
from tests.prove.kill import evaluation, start
from tests.support.hand_made_logs import asked, said, sample, took, write_log
from tests.support.small_library import small_stories

CASES = ("report", "vectors build", "table --csv", "eval --log-dir")
_PATIENCE = 120


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Give a folder on a file system of its own.

    Raises:
        PermissionError: This user may not mount one.
    """
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:  # noqa: S603  a fixed command
        raise PermissionError("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607  the mount of a moment ago


def full_disk_faults(folder: Path, model: Path, library: Path) -> list[str]:
    """Write reports, libraries, tables and logs to disks that are too small; return what is not as it should be."""
    logs = folder / "logs"
    write_log(logs / "log.eval", [sample([*asked("Hi."), *took("calm"), *said()], name=f"s-{n}") for n in range(30)])
    stories = str(small_stories(folder.parent / "stories"))
    build = ("vectors", "build", "--model", str(model), "--stories", stories, "--default-dose", "1", "--out")
    failures = []
    for name, arguments in {
        "report": ("report", str(logs), "--out"),
        "vectors build": build,
        "table --csv": ("table", str(_introspection_log(folder.parent)), "--csv"),
    }.items():
        with small_disk(folder / name.replace(" ", "_"), 8) as disk:
            out = disk / "out"
            failures += [f"{name} to a full disk: {fault}" for fault in _written(arguments, out)]
    with small_disk(folder / "logs_on_it", 16) as disk:
        failures += [f"eval to a full disk: {fault}" for fault in _evaluated(disk, model, library)]
    return failures


def _introspection_log(root: Path) -> Path:
    return next((root / "alone").glob("*.eval"))


def _written(arguments: tuple[str, ...], out: Path) -> Iterator[str]:
    try:
        command(*arguments, str(out))
    except CommandError as error:
        if "space" not in str(error) or str(out.parent) not in str(error):
            yield f"the error does not name the disk: {error}"
    except Exception as error:  # noqa: BLE001  judged
        yield f"{type(error).__name__}: {error}"
    else:
        yield "nothing was said"
    left = [path for path in out.parent.rglob("*") if path.is_file() and not _whole(path)]
    if left:
        yield f"left behind: {[path.name for path in left[:5]]}"


def _whole(path: Path) -> bool:
    """Return whether a file may stay: a table by its own name, or what an interrupted build goes on from."""
    if path.parent.name == ".out.work":
        with safe_open(path, "pt") as held:  # raises where it is torn
            return bool(list(held.keys()))
    return path.suffix == ".csv" and not path.name.startswith(".") and path.read_bytes().endswith(b"\n")


def _evaluated(disk: Path, model: Path, library: Path) -> Iterator[str]:
    logs = disk / "logs"
    process = start(*evaluation(model, library), "--log-dir", str(logs), logs=disk.parent / "eval")
    process.wait(_PATIENCE)  # Inspect's exit code is 0 where a task fails
    said = (disk.parent / "eval.said").read_text(errors="replace")
    if "No space left" not in said:
        yield f"the eval did not say that the disk is full: {said[-300:]}"
    for path in logs.glob("*.eval"):
        try:
            status = read_eval_log(str(path), header_only=True).status
        except Exception:  # noqa: BLE001, S112  a log that cannot be read will not be taken for whole
            continue
        if status == "success":
            yield "a log on the full disk passes for whole"
