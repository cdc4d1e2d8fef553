"""The figures of what models pick in free play: the most picked vectors, and the picks' valence."""

from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import PLAIN, as_percent, row_panels, stacked
from self_steering.analysis.drawing.style import (
    GOLD,
    INK,
    ORANGE,
    PAPER,
    QUIET,
    VALENCE_LOOKS,
    VALENCE_NAMES,
    Look,
    category_legend,
    filled,
    look,
)
from self_steering.analysis.drawing.words import (
    counted,
    experiment,
    label,
    listed,
    model_name,
    number,
    p_with_test,
    visible,
)
from self_steering.analysis.freeplay.picks import (
    BECAME,
    DISTANCE,
    MEAN,
    SHARES,
    calls,
    outside_library,
    pick_tests,
    picks,
    uniform_valence,
    valences,
)
from self_steering.analysis.freeplay.rollouts import (
    ALL_FRAMINGS,
    CELL,
    GROUP,
    PLACEBO,
    Names,
    cell_labels,
    figure_in_words,
    group_names,
    group_of,
    rests_on,
    who,
)
from self_steering.analysis.statistics.estimates import Row, groups
from self_steering.analysis.tables import Tables

MOST = 15
_BAR = 0.38
_UNIFORM = "uniform picker"
_BECAME_LOOKS = {
    "taken": PLAIN,
    "failed": Look(GOLD, "...", ""),
    "unknown name": Look(ORANGE, "///", ""),
}
_WRITTEN = 0.08  # narrower parts have no room for their number


def most_picked_vectors(tables: Tables) -> ReportFigure | None:
    """Return the vectors that each model picks most in free play, one picture a model and arm, placebo beside it."""
    table = picks(tables)
    if table.empty:
        return None
    pooled = table[table["framing"] == ALL_FRAMINGS]
    names = group_names(pooled)
    outside = outside_library(tables)
    sentences = [_most_picked(names, cell) for _, cell in pooled.groupby([*GROUP, "arm"], sort=False)]
    sentences += [_difference(names, row) for row in pick_tests(tables).to_dict("records")]
    return ReportFigure(
        key="picks",
        title="Most picked vectors in free play",
        pictures=tuple(_picture(names[group], arms, part) for group, arms, part in _pairs_of_arms(pooled)),
        finding=" ".join(sentences),
        reading=f"Share of an arm's picks, framings pooled; the {MOST} most picked vectors. Filled: the arm that is named; "
        "open: placebo, where nothing is added. Lines: 95 % intervals from resampled rollouts; at the right, numbers of picks. "
        "A pick is a call of the model's own for a vector of the library, failed ones too."
        + (f" {counted(outside, 'call')} named nothing in the library; these are not picks." if outside else ""),
        table=table,
    )


def _most_picked(names: Names, cell: pd.DataFrame) -> str:
    top = cell.sort_values(["picks", "vector"], ascending=[False, True]).head(3).to_dict("records")
    shares = [f"{visible(row['vector'])} {figure_in_words(row, 'share', percent=True)}" for row in top]
    return f"{who(top[0], names)}: most picked {listed(shares)} ({rests_on(top[0], 'picks')})."


def _difference(names: Names, row: Row) -> str:
    arms = f"{names[group_of(row)]}, {row['arm']} against {row['against']}"
    if row["measure"] == DISTANCE:
        return (
            f"{arms}: the picks lie {number(row['value'])} apart (0 the same, 1 nothing in common; {p_with_test(row)})."
        )
    agreement = figure_in_words({**row, "against": ""})
    n = f"n {row['n']} vectors, {row['method']}"
    return f"{arms}: rank correlation of the vectors' shares {agreement} ({n}; {p_with_test(row)})."


def _pairs_of_arms(pooled: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], list[str], pd.DataFrame]]:
    """Yield each model's arms, each with placebo where there is one; placebo alone where there is nothing else."""
    for group, part in pooled.groupby(GROUP, sort=False):
        arms = list(part["arm"].unique())
        beside = [PLACEBO] if PLACEBO in arms else []
        for arm in [arm for arm in arms if arm != PLACEBO] or beside:
            yield group, list(dict.fromkeys([arm, *beside])), part


