"""The figures of a vector library's page, in the page's order."""

import math
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.style import BAND, BLUE, GREEN, INK, ORANGE, QUIET, page_style
from self_steering.analysis.drawing.words import label, number, plain, runs, span, visible
from self_steering.vectors.report import (
    GOOD_AUROC,
    Calibration,
    DoseTrial,
    LayerComparison,
    LibraryReport,
    VectorCalibration,
)

_CELL, _TREE, _SIDE = 15, 70, 70
_LETTER = 7  # widest that a label's letters are on average
_COLOURS = "PuOr_r"  # told apart by the colour-blind too
_ROW = 16
_HIGHEST = 4  # multiples of the limit that the axis of surprisal reaches to at most
# Lines differ in dash as well as in colour.
_LINES = {"difference": (ORANGE, "--"), "centred": (BLUE, "-"), "denoised": (GREEN, "-.")}
_Value = Callable[[LayerComparison], float]
_PANELS: tuple[tuple[str, float, _Value], ...] = (
    ("Mean AUROC, held-out settings", 0.5, lambda row: row.auroc),
    ("Mean split-half reliability", 0.0, lambda row: row.reliability),
    ("Mean |cosine| between two vectors", 0.0, lambda row: row.cosine),
)


def library_figures(report: LibraryReport) -> list[tuple[ReportFigure, tuple[Markup, ...]]]:
    """Return all figures that the report has data for, each with its pictures for the page.

    Those of doses need a calibration, that of cosines two vectors.
    """
    with page_style():
        figures = []
        if any(one.separation is not None for one in report.vectors.values()):
            figures.append(separations(report))
        if report.comparison:
            figures.append(constructions_by_layer(report))
        if len(report.names) > 1:
            figures.append(cosine_map(report))
        figures.append(norms_by_layer(report))
        if report.calibration is not None:
            calibrated = [name for name in report.names if name in report.calibration.vectors]
            figures += [dose_response(report.calibration, calibrated), default_doses(report.calibration)]
        return [(figure, figure.panels()) for figure in figures]


def cosine_map(report: LibraryReport) -> ReportFigure:
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
    finding = _cosine_finding(report.names, values)
    return ReportFigure(
        key="cosines",
        title="How alike the vectors are",
        pictures=(Picture(_draw_cosines(names, shown, tree, limit), finding),),
        finding=finding,
        reading=f"Cosine between two vectors, averaged over the steered layers, from −{limit:g} to {limit:g}; the diagonal, 1 "
        "throughout, is left blank. Ordered by average-linkage clustering of 1 − cosine, whose tree stands above.",
    )


def _draw_cosines(names: list[str], shown: np.ndarray, tree: dict[str, list[list[float]]], limit: float) -> Figure:
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


def _cosine_finding(names: list[str], values: np.ndarray) -> str:
    first, second = np.triu_indices(len(names), 1)
    pairs = values[first, second]
    near, far = int(pairs.argmax()), int(pairs.argmin())

    def pair(place: int) -> str:
        return (
            f"{visible(names[first[place]])} and {visible(names[second[place]])} ({number(pairs[place], signed=True)})"
        )

    return (
        f"The mean absolute cosine between two vectors is {number(float(np.abs(pairs).mean()))}. Most alike are {pair(near)}, "
        f"most opposed {pair(far)}."
    )


