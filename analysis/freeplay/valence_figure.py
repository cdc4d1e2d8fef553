"""The figure of the valence of picks in free play: its composition, and its mean."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from self_steering.analysis.drawing.categories import VALENCE_COLOURS, VALENCE_HATCHES, VALENCE_NAMES
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import INK, PAPER, QUIET
from self_steering.analysis.freeplay.freeplay import ALL_FRAMINGS, CELL
from self_steering.analysis.freeplay.freeplay_drawing import as_percent, row_panels
from self_steering.analysis.freeplay.freeplay_words import basis, group_names, group_of, tested, who, with_interval
from self_steering.analysis.freeplay.valences import MEAN, SHARES, uniform_valence, valences
from self_steering.analysis.page.page_text import number
from self_steering.analysis.tables import Tables

_ROW = 44
_UNIFORM = "uniform picker"
_WRITTEN = 0.08  # narrower parts have no room for their number


def valence_of_picks(tables: Tables) -> ReportFigure | None:
    """Return the shares of negative, neutral and positive picks by model and arm, and the mean valence."""
    table = valences(tables)
    pooled = table[table["framing"] == ALL_FRAMINGS]
    own = pooled[pooled["against"] == ""]
    if own.empty:
        return None
    names = group_names(own)
    rows = [_figures(of_cell) for _, of_cell in own.groupby(CELL, sort=False)]
    labels = [f"{names[group_of(cell)]}\n{cell['arm']}" for cell in own[CELL].drop_duplicates().to_dict("records")]
    uniform = uniform_valence()
    return ReportFigure(
        key="valence",
        title="Valence of picks in free play",
        pictures=(Picture("valence", _draw(rows, labels, uniform), _alternative(rows, labels)),),
        finding=_finding(pooled, names),
        reading="Left: shares of an arm's picks that the catalogue calls negative, neutral and positive, framings pooled. Right: "
        "mean valence, from −1 to 1, with its 95 % interval from resampled rollouts; the dotted line, and the last bar, are a "
        f"picker to whom all vectors are alike ({number(uniform[MEAN], signed=True)}). Names that the catalogue does not know have "
        "no valence and are left out. The test shuffles arm labels over whole rollouts.",
        table=table,
    )


def _finding(pooled: pd.DataFrame, names: dict[tuple[str, str, str], str]) -> str:
    told = []
    for against in (False, True):
        shown = pooled[(pooled["against"] != "") == against]
        for _, of_cell in shown.groupby(CELL, sort=False):
            figures = of_cell.set_index("measure").to_dict("index")
            said = [
                f"{measure} {with_interval(figures[measure], percent=measure != MEAN)}"
                + (f" ({tested(figures[measure])})" if against else "")
                for measure in (SHARES[-1], MEAN)
            ]
            row = of_cell.iloc[0].to_dict()
            told.append(f"{who(row, names)}: {', '.join(said)} ({basis(figures[MEAN], 'picks')}).")
    return " ".join(told)


def _figures(of_cell: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return a cell's rows by measure."""
    found: dict[str, dict[str, float]] = of_cell.set_index("measure")[["value", "low", "high", "n"]].to_dict("index")
    return found


def _draw(rows: list[dict[str, dict[str, float]]], labels: list[str], uniform: dict[str, float]) -> Figure:
    titles = ("share of the arm's picks", "mean valence")
    figure, (shares, mean) = row_panels([*labels, _UNIFORM], titles, row=_ROW, extra=96, widths=(1.5, 1))
    for place, row in enumerate(rows):
        _stack(shares, place, [row[measure]["value"] for measure in SHARES.values()])
        found = row[MEAN]
        if pd.notna(found["low"]):
            mean.hlines(place, found["low"], found["high"], color=INK, linewidth=1.6)
        mean.plot(found["value"], place, "o", color=INK, markersize=7)
    _stack(shares, len(rows), [uniform[measure] for measure in SHARES.values()])
    mean.axvline(0, color=QUIET, linewidth=1)
    mean.axvline(uniform[MEAN], color=QUIET, linewidth=1.2, linestyle=":")
    mean.plot(uniform[MEAN], len(rows), "D", color=QUIET, markerfacecolor="none", markersize=6)
    shares.set_xlim(0, 1)
    as_percent(shares)
    mean.set_xlim(-1, 1)
    mean.locator_params(axis="x", nbins=4)
    mean.xaxis.set_major_formatter(lambda value, _: number(value, 1, signed=True))
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3)
    return figure


def _stack(axes: Axes, place: int, values: list[float]) -> None:
    start = 0.0
    for valence, value in zip(SHARES, values, strict=True):
        axes.barh(place, value, 0.62, left=start, **_style(valence))
        if value >= _WRITTEN:
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
            axes.text(start + value / 2, place, f"{100 * value:.0f}%", ha="center", va="center", fontsize=10, bbox=box)
        start += value


def _style(valence: int) -> dict[str, Any]:
    return {
        "facecolor": VALENCE_COLOURS[valence],
        "hatch": VALENCE_HATCHES[valence],
        "edgecolor": PAPER,
        "linewidth": 0,
    }


def _legend() -> list[Patch]:
    return [Patch(**_style(valence), label=VALENCE_NAMES[valence]) for valence in SHARES]


def _alternative(rows: list[dict[str, dict[str, float]]], labels: list[str]) -> str:
    told = []
    for row, cell in zip(rows, (name.replace("\n", ", ") for name in labels), strict=True):
        shares = [f"{100 * row[measure]['value']:.0f}% {VALENCE_NAMES[valence]}" for valence, measure in SHARES.items()]
        told.append(f"{cell}: {', '.join(shares)}, mean {number(row[MEAN]['value'], signed=True)}")
    return f"Valence of picks by model and arm. {'; '.join(told)}."