def _picture(model: str, arms: list[str], part: pd.DataFrame) -> Picture:
    of_arm = {arm: part[part["arm"] == arm].set_index("vector") for arm in arms}
    first = of_arm[arms[0]]
    order = sorted(first.index, key=lambda vector: (*(-of["picks"].get(vector, 0) for of in of_arm.values()), vector))
    shown = [vector for vector in order[:MOST] if any(of["picks"].get(vector, 0) for of in of_arm.values())]
    figure, (axes,) = row_panels([label(vector) for vector in shown], [model], row=26, extra=130, width=640)
    for place, (arm, of) in enumerate(of_arm.items()):
        at = (place - 0.5) * _BAR if arms[1:] else 0.0
        _bars(axes, of.loc[shown], filled_bars=arm == arms[0], at=at, height=_BAR if arms[1:] else 0.6)
    # Room at the right for the counts.
    highest = max(float(of.loc[shown, ["share", "high"]].max(axis=None)) for of in of_arm.values())
    axes.set_xlim(0, 1.1 * highest)
    axes.locator_params(axis="x", nbins=6, steps=[1, 2, 5, 10])
    as_percent(axes)
    axes.set_xlabel("share of the arm's picks")
    figure.legend(handles=_arm_legend(of_arm), loc="outside upper left")
    figure.legend(handles=category_legend(list(first.loc[shown, "category"])), loc="outside lower center", ncols=4)
    return Picture(figure, _shares_in_words(model, of_arm, shown))


def _bars(axes: Axes, rows: pd.DataFrame, *, filled_bars: bool, at: float, height: float) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        of, y = look(row["category"]), place + at
        face, edge, width = (of.colour, PAPER, 0.0) if filled_bars else (PAPER, of.colour, 1.2)
        axes.barh(y, row["share"], height, color=face, edgecolor=edge, hatch=of.hatch, linewidth=width)
        end = row["share"]
        if pd.notna(row["high"]):
            end = row["high"]
            axes.hlines(y, row["low"], end, color=INK, linewidth=1)
        axes.annotate(
            str(row["picks"]), (end, y), (4, 0), textcoords="offset points", va="center", fontsize=9, color=INK
        )


def _arm_legend(of_arm: Mapping[str, pd.DataFrame]) -> list[Patch]:
    found = []
    for place, (arm, of) in enumerate(of_arm.items()):
        numbers = f"{counted(int(of['n'].iloc[0]), 'pick')} in {counted(int(of['rollouts'].iloc[0]), 'rollout')}"
        style = {"facecolor": PAPER, "edgecolor": QUIET, "linewidth": 1.2} if place else {"facecolor": QUIET}
        found.append(Patch(**style, label=f"{arm}: {numbers}"))
    return found


def _shares_in_words(model: str, of_arm: Mapping[str, pd.DataFrame], shown: list[str]) -> str:
    rows = []
    for vector in shown:
        shares = [f"{100 * of.loc[vector, 'share']:.1f}% {arm}" for arm, of in of_arm.items()]
        rows.append(f"{visible(vector)} {listed(shares)}")
    return f"{model}: share of picks by vector, most picked first: {'; '.join(rows)}."


def valence_of_picks(tables: Tables) -> ReportFigure | None:
    """Return the shares of negative, neutral and positive picks by model and arm, and the mean valence."""
    table = valences(tables)
    pooled = table[table["framing"] == ALL_FRAMINGS]
    own = pooled[pooled["against"] == ""]
    if own.empty:
        return None
    names = group_names(own)
    rows = [of_cell.set_index("measure") for _, of_cell in own.groupby(CELL, sort=False)]
    labels, uniform = cell_labels(own, names), uniform_valence()
    return ReportFigure(
        key="valence",
        title="Valence of picks in free play",
        pictures=(Picture(_valence_bars(rows, labels, uniform), _valences_in_words(rows, labels)),),
        finding=_valence_finding(pooled, names),
        reading="Left: shares of an arm's picks that the catalogue calls negative, neutral and positive, framings pooled. "
        "Right: mean valence, −1 to 1, with its 95 % interval from resampled rollouts; dotted, and the last bar: a picker to "
        f"whom all vectors are alike ({number(uniform[MEAN], signed=True)}). The test shuffles arm labels over whole rollouts.",
        table=table,
    )


