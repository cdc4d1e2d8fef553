"""Rows of bars and of points with their intervals, and figures of one such picture a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.sentences import Row, bound, statements
from self_steering.analysis.drawing.style import BLUE, INK, PAPER, QUIET, Look, filled
from self_steering.analysis.drawing.words import label

_WIDTH, _ROW = 640, 22
_BAR = 0.62
_MARGIN = 7  # pixels
_ABOVE = 0.14  # of the middle, where a mark below it has an interval too
_ASIDE = 8  # marks at the ends of the axis must not reach its labels
_LONGEST_NAME = 34
_KEY, _LETTER = 46, 7  # pixels that an entry of a legend takes beside its text, and a letter of that


@dataclass(frozen=True)
class Mark:
    """A further figure of a line's row.

    Attributes:
        value: Where it stands.
        marker: Matplotlib's marker.
        low: Lower end of its interval; None for none.
        high: Upper end.
        below: How far below the row's middle it stands, in rows, so that marks do not hide each other.
    """

    value: float
    marker: str
    low: float | None = None
    high: float | None = None
    below: float = 0.0


@dataclass(frozen=True)
class Line:
    """One row of a drawing.

    Attributes:
        name: What stands at its left.
        value: The estimate.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
        note: What stands at its right.
        look: Of its bar or point.
        marks: Further figures of the row.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    note: str
    look: Look
    marks: tuple[Mark, ...] = ()


PLAIN = Look(BLUE, "", "o")


def line(name: str, row: Row, note: str, look: Look = PLAIN, marks: tuple[Mark, ...] = ()) -> Line:
    """Return the line of a table's row with `value`, `low` and `high`; see `Line`."""
    return Line(name, row["value"], bound(row["low"]), bound(row["high"]), note, look, marks)


@dataclass(frozen=True)
class Panel:
    """What one picture of a figure shows and says.

    Attributes:
        title: Whom it is about.
        figure: The drawing.
        statements: What there is to say of its rows.
        more: Further pictures of the same rows.
    """

    title: str
    figure: Figure
    statements: Sequence[str]
    more: tuple[Picture, ...] = ()


def panel_figure(
    key: str,
    title: str,
    panels: Sequence[Panel],
    *,
    reading: str,
    table: pd.DataFrame,
    before: str = "",
    after: str = "",
) -> ReportFigure | None:
    """Return the figure of some panels, whose statements are its finding; None without any.

    Args:
        key: The figure's key.
        title: Its title.
        panels: From the top down.
        reading: What its marks stand for.
        table: The numbers behind it.
        before: What its finding begins with.
        after: What it ends with.
    """
    if not panels:
        return None
    parts = [(panel.title, panel.statements) for panel in panels]
    pictures = [
        picture
        for panel, part in zip(panels, parts, strict=True)
        for picture in (Picture(panel.figure, statements([part])), *panel.more)
    ]
    return ReportFigure(key, title, tuple(pictures), before + statements(parts) + after, reading, table)


def bars(
    lines: Sequence[Line],
    *,
    title: str,
    across: str,
    most: float = 1.0,
    percent: bool = True,
    legend: Sequence[Artist] = (),
) -> Figure:
    """Return horizontal bars from zero with their intervals.

    Args:
        lines: From the top down.
        title: Above them.
        across: What the axis shows.
        most: Where the axis ends.
        percent: Whether shares are shown in per cent.
        legend: Its entries, if there is one.
    """
    figure, axes = _rows(lines, title, across, legend)
    for place, one in enumerate(lines):
        axes.barh(place, one.value, _BAR, color=one.look.colour, edgecolor=PAPER, hatch=one.look.hatch, linewidth=0)
        crowded = any(mark.low is not None for mark in one.marks)
        _interval(axes, place - (_ABOVE if crowded else 0), one.low, one.high, INK)
        for mark in one.marks:
            at = place + mark.below
            _interval(axes, at, mark.low, mark.high, QUIET)
            axes.plot(mark.value, at, mark.marker, **_HOLLOW, clip_on=False)
    axes.set_xlim(0, most)
    if percent:
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return figure


def points(lines: Sequence[Line], *, title: str, across: str, legend: Sequence[Artist] = ()) -> Figure:
    """Return points with their intervals around a line at zero; see `bars`. Differences of shares are in percentage points."""
    figure, axes = _rows(lines, title, across, legend)
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for place, one in enumerate(lines):
        _interval(axes, place, one.low, one.high, one.look.colour)
        axes.plot(one.value, place, one.look.marker, color=one.look.colour, markersize=6.5)
    ends = [end for one in lines for end in (one.value, one.low, one.high) if end is not None]
    reach = 1.08 * max(0.05, *map(abs, ends))
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+g}".replace("-", "−").replace("+0", "0"))
    return figure


_HALO = withStroke(linewidth=3.4, foreground=PAPER)
_HOLLOW: dict[str, Any] = {"markerfacecolor": PAPER, "markeredgecolor": INK, "markersize": 6.5}


def hollow(marker: str, meaning: str) -> Line2D:
    """Return the legend's entry of a further mark."""
    return Line2D([], [], linestyle="none", marker=marker, label=meaning, **_HOLLOW)


def _interval(axes: Axes, place: float, low: float | None, high: float | None, colour: str) -> None:
    if low is not None and high is not None:
        # The halo tells it from the bar below it.
        axes.hlines(place, low, high, color=colour, linewidth=1.4, path_effects=[_HALO])


def _rows(lines: Sequence[Line], title: str, across: str, legend: Sequence[Artist]) -> tuple[Figure, Axes]:
    """Return a figure with one row a line: names at the left, notes at the right."""
    figure = new_figure(_WIDTH, 84 + (24 if legend else 0) + _ROW * len(lines))
    figure.set_layout_engine("constrained", w_pad=_MARGIN / 72)
    axes = figure.subplots()
    axes.set_yticks(range(len(lines)), [label(one.name, _LONGEST_NAME) for one in lines])
    axes.set_ylim(len(lines) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, pad=_ASIDE)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(across)
    axes.set_title(title, loc="left")
    notes = axes.secondary_yaxis("right")
    notes.set_yticks(range(len(lines)), [one.note for one in lines])
    notes.tick_params(axis="y", length=0, pad=_ASIDE)
    notes.spines["right"].set_visible(False)
    if legend:
        columns = len(legend) if sum(_KEY + _LETTER * len(str(one.get_label())) for one in legend) < _WIDTH else 3
        figure.legend(
            handles=list(legend), loc="outside lower left", ncols=columns, handletextpad=0.4, columnspacing=1.2
        )
    return figure, axes


def stacked(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    looks: Mapping[str, Look],
    notes: Sequence[str],
    *,
    title: str,
    across: str,
) -> Figure:
    """Return horizontal bars of parts that sum to one.

    Args:
        names: Of the bars, from the top down.
        parts: For each part its share of every bar, [bars].
        looks: What each part looks like.
        notes: What stands at the right of each bar.
        title: Above them.
        across: What the axis shows.
    """
    lines = [Line(name, 0.0, None, None, note, PLAIN) for name, note in zip(names, notes, strict=True)]
    legend = [filled(looks[part], edgecolor=QUIET, label=part) for part in parts]
    figure, axes = _rows(lines, title, across, legend)
    starts = [0.0] * len(names)
    for part, shares in parts.items():
        of = looks[part]
        axes.barh(
            range(len(names)), shares, _BAR, starts, color=of.colour, hatch=of.hatch, edgecolor=QUIET, linewidth=0
        )
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return figure
