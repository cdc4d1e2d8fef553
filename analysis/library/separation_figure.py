"""The figure of how well each vector tells its state."""

import math
from statistics import median

from self_steering.analysis.drawing.themed_svg import BLUE, INK, ORANGE, PageFigure, inline_svg, new_figure
from self_steering.analysis.page.page_text import label, number, visible
from self_steering.vectors.report import GOOD_AUROC, LibraryReport

_ROW = 16


def separations(report: LibraryReport) -> PageFigure:
    """Return the AUROC of every vector, sorted, against all others and against neutral stories."""
    measured = {name: report.vectors[name].separation for name in report.names}
    order = sorted(report.names, key=lambda name: (-measured[name].auroc_band, name))[::-1]  # from the bottom up
    others = [measured[name].auroc_band for name in order]
    neutral = [measured[name].auroc_neutral_band for name in order]
    lowest = min(0.5, math.floor(10 * min(*others, *neutral)) / 10)
    rows = range(len(order))
    figure = new_figure(420, 90 + _ROW * len(order))
    axes = figure.subplots()
    axes.hlines(rows, others, neutral, color=ORANGE, linewidth=1)
    axes.axvline(GOOD_AUROC, color=INK, linewidth=1.2, linestyle="--", label=f"{GOOD_AUROC:g}")
    axes.plot(neutral, rows, "D", markersize=6.5, markerfacecolor="none", color=ORANGE, label="against neutral")
    axes.plot(others, rows, "o", markersize=5.5, color=BLUE, label="against all others")
    axes.set_yticks(rows, [label(name) for name in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlim(lowest, 1.01)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("AUROC on held-out settings (0.5 is chance)")
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3, columnspacing=1.2)
    good = sum(value >= GOOD_AUROC for value in others)
    finding = (
        f"{good} of {len(order)} vectors reach {GOOD_AUROC:g} against all other stories. The median is "
        f"{number(median(others), 3)}, the lowest {number(others[0], 3)} ({visible(order[0])}), the highest "
        f"{number(others[-1], 3)} ({visible(order[-1])}); "
        f"against neutral stories alone the median is {number(median(neutral), 3)} and the lowest {number(min(neutral), 3)}."
    )
    return PageFigure(
        key="auroc",
        title="How well each vector tells its state from others",
        panels=(inline_svg(figure, "auroc", finding),),
        finding=finding,
        reading="AUROC of the mean over the steered layers. Dots: against all other stories; open diamonds: against neutral "
        "stories alone.",
    )
