"""Finding log files, and opening them: what is no finished Inspect log says so in words a person understands."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import zipfile_zstd  # noqa: F401  teaches zipfile the compression that Inspect writes
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from pydantic_core import from_json

SUFFIXES = (".eval", ".json")
# What Inspect writes beside the logs of an eval set.
_NOTES = frozenset({"eval-set.json", "logs.json"})
_DEEPEST = 500
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
# Most of a log. Timelines and pooled data refer to events, and cannot be read without them.
_UNUSED = ("events", "events_data", "timelines", "attachments", "output")
_WHERE_IT_RAN = re.compile(r"url|judge|probe|host|port$")  # arguments that change no condition
_AS_READ_FROM_FILES = {"deserializing": True}  # as Inspect reads logs: nothing is put in for what is missing
REMEDY = "run an eval with `--log-dir` first, or name a folder that holds its .eval or .json files"


class LogError(ValueError):
    """A log that cannot be used; the message is the reason, for a person to read."""


class UnfinishedError(LogError):
    """A log that did not come to its end.

    Attributes:
        log: Its header.
    """

    def __init__(self, reason: str, log: EvalLog) -> None:
        super().__init__(reason)
        self.log = log


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
        LogError: It is no log.
        UnfinishedError: It is not finished.
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
        raise UnfinishedError(f"not finished (status {log.status}{problem})", log)
    if log.invalidated:
        raise LogError("marked as invalid in the log itself")
    return log


def condition_of(log: EvalLog) -> str:
    """Return a log's task, model and arguments, but for where it ran, as text: logs with the same are of one condition."""
    args = {name: value for name, value in sorted(log.eval.task_args.items()) if not _WHERE_IT_RAN.search(name)}
    task, model = (name.rpartition("/")[2] for name in (log.eval.task, log.eval.model))
    return ", ".join([task, model, *(f"{name} {json.dumps(value, default=str)}" for name, value in args.items())])


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


def read_samples(path: Path, *, events: bool = False) -> list[EvalSample]:
    """Return a log's samples in Inspect's order, without what tables are not made of, which is most of a log.

    What cannot be read so is read whole, as Inspect reads it.

    Args:
        path: The file.
        events: Whether what the engine reported is needed: then the models' events are there, without their prompts.

    Raises:
        LogError: Inspect cannot read it either.
    """
    try:
        samples = [_sample(found, events=events) for found in _stored(path)]
    except Exception:  # noqa: BLE001  whatever it is, Inspect has the last word
        try:
            samples = read_eval_log(path.as_posix()).samples or []
        except Exception as error:
            raise LogError(f"broken: a sample cannot be read ({_first_line(error)})") from error
    return sorted(samples, key=lambda one: (one.epoch, one.id if isinstance(one.id, str) else str(one.id).zfill(20)))


def _stored(path: Path) -> Iterator[dict[str, Any]]:
    """Yield samples as they are stored."""
    if path.suffix == ".json":
        yield from from_json(path.read_bytes()).get("samples") or []
        return
    with ZipFile(path) as log:
        # Of a sample that was written twice the later one counts.
        members = {member.filename: member for member in log.infolist() if member.filename.startswith("samples/")}
        for member in members.values():
            yield from_json(log.read(member))


def _sample(stored: dict[str, Any], *, events: bool) -> EvalSample:
    kept = {name: value for name, value in stored.items() if name not in _UNUSED}
    if events:
        calls = (event for event in stored.get("events") or [] if event["event"] == "model")
        kept["events"] = [{**event, "input": [], "input_refs": None, "tools": [], "call": None} for event in calls]
    return EvalSample.model_validate(kept, context=_AS_READ_FROM_FILES)


def _first_line(error: object) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
