"""The figures of a report, drawn: those that fail are kept as failed, and the others go on."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from self_steering.analysis.drawing.report_figure import ReportFigure
from self_steering.analysis.drawing.themed_svg import inline_svg, page_style
from self_steering.analysis.page.page_text import visible
from self_steering.analysis.report.report_figures import FigureFunction, FigureSection
from self_steering.analysis.report.report_files import figure_files, picture_name
from self_steering.analysis.tables import Tables

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure, drawn.

    Attributes:
        figure: What it says.
        panels: Its pictures as they stand on the page.
        files: Its pictures and its table as files, by their path below the report.
    """

    figure: ReportFigure
    panels: tuple[Markup, ...]
    files: dict[str, bytes]


@dataclass(frozen=True)
class FailedFigure:
    """A figure that could not be drawn.

    Attributes:
        name: What it was to show: its function's name, as words.
        error: The error's type and message, in one line.
        place: Where it was raised.
    """

    name: str
    error: str
    place: str


@dataclass(frozen=True)
class DrawnSection:
    """A section with its figures.

    Attributes:
        title: Heading.
        intro: What it is about.
        figures: Those that the logs hold something for, in order.
        nothing: Names of those that they hold nothing for.
    """

    title: str
    intro: str
    figures: tuple[DrawnFigure | FailedFigure, ...]
    nothing: tuple[str, ...]

    @property
    def failed(self) -> list[FailedFigure]:
        """Figures that could not be drawn."""
        return [figure for figure in self.figures if isinstance(figure, FailedFigure)]


def draw_sections(
    tables: Tables, sections: Sequence[FigureSection], progress: Progress | None = None
) -> list[DrawnSection]:
    """Draw all figures that the logs hold something for.

    Args:
        tables: The logs' tables.
        sections: Which figures, in which order.
        progress: Called with the number of figures done and of all, after each of them.
    """
    total, done, keys = sum(len(section.functions) for section in sections), 0, set[str]()
    drawn = []
    for section in sections:
        figures, nothing = [], []
        for function in section.functions:
            figure = _draw(function, tables, keys)
            if figure is None:
                nothing.append(_words(function))
            else:
                figures.append(figure)
            done += 1
            if progress is not None:
                progress(done, total)
        drawn.append(DrawnSection(section.title, section.intro, tuple(figures), tuple(nothing)))
    return drawn


def _draw(function: FigureFunction, tables: Tables, keys: set[str]) -> DrawnFigure | FailedFigure | None:
    try:
        with page_style():
            figure = function(tables)
            return None if figure is None else _drawn(figure, keys)
    except Exception as error:  # noqa: BLE001  one figure's fault must not cost the others; the page shows it, the command fails
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}, in {last.name}"
        return FailedFigure(_words(function), f"{type(error).__name__}: {' '.join(str(error).split())}", place)


def _drawn(figure: ReportFigure, keys: set[str]) -> DrawnFigure:
    if figure.key in keys:
        raise ValueError(f"two figures have the key {figure.key!r}; give one of them another")
    # The page's pictures come first: those in files lose their placeholder colours.
    panels = tuple(
        inline_svg(picture.figure, picture_name(figure, place), visible(picture.label))
        for place, picture in enumerate(figure.pictures)
    )
    drawn = DrawnFigure(figure, panels, figure_files(figure))
    keys.add(figure.key)
    return drawn


def _words(function: FigureFunction) -> str:
    return getattr(function, "__name__", str(function)).replace("_", " ").strip()
