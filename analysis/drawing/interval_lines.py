"""Drawings of estimates one below the other: bars from zero, or points around a line, each with its interval and its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from self_steering.analysis.drawing.themed_svg import BLUE, INK, PAPER, QUIET, new_figure
from self_steering.analysis.page.page_text import label

ROW = 22
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
        colour: Of its bar or point.
        hatch: Of its bar.
        marker: Of its point.
        marks: Further figures of the row.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    note: str
    colour: str = BLUE
    hatch: str = ""
    marker: str = "o"
    marks: tuple[Mark, ...] = ()


def bars(
    lines: Sequence[Line],
    *,
    title: str,
    across: str,
    most: float = 1.0,
    percent: bool = True,
    legend: Sequence[Artist] = (),
    width: int = 640,
) -> Figure:
    """Return horizontal bars from zero with their intervals.

    Args:
        lines: From the top down.
        title: Above them.
        across: What the axis shows.
        most: Where the axis ends.
        percent: Whether shares are shown in per cent.
        legend: Its entries, if there is one.
        width: In pixels.
    """
    figure, axes = _rows(lines, title, across, legend, width)
    for place, line in enumerate(lines):
        axes.barh(place, line.value, _BAR, color=line.colour, edgecolor=PAPER, hatch=line.hatch, linewidth=0)
        crowded = any(mark.low is not None for mark in line.marks)
        _interval(axes, place - (_ABOVE if crowded else 0), line.low, line.high, INK)
        for mark in line.marks:
            at = place + mark.below
            _interval(axes, at, mark.low, mark.high, QUIET)
            axes.plot(mark.value, at, mark.marker, **_HOLLOW, clip_on=False)
    axes.set_xlim(0, most)
    if percent:
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return figure


def points(
    lines: Sequence[Line], *, title: str, across: str, legend: Sequence[Artist] = (), width: int = 640
) -> Figure:
    """Return points with their intervals around a line at zero; see `bars`. Differences of shares are in percentage points."""
    figure, axes = _rows(lines, title, across, legend, width)
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for place, line in enumerate(lines):
        _interval(axes, place, line.low, line.high, line.colour)
        axes.plot(line.value, place, line.marker, color=line.colour, markersize=6.5)
    ends = [end for line in lines for end in (line.value, line.low, line.high) if end is not None]
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


def _rows(lines: Sequence[Line], title: str, across: str, legend: Sequence[Artist], width: int) -> tuple[Figure, Axes]:
    """Return a figure with one row a line: names at the left, notes at the right."""
    figure = new_figure(width, 84 + (24 if legend else 0) + ROW * len(lines))
    figure.set_layout_engine("constrained", w_pad=_MARGIN / 72)
    axes = figure.subplots()
    axes.set_yticks(range(len(lines)), [label(line.name, _LONGEST_NAME) for line in lines])
    axes.set_ylim(len(lines) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, pad=_ASIDE)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(across)
    axes.set_title(title, loc="left")
    notes = axes.secondary_yaxis("right")
    notes.set_yticks(range(len(lines)), [line.note for line in lines])
    notes.tick_params(axis="y", length=0, pad=_ASIDE)
    notes.spines["right"].set_visible(False)
    if legend:
        columns = len(legend) if sum(_KEY + _LETTER * len(str(one.get_label())) for one in legend) < width else 3
        figure.legend(
            handles=list(legend), loc="outside lower left", ncols=columns, handletextpad=0.4, columnspacing=1.2
        )
    return figure, axes


def stacked(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    looks: Mapping[str, tuple[str, str]],
    notes: Sequence[str],
    *,
    title: str,
    across: str,
    width: int = 640,
) -> Figure:
    """Return horizontal bars of parts that sum to one.

    Args:
        names: Of the bars, from the top down.
        parts: For each part its share of every bar, [bars].
        looks: Colour and hatch of each part.
        notes: What stands at the right of each bar.
        title: Above them.
        across: What the axis shows.
        width: In pixels.
    """
    lines = [Line(name, 0.0, None, None, note) for name, note in zip(names, notes, strict=True)]
    legend = [
        Patch(facecolor=looks[part][0], hatch=looks[part][1], edgecolor=QUIET, linewidth=0, label=part)
        for part in parts
    ]
    figure, axes = _rows(lines, title, across, legend, width)
    starts = [0.0] * len(names)
    for part, shares in parts.items():
        colour, hatch = looks[part]
        axes.barh(range(len(names)), shares, _BAR, starts, color=colour, hatch=hatch, edgecolor=QUIET, linewidth=0)
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return figure
