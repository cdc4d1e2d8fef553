"""Figures over the model's layers: the three constructions compared, and the norms of the vectors."""

from collections.abc import Callable, Sequence
from statistics import median

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from self_steering.analysis.drawing.themed_svg import (
    BAND,
    BLUE,
    GREEN,
    ORANGE,
    QUIET,
    PageFigure,
    inline_svg,
    new_figure,
)
from self_steering.analysis.page.page_text import number, runs, span, visible
from self_steering.vectors.report import LayerComparison, LibraryReport

# Lines differ in dash as well as in colour.
_LINES = {"difference": (ORANGE, "--"), "centred": (BLUE, "-"), "denoised": (GREEN, "-.")}
_Value = Callable[[LayerComparison], float]
_PANELS: tuple[tuple[str, str, float, _Value], ...] = (
    ("auroc", "Mean AUROC, held-out settings", 0.5, lambda row: row.auroc),
    ("reliability", "Mean split-half reliability", 0.0, lambda row: row.reliability),
    ("cosine", "Mean |cosine| between two vectors", 0.0, lambda row: row.cosine),
)


def constructions_by_layer(report: LibraryReport) -> PageFigure:
    """Return AUROC, reliability and likeness of the vectors by layer, one line a construction."""
    findings = [_finding(report, title, value) for _, title, _, value in _PANELS]
    panels = tuple(
        _panel(report, name, title, lowest, value, finding)
        for (name, title, lowest, value), finding in zip(_PANELS, findings, strict=True)
    )
    return PageFigure(
        key="layers",
        title="Constructions compared, layer by layer",
        panels=panels,
        finding=" ".join(findings),
        reading=f"Means over all vectors of a construction. Shaded: the steered layers, {span(report.layers)}. "
        f"This library is {report.construction} (thick line).",
    )


def _by_construction(report: LibraryReport) -> dict[str, list[LayerComparison]]:
    names = [name for name in _LINES if any(row.construction == name for row in report.comparison)]
    return {
        name: sorted((row for row in report.comparison if row.construction == name), key=lambda row: row.layer)
        for name in names
    }


def _finding(report: LibraryReport, title: str, value: _Value) -> str:
    middle = report.layers[len(report.layers) // 2]
    there = [
        f"{name} {number(value(row))}"
        for name, rows in _by_construction(report).items()
        for row in rows
        if row.layer == middle
    ]
    return f"{title} at layer {middle}: {', '.join(there)}."


def _panel(report: LibraryReport, name: str, title: str, lowest: float, value: _Value, finding: str) -> Markup:
    figure = new_figure(340, 260)
    axes = figure.subplots()
    shade(axes, report.layers)
    drawn = [lowest]
    for construction, rows in _by_construction(report).items():
        colour, dash = _LINES[construction]
        values = [value(row) for row in rows]
        drawn += values
        own = construction == report.construction  # thick, and under the others so that it does not hide them
        axes.plot(
            [row.layer for row in rows],
            values,
            color=colour,
            linestyle=dash,
            linewidth=2.6 if own else 1.5,
            zorder=2 if own else 3,
            label=construction,
        )
    axes.set_ylim(min(drawn), max(1.0, *drawn) + 0.02)
    _layer_axis(axes, report.depth)
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, handlelength=2.2, columnspacing=1.0, handletextpad=0.4)
    return inline_svg(figure, f"layers-{name}", finding)


def shade(axes: Axes, layers: Sequence[int]) -> None:
    """Shade the steered layers."""
    for first, last in runs(layers):
        axes.axvspan(first - 0.5, last + 0.5, color=BAND, linewidth=0, zorder=0)


def _layer_axis(axes: Axes, depth: int) -> None:
    axes.set_xlim(-0.5, depth - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("decoder layer")


def norms_by_layer(report: LibraryReport) -> PageFigure:
    """Return the norm of each vector over that of the residual stream, by layer."""
    ratios = {
        name: [
            norm / residual for norm, residual in zip(report.vectors[name].norms, report.residual_norms, strict=True)
        ]
        for name in report.names
    }
    middle = [median(layer) for layer in zip(*ratios.values(), strict=True)]
    figure = new_figure(420, 290)
    axes = figure.subplots()
    shade(axes, report.layers)
    for row, ratio in enumerate(ratios.values()):
        axes.plot(ratio, color=QUIET, linewidth=0.8, alpha=0.6, label="one vector" if row == 0 else None)
    axes.plot(middle, color=BLUE, linewidth=2.6, label="median")
    axes.set_ylim(0, 1.05 * max(max(ratio) for ratio in ratios.values()))
    _layer_axis(axes, report.depth)
    axes.set_ylabel("‖v‖ / ‖residual stream‖")
    figure.legend(loc="outside upper center", ncols=2)
    layer = report.layers[len(report.layers) // 2]
    there = {name: ratio[layer] for name, ratio in ratios.items()}
    least, most = min(there, key=lambda name: there[name]), max(there, key=lambda name: there[name])
    finding = (
        f"At layer {layer}, in the middle of the steered layers, the median vector is {number(middle[layer])} times as long as "
        f"the residual stream; the shortest is {number(there[least])} ({visible(least)}), "
        f"the longest {number(there[most])} ({visible(most)})."
    )
    return PageFigure(
        key="norms",
        title="How long the vectors are",
        panels=(inline_svg(figure, "norms", finding),),
        finding=finding,
        reading=f"Norm of each vector over the mean norm of the residual stream over the neutral stories, both at the same "
        f"layer. Shaded: the steered layers, {span(report.layers)}.",
    )