def dose_response(calibration: Calibration, names: Sequence[str]) -> ReportFigure:
    """Return one small panel a vector: the rise in surprisal at every dose tried."""
    of = calibration.vectors
    every = [trial for one in of.values() for trial in one.trials]
    rises = [trial.surprisal_rise for trial in every if trial.surprisal_rise is not None]
    limit = calibration.surprisal_rise_at_most
    scale = (min([0.0, *rises]), min(_HIGHEST * limit, max([1.5 * limit, *rises])))
    doses = (min(trial.dose for trial in every) / 1.25, max(trial.dose for trial in every) * 1.25)
    panels = tuple(_dose_panel(name, of[name], calibration, scale, doses) for name in names)
    beyond = sum(rise > scale[1] for rise in rises)
    chosen = [one.dose for one in of.values()]
    finding = (
        f"{sum(one.holds for one in of.values())} of {len(of)} vectors have a dose at which the text holds; the doses taken "
        f"run from {plain(min(chosen))} to {plain(max(chosen))}, with a median of {plain(median(chosen))}. "
        f"{len(every)} doses were tried in all."
    )
    reading = (
        f"Across: dose on a logarithmic axis. Up: rise in surprisal, in nats a token; the dashed line is the limit, {limit:g}. "
        f"Dots: at least {calibration.coherent_at_least:.0%} of the answers coherent; crosses: fewer. The vertical line is the "
        "dose taken, orange where the text breaks at it or does not move along the vector."
    )
    if beyond:
        reading += f" Triangles: rises above the axis, {beyond} in all."
    if len(rises) < len(every):
        reading += f" Not drawn, as they left no answers to measure: {len(every) - len(rises)}."
    return ReportFigure("response", "What each dose does to the text", panels, finding, reading)


def _dose_panel(
    name: str,
    found: VectorCalibration,
    calibration: Calibration,
    scale: tuple[float, float],
    doses: tuple[float, float],
) -> Picture:
    figure = new_figure(180, 132, constrained=False)
    axes = figure.add_axes((0.15, 0.16, 0.82, 0.68))
    axes.axhline(calibration.surprisal_rise_at_most, color=INK, linestyle="--", linewidth=1)
    axes.axvline(found.dose, color=BLUE if found.holds and found.arrives else ORANGE, linewidth=1.6)
    known = sorted((trial for trial in found.trials if trial.surprisal_rise is not None), key=lambda trial: trial.dose)
    _points(axes, known, calibration.coherent_at_least, scale[1])
    axes.set_xscale("log")
    axes.set_xlim(*doses)
    room = 0.06 * (scale[1] - scale[0])
    axes.set_ylim(scale[0] - room, scale[1] + room)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in (0.01, 0.1, 1, 10) if doses[0] <= tick <= doses[1]]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator(_whole(scale)))
    axes.tick_params(length=2, pad=2)
    axes.set_title(label(name), loc="left", pad=3, color=INK if found.holds and found.arrives else ORANGE)
    return Picture(figure, _panel_label(name, found))


def _points(axes: Axes, trials: Sequence[DoseTrial], coherent_at_least: float, highest: float) -> None:
    marks: dict[str, list[tuple[float, float]]] = {"o": [], "X": [], "^": []}
    for trial in trials:
        rise = trial.surprisal_rise or 0.0
        mark = "^" if rise > highest else "o" if trial.coherent >= coherent_at_least else "X"
        marks[mark].append((trial.dose, min(rise, highest)))
    for mark, points in marks.items():
        x, y = [point[0] for point in points], [point[1] for point in points]
        axes.plot(x, y, mark, color=BLUE if mark == "o" else ORANGE, markersize=5.5, markeredgewidth=0, clip_on=False)


def _whole(scale: tuple[float, float]) -> list[int]:
    """Return the whole numbers of an axis, five or so."""
    first, last = math.ceil(scale[0]), math.floor(scale[1])
    return list(range(first, last + 1, max(1, math.ceil((last - first) / 4))))


def _panel_label(name: str, found: VectorCalibration) -> str:
    trial = next((trial for trial in found.trials if trial.dose == found.dose), None)
    rise = number(trial.surprisal_rise if trial else None, signed=True)
    state = "the text holds" if found.holds else "the text does not hold"
    return (
        f"{visible(name)}: {len(found.trials)} doses tried; at the dose taken, {plain(found.dose)}, {state}, and surprisal "
        f"changes by {rise} nats."
    )


