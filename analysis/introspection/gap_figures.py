"""Figures of cached against uncached readings: by model and primer, by arm, and by dose."""

from collections.abc import Sequence
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from self_steering.analysis.drawing.figures import Picture, ReportFigure, new_figure
from self_steering.analysis.drawing.marks import draw_marks
from self_steering.analysis.drawing.style import (
    BLUE,
    CATEGORY_LOOKS,
    GOLD,
    GREEN,
    INK,
    NO_CATEGORY,
    ORANGE,
    PAPER,
    PURPLE,
    QUIET,
    SKY,
    Look,
)
from self_steering.analysis.drawing.words import in_words, p_in_words, p_with_test, plain, spelled_out, test_in_words
from self_steering.analysis.introspection.arms import ARMS, AT_DOSE, arm_comparisons, direction_gaps
from self_steering.analysis.introspection.gap_words import (
    axis,
    bounds,
    condition_names,
    gap_axis,
    gap_in_words,
    missing_in_words,
    points,
    scale,
)
from self_steering.analysis.introspection.gaps import (
    ALL_DOSES,
    CACHED,
    CALIBRATED,
    CONDITION,
    TOP_20,
    UNCACHED,
    calibrated_doses,
    condition_gaps,
    gap_table,
    primer_effects,
    strength_points,
)
from self_steering.analysis.statistics.estimates import Row, StatisticsError, groups
from self_steering.analysis.statistics.resampling import correlation
from self_steering.analysis.tables import Tables

_UNSEEN = 1e-9  # a letter outside the top tokens was given 1e-38 or so
_LEVEL = 0.05
_READING_LOOKS = {CACHED: Look(BLUE, "", "o"), UNCACHED: Look(ORANGE, "///", "D")}
_BAR = 0.34
_NO_BAR = 5e-4  # so short a bar is not seen: its value is written
_LINE_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (GOLD, "P"), (SKY, "v"))


def gaps_by_condition(tables: Tables) -> ReportFigure | None:
    """Return the multiple choice's cached and uncached readings and their gap, by model, primer and choice of doses."""
    gaps = gap_table(tables)
    table = condition_gaps(gaps)
    shown = table[(table["arm"] == "real") & ~_one_dose_of_several(table)] if len(table) else table
    if shown.empty:
        return None
    names, effects = condition_names(shown), primer_effects(gaps)
    return ReportFigure(
        key="gaps",
        title="Cached against uncached, by model and primer",
        pictures=condition_pictures(shown, names),
        finding=spelled_out(_gap_sentences(shown, names)) + _primer_finding(effects),
        reading="Real arm. Plain bars: cached, the true option with its window applied; hatched bars: uncached; right: the "
        "difference. Lines: 95 % t-intervals over vectors; dotted: chance. Shares are of all options' letters, in the study's "
        "logs of those letters among the top 20 tokens: the two are never averaged together."
        + _unseen_note(gaps)
        + _calibrated_note(gaps)
        + missing_in_words(tables, "introspection"),
        table=pd.concat([table.assign(mark="condition"), effects.assign(mark="less no primer")], ignore_index=True),
    )


def _gap_sentences(rows: pd.DataFrame, names: Sequence[str], what: str = "gap") -> list[str]:
    return [
        f"{name}: {what} {gap_in_words(row)}, {p_with_test(row)}."
        for name, row in zip(names, rows.to_dict("records"), strict=True)
    ]


def _primer_finding(effects: pd.DataFrame) -> str:
    """Return what the primers do to the gap; empty where no model was read with and without one."""
    if effects.empty:
        return ""
    sentences = _gap_sentences(effects, condition_names(effects), "gap less the gap without a primer")
    return f" Primers, vector by vector: {spelled_out(sentences)}"


def _one_dose_of_several(table: pd.DataFrame) -> pd.Series:
    """Return which rows are of one dose where their condition has several: those are for the figure of doses."""
    several = table.groupby([*CONDITION, "arm"], dropna=False)["doses"].transform("size") > 1
    return several & ~table["doses"].isin([ALL_DOSES, CALIBRATED])


def _unseen_note(gaps: pd.DataFrame) -> str:
    study = gaps[gaps["measure"] == TOP_20]
    if study.empty:
        return ""
    cached, uncached = (int((study[name] < _UNSEEN).sum()) for name in (CACHED, UNCACHED))
    return (
        f" Where the right letter is not among these tokens its share counts as zero: so in {cached} cached and {uncached} "
        f"uncached readings of {len(study)} rollouts."
    )


