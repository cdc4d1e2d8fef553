"""Scatters of vectors: one mark a vector, in the look of its category, and the names of those that lie farthest out."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from self_steering.analysis.drawing.figures import new_figure
from self_steering.analysis.drawing.style import QUIET, category_order, look
from self_steering.analysis.drawing.words import label
from self_steering.analysis.introspection.gaps import outliers

_NAMED = 8
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
    for vector in outliers(points, _NAMED):
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
