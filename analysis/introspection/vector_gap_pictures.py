"""Drawings of gaps vector by vector: points with intervals, and histograms."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from seaborn import histplot

from self_steering.analysis.drawing.categories import category_order, colour, marker
from self_steering.analysis.drawing.themed_svg import BLUE, INK, ORANGE, PAPER, QUIET, new_figure
from self_steering.analysis.introspection.gap_words import gap_axis, scale
from self_steering.analysis.page.page_text import label

_ROW, _LINE = 17, 30
_BINS = 16
_SAME = 1e-6  # points: less than this is rounding, and no width for a histogram


def draw_vectors(conditions: Sequence[pd.DataFrame]) -> Figure:
    """Return every vector's gap with its interval, one column a condition, sorted by the first.

    Args:
        conditions: Rows of `real_vectors`, one table a condition.
    """
    order = _order(conditions)
    rows = {vector: row for row, vector in enumerate(order)}
    width = 440 if len(conditions) == 1 else 130 + 195 * len(conditions)
    figure = new_figure(width, 120 + _ROW * len(order))
    panels = figure.subplots(1, len(conditions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, conditions, strict=True):
        _draw_condition(axes, part, rows)
        axes.set_title(fill(str(part["name"].iloc[0]), _LINE), loc="left")
    panels[0].set_yticks(range(len(order)), [label(vector) for vector in order])
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    figure.legend(
        handles=category_marks(pd.concat(conditions)["category"]),
        loc="outside upper center",
        ncols=3,
        handletextpad=0.1,
        columnspacing=1,
    )
    return figure


def _order(conditions: Sequence[pd.DataFrame]) -> list[str]:
    """Return the vectors from the bottom up; those that the first condition lacks stand below it."""
    first = list(conditions[0].sort_values("gap")["vector"])
    known = set(first)
    others = dict.fromkeys(vector for part in conditions[1:] for vector in part["vector"] if vector not in known)
    return [*others, *first]


def category_marks(categories: pd.Series) -> list[Line2D]:
    """Return a legend's entries for the marks of these categories."""
    return [
        Line2D([], [], color=colour(of), marker=marker(of), linestyle="none", markersize=6.5, label=of)
        for of in category_order(list(categories))
    ]


def _draw_condition(axes: Axes, part: pd.DataFrame, rows: Mapping[str, int]) -> None:
    measure = str(part["measure"].iloc[0])
    unit = scale(measure)
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for row in part.to_dict("records"):
        at, shade = rows[row["vector"]], colour(row["category"])
        if not pd.isna(row["gap_low"]):
            axes.hlines(at, unit * row["gap_low"], unit * row["gap_high"], color=shade, linewidth=1.4)
        axes.plot(unit * row["gap"], at, marker(row["category"]), color=shade, markersize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(gap_axis(measure))


def draw_distribution(conditions: Sequence[pd.DataFrame]) -> Figure:
    """Return a histogram of the vectors' gaps a condition, one below the other.

    Args:
        conditions: Rows of `real_vectors` of one measure, one table a condition.
    """
    measure = str(conditions[0]["measure"].iloc[0])
    gaps = scale(measure) * pd.concat(conditions)["gap"].astype(float)
    low, high = float(gaps.min()), float(gaps.max())
    edges = np.linspace(low, high, _BINS + 1) if high - low > _SAME else [low - 0.5, high + 0.5]
    figure = new_figure(560, 50 + 130 * len(conditions))
    panels = figure.subplots(len(conditions), 1, sharex=True, squeeze=False)[:, 0]
    for axes, part in zip(panels, conditions, strict=True):
        values = scale(measure) * part["gap"].astype(float)
        histplot(x=values, bins=edges, ax=axes, color=BLUE, alpha=1, edgecolor=PAPER, linewidth=1)
        axes.plot(values, [0] * len(values), "|", color=INK, markersize=9, clip_on=False, zorder=3)
        axes.axvline(0, color=INK, linewidth=1.2)
        axes.axvline(float(values.mean()), color=ORANGE, linewidth=1.6, linestyle="--")
        axes.set_title(str(part["name"].iloc[0]), loc="left")
        axes.set_ylabel("vectors")
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel(gap_axis(measure))
    return figure
