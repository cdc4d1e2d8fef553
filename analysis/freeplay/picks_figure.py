"""The figure of what each model picks most in free play, real beside placebo."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from self_steering.analysis.drawing.categories import category_legend, colour, hatch
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import INK, PAPER, QUIET, new_figure
from self_steering.analysis.freeplay.freeplay import ALL_FRAMINGS, GROUP, PLACEBO
from self_steering.analysis.freeplay.freeplay_drawing import as_percent, keep_margins
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
from self_steering.analysis.freeplay.picks import DISTANCE, outside_library, pick_tests, picks
from self_steering.analysis.page.page_text import label, number, visible
from self_steering.analysis.tables import Tables

MOST = 15
_ROW, _BAR = 26, 0.38


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
    figure = new_figure(640, 130 + _ROW * len(shown))
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
    return Picture(name, figure, _alternative(model, of_arm, shown))


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


def _alternative(model: str, of_arm: dict[str, pd.DataFrame], shown: list[str]) -> str:
    told = []
    for vector in shown:
        shares = [f"{100 * of.loc[vector, 'share']:.1f}% {arm}" for arm, of in of_arm.items()]
        told.append(f"{visible(vector)} {listed(shares)}")
    return f"{model}: share of picks by vector, most picked first: {'; '.join(told)}."
