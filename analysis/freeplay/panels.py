"""What the figures of free play share: names of models and arms, panels with a row for each, and what arms look like."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from self_steering.analysis.drawing.figures import new_figure
from self_steering.analysis.drawing.sentences import Row, basis, with_interval
from self_steering.analysis.drawing.style import BLUE, GOLD, GREEN, ORANGE, PAPER, PURPLE, QUIET, Look
from self_steering.analysis.drawing.words import model_name, visible
from self_steering.analysis.freeplay.rollouts import CELL, GROUP

Names = Mapping[tuple[str, str, str], str]

_WIDTH = 700
_MARGIN = 8  # pixels around each panel, so that text stays inside where fonts come out wider
_LOOKS = {
    "real": Look(BLUE, "", "o"),
    "random": Look(ORANGE, "///", "s"),
    "mislabelled": Look(PURPLE, "xxx", "P"),
    "opposite": Look(GREEN, "\\\\\\", "v"),
    "other": Look(GOLD, "...", "D"),
}
_NO_LOOK = Look(QUIET, "+++", "X")


def group_names(frame: pd.DataFrame) -> Names:
    """Return a name for each model of a table: its own, and its source and visibility where the table has several of these.

    Args:
        frame: Rows with the columns of GROUP.
    """
    several = [column for column in ("source", "visibility") if len(set(frame[column])) > 1]
    found: dict[tuple[str, str, str], str] = {}
    for row in frame[GROUP].drop_duplicates().to_dict("records"):
        more = [visible(row[column], kept="") for column in several if row[column]]
        found[group_of(row)] = model_name(row["model"]) + (f" ({', '.join(more)})" if more else "")
    return found


def group_of(row: Row) -> tuple[str, str, str]:
    """Return a row's source, model and visibility."""
    return row["source"], row["model"], row["visibility"]


def who(row: Row, names: Names) -> str:
    """Return whom a row is about: its model and arm, and the arm it is compared with."""
    against = f" minus {row['against']}" if row.get("against") else ""
    return f"{names[group_of(row)]}, {row['arm']}{against}"


def cell_labels(frame: pd.DataFrame, names: Names) -> list[str]:
    """Return what the rows of a drawing are called, one a cell of the table, in its order."""
    return [f"{names[group_of(cell)]}\n{cell['arm']}" for cell in frame[CELL].drop_duplicates().to_dict("records")]


def figure_in_words(row: Row, name: str = "value", *, percent: bool = False) -> str:
    """Return a row's figure: `25.0% [21.3%, 29.0%]`; differences from an arm as `+20.1 points [+15.2, +25.0]`.

    Args:
        row: With `name`, `low` and `high`; `against` where it is a difference.
        name: Which figure.
        percent: Whether to say it in per cent, differences in percentage points.
    """
    signed = bool(row.get("against"))
    if not percent:
        return with_interval(row, name, signed=signed)
    how: dict[str, Any] = {"signed": True, "after": " points"} if signed else {"unit": "%"}
    return with_interval(row, name, scale=100, decimals=1, **how)


def rests_on(row: Row, what: str) -> str:
    """Return what a row rests on: `n 895 picks, 180 rollouts, bootstrap over rollouts`."""
    return basis(row, "rollouts", what)


def arm_style(arm: str) -> dict[str, Any]:
    """Return what bars of an arm are drawn with: placebo open, the others filled, told apart by hatch too."""
    if arm == "placebo":
        return {"facecolor": PAPER, "edgecolor": BLUE, "linewidth": 1.2}
    look = _LOOKS.get(arm, _NO_LOOK)
    return {"facecolor": look.colour, "edgecolor": PAPER, "hatch": look.hatch, "linewidth": 0}


def row_panels(
    labels: Sequence[str],
    titles: Sequence[str],
    *,
    row: int,
    extra: int,
    widths: Sequence[float] | None = None,
    width: int = _WIDTH,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, which share their rows, the first at the top.

    Args:
        labels: Of the rows.
        titles: Of the panels.
        row: Height of a row in pixels.
        extra: Height of all the rest.
        widths: Of the panels, relative to each other; all alike by default.
        width: Of the figure, in pixels.
    """
    figure = new_figure(width, extra + row * len(labels))
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=_MARGIN / 72, wspace=0.04)
    panels = list(figure.subplots(1, len(titles), sharey=True, squeeze=False, width_ratios=widths)[0])
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left")
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure, panels


def as_percent(axes: Axes) -> None:
    """Write a panel's shares in per cent."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
