"""What the figures of free play share: panels with a row for each model and arm, and what the arms look like."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import (
    VALENCE_COLOURS,
    VALENCE_HATCHES,
    VALENCE_NAMES,
    category_legend,
    colour,
    hatch,
)
from self_steering.analysis.drawing.style import BLUE, GOLD, GREEN, INK, ORANGE, PAPER, PURPLE, QUIET, new_figure
from self_steering.analysis.drawing.words import label, number, visible
from self_steering.analysis.freeplay.freeplay_words import (
    basis,
    counted,
    group_names,
    group_of,
    listed,
    slug,
    tested,
    who,
    with_interval,
)
from self_steering.analysis.freeplay.picks import (
    DISTANCE,
    MEAN,
    SHARES,
    outside_library,
    pick_tests,
    picks,
    uniform_valence,
    valences,
)
from self_steering.analysis.freeplay.rollouts import ALL_FRAMINGS, CELL, GROUP, PLACEBO
from self_steering.analysis.tables import Tables

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


MOST = 15
_PICKS_FIGURE_ROW, _BAR = 26, 0.38


def most_picked_vectors(tables: Tables) -> ReportFigure | None:
    """Return the vectors that each model picks most in free play, one picture a model and arm, placebo beside it."""
    table = picks(tables)
    if table.empty:
        return None
    pooled = table[table["framing"] == ALL_FRAMINGS]
    names = group_names(pooled)
    tests = pick_tests(tables)
    pictures = tuple(
        _picture(f"{place}-{slug(names[group], *arms[:1])}", names[group], arms, part)
        for place, (group, arms, part) in enumerate(_pairs_of_arms(pooled), 1)
    )
    outside = outside_library(tables)
    sentences = [_most(names, cell) for _, cell in pooled.groupby([*GROUP, "arm"], sort=False)]
    sentences += [_test(names, row) for row in tests.to_dict("records")]
    return ReportFigure(
        key="picks",
        title="Most picked vectors in free play",
        pictures=pictures,
        finding=" ".join(sentences),
        reading=f"Share of all picks of an arm that each vector has, framings pooled; the {MOST} most picked of each model. "
        "Filled bars: the arm that is named; open bars: placebo, where nothing is added. Lines: 95 % intervals from resampled "
        "rollouts; the numbers at the right count picks. Colour and hatch tell the category. A pick is a call of the model's own "
        "for a vector of the library, failed ones too."
        + (f" {counted(outside, 'call')} named nothing in the library; these are not picks." if outside else ""),
        table=table,
    )


def _pairs_of_arms(pooled: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], list[str], pd.DataFrame]]:
    """Yield each model's arms, each with placebo where there is one; placebo alone where there is nothing else."""
    for group, part in pooled.groupby(GROUP, sort=False):
        arms = list(part["arm"].unique())
        beside = [PLACEBO] if PLACEBO in arms else []
        for arm in [arm for arm in arms if arm != PLACEBO] or beside:
            yield group, list(dict.fromkeys([arm, *beside])), part