def _valence_finding(pooled: pd.DataFrame, names: Names) -> str:
    sentences = []
    for against in (False, True):
        for _, of_cell in pooled[(pooled["against"] != "") == against].groupby(CELL, sort=False):
            rows = {row["measure"]: row for row in of_cell.to_dict("records")}
            parts = [
                f"{measure} {figure_in_words(rows[measure], percent=measure != MEAN)}"
                + (f" ({p_with_test(rows[measure])})" if against else "")
                for measure in (SHARES[-1], MEAN)
            ]
            sentences.append(f"{who(rows[MEAN], names)}: {', '.join(parts)} ({rests_on(rows[MEAN], 'picks')}).")
    return " ".join(sentences)


def _valence_bars(rows: list[pd.DataFrame], labels: list[str], uniform: Mapping[str, float]) -> Figure:
    titles = ("share of the arm's picks", "mean valence")
    figure, (shares, mean) = row_panels([*labels, _UNIFORM], titles, row=44, extra=96, widths=(1.5, 1))
    for place, row in enumerate(rows):
        _stack(shares, place, [row.loc[measure, "value"] for measure in SHARES.values()])
        found = row.loc[MEAN]
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
    legend = [filled(VALENCE_LOOKS[valence], label=VALENCE_NAMES[valence]) for valence in SHARES]
    figure.legend(handles=legend, loc="outside lower center", ncols=3)
    return figure


def _stack(axes: Axes, place: int, values: list[float]) -> None:
    start = 0.0
    for valence, value in zip(SHARES, values, strict=True):
        of = VALENCE_LOOKS[valence]
        axes.barh(place, value, 0.62, left=start, facecolor=of.colour, hatch=of.hatch, edgecolor=PAPER, linewidth=0)
        if value >= _WRITTEN:
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
            axes.text(start + value / 2, place, f"{100 * value:.0f}%", ha="center", va="center", fontsize=10, bbox=box)
        start += value


def _valences_in_words(rows: list[pd.DataFrame], labels: list[str]) -> str:
    cells = []
    for row, cell in zip(rows, (name.replace("\n", ", ") for name in labels), strict=True):
        shares = [
            f"{100 * row.loc[measure, 'value']:.0f}% {VALENCE_NAMES[valence]}" for valence, measure in SHARES.items()
        ]
        cells.append(f"{cell}: {', '.join(shares)}, mean {number(row.loc[MEAN, 'value'], signed=True)}")
    return f"Valence of picks by model and arm. {'; '.join(cells)}."


def calls_by_framing(tables: Tables) -> ReportFigure | None:
    """Return what became of all take calls by experiment and framing, a picture a model; None where there is none."""
    table = calls(tables)
    if table.empty:
        return None
    pictures, sentences = [], []
    for key, part in groups(table, ["source", "model"]):
        name, rows = model_name(key["model"], key["source"]), part.to_dict("records")
        named = [
            f"{experiment(row['family'])}, {row['framing']}" + ("" if row["arm"] == "real" else f" ({row['arm']})")
            for row in rows
        ]
        parts = {became: [row[became] / row["calls"] for row in rows] for became in BECAME}
        drawing = stacked(
            named, parts, _BECAME_LOOKS, [str(row["calls"]) for row in rows], title=name, across="share of calls"
        )
        total, unknown = int(part["calls"].sum()), int(part["unknown name"].sum())
        most = max(rows, key=lambda row: row["unknown name"] / row["calls"])
        words = f"{name}: of {total} take calls {unknown} asked for a name that was not on offer"
        if unknown:
            words += f", most often in {experiment(most['family'])}, {most['framing']} ({most['unknown name']} of {most['calls']})"
        sentences.append(f"{words}.")
        shares = "; ".join(
            f"{cell} {row['taken']} taken, {row['failed']} failed, {row['unknown name']} unknown"
            for cell, row in zip(named, rows, strict=True)
        )
        pictures.append(Picture(drawing, f"Take calls of {name}: {shares}."))
    return ReportFigure(
        key="calls",
        title="What became of take calls",
        pictures=tuple(pictures),
        finding=" ".join(sentences),
        reading="All take calls of the model's own, in every experiment, by framing: taken, failed, or for a name that was not on "
        "offer. At the right: calls. The table lists the unknown names.",
        table=table,
    )
