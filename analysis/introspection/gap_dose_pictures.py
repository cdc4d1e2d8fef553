"""Drawings of cached readings and gaps by dose."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.themed_svg import BLUE, GOLD, GREEN, ORANGE, PURPLE, QUIET, SKY, new_figure
from self_steering.analysis.introspection.gap_words import axis, condition_names, gap_axis, scale
from self_steering.analysis.introspection.labelled_scatter import draw_marks

_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (GOLD, "P"), (SKY, "v"))


def draw_nominal(rows: pd.DataFrame) -> Figure:
    """Return cached readings and gaps by nominal dose, a line a condition.

    Args:
        rows: Of `condition_gaps`, all of one measure, each at one dose, which stands in `dose`.
    """
    measure = str(rows["measure"].iloc[0])
    figure = new_figure(680, 300)
    left, right = figure.subplots(1, 2)
    lines = [part.sort_values("dose") for _, part in groups(rows, ["framing", "primer", "options"])]
    names = condition_names(pd.concat([line.iloc[:1] for line in lines]).drop(columns=["doses", "dose"]))
    doses = sorted(rows["dose"].unique())
    aside = 0.012 * (doses[-1] - doses[0])
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        shade, mark = _LOOKS[number % len(_LOOKS)]
        at = line["dose"] + aside * (number - (len(lines) - 1) / 2)
        for axes, column, unit in ((left, "cached", 1.0), (right, "gap", scale(measure))):
            axes.vlines(at, unit * line[f"{column}_low"], unit * line[f"{column}_high"], color=shade, linewidth=1.6)
            axes.plot(at, unit * line[column], mark, linestyle="-", color=shade, markersize=6, label=name)
        left.plot(at, line["uncached"], mark, linestyle="--", color=shade, markerfacecolor="none", linewidth=1.2)
    right.axhline(0, color=QUIET, linewidth=1)
    left.set_ylim(bottom=0)
    left.set_ylabel(axis(measure))
    right.set_ylabel(gap_axis(measure))
    for axes in (left, right):
        _dose_axis(axes, doses)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=min(2, len(lines)))
    return figure


def _dose_axis(axes: Axes, doses: list[float]) -> None:
    axes.set_xlabel("nominal dose")
    axes.xaxis.set_major_locator(FixedLocator(doses))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def draw_strengths(points: pd.DataFrame, name: str) -> Figure:
    """Return cached readings and gaps by effective strength, one mark a vector and dose.

    Args:
        points: Of `strength_points`, of one condition.
        name: What the condition is called.
    """
    measure = str(points["measure"].iloc[0])
    shown = points.assign(gap=scale(measure) * points["gap"])
    figure = new_figure(680, 330)
    left, right = figure.subplots(1, 2)
    for axes, column, title in ((left, "cached", axis(measure)), (right, "gap", gap_axis(measure))):
        draw_marks(axes, shown, "strength", column)
        axes.set_xlabel("strength, multiples of the vector")
        axes.set_ylabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    right.axhline(0, color=QUIET, linewidth=1)
    left.set_title(name, loc="left")
    figure.legend(
        *right.get_legend_handles_labels(), loc="outside lower center", ncols=6, handletextpad=0.1, columnspacing=1
    )
    return figure
