"""The figure of redosing: how often models take again what they took, and how the dose changes."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import arm_style, as_percent, bars, line, row_panels
from self_steering.analysis.drawing.style import BLUE, INK, ORANGE, QUIET
from self_steering.analysis.drawing.words import p_with_test, share_in_words, visible
from self_steering.analysis.freeplay.redosing import (
    AFTER_SITTER,
    AGAIN,
    CHANGE,
    EFFECTIVE,
    EVERY,
    FIRST,
    LATE,
    NOMINAL,
    OF_VECTOR,
    RATE,
    REDOSERS,
    UNTOUCHED,
    redosing,
)
from self_steering.analysis.freeplay.rollouts import (
    ALL_FRAMINGS,
    CELL,
    PLACEBO,
    Names,
    cell_labels,
    figure_in_words,
    group_names,
    rests_on,
    who,
)
from self_steering.analysis.statistics.estimates import Row
from self_steering.analysis.tables import Tables

_ROW = 46
_SEVERAL, _MOST = 3, 20  # rollouts that a vector is taken in to be shown; vectors in a picture
_LOWER = 0.3  # below a row's middle stand the marks of fewer rollouts
# Place below the row's middle, colour, marker, and face if another than the colour.
_MARKS: dict[str, tuple[float, str, str, str]] = {
    FIRST: (-0.25, BLUE, "o", "none"),
    AGAIN: (0.0, BLUE, "o", ""),
    CHANGE: (0.25, ORANGE, "D", ""),
}


def redosing_in_free_play(tables: Tables) -> ReportFigure | None:
    """Return how often models take again what they took, by model and arm, and how the dose changes."""
    table = redosing(tables)
    pooled = table[(table["framing"] == ALL_FRAMINGS)]
    if RATE not in set(pooled["measure"]):
        return None
    own = pooled[pooled["against"] == ""]
    names, touched = group_names(own), _touched(pooled)
    of_all, of_rate = own[own["rollouts"] == EVERY], own[own["measure"] == RATE]
    cells, labels = of_rate[CELL].drop_duplicates().to_dict("records"), cell_labels(of_rate, names)
    rates = of_all[of_all["measure"].isin([RATE, REDOSERS])]
    pictures = [
        Picture(
            _rates(own, cells, labels, touched=touched),
            f"Redosing by model and arm. {_cells_in_words(rates, names, percent=True)}.",
        )
    ]
    if (own["measure"] == CHANGE).any():
        doses = of_all[of_all["measure"].isin([FIRST, AGAIN, CHANGE])]
        words = f"Doses of first takes and of redoses. {_cells_in_words(doses, names, percent=False)}."
        pictures.append(Picture(_doses(own, cells, labels), words))
    pictures += _vector_pictures(of_all, names)
    return ReportFigure(
        key="redosing",
        title="Redosing in free play",
        pictures=tuple(pictures),
        finding=_finding(pooled, names, touched=touched),
        reading="Redose rate: of the vectors that a rollout takes, the share that it takes again; framings pooled. Bars: all "
        "rollouts; diamonds: without those in which the trip sitter cleared effects. Lines: 95 % intervals from resampled "
        "rollouts, for shares of rollouts Wilson's. Doses are of calls that succeeded; effective strength is dose times the "
        "vector's default dose, 0 under placebo, and not drawn there.",
        table=table,
    )


def _vector_pictures(of_all: pd.DataFrame, names: Names) -> list[Picture]:
    """Return the redose rates of the vectors that were taken in several rollouts, a picture a model and arm."""
    rows = of_all[(of_all["measure"] == OF_VECTOR) & (of_all["n"].astype(float) >= _SEVERAL)]
    pictures = []
    for _, part in rows.groupby(CELL, sort=False):
        shown = (
            part.sort_values(["value", "n", "vector"], ascending=[False, False, True]).head(_MOST).to_dict("records")
        )
        name = who(shown[0], names)
        lines = [line(row["vector"], row, f"{row['value'] * row['n']:.0f} of {row['n']}") for row in shown]
        words = [f"{visible(row['vector'])} {share_in_words(row)} of {row['n']} rollouts" for row in shown]
        figure = bars(lines, title=name, across="rollouts that take it again, of those that take it")
        pictures.append(Picture(figure, f"{name}: redose rate by vector, highest first: {', '.join(words)}."))
    return pictures


def _touched(pooled: pd.DataFrame) -> bool:
    """Return whether leaving out the trip sitter's rollouts leaves fewer."""
    rollouts = pooled[pooled["measure"] == REDOSERS].groupby("rollouts")["n"].sum()
    return bool(rollouts[EVERY] != rollouts.get(UNTOUCHED, 0))