def _calibrated_note(gaps: pd.DataFrame) -> str:
    tried = calibrated_doses(gaps)
    tried = tried[tried["tried"] > 1]
    if tried.empty:
        return ""
    peaked = int(tried["peaked"].sum())
    return (
        f" Calibrated dose: as the study chose it, the dose at which the cached share of a vector's option peaks ({peaked} "
        f"vectors, over all conditions), for the others ({len(tried) - peaked}) the dose next to the mean of those peaks. It is "
        "chosen on the readings that it is then shown for, which flatters them."
    )


def condition_pictures(shown: pd.DataFrame, names: Sequence[str]) -> tuple[Picture, ...]:
    """Return rows of `condition_gaps`, their names at the left: cached, uncached and gap, one picture a measure."""
    named = shown.assign(name=list(names))
    return tuple(_condition_picture(part) for _, part in named.groupby("measure", sort=False))


def _condition_picture(part: pd.DataFrame) -> Picture:
    measure = str(part["measure"].iloc[0])
    figure = new_figure(700, 96 + 38 * len(part))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    rows = list(range(len(part)))[::-1]
    least, most = bounds(measure)
    for name, at in ((CACHED, _BAR / 2), (UNCACHED, -_BAR / 2)):
        _reading_bars(left, part, name, [row + at for row in rows], least)
    draw_gaps(right, part, rows)
    for options in part["options"].dropna().unique():
        left.axvline(1 / float(options), color=QUIET, linestyle=":", linewidth=1.2)
    left.set_xlim(least, most)
    left.set_yticks(rows, [fill(name, 32) for name in part["name"]])
    left.set_ylim(-0.6, len(part) - 0.4)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
    left.set_xlabel(axis(measure))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.3)
    rows_in_words = "; ".join(
        f"{row['name']}: {row['cached']:.3f} cached, {row['uncached']:.3f} uncached" for row in part.to_dict("records")
    )
    return Picture(figure, f"Cached and uncached, {axis(measure)}, and their gap. {rows_in_words}.")


def _reading_bars(axes: Axes, part: pd.DataFrame, name: str, rows: Sequence[float], least: float) -> None:
    """Draw one reading's bars from the least value that its measure can have, with their intervals."""
    of, values = _READING_LOOKS[name], part[name].astype(float)
    shown = values - least
    axes.barh(rows, shown, _BAR, least, label=name, facecolor=of.colour, hatch=of.hatch, edgecolor=PAPER, linewidth=0)
    for row, value in zip(rows, values, strict=True):
        if value - least < _NO_BAR:
            axes.annotate(f"{value:.2g}", (least, row), (4, 0), textcoords="offset points", va="center", fontsize=10)
    axes.hlines(rows, part[f"{name}_low"].astype(float), part[f"{name}_high"].astype(float), color=INK, linewidth=1.4)


def draw_gaps(axes: Axes, part: pd.DataFrame, rows: Sequence[float]) -> None:
    """Draw gaps of one measure as points with their intervals around zero, and name their axis.

    Args:
        axes: Where.
        part: Rows of `condition_gaps`.
        rows: Height of each.
    """
    measure = str(part["measure"].iloc[0])
    low, high = (scale(measure) * part[f"gap_{end}"].astype(float) for end in ("low", "high"))
    axes.axvline(0, color=QUIET, linewidth=1)
    axes.hlines(rows, low, high, color=INK, linewidth=1.6)
    axes.plot(scale(measure) * part["gap"], rows, "o", color=INK, markersize=7)
    axes.set_xlabel(gap_axis(measure))


def gaps_by_arm(tables: Tables) -> ReportFigure | None:
    """Return the gap of every arm and the primary comparisons, a picture a condition and dose; None where there is but one arm."""
    gaps, comparisons = gap_table(tables), arm_comparisons(tables)
    if comparisons.empty:
        return None
    directions = direction_gaps(tables)
    pictures, rows, sentences = [], [], []
    names = iter(condition_names(comparisons.drop_duplicates(AT_DOSE)))
    for (key, part), name in zip(groups(comparisons, AT_DOSE), names, strict=True):
        arms = _in_order(condition_gaps(_matching(gaps, key)))
        sentences.append(_arm_sentence(name, part))
        pictures.append(Picture(_draw_arms(name, arms, part, _matching(directions, key)["gap"]), sentences[-1]))
        rows += [arms.assign(dose=key["dose"], mark="arm"), part.assign(mark="comparison")]
    return ReportFigure(
        key="arms",
        title="Arms beside each other",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="Left: cached less uncached, with 95 % t-intervals over vectors; ticks: single random directions. Right: the "
        f"primary comparisons, question by question; orange squares: p above {_LEVEL:g} after Holm's correction (t-tests over "
        "vectors). Placebo: strength zero; random: random directions of the same norm; other: another vector; opposite: its "
        "negative; mislabelled: named wrongly; prompt only: its effect told in words."
        + missing_in_words(tables, "introspection"),
        table=pd.concat(rows, ignore_index=True),
    )