def _picture(name: str, model: str, arms: list[str], part: pd.DataFrame) -> Picture:
    of_arm = {arm: part[part["arm"] == arm].set_index("vector") for arm in arms}
    first = of_arm[arms[0]]
    order = sorted(first.index, key=lambda vector: (*(-of["picks"].get(vector, 0) for of in of_arm.values()), vector))
    shown = [vector for vector in order[:MOST] if any(of["picks"].get(vector, 0) for of in of_arm.values())]
    figure = new_figure(640, 130 + _PICKS_FIGURE_ROW * len(shown))
    keep_margins(figure)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    for arm, of in of_arm.items():
        _bars(axes, of.loc[shown], filled=arm == arms[0], at=_place(arm, arms), height=_BAR if arms[1:] else 0.6)
    axes.set_yticks(range(len(shown)), [label(vector) for vector in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    # Room at the right for the counts.
    highest = max(float(of.loc[shown, ["share", "high"]].max(axis=None)) for of in of_arm.values())
    axes.set_xlim(0, 1.1 * highest)
    axes.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    as_percent(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the arm's picks")
    axes.set_title(model, loc="left")
    figure.legend(handles=_arm_legend(of_arm), loc="outside upper left")
    figure.legend(handles=category_legend(list(first.loc[shown, "category"])), loc="outside lower center", ncols=4)
    return Picture(name, figure, _picks_figure_alternative(model, of_arm, shown))


def _place(arm: str, arms: list[str]) -> float:
    return 0.0 if len(arms) == 1 else -_BAR / 2 if arm == arms[0] else _BAR / 2


def _bars(axes: Axes, rows: pd.DataFrame, *, filled: bool, at: float, height: float) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        shade, y = colour(row["category"]), place + at
        face, edge = (shade, PAPER) if filled else (PAPER, shade)
        axes.barh(
            y,
            row["share"],
            height,
            color=face,
            edgecolor=edge,
            hatch=hatch(row["category"]),
            linewidth=0 if filled else 1.2,
        )
        end = row["share"]
        if pd.notna(row["high"]):
            end = row["high"]
            axes.hlines(y, row["low"], end, color=INK, linewidth=1)
        axes.annotate(
            str(row["picks"]), (end, y), (4, 0), textcoords="offset points", va="center", fontsize=9, color=INK
        )


def _arm_legend(of_arm: dict[str, pd.DataFrame]) -> list[Patch]:
    found = []
    for place, (arm, of) in enumerate(of_arm.items()):
        numbers = f"{counted(int(of['n'].iloc[0]), 'pick')} in {counted(int(of['rollouts'].iloc[0]), 'rollout')}"
        style = {"facecolor": PAPER, "edgecolor": QUIET, "linewidth": 1.2} if place else {"facecolor": QUIET}
        found.append(Patch(**style, label=f"{arm}: {numbers}"))
    return found


def _most(names: dict[tuple[str, str, str], str], cell: pd.DataFrame) -> str:
    top = cell.sort_values(["picks", "vector"], ascending=[False, True]).head(3).to_dict("records")
    told = [f"{visible(row['vector'])} {with_interval(row, percent=True)}" for row in top]
    return f"{who(top[0], names)}: most picked {listed(told)} ({basis(top[0], 'picks')})."


def _test(names: dict[tuple[str, str, str], str], row: dict[str, Any]) -> str:
    arms = f"{names[group_of(row)]}, {row['arm']} against {row['against']}"
    if row["measure"] == DISTANCE:
        return f"{arms}: the picks lie {number(row['value'])} apart (0 the same, 1 nothing in common; {tested(row)})."
    agreement = with_interval({**row, "against": ""})
    n = f"n {row['n']} vectors, {row['method']}"
    return f"{arms}: rank correlation of the vectors' shares {agreement} ({n}; {tested(row)})."


def _picks_figure_alternative(model: str, of_arm: dict[str, pd.DataFrame], shown: list[str]) -> str:
    told = []
    for vector in shown:
        shares = [f"{100 * of.loc[vector, 'share']:.1f}% {arm}" for arm, of in of_arm.items()]
        told.append(f"{visible(vector)} {listed(shares)}")
    return f"{model}: share of picks by vector, most picked first: {'; '.join(told)}."


_VALENCE_FIGURE_ROW = 44
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
        pictures=(Picture("valence", _draw(rows, labels, uniform), _valence_figure_alternative(rows, labels)),),
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
    figure, (shares, mean) = row_panels([*labels, _UNIFORM], titles, row=_VALENCE_FIGURE_ROW, extra=96, widths=(1.5, 1))
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


def _valence_figure_alternative(rows: list[dict[str, dict[str, float]]], labels: list[str]) -> str:
    told = []
    for row, cell in zip(rows, (name.replace("\n", ", ") for name in labels), strict=True):
        shares = [f"{100 * row[measure]['value']:.0f}% {VALENCE_NAMES[valence]}" for valence, measure in SHARES.items()]
        told.append(f"{cell}: {', '.join(shares)}, mean {number(row[MEAN]['value'], signed=True)}")
    return f"Valence of picks by model and arm. {'; '.join(told)}."