def _finding(pooled: pd.DataFrame, names: Names, *, touched: bool) -> str:
    """Return the redose rates in whole sentences; `touched` says whether those without the sitter's rollouts are others."""
    sentences = []
    for which in (EVERY, UNTOUCHED) if touched else (EVERY,):
        rows = pooled[(pooled["rollouts"] == which) & (pooled["measure"] == RATE)].to_dict("records")
        rates = [f"{_rate(row, names)} ({rests_on(row, 'vectors taken')})" for row in rows if not row["against"]]
        where = "" if which == EVERY else " without the rollouts that the trip sitter touched"
        sentences.append(f"Redose rate{where}: {'; '.join(rates) or 'nothing was taken'}.")
        sentences += [
            f"{_rate(row, names)} ({rests_on(row, 'vectors taken')}; {p_with_test(row)})."
            for row in rows
            if row["against"]
        ]
    # Under names a repeat may be for the name's sake; where a label tells nothing, it is for what was found by trying.
    late = pooled[(pooled["rollouts"] == EVERY) & (pooled["measure"] == LATE) & (pooled["labels"] == "opaque")]
    sentences += [
        f"Repeats among late takes, under opaque labels: {_rate(row, names)} ({rests_on(row, 'late takes')})."
        for row in late.to_dict("records")
    ]
    after = pooled[(pooled["rollouts"] == EVERY) & (pooled["measure"] == AFTER_SITTER) & (pooled["value"] > 0)]
    sentences += [
        f"{who(row, names)}: of the repeats, {figure_in_words(row, percent=True)} came after the trip sitter "
        f"({rests_on(row, 'repeats')})."
        for row in after.to_dict("records")
    ]
    return " ".join(sentences)


def _rate(row: Row, names: Names) -> str:
    return f"{who(row, names)}: {figure_in_words(row, percent=True)}"


def _cells_in_words(rows: pd.DataFrame, names: Names, *, percent: bool) -> str:
    cells = []
    for _, of_cell in rows.groupby(CELL, sort=False):
        records = of_cell.to_dict("records")
        shown = [
            f"{row['measure']} {figure_in_words(row, percent=percent)}" + ("" if percent else f" in {row['scale']}")
            for row in records
        ]
        cells.append(f"{who(records[0], names)}: {', '.join(shown)}")
    return "; ".join(cells)


def _rates(own: pd.DataFrame, cells: list[dict[str, str]], labels: list[str], *, touched: bool) -> Figure:
    measures = (RATE, REDOSERS)
    figure, panels = row_panels(labels, measures, row=_ROW, extra=92 + 22 * touched)
    for axes, measure in zip(panels, measures, strict=True):
        for place, cell in enumerate(cells):
            for row in _rows(own, cell, measure):
                axes.barh(place - 0.08, row["value"], 0.42, **arm_style(cell["arm"]))
                _interval(axes, place - 0.08, row, INK)
            for row in _rows(own, cell, measure, UNTOUCHED) if touched else []:
                _interval(axes, place + _LOWER, row, QUIET)
                axes.plot(row["value"], place + _LOWER, "D", color=QUIET, markerfacecolor="none", markersize=5)
        highest = float(own.loc[own["measure"] == measure, ["value", "high"]].astype(float).max(axis=None))
        axes.set_xlim(0, max(0.05, 1.05 * highest))
        axes.locator_params(axis="x", nbins=5)
        as_percent(axes)
    if touched:
        diamond = Line2D([], [], color=QUIET, marker="D", markerfacecolor="none", markersize=5, label=UNTOUCHED)
        bar = Patch(facecolor=BLUE, label="all rollouts")
        figure.legend(handles=[bar, diamond], loc="outside lower center", ncols=2)
    return figure


def _doses(own: pd.DataFrame, cells: list[dict[str, str]], labels: list[str]) -> Figure:
    scales = (NOMINAL, EFFECTIVE) if any(cell["arm"] != PLACEBO for cell in cells) else (NOMINAL,)
    figure, panels = row_panels(labels, scales, row=_ROW, extra=116)
    for axes, scale in zip(panels, scales, strict=True):
        axes.axvline(0, color=QUIET, linewidth=1)
        of_scale = own[own["scale"] == scale]
        for place, cell in enumerate(cells):
            unsteered = scale == EFFECTIVE and cell["arm"] == PLACEBO
            if unsteered or not any(_rows(of_scale, cell, measure) for measure in _MARKS):
                note: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "color": QUIET}
                axes.annotate("nothing is added" if unsteered else "no dose is known", (0, place), **note)
                continue
            for measure, (at, colour, mark, face) in _MARKS.items():
                for row in _rows(of_scale, cell, measure):
                    _interval(axes, place + at, row, colour)
                    axes.plot(
                        row["value"], place + at, mark, color=colour, markerfacecolor=face or colour, markersize=6
                    )
        axes.locator_params(axis="x", nbins=5)
        axes.margins(x=0.08)
    handles = [
        Line2D([], [], color=colour, marker=mark, markerfacecolor=face or colour, markersize=6, label=measure)
        for measure, (_, colour, mark, face) in _MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _rows(own: pd.DataFrame, cell: dict[str, str], measure: str, which: str = EVERY) -> list[Row]:
    """Return the row of a cell's measure, if there is one."""
    found = own[(own[CELL] == pd.Series(cell)).all(axis=1) & (own["measure"] == measure) & (own["rollouts"] == which)]
    return list(found.to_dict("records"))


def _interval(axes: Axes, at: float, row: Row, colour: str) -> None:
    if pd.notna(row["low"]):
        axes.hlines(at, row["low"], row["high"], color=colour, linewidth=1.2)
