"""The figure of arms beside each other, with the primary comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import BLUE, INK, ORANGE, QUIET, new_figure
from self_steering.analysis.introspection.gap_arms import ARMS, AT_DOSE, arm_comparisons, direction_gaps
from self_steering.analysis.introspection.gap_summaries import condition_gaps
from self_steering.analysis.introspection.gap_words import (
    condition_names,
    gap_axis,
    gap_in_words,
    missing_in_words,
    scale,
    slug,
    spelled_out,
)
from self_steering.analysis.introspection.reading_gaps import gap_table
from self_steering.analysis.statistics import p_in_words
from self_steering.analysis.tables import Tables

_ROW, _LEVEL = 30, 0.05


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
        sentences.append(_sentence(name, part))
        figure = _draw(name, arms, part, _matching(directions, key)["gap"])
        pictures.append(Picture(slug(*key.values()), figure, sentences[-1]))
        rows += [arms.assign(dose=key["dose"], mark="arm"), part.assign(mark="comparison")]
    return ReportFigure(
        key="arms",
        title="Arms beside each other",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="Left: cached less uncached, mean of the vectors' means, with 95 % t-intervals over vectors; ticks in the random "
        "arm: single random directions. Right: the primary comparisons, question by question; orange squares where p is above "
        f"{_LEVEL:g} after Holm's correction over them (t-tests over vectors). Real applies the vector; placebo the same "
        "at strength zero; random random directions of its norm; other another vector; opposite its negative; mislabelled "
        "names it wrongly; prompt only tells its effect in words." + missing_in_words(tables, "introspection"),
        table=pd.concat(rows, ignore_index=True),
    )


def _matching(frame: pd.DataFrame, key: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of one condition and dose."""
    return frame.merge(pd.DataFrame([key]), on=AT_DOSE)


def _in_order(arms: pd.DataFrame) -> pd.DataFrame:
    place = {arm: place for place, arm in enumerate(ARMS)}
    return arms.sort_values("arm", key=lambda column: column.map(place)).reset_index(drop=True)


def _sentence(name: str, comparisons: pd.DataFrame) -> str:
    said = "; ".join(_comparison_in_words(row) for row in comparisons.to_dict("records"))
    first = comparisons.iloc[0]
    if pd.isna(first["random_p"]):
        return f"{name}: {said}."
    return (
        f"{name}: {said}. Of {first['random_directions']:g} random directions {first['random_above']:g} have a mean gap at "
        f"least as large as the real one ({p_in_words(first['random_p'])} by rank)."
    )


def _comparison_in_words(row: Mapping[Any, Any]) -> str:
    words = gap_in_words({**row, "n": row["pairs"]}, "difference")
    if pd.isna(row["p"]):
        return f"{row['comparison'].replace(' - ', ' less ')} {words}, no test without spread between vectors"
    return (
        f"{row['comparison'].replace(' - ', ' less ')} {words}, {p_in_words(row['p_holm'])} by t-test, Holm-corrected, "
        f"{scale(str(row['measure'])) * row['detectable']:.1f} points found with 80 % power"
    )


def _draw(name: str, arms: pd.DataFrame, comparisons: pd.DataFrame, directions: pd.Series) -> Figure:
    measure = str(arms["measure"].iloc[0])
    unit = scale(measure)
    figure = new_figure(700, 90 + _ROW * max(len(arms), len(comparisons)))
    left, right = figure.subplots(1, 2)
    _points(left, arms, "gap", unit, [BLUE if arm == "real" else INK for arm in arms["arm"]])
    _names(left, [arm.replace("_", " ") for arm in arms["arm"]])
    if "random" in set(arms["arm"]):
        row = len(arms) - 1 - list(arms["arm"]).index("random")
        left.plot(unit * directions, [row - 0.28] * len(directions), "|", color=QUIET, markersize=7)
    found = [BLUE if p <= _LEVEL else ORANGE for p in comparisons["p_holm"].astype(float)]
    _points(right, comparisons, "difference", unit, found)
    _names(right, [comparison.replace(" - ", " − ") for comparison in comparisons["comparison"]])
    left.set_xlabel(gap_axis(measure))
    right.set_xlabel("difference of gaps, percentage points")
    left.set_title(name, loc="left")
    return figure


def _points(axes: Axes, part: pd.DataFrame, name: str, unit: float, colours: Sequence[str]) -> None:
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for at, (shade, row) in enumerate(zip(colours[::-1], part.to_dict("records")[::-1], strict=True)):
        if not pd.isna(row[f"{name}_low"]):
            axes.hlines(at, unit * row[f"{name}_low"], unit * row[f"{name}_high"], color=shade, linewidth=1.8)
        axes.plot(unit * row[name], at, "o" if shade == BLUE else "s", color=shade, markersize=7)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