def _matching(frame: pd.DataFrame, key: Row) -> pd.DataFrame:
    """Return the rows of one condition and dose."""
    return frame.merge(pd.DataFrame([key]), on=AT_DOSE)


def _in_order(arms: pd.DataFrame) -> pd.DataFrame:
    place = {arm: place for place, arm in enumerate(ARMS)}
    return arms.sort_values("arm", key=lambda column: column.map(place)).reset_index(drop=True)


def _arm_sentence(name: str, comparisons: pd.DataFrame) -> str:
    words = "; ".join(_comparison_in_words(row) for row in comparisons.to_dict("records"))
    first = comparisons.iloc[0]
    if pd.isna(first["random_p"]):
        return f"{name}: {words}."
    return (
        f"{name}: {words}. Of {first['random_directions']:g} random directions {first['random_above']:g} have a mean gap at "
        f"least as large as the real one ({p_in_words(first['random_p'])} by rank)."
    )


def _comparison_in_words(row: Row) -> str:
    words = f"{row['comparison'].replace(' - ', ' less ')} {gap_in_words(row, 'difference', 'pairs')}"
    if pd.isna(row["p"]):
        return f"{words}, no test without spread between vectors"
    return (
        f"{words}, {p_in_words(row['p_holm'])} by t-test, Holm-corrected, "
        f"{scale(str(row['measure'])) * row['detectable']:.1f} points found with 80 % power"
    )


def _draw_arms(name: str, arms: pd.DataFrame, comparisons: pd.DataFrame, directions: pd.Series) -> Figure:
    measure = str(arms["measure"].iloc[0])
    unit = scale(measure)
    figure = new_figure(700, 90 + 30 * max(len(arms), len(comparisons)))
    left, right = figure.subplots(1, 2)
    _arm_points(left, arms, "gap", unit, [BLUE if arm == "real" else INK for arm in arms["arm"]])
    _name_rows(left, [arm.replace("_", " ") for arm in arms["arm"]])
    if "random" in set(arms["arm"]):
        row = len(arms) - 1 - list(arms["arm"]).index("random")
        left.plot(unit * directions, [row - 0.28] * len(directions), "|", color=QUIET, markersize=7)
    found = [BLUE if p <= _LEVEL else ORANGE for p in comparisons["p_holm"].astype(float)]
    _arm_points(right, comparisons, "difference", unit, found)
    _name_rows(right, [comparison.replace(" - ", " − ") for comparison in comparisons["comparison"]])
    left.set_xlabel(gap_axis(measure))
    right.set_xlabel("difference of gaps, percentage points")
    left.set_title(name, loc="left")
    return figure


def _arm_points(axes: Axes, part: pd.DataFrame, name: str, unit: float, colours: Sequence[str]) -> None:
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for at, (shade, row) in enumerate(zip(colours[::-1], part.to_dict("records")[::-1], strict=True)):
        if not pd.isna(row[f"{name}_low"]):
            axes.hlines(at, unit * row[f"{name}_low"], unit * row[f"{name}_high"], color=shade, linewidth=1.8)
        axes.plot(unit * row[name], at, "o" if shade == BLUE else "s", color=shade, markersize=7)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)


def gaps_by_dose(tables: Tables) -> ReportFigure | None:
    """Return cached readings and gaps by nominal dose and by effective strength; None where all were read at one of each."""
    gaps = gap_table(tables)
    gaps = gaps[gaps["arm"] == "real"]
    nominal, effective = _nominal(gaps), _effective(gaps)
    if nominal.empty and effective.empty:
        return None
    unknown = int(gaps["strength"].isna().sum())
    effects = [_strength_sentence(part) for _, part in groups(effective, CONDITION)]
    return ReportFigure(
        key="gaps-by-dose",
        title="Gaps by dose",
        pictures=(
            *(_nominal_picture(part) for _, part in groups(nominal, ["source", "model", "measure"])),
            *(_effective_picture(part) for _, part in groups(effective, CONDITION)),
        ),
        finding=spelled_out([*_nominal_sentences(nominal), *effects]),
        reading="Real arm. By nominal dose: means with 95 % t-intervals over vectors; hollow and dashed: uncached. By "
        "effective strength (dose times the vector's default dose): one mark a vector and dose, by category."
        + (f" What {unknown} rollouts added is unknown; they are missing there." if unknown else ""),
        table=pd.concat(
            [nominal.assign(mark="nominal dose"), effective.assign(mark="effective strength")], ignore_index=True
        ),
    )


