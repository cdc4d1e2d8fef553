"""The heat map of how alike vectors are, in the order of a hierarchical clustering."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from self_steering.analysis.drawing.themed_svg import QUIET, PageFigure, inline_svg, new_figure
from self_steering.analysis.page.page_text import label, number, visible
from self_steering.vectors.report import LibraryReport

_CELL, _TREE, _SIDE = 15, 70, 70
_LETTER = 7  # widest that a label's letters are on average
_COLOURS = "PuOr_r"  # told apart by the colour-blind too


def cosine_map(report: LibraryReport) -> PageFigure:
    """Return the cosines between all vectors, clustered; the report has two vectors at least."""
    values = np.array(report.cosines)
    distances = np.clip(1 - (values + values.T) / 2, 0, None)
    np.fill_diagonal(distances, 0)
    tree = dendrogram(
        linkage(squareform(distances, checks=False), method="average", optimal_ordering=True), no_plot=True
    )
    order = tree["leaves"]
    names = [label(report.names[place]) for place in order]
    apart = values[~np.eye(len(names), dtype=bool)]
    limit = max(0.1, math.ceil(10 * float(np.abs(apart).max())) / 10)
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, values[np.ix_(order, order)])
    finding = _finding(report.names, values)
    return PageFigure(
        key="cosines",
        title="How alike the vectors are",
        panels=(inline_svg(_draw(names, shown, tree, limit), "cosines", finding),),
        finding=finding,
        reading=f"Cosine between two vectors, averaged over the steered layers, from −{limit:g} to {limit:g}; the diagonal, 1 "
        "throughout, is left blank. Ordered by average-linkage clustering of 1 − cosine, whose tree stands above.",
    )


def _draw(names: list[str], shown: np.ndarray, tree: dict[str, list[list[float]]], limit: float) -> Figure:
    side, labels = _CELL * max(len(names), 8), 14 + _LETTER * max(len(name) for name in names)
    width, height = labels + side + _SIDE, _TREE + side + labels
    figure = new_figure(width, height, constrained=False)
    heat = figure.add_axes((labels / width, labels / height, side / width, side / height))
    heat.imshow(shown, cmap=_COLOURS, vmin=-limit, vmax=limit, interpolation="none", aspect="auto")
    ticks = range(len(names))
    heat.set_xticks(ticks, names, rotation=90)
    heat.set_yticks(ticks, names)
    _bare(heat)
    above = figure.add_axes((labels / width, (labels + side) / height, side / width, (_TREE - 6) / height))
    above.add_collection(LineCollection(_lines(tree), colors=QUIET, linewidths=1))
    above.set_xlim(0, 10 * len(names))  # scipy puts leaves at 5, 15, 25, ...
    above.set_ylim(0, 1.05 * max(max(heights) for heights in tree["dcoord"]) or 1)
    _bare(above)
    above.set_xticks([])
    above.set_yticks([])
    scale = figure.add_axes(((labels + side + 14) / width, labels / height, 12 / width, min(side, 200) / height))
    ramp = np.linspace(limit, -limit, 101)[:, None]
    scale.imshow(ramp, cmap=_COLOURS, aspect="auto", extent=(0, 1, -limit, limit), interpolation="none")
    _bare(scale)
    scale.set_xticks([])
    scale.set_yticks([-limit, 0, limit], [number(tick, 1, signed=True) for tick in (-limit, 0, limit)])
    scale.yaxis.tick_right()
    scale.set_title("cosine")
    return figure


def _lines(tree: dict[str, list[list[float]]]) -> list[list[tuple[float, float]]]:
    return [list(zip(x, y, strict=True)) for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)]


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _finding(names: list[str], values: np.ndarray) -> str:
    first, second = np.triu_indices(len(names), 1)
    pairs = values[first, second]
    near, far = int(pairs.argmax()), int(pairs.argmin())

    def told(place: int) -> str:
        return (
            f"{visible(names[first[place]])} and {visible(names[second[place]])} ({number(pairs[place], signed=True)})"
        )

    return (
        f"The mean absolute cosine between two vectors is {number(float(np.abs(pairs).mean()))}. Most alike are {told(near)}, "
        f"most opposed {told(far)}."
    )