def default_doses(calibration: Calibration) -> ReportFigure:
    """Return the default doses, sorted."""
    of = calibration.vectors
    order = sorted(of, key=lambda name: (-of[name].dose, name))[::-1]  # drawn from the bottom up
    sound = [of[name].holds and of[name].arrives for name in order]
    figure = new_figure(420, 90 + _ROW * len(order))
    axes = figure.subplots()
    for good, colour, mark, meaning in ((True, BLUE, "o", "holds and arrives"), (False, ORANGE, "X", "does not")):
        rows = [row for row, one in enumerate(sound) if one == good]
        if rows:
            axes.plot([of[order[row]].dose for row in rows], rows, mark, color=colour, markersize=6.5, label=meaning)
    chosen = [of[name].dose for name in order]
    axes.set_xscale("log")
    axes.set_xlim(min(chosen) / 1.3, max(chosen) * 1.3)
    ticks = [2.0**power for power in range(-8, 9) if min(chosen) / 1.3 <= 2.0**power <= max(chosen) * 1.3]
    axes.xaxis.set_major_locator(FixedLocator(ticks or [chosen[0]]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(order)), [label(name) for name in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("default dose, multiples of the vector (logarithmic)")
    figure.legend(loc="outside upper center", ncols=2, handletextpad=0.3)
    finding = (
        f"Default doses run from {plain(chosen[0])} ({visible(order[0])}) to {plain(chosen[-1])} ({visible(order[-1])}), with a "
        f"median of {plain(median(chosen))}; at {sum(sound)} of {len(order)} the text both holds and moves along the vector."
    )
    return ReportFigure(
        key="doses",
        title="Default doses",
        pictures=(Picture(figure, finding),),
        finding=finding,
        reading=f"What dose 1 stands for. Crosses: the text breaks there, or does not move along the vector "
        f"(|t| < {calibration.arrival_t:g}).",
    )


def constructions_by_layer(report: LibraryReport) -> ReportFigure:
    """Return AUROC, reliability and likeness of the vectors by layer, one line a construction."""
    findings = [_layer_finding(report, title, value) for title, _, value in _PANELS]
    panels = tuple(
        _layer_panel(report, title, lowest, value, finding)
        for (title, lowest, value), finding in zip(_PANELS, findings, strict=True)
    )
    return ReportFigure(
        key="layers",
        title="Constructions compared, layer by layer",
        pictures=panels,
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


def _layer_finding(report: LibraryReport, title: str, value: _Value) -> str:
    middle = report.layers[len(report.layers) // 2]
    there = [
        f"{name} {number(value(row))}"
        for name, rows in _by_construction(report).items()
        for row in rows
        if row.layer == middle
    ]
    return f"{title} at layer {middle}: {', '.join(there)}."


def _layer_panel(report: LibraryReport, title: str, lowest: float, value: _Value, finding: str) -> Picture:
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
    return Picture(figure, finding)


def shade(axes: Axes, layers: Sequence[int]) -> None:
    """Shade the steered layers."""
    for first, last in runs(layers):
        axes.axvspan(first - 0.5, last + 0.5, color=BAND, linewidth=0, zorder=0)


def _layer_axis(axes: Axes, depth: int) -> None:
    axes.set_xlim(-0.5, depth - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("decoder layer")


def norms_by_layer(report: LibraryReport) -> ReportFigure:
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
    return ReportFigure(
        key="norms",
        title="How long the vectors are",
        pictures=(Picture(figure, finding),),
        finding=finding,
        reading=f"Norm of each vector over the mean norm of the residual stream over the neutral stories, both at the same "
        f"layer. Shaded: the steered layers, {span(report.layers)}.",
    )


def separations(report: LibraryReport) -> ReportFigure:
    """Return the AUROC of every vector, sorted, against all others and against neutral stories."""
    measured = {name: one for name in report.names if (one := report.vectors[name].separation) is not None}
    order = sorted(measured, key=lambda name: (-measured[name].auroc_band, name))[::-1]  # from the bottom up
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
    return ReportFigure(
        key="auroc",
        title="How well each vector tells its state from others",
        pictures=(Picture(figure, finding),),
        finding=finding,
        reading="AUROC of the mean over the steered layers. Dots: against all other stories; open diamonds: against neutral "
        "stories alone.",
    )
