"""The figure of cached against uncached readings, by model and primer."""

from collections.abc import Sequence
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes

from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.drawing.themed_svg import BLUE, INK, ORANGE, QUIET, new_figure
from self_steering.analysis.introspection.gap_doses import ALL_DOSES, CALIBRATED, calibrated_doses
from self_steering.analysis.introspection.gap_summaries import condition_gaps, primer_effects
from self_steering.analysis.introspection.gap_words import (
    axis,
    bounds,
    condition_names,
    gap_axis,
    gap_in_words,
    missing_in_words,
    scale,
    slug,
    spelled_out,
    tested,
)
from self_steering.analysis.introspection.reading_gaps import CACHED, CONDITION, TOP_20, UNCACHED, gap_table
from self_steering.analysis.tables import Tables

_ROW, _LINE = 38, 32
_UNSEEN = 1e-9  # a letter outside the top tokens was given 1e-38 or so


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
        pictures=condition_pictures("gaps", shown, names),
        finding=spelled_out(_sentences(shown, names, "gap")) + _primer_finding(effects),
        reading="Real arm. Filled dots: the true option with its window applied (cached); open diamonds: the same conversation "
        "with no window (uncached); right: their difference. Lines: 95 % t-intervals over vectors; each vector counts alike. The "
        "dotted line is chance. Shares are of all options' letters over the full vocabulary, in the study's logs of those letters "
        "that are among the top 20 tokens: the two are never averaged together."
        + _unseen_note(gaps)
        + _calibrated_note(gaps)
        + missing_in_words(tables, "introspection"),
        table=pd.concat([table.assign(mark="condition"), effects.assign(mark="less no primer")], ignore_index=True),
    )


def _sentences(rows: pd.DataFrame, names: Sequence[str], what: str) -> list[str]:
    return [
        f"{name}: {what} {gap_in_words(row)}, {tested(row)}."
        for name, row in zip(names, rows.to_dict("records"), strict=True)
    ]


def _primer_finding(effects: pd.DataFrame) -> str:
    """Return what the primers do to the gap; empty where no model was read with and without one."""
    if effects.empty:
        return ""
    said = _sentences(effects, condition_names(effects), "gap less the gap without a primer")
    return f" Primers, vector by vector: {spelled_out(said)}"


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


def condition_pictures(key: str, shown: pd.DataFrame, names: Sequence[str]) -> tuple[Picture, ...]:
    """Return rows of `condition_gaps`, their names at the left: cached, uncached and gap, one picture a measure.

    Args:
        key: What the pictures' names begin with.
        shown: The rows.
        names: The name of each row.
    """
    named = shown.assign(name=list(names))
    return tuple(_picture(slug(key, measure), part) for measure, part in named.groupby("measure", sort=False))


def _picture(name: str, part: pd.DataFrame) -> Picture:
    measure = str(part["measure"].iloc[0])
    figure = new_figure(700, 96 + _ROW * len(part))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    rows = list(range(len(part)))[::-1]
    _dots(left, part, CACHED, [row + 0.13 for row in rows], 1.0)
    _dots(left, part, UNCACHED, [row - 0.13 for row in rows], 1.0)
    _dots(right, part, "gap", rows, scale(measure))
    for options in part["options"].dropna().unique():
        left.axvline(1 / float(options), color=QUIET, linestyle=":", linewidth=1.2)
    left.set_xlim(*bounds(measure))
    right.axvline(0, color=QUIET, linewidth=1)
    left.set_yticks(rows, [fill(name, _LINE) for name in part["name"]])
    left.set_ylim(-0.6, len(part) - 0.4)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
    left.set_xlabel(axis(measure))
    right.set_xlabel(gap_axis(measure))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.3)
    said = [
        f"{row['name']}: {row['cached']:.3f} cached, {row['uncached']:.3f} uncached" for row in part.to_dict("records")
    ]
    return Picture(name, figure, f"Cached and uncached, {axis(measure)}, and their gap. {'; '.join(said)}.")


_LOOKS = {CACHED: (BLUE, "o", BLUE), UNCACHED: (ORANGE, "D", "none"), "gap": (INK, "o", INK)}


def _dots(axes: Axes, part: pd.DataFrame, name: str, rows: Sequence[float], unit: float) -> None:
    shade, mark, face = _LOOKS[name]
    low, high = (unit * part[f"{name}_{end}"].astype(float) for end in ("low", "high"))
    axes.hlines(rows, low, high, color=shade, linewidth=1.6)
    axes.plot(unit * part[name], rows, mark, color=shade, markersize=7, markerfacecolor=face, label=name)
