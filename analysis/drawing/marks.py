"""Rows of bars and of points with their intervals, panels that share rows, scatters of vectors, and figures of several pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import (
    BLUE,
    GOLD,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    QUIET,
    Look,
    category_order,
    filled,
    look,
)
from self_steering.analysis.drawing.words import bound, label, statements
from self_steering.analysis.statistics.estimates import Row

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


def points(
    lines: Sequence[Line], *, title: str, across: str, hundredths: bool = True, legend: Sequence[Artist] = ()
) -> Figure:
    """Return points with their intervals around a line at zero; see `bars`.

    The axis counts hundredths, as differences of shares are in percentage points, or else what the lines hold.
    """
    figure, axes = _rows(lines, title, across, legend)
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for place, one in enumerate(lines):
        _interval(axes, place, one.low, one.high, one.look.colour)
        axes.plot(one.value, place, one.look.marker, color=one.look.colour, markersize=6.5)
    ends = [end for one in lines for end in (one.value, one.low, one.high) if end is not None]
    reach = 1.08 * max(0.05, *map(abs, ends))
    axes.set_xlim(-reach, reach)
    unit = 100 if hundredths else 1
    axes.xaxis.set_major_formatter(lambda value, _: f"{unit * value:+g}".replace("-", "−").replace("+0", "0"))
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


_PANELS = 700
_ASIDE_OF_PANELS = 8  # pixels around each panel, so that text stays inside where fonts come out wider
_ARM_LOOKS = {
    "real": Look(BLUE, "", "o"),
    "random": Look(ORANGE, "///", "s"),
    "mislabelled": Look(PURPLE, "xxx", "P"),
    "opposite": Look(GREEN, "\\\\\\", "v"),
    "other": Look(GOLD, "...", "D"),
}
_OTHER_ARM = Look(QUIET, "+++", "X")


def arm_style(arm: str) -> dict[str, Any]:
    """Return what bars of an arm are drawn with: placebo open, the others filled, told apart by hatch too."""
    if arm == "placebo":
        return {"facecolor": PAPER, "edgecolor": BLUE, "linewidth": 1.2}
    look = _ARM_LOOKS.get(arm, _OTHER_ARM)
    return {"facecolor": look.colour, "edgecolor": PAPER, "hatch": look.hatch, "linewidth": 0}


def row_panels(
    labels: Sequence[str],
    titles: Sequence[str],
    *,
    row: int,
    extra: int,
    widths: Sequence[float] | None = None,
    width: int = _PANELS,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, which share their rows, the first at the top.

    Args:
        labels: Of the rows.
        titles: Of the panels.
        row: Height of a row in pixels.
        extra: Height of all the rest.
        widths: Of the panels, relative to each other; all alike by default.
        width: Of the figure, in pixels.
    """
    figure = new_figure(width, extra + row * len(labels))
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=_ASIDE_OF_PANELS / 72, wspace=0.04)
    panels = list(figure.subplots(1, len(titles), sharey=True, squeeze=False, width_ratios=widths)[0])
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left")
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure, panels


def say_empty(axes: Axes, why: str) -> None:
    """Write into a panel that nothing is drawn in why that is so."""
    axes.text(0.5, 0.5, fill(why, 26), transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=10)


def as_percent(axes: Axes) -> None:
    """Write a panel's shares in per cent."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")


_MOST_NAMED = 8
_ROOM = 8  # around every mark that no other's name may enter, in pixels
# Where a name may stand beside its mark, in pixels, best first.
_PLACES = ((7, 0, "left"), (-7, 0, "right"), (0, 10, "center"), (0, -10, "center"))


def labelled_scatter(points: pd.DataFrame, across: str, up: str) -> Figure:
    """Return one mark a vector.

    Args:
        points: Columns `vector`, `category`, `x`, `y`.
        across: Name of the axis of `x`.
        up: Name of the axis of `y`.
    """
    figure = new_figure(460, 450)
    axes = figure.subplots()
    axes.axhline(0, color=QUIET, linewidth=1)
    axes.axvline(0, color=QUIET, linewidth=1)
    draw_marks(axes, points, "x", "y")
    axes.margins(0.12)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.1, columnspacing=1)
    figure.draw_without_rendering()  # names are placed by where marks lie
    _name_outliers(axes, points)
    return figure


def draw_marks(axes: Axes, points: pd.DataFrame, x: str, y: str) -> None:
    """Draw one mark a row, in the colour and the form of its category; columns `x` and `y` say where."""
    for category in category_order(list(points["category"])):
        of = points[points["category"] == category]
        like = look(category)
        axes.plot(of[x], of[y], like.marker, linestyle="none", color=like.colour, markersize=6.5, label=category)


def _name_outliers(axes: Axes, points: pd.DataFrame) -> None:
    """Name the vectors farthest out where a name covers no mark and no other name; those without room stay unnamed."""
    places = points.set_index("vector")[["x", "y"]].astype(float)
    marks = {
        vector: Bbox.from_bounds(x - _ROOM, y - _ROOM, 2 * _ROOM, 2 * _ROOM)
        for vector, (x, y) in zip(places.index, axes.transData.transform(places.to_numpy()), strict=True)
    }
    names: list[Bbox] = []
    for vector in outliers(points, _MOST_NAMED):
        taken = [*names, *(mark for other, mark in marks.items() if other != vector)]
        for right, up, side in _PLACES:
            style: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 10}
            text = axes.annotate(label(vector), places.loc[vector], (right, up), **style)
            box = text.get_window_extent()
            inside = box.x0 >= axes.bbox.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                names.append(box)
                break
            text.remove()


def outliers(pairs: pd.DataFrame, most: int) -> list[str]:
    """Return the vectors of one pair that lie farthest from the line that fits the others, and from the middle, farthest first.

    Args:
        pairs: The rows of one pair.
        most: How many at most.
    """
    spread = pairs[["x", "y"]].std(ddof=0).replace(0, 1)
    standard = (pairs[["x", "y"]] - pairs[["x", "y"]].median()) / spread
    # The farther of the distance across the diagonal and of that along it, the latter at half its weight.
    across, along = (standard["x"] - standard["y"]).abs(), (standard["x"] + standard["y"]).abs() / 2
    far = pd.concat([across, along], axis=1).max(axis=1)
    return list(pairs.loc[far.sort_values(ascending=False).index[:most], "vector"])
