"""A scatter of vectors by category in which those farthest out are named."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from self_steering.analysis.drawing.categories import category_order, colour, marker
from self_steering.analysis.drawing.themed_svg import QUIET, new_figure
from self_steering.analysis.introspection.gap_agreement import outliers
from self_steering.analysis.page.page_text import label

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
        look: dict[str, Any] = {"color": colour(category), "markersize": 6.5, "label": category}
        axes.plot(of[x], of[y], marker(category), linestyle="none", **look)


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
