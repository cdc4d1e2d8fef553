"""A report of logs, ready to be written: the page and the files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from self_steering.analysis.report.comparisons import comparisons
from self_steering.analysis.report.figures import FigureSection
from self_steering.analysis.report.files import PAGE_FILE, table_files
from self_steering.analysis.report.report_page import DrawnFigure, FailedFigure, Progress, draw_sections, report_page
from self_steering.analysis.report.runs import Runs
from self_steering.analysis.tables import Tables


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


def make_report(runs: Runs, sections: Sequence[FigureSection], progress: Progress | None = None) -> Report:
    """Make the report of one or several runs; the same tables give the same bytes.

    Args:
        runs: What was read. Two runs are compared with each other, and otherwise the models in all of them.
        sections: Which figures, in which order.
        progress: Called with the number of figures drawn and of all, after each of them.
    """
    tables = runs.tables
    done = draw_sections(tables, sections, progress)
    compared = comparisons(runs)
    page = report_page(list(runs.apart), tables, done, compared)
    figures = [figure for section in done for figure in section.figures]
    drawn = [figure for figure in figures if isinstance(figure, DrawnFigure)]
    files = {PAGE_FILE: page.encode(), **compared.files, **table_files(tables)}
    for figure in drawn:
        files |= figure.files
    return Report(files, tables, drawn, [figure for figure in figures if isinstance(figure, FailedFigure)])