def _nominal(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return mean gaps at each dose of the conditions that have several."""
    found = condition_gaps(gaps)
    if found.empty:
        return found
    several = found.groupby(CONDITION, dropna=False)["doses"].transform("size") > 1
    single = found[several & ~found["doses"].isin([ALL_DOSES, CALIBRATED])]
    return single.assign(dose=single["doses"].astype(float))


def _effective(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the vectors' gaps of the conditions in which at least three vectors were added at more than one strength."""
    found = strength_points(gaps)
    if found.empty:
        return found
    found["category"] = found["category"].where(found["category"].isin(CATEGORY_LOOKS), NO_CATEGORY)
    of_condition = found.groupby(CONDITION, dropna=False)
    several = (of_condition["strength"].transform("nunique") > 1) & (of_condition["vector"].transform("nunique") > 2)
    return found[several]


def _nominal_sentences(nominal: pd.DataFrame) -> list[str]:
    return _gap_sentences(nominal, condition_names(nominal)) if len(nominal) else []


def _nominal_picture(part: pd.DataFrame) -> Picture:
    names = condition_names(part)
    words = [
        f"{name}: cached {row['cached']:.3f}, gap {points(row['gap'], row['measure'])}"
        for name, row in zip(names, part.to_dict("records"), strict=True)
    ]
    return Picture(_draw_nominal(part), f"{'; '.join(words)}.")


def _effective_picture(part: pd.DataFrame) -> Picture:
    name = condition_names(part.iloc[:1])[0]
    return Picture(_draw_strengths(part, name), _strength_sentence(part))


def _strength_sentence(part: pd.DataFrame) -> str:
    name = condition_names(part.iloc[:1])[0]
    strengths = f"{name}: strengths from {plain(part['strength'].min())} to {plain(part['strength'].max())}"
    by_vector = part.groupby("vector")[["strength", "gap"]].mean()
    try:
        estimate, test = correlation(by_vector["strength"], by_vector["gap"], "spearman")
    except StatisticsError:
        return f"{strengths}; too little spread for a correlation with the gap."
    correlated = f"{in_words(estimate)}, {test_in_words(test)}"
    return f"{strengths}; over vectors, the gap's rank correlation with it is {correlated}."


def _draw_nominal(rows: pd.DataFrame) -> Figure:
    """Return cached readings and gaps by nominal dose, a line a condition.

    Args:
        rows: Of `condition_gaps`, all of one measure, each at one dose, which stands in `dose`.
    """
    measure = str(rows["measure"].iloc[0])
    figure = new_figure(680, 300)
    left, right = figure.subplots(1, 2)
    lines = [part.sort_values("dose") for _, part in groups(rows, ["framing", "primer", "options"])]
    names = condition_names(pd.concat([line.iloc[:1] for line in lines]).drop(columns=["doses", "dose"]))
    doses = sorted(rows["dose"].unique())
    aside = 0.012 * (doses[-1] - doses[0])
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        shade, mark = _LINE_LOOKS[number % len(_LINE_LOOKS)]
        at = line["dose"] + aside * (number - (len(lines) - 1) / 2)
        for axes, column, unit in ((left, "cached", 1.0), (right, "gap", scale(measure))):
            axes.vlines(at, unit * line[f"{column}_low"], unit * line[f"{column}_high"], color=shade, linewidth=1.6)
            axes.plot(at, unit * line[column], mark, linestyle="-", color=shade, markersize=6, label=name)
        left.plot(at, line["uncached"], mark, linestyle="--", color=shade, markerfacecolor="none", linewidth=1.2)
    right.axhline(0, color=QUIET, linewidth=1)
    left.set_ylim(bottom=0)
    left.set_ylabel(axis(measure))
    right.set_ylabel(gap_axis(measure))
    for axes in (left, right):
        _dose_axis(axes, doses)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=min(2, len(lines)))
    return figure


def _dose_axis(axes: Axes, doses: list[float]) -> None:
    axes.set_xlabel("dose, as the model is told it")
    axes.xaxis.set_major_locator(FixedLocator(doses))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_strengths(points: pd.DataFrame, name: str) -> Figure:
    """Return cached readings and gaps by effective strength, one mark a vector and dose.

    Args:
        points: Of `strength_points`, of one condition.
        name: What the condition is called.
    """
    measure = str(points["measure"].iloc[0])
    shown = points.assign(gap=scale(measure) * points["gap"])
    figure = new_figure(680, 330)
    left, right = figure.subplots(1, 2)
    for axes, column, title in ((left, "cached", axis(measure)), (right, "gap", gap_axis(measure))):
        draw_marks(axes, shown, "strength", column)
        axes.set_xlabel("what was added, multiples of the vector")
        axes.set_ylabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    right.axhline(0, color=QUIET, linewidth=1)
    left.set_title(name, loc="left")
    figure.legend(
        *right.get_legend_handles_labels(), loc="outside lower center", ncols=6, handletextpad=0.1, columnspacing=1
    )
    return figure
