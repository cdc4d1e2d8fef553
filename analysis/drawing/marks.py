"""From the groups of a table to the rows of another."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from self_steering.analysis.drawing.style import BLUE, GOLD, GREEN, INK, ORANGE, PAPER, PURPLE, QUIET, SKY, new_figure
from self_steering.analysis.drawing.words import label
from self_steering.analysis.statistics.estimates import Estimate
from self_steering.analysis.statistics.tests import benjamini_hochberg

Row = dict[str, Any]


def groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[Row, pd.DataFrame]]:
    """Yield the rows that agree in the columns `by`, in the order of these columns' values.

    Missing values are values of their own. They, the empty text and `none` come first: what is nothing is shown before what differs
    from it.
    """
    found = [(cast(tuple[object, ...], key), part) for key, part in frame.groupby(list(by), dropna=False)]
    for key, part in sorted(found, key=lambda item: [_rank(value) for value in item[0]]):
        yield dict(zip(by, key, strict=True)), part


def _rank(value: Any) -> tuple[int, float, str]:
    if pd.isna(value) or value in ("", "none"):
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value).casefold())


def estimated(name: str, estimate: Estimate) -> Row:
    """Return an estimate as columns: `NAME`, `NAME_low`, `NAME_high`; bounds that there are none of are NaN."""
    low, high = (math.nan if bound is None else bound for bound in (estimate.low, estimate.high))
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def adjusted(rows: Sequence[Row], family: Callable[[Row], object] = lambda _: None) -> pd.DataFrame:
    """Return rows with a `p`, None where nothing was tested, as a table with `p_adjusted`, by Benjamini and Hochberg.

    Args:
        rows: The rows.
        family: Rows for which it gives the same are corrected together; default all.
    """
    families: dict[object, list[Row]] = {}
    for row in rows:
        families.setdefault(family(row), []).append(row)
    for together in families.values():
        for row, p in zip(together, benjamini_hochberg([row["p"] for row in together]), strict=True):
            row["p_adjusted"] = p
    found = pd.DataFrame(rows)
    return found.astype({"p": float, "p_adjusted": float}) if len(found) else found


# In the catalogue's order, which is that of the legends.
CATEGORY_COLOURS: dict[str, str] = {
    "emotion": BLUE,
    "cognitive": ORANGE,
    "recreational": GREEN,
    "fictional": PURPLE,
    "invented": GOLD,
    "stance": SKY,
}
CATEGORY_HATCHES: dict[str, str] = {
    "emotion": "",
    "cognitive": "///",
    "recreational": "...",
    "fictional": "\\\\\\",
    "invented": "xxx",
    "stance": "||||",
}
CATEGORY_MARKERS: dict[str, str] = {
    "emotion": "o",
    "cognitive": "s",
    "recreational": "^",
    "fictional": "D",
    "invented": "P",
    "stance": "v",
}
# For vectors of somebody's own library, which the catalogue does not know.
NO_CATEGORY, NO_COLOUR, NO_HATCH, NO_MARKER = "other", QUIET, "+++", "X"

# Orange and blue keep apart under every common colour blindness; the hatch says it again.
VALENCE_COLOURS: dict[int, str] = {-1: ORANGE, 0: QUIET, 1: BLUE}
VALENCE_HATCHES: dict[int, str] = {-1: "///", 0: "...", 1: ""}
VALENCE_NAMES: dict[int, str] = {-1: "negative", 0: "neutral", 1: "positive"}


def colour(category: object) -> str:
    """Return a category's colour; QUIET for what the catalogue does not know (NaN too)."""
    return CATEGORY_COLOURS.get(str(category), NO_COLOUR)


def hatch(category: object) -> str:
    """Return a category's hatch; one of their own for what the catalogue does not know."""
    return CATEGORY_HATCHES.get(str(category), NO_HATCH)


def marker(category: object) -> str:
    """Return a category's marker; one of their own for what the catalogue does not know."""
    return CATEGORY_MARKERS.get(str(category), NO_MARKER)


def category_order(categories: list[object]) -> list[str]:
    """Return the categories among these in the catalogue's order, those that it does not know as one at the end."""
    present = {str(category) for category in categories}
    unknown = [NO_CATEGORY] if present - CATEGORY_COLOURS.keys() else []
    return [category for category in CATEGORY_COLOURS if category in present] + unknown


def category_legend(categories: list[object]) -> list[Patch]:
    """Return the entries of a legend that says what bars of these categories look like."""
    return [
        Patch(facecolor=colour(category), hatch=hatch(category), edgecolor=PAPER, linewidth=0, label=category)
        for category in category_order(categories)
    ]


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
