"""Several runs: read together, each log once, and told apart afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from self_steering.analysis.tables import Tables, read_tables
from self_steering.analysis.tables.log_files import find_logs


@dataclass(frozen=True)
class Runs:
    """One or several runs: folders of logs, or logs, as they were named.

    Attributes:
        tables: All of them together.
        apart: Each by itself, by its name: the end of its path, as much of it as tells it from the others'.
    """

    tables: Tables
    apart: dict[str, Tables]


def read_runs(paths: Sequence[str | Path], progress: Callable[[int, int], None] | None = None) -> Runs:
    """Read runs.

    Args:
        paths: Folders and log files.
        progress: As `read_tables` takes it.

    Raises:
        ValueError: A path does not exist, holds no log, or is named twice.
    """
    logs = find_logs(paths)
    names = _names(paths)
    of_path = [{file.path.resolve() for file in find_logs([path])} for path in paths]
    tables = read_tables(*paths, progress=progress)
    apart = {
        name: _part(tables, {file.name for file in logs if file.path.resolve() in own})
        for name, own in zip(names, of_path, strict=True)
    }
    return Runs(tables, apart)


def _part(tables: Tables, logs: set[str]) -> Tables:
    """Return the rows of some logs."""
    return Tables(**{field.name: _rows(getattr(tables, field.name), logs) for field in fields(Tables)})


def _rows(table: pd.DataFrame, logs: set[str]) -> pd.DataFrame:
    return table[table["log"].isin(logs)].reset_index(drop=True)


def _names(paths: Sequence[str | Path]) -> list[str]:
    full = [Path(path).resolve() for path in paths]
    for place, path in enumerate(full):
        if path in full[:place]:
            raise ValueError(f"{paths[place]} is named twice; name each folder or log once")
    longest = max((len(path.parts) for path in full), default=1)
    endings = ([Path(*path.parts[-parts:]).as_posix() for path in full] for parts in range(1, longest + 1))
    return next(names for names in endings if len(set(names)) == len(names))
