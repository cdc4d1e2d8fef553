"""The page of a report: one HTML file that needs no network, no scripts, and none of the files beside it."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd

from self_steering.analysis.drawing.page import page_table, page_template
from self_steering.analysis.report.answers import answers
from self_steering.analysis.report.comparisons import (
    HEADLINE_FILE,
    PUBLISHED_FILE,
    Comparisons,
    pair_file,
    with_intervals,
)
from self_steering.analysis.report.figures import DrawnFigure, DrawnSection, FailedFigure
from self_steering.analysis.report.files import PAIRS_FILE, TABLE_FILES, picture_path, table_path
from self_steering.analysis.tables import Tables

_LOG_COLUMNS = ["log", "task", "model", "arm", "samples", "shard", "created", "inspect"]
_CELL = ["source", "family", "model", "arm"]
_KINDS = {
    "nothing to do": "not finished, with a finished log of the same condition: nothing to do",
    "no finished log has": "not finished, and of a condition that is missing",
    "the same run as": "another file of a run that was read",
    "an earlier attempt": "an earlier attempt of a run that was read",
    "of the published study": "no log of this suite or of the study",
    "samples failed": "with samples that failed",
}
_SOURCES = {"self_steering": "this suite", "study": "the study", "other": "another suite"}


def report_page(
    runs: Sequence[str], tables: Tables, sections: Sequence[DrawnSection], compared: Comparisons, pairs: int = 0
) -> str:
    """Return the page: HTML with its pictures and its style sheet inside. Whatever logs and models said is shown as text.

    Args:
        runs: Names of the runs that were read.
        tables: The tables of all of them together.
        sections: Its figures, drawn.
        compared: Its comparisons.
        pairs: How many rollouts the page beside it sets side by side.
    """
    figures = [figure for section in sections for figure in section.figures]
    shown = _tables(sections, compared)
    drawn = {figure.figure.key: figure for figure in figures if isinstance(figure, DrawnFigure)}
    found = answers(tables)
    shown_first = [next((drawn[key] for key in one.figures if key in drawn), None) for one in found]
    return page_template("report_page").render(
        title=_title(tables),
        runs=runs,
        answers=[(one, figure) for one, figure in zip(found, shown_first, strict=True) if one.sentences or figure],
        seen=overview(tables),
        logs=page_table(tables.logs[_LOG_COLUMNS].sort_values("log"), rows=len(tables.logs)),
        table_files=TABLE_FILES,
        sections=sections,
        drawn=len(drawn),
        failed=sum(isinstance(figure, FailedFigure) for figure in figures),
        absent=[name for section in sections for name in section.nothing],
        compared=compared,
        pairs=pairs,
        files={"pairs": PAIRS_FILE, "headlines": HEADLINE_FILE, "published": PUBLISHED_FILE},
        methods=methods_named(_texts(sections, shown)),
        undescribed=list(dict.fromkeys(word for table in shown for word in undescribed(table))),
        page_table=page_table,
        pair_file=pair_file,
        picture_path=picture_path,
        table_path=table_path,
        with_intervals=with_intervals,
    )


def _title(tables: Tables) -> str:
    models = sorted({str(model) for model in tables.logs["model"].dropna()})
    shown = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    return f"Self-steering: {shown}" if models else "Self-steering: nothing to report"


def _tables(sections: Sequence[DrawnSection], compared: Comparisons) -> list[pd.DataFrame]:
    figures = [figure for section in sections for figure in section.figures if isinstance(figure, DrawnFigure)]
    pairs = [pair.table for pair in compared.pairs]
    return [*(figure.figure.table for figure in figures), compared.headlines, compared.published, *pairs]


def _texts(sections: Sequence[DrawnSection], tables: Sequence[pd.DataFrame]) -> Iterator[str]:
    for section in sections:
        for figure in section.figures:
            if isinstance(figure, DrawnFigure):
                yield from (figure.figure.finding, figure.figure.reading)
    for table in tables:
        yield from table_texts(table)


@dataclass(frozen=True)
class Overview:
    """What was read.

    Attributes:
        logs: How many logs.
        rollouts: How many rollouts.
        cells: One row a source, family, model and arm, with its counts of logs, rollouts, takes and readings.
        empty: Paths of logs without any rollout.
        left_out: Paths and reasons of the files that are in no table.
        kinds: How many files were left out for which kind of reason, the most frequent first.
    """

    logs: int
    rollouts: int
    cells: pd.DataFrame
    empty: list[str]
    left_out: list[tuple[str, str]]
    kinds: list[tuple[str, int]]


def overview(tables: Tables) -> Overview:
    """Return what the tables were read from."""
    left_out = tables.left_out.sort_values("log", kind="stable")
    return Overview(
        logs=len(tables.logs),
        rollouts=len(tables.rollouts),
        cells=_cells(tables),
        empty=sorted(set(tables.logs["log"]) - set(tables.rollouts["log"])),
        left_out=[(str(log), str(reason)) for log, reason in zip(left_out["log"], left_out["reason"], strict=True)],
        kinds=[(str(kind), int(count)) for kind, count in left_out["reason"].map(_kind).value_counts().items()],
    )


def _kind(reason: str) -> str:
    """Return what kind of reason it is."""
    return next((kind for mark, kind in _KINDS.items() if mark in reason), "for other reasons")


def _cells(tables: Tables) -> pd.DataFrame:
    rollouts = tables.rollouts.assign(**{name: tables.rollouts[name].fillna("").astype(str) for name in _CELL})
    takes, readings = tables.takes.groupby("rollout").size(), _readings(tables.readouts)
    rollouts = rollouts.assign(
        own_takes=rollouts["rollout"].map(takes).fillna(0), readings=rollouts["rollout"].map(readings).fillna(0)
    )
    counted = rollouts.groupby(_CELL, sort=True).agg(
        logs=("log", "nunique"),
        rollouts=("rollout", "nunique"),
        takes=("own_takes", "sum"),
        readings=("readings", "sum"),
    )
    cells = counted.astype(int).reset_index()
    return cells.assign(source=cells["source"].map(lambda source: _SOURCES.get(source, source)))


def _readings(readouts: pd.DataFrame) -> pd.Series:
    return readouts.drop_duplicates(["rollout", "reading", "number"]).groupby("rollout").size()


@dataclass(frozen=True)
class Method:
    """One statistical method.

    Attributes:
        name: As the appendix calls it.
        pattern: Regular expression that finds it in what a report says, upper and lower case alike.
        what: What it does, in a sentence or two.
    """

    name: str
    pattern: str
    what: str


@cache
def methods() -> tuple[Method, ...]:
    """Return all methods that are described, in the appendix's order."""
    text = resources.files(__package__).joinpath("report_methods.toml").read_text(encoding="utf-8")
    return tuple(Method(**entry) for entry in tomllib.loads(text)["method"])


def methods_named(texts: Iterable[str]) -> list[Method]:
    """Return the methods that are named in any of the texts, in the appendix's order."""
    together = "\n".join(texts)
    return [method for method in methods() if re.search(method.pattern, together, re.IGNORECASE)]


def undescribed(table: pd.DataFrame) -> list[str]:
    """Return what a table's columns of methods and tests name that is not described here, in order."""
    named = [
        word
        for column in table
        if str(column).endswith(("method", "test"))
        for word in table[column].drop_duplicates()
        if isinstance(word, str) and word and not word.startswith("no ")
    ]
    return [word for word in dict.fromkeys(named) if not methods_named([word])]


def table_texts(table: pd.DataFrame) -> list[str]:
    """Return a table's column names and its different words, where methods may be named."""
    words = [str(column) for column in table]
    for column in table.select_dtypes(exclude="number"):
        words += [cell for cell in table[column].drop_duplicates() if isinstance(cell, str)]
    return words
