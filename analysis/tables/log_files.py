"""Finding log files, and opening them: what is no finished Inspect log says so in words a person understands."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from inspect_ai.log import EvalLog, EvalSample, read_eval_log, read_eval_log_samples

SUFFIXES = (".eval", ".json")
# What Inspect writes beside the logs of an eval set.
_NOTES = frozenset({"eval-set.json", "logs.json"})
_DEEPEST = 500
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_UNUSED = {"events", "output", "attachments"}
REMEDY = "run an eval with `--log-dir` first, or name a folder that holds its .eval or .json files"


class LogError(ValueError):
    """A log that cannot be used; the message is the reason, for a person to read."""


@dataclass(frozen=True)
class LogFile:
    """A file that may be a log.

    Attributes:
        path: Where it is.
        name: Its path below the folder that was read; unlike that of any other file read with it.
    """

    path: Path
    name: str

    @property
    def modified(self) -> int:
        """When it was written last, in nanoseconds."""
        return self.path.stat().st_mtime_ns


def find_logs(paths: Sequence[str | Path]) -> list[LogFile]:
    """Return every file below the folders, and every file, that may be a log, in order and each once.

    Raises:
        ValueError: There is no path, one does not exist or is no log file, or a folder holds no log.
    """
    if not paths:
        raise ValueError(f"no folder of logs was named; {REMEDY}")
    found: dict[Path, tuple[Path, str]] = {}
    for given in map(Path, paths):
        if _loops(given):
            raise ValueError(f"{given} is a link to itself; name a folder of logs, or a log file")
        for path, name in _below(given):
            found.setdefault(path.resolve(), (path, name))
    taken = Counter(name for _, name in found.values())
    # Two folders may hold files of the same name: those are told apart by their whole paths.
    return [LogFile(path, name if taken[name] == 1 else path.as_posix()) for path, name in found.values()]


def _loops(path: Path) -> bool:
    try:
        path.resolve()
    except (OSError, RuntimeError):  # the latter is what Python 3.11 and 3.12 raise
        return True
    return False


def _below(given: Path) -> Iterator[tuple[Path, str]]:
    if given.is_dir():
        names = sorted(p.relative_to(given).as_posix() for p in given.rglob("*") if _may_be_log(p, given))
        if not names:
            raise ValueError(f"no log in the folder {given}; {REMEDY}")
        yield from ((given / name, name) for name in names)
    elif not given.exists():
        raise ValueError(f"there is no {given}; name a folder of logs, or a log file")
    elif given.suffix not in SUFFIXES:
        raise ValueError(f"{given} is no log file; logs end in {' or '.join(SUFFIXES)}")
    else:
        yield given, given.name


def _may_be_log(path: Path, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(below).parts)
    return path.suffix in SUFFIXES and path.name not in _NOTES and not hidden and path.is_file()


def open_log(path: Path) -> EvalLog:
    """Return a log's header.

    Raises:
        LogError: It is no log, or not finished.
    """
    if path.stat().st_size == 0:
        raise LogError("the file is empty")
    check_depth(path)
    try:
        log = read_eval_log(path.as_posix(), header_only=True)
    except Exception as error:
        what = "some other JSON, or broken" if path.suffix == ".json" else "cut off, or broken"
        raise LogError(f"no Inspect log, {what}") from error
    if log.status != "success":
        problem = f": {_first_line(log.error.message)}" if log.error else ""
        raise LogError(f"not finished (status {log.status}{problem}); finish it with `inspect eval-retry`")
    if log.invalidated:
        raise LogError("marked as invalid in the log itself")
    return log


def check_depth(path: Path) -> None:
    """Refuse JSON that is nested far deeper than any log: what reads it piece by piece would fill the memory with its path.

    Raises:
        LogError: It is.
    """
    if path.suffix != ".json":
        return
    brackets = np.frombuffer(_STRING.sub(b"", path.read_bytes()), np.uint8) | 0x20  # 0x20 makes of [ and ] the braces
    depth = np.cumsum((brackets == ord("{")).astype(np.int32) - (brackets == ord("}")))
    if len(depth) and (found := int(depth.max())) > _DEEPEST:
        raise LogError(f"nested {found:,} deep, which no Inspect log is")


def read_samples(path: Path, log: EvalLog, *, events: bool) -> Iterator[EvalSample]:
    """Yield a log's samples.

    Args:
        path: The file.
        log: Its header.
        events: Whether their events are needed. Most of a log is events: then one sample at a time is held, else all.

    Raises:
        LogError: A sample cannot be read.
    """
    name = path.as_posix()
    try:
        if events and path.suffix == ".eval" and log.eval.dataset.sample_ids is not None:
            yield from read_eval_log_samples(name, all_samples_required=False)
        else:
            yield from read_eval_log(name, exclude_fields=set() if events else _UNUSED).samples or []
    except Exception as error:
        raise LogError(f"broken: a sample cannot be read ({_first_line(error)})") from error


def _first_line(error: object) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
