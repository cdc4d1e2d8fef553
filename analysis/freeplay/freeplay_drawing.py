"""What the figures of free play share: panels with a row for each model and arm, and what the arms look like."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from self_steering.analysis.drawing.themed_svg import BLUE, GOLD, GREEN, ORANGE, PAPER, PURPLE, QUIET, new_figure

_WIDTH = 700
_MARGIN = 8  # pixels around each panel, so that text stays inside where fonts come out wider
_STYLES: dict[str, tuple[str, str]] = {  # colour and hatch
    "real": (BLUE, ""),
    "random": (ORANGE, "///"),
    "mislabelled": (PURPLE, "xxx"),
    "opposite": (GREEN, "\\\\\\"),
    "other": (GOLD, "..."),
}


def arm_style(arm: str) -> dict[str, Any]:
    """Return what bars of an arm are drawn with: placebo open, the others filled, told apart by hatch too."""
    if arm == "placebo":
        return {"facecolor": PAPER, "edgecolor": BLUE, "linewidth": 1.2}
    colour, hatch = _STYLES.get(arm, (QUIET, "+++"))
    return {"facecolor": colour, "edgecolor": PAPER, "hatch": hatch, "linewidth": 0}


def row_panels(
    labels: Sequence[str], titles: Sequence[str], *, row: int, extra: int, widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, which share their rows, the first at the top.

    Args:
        labels: Of the rows.
        titles: Of the panels.
        row: Height of a row in pixels.
        extra: Height of all the rest.
        widths: Of the panels, relative to each other; all alike by default.
    """
    figure = new_figure(_WIDTH, extra + row * len(labels))
    keep_margins(figure)
    panels = list(figure.subplots(1, len(titles), sharey=True, squeeze=False, width_ratios=widths)[0])
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left")
        axes.patch.set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure, panels


def keep_margins(figure: Figure) -> None:
    """Leave room around a figure's panels, which is laid out by constraints."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=_MARGIN / 72, wspace=0.04)


def as_percent(axes: Axes) -> None:
    """Write a panel's shares in per cent."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
