"""The page of a report: one HTML file that needs no network, no scripts, and none of the files beside it."""

from collections.abc import Iterator, Sequence

import pandas as pd

from self_steering.analysis.drawing.report_drawing import DrawnFigure, DrawnSection, FailedFigure
from self_steering.analysis.page.page_table import page_table
from self_steering.analysis.page.page_template import page_template
from self_steering.analysis.report.report_comparisons import (
    HEADLINE_FILE,
    PUBLISHED_FILE,
    Comparisons,
    pair_file,
    with_intervals,
)
from self_steering.analysis.report.report_files import TABLE_FILES, picture_path, table_path
from self_steering.analysis.report.report_methods import methods_named, table_texts, undescribed
from self_steering.analysis.report.report_overview import overview
from self_steering.analysis.tables import Tables

_LOG_COLUMNS = ["log", "task", "model", "arm", "samples", "shard", "created", "inspect"]


def report_page(runs: Sequence[str], tables: Tables, sections: Sequence[DrawnSection], compared: Comparisons) -> str:
    """Return the page: HTML with its pictures and its style sheet inside. Whatever logs and models said is shown as text.

    Args:
        runs: Names of the runs that were read.
        tables: The tables of all of them together.
        sections: Its figures, drawn.
        compared: Its comparisons.
    """
    figures = [figure for section in sections for figure in section.figures]
    shown = _tables(sections, compared)
    return page_template("report_page").render(
        title=_title(tables),
        runs=runs,
        seen=overview(tables),
        logs=page_table(tables.logs[_LOG_COLUMNS].sort_values("log"), rows=len(tables.logs)),
        table_files=TABLE_FILES,
        sections=sections,
        drawn=sum(isinstance(figure, DrawnFigure) for figure in figures),
        failed=sum(isinstance(figure, FailedFigure) for figure in figures),
        absent=[name for section in sections for name in section.nothing],
        compared=compared,
        files={"headlines": HEADLINE_FILE, "published": PUBLISHED_FILE},
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
