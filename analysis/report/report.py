"""A report: logs are read, each run once and told apart, and made into a page and the files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from self_steering.analysis.report.comparisons import comparisons
from self_steering.analysis.report.figures import DrawnFigure, FailedFigure, FigureSection, Progress, draw_sections
from self_steering.analysis.report.files import PAGE_FILE, PAIRS_FILE, table_files
from self_steering.analysis.report.report_page import report_page
from self_steering.analysis.report.side_by_side import Pair, side_by_side
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


def read_runs(paths: Sequence[str | Path], progress: Progress | None = None) -> Runs:
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


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        files: The page, pictures and tables, by their path below the report's folder.
        tables: What it was made from.
        drawn: Its figures.
        failed: Figures that could not be drawn.
    """

    files: dict[str, bytes]
    tables: Tables
    drawn: list[DrawnFigure]
    failed: list[FailedFigure]


def make_report(
    runs: Runs, sections: Sequence[FigureSection], progress: Progress | None = None, pairs: Sequence[Pair] = ()
) -> Report:
    """Make the report of one or several runs; the same tables give the same bytes.

    Args:
        runs: What was read. Two runs are compared with each other, and otherwise the models in all of them.
        sections: Which figures, in which order.
        progress: Called with the number of figures drawn and of all, after each of them.
        pairs: Rollouts of one seed that stand side by side on a page of their own.
    """
    tables = runs.tables
    done = draw_sections(tables, sections, progress)
    compared = comparisons(tables, runs.apart)
    page = report_page(list(runs.apart), tables, done, compared, pairs=len(pairs))
    figures = [figure for section in done for figure in section.figures]
    drawn = [figure for figure in figures if isinstance(figure, DrawnFigure)]
    files = {PAGE_FILE: page.encode(), **compared.files, **table_files(tables)}
    for figure in drawn:
        files |= figure.files
    if pairs:
        files[PAIRS_FILE] = side_by_side(pairs).encode()
    return Report(files, tables, drawn, [figure for figure in figures if isinstance(figure, FailedFigure)])


def _part(tables: Tables, logs: set[str]) -> Tables:
    """Return the rows of some logs."""

    def rows(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["log"].isin(logs)].reset_index(drop=True)

    return Tables(**{field.name: rows(getattr(tables, field.name)) for field in fields(Tables)})


def _names(paths: Sequence[str | Path]) -> list[str]:
    full = [Path(path).resolve() for path in paths]
    for place, path in enumerate(full):
        if path in full[:place]:
            raise ValueError(f"{paths[place]} is named twice; name each folder or log once")
    longest = max((len(path.parts) for path in full), default=1)
    endings = ([Path(*path.parts[-parts:]).as_posix() for path in full] for parts in range(1, longest + 1))
    return next(names for names in endings if len(set(names)) == len(names))
