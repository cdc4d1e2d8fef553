"""Figures of how default doses were found: what each dose tried did to the text, and which was taken."""

import math
from collections.abc import Sequence
from statistics import median

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from self_steering.analysis.drawing.themed_svg import (
    BLUE,
    INK,
    ORANGE,
    PageFigure,
    inline_svg,
    new_figure,
)
from self_steering.analysis.page.page_text import label, number, plain, visible
from self_steering.vectors.report import Calibration, DoseTrial, VectorCalibration

_ROW = 16
_HIGHEST = 4  # multiples of the limit that the axis of surprisal reaches to at most


def dose_response(calibration: Calibration, names: Sequence[str]) -> PageFigure:
    """Return one small panel a vector: the rise in surprisal at every dose tried."""
    of = calibration.vectors
    every = [trial for one in of.values() for trial in one.trials]
    rises = [trial.surprisal_rise for trial in every if trial.surprisal_rise is not None]
    limit = calibration.surprisal_rise_at_most
    scale = (min([0.0, *rises]), min(_HIGHEST * limit, max([1.5 * limit, *rises])))
    doses = (min(trial.dose for trial in every) / 1.25, max(trial.dose for trial in every) * 1.25)
    panels = tuple(_panel(name, of[name], calibration, scale, doses) for name in names)
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
    return PageFigure("response", "What each dose does to the text", panels, finding, reading)


def _panel(
    name: str,
    found: VectorCalibration,
    calibration: Calibration,
    scale: tuple[float, float],
    doses: tuple[float, float],
) -> Markup:
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
    return inline_svg(figure, f"response-{name}", _panel_label(name, found))


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


def default_doses(calibration: Calibration) -> PageFigure:
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
    return PageFigure(
        key="doses",
        title="Default doses",
        panels=(inline_svg(figure, "doses", finding),),
        finding=finding,
        reading=f"What dose 1 stands for. Crosses: the text breaks there, or does not move along the vector "
        f"(|t| < {calibration.arrival_t:g}).",
    )
