"""Drawings of gaps vector by vector: points with intervals, and histograms."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from seaborn import histplot

from self_steering.analysis.drawing.figures import Picture, ReportFigure
from self_steering.analysis.drawing.marks import category_order, colour, groups, marker
from self_steering.analysis.drawing.style import BLUE, INK, ORANGE, PAPER, QUIET, new_figure
from self_steering.analysis.drawing.words import label, number, visible
from self_steering.analysis.introspection.gap_figures import condition_pictures, labelled_scatter
from self_steering.analysis.introspection.gap_words import (
    condition_names,
    gap_axis,
    gap_in_words,
    missing_in_words,
    points,
    real_vectors,
    scale,
    slug,
    spelled_out,
    tested,
)
from self_steering.analysis.introspection.gaps import (
    CONDITION,
    PAIR,
    condition_gaps,
    correlations,
    experiment_pairs,
    model_pairs,
    rating_table,
    vector_gaps,
)
from self_steering.analysis.statistics.estimates import p_in_words, test_in_words
from self_steering.analysis.statistics.tests import binomial_above
from self_steering.analysis.tables import Tables

_ROW, _LINE = 17, 30
_BINS = 16
_SAME = 1e-6  # points: less than this is rounding, and no width for a histogram


def draw_vectors(conditions: Sequence[pd.DataFrame]) -> Figure:
    """Return every vector's gap with its interval, one column a condition, sorted by the first.

    Args:
        conditions: Rows of `real_vectors`, one table a condition.
    """
    order = _order(conditions)
    rows = {vector: row for row, vector in enumerate(order)}
    width = 440 if len(conditions) == 1 else 130 + 195 * len(conditions)
    figure = new_figure(width, 120 + _ROW * len(order))
    panels = figure.subplots(1, len(conditions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, conditions, strict=True):
        _draw_condition(axes, part, rows)
        axes.set_title(fill(str(part["name"].iloc[0]), _LINE), loc="left")
    panels[0].set_yticks(range(len(order)), [label(vector) for vector in order])
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    figure.legend(
        handles=category_marks(pd.concat(conditions)["category"]),
        loc="outside upper center",
        ncols=3,
        handletextpad=0.1,
        columnspacing=1,
    )
    return figure


def _order(conditions: Sequence[pd.DataFrame]) -> list[str]:
    """Return the vectors from the bottom up; those that the first condition lacks stand below it."""
    first = list(conditions[0].sort_values("gap")["vector"])
    known = set(first)
    others = dict.fromkeys(vector for part in conditions[1:] for vector in part["vector"] if vector not in known)
    return [*others, *first]


def category_marks(categories: pd.Series) -> list[Line2D]:
    """Return a legend's entries for the marks of these categories."""
    return [
        Line2D([], [], color=colour(of), marker=marker(of), linestyle="none", markersize=6.5, label=of)
        for of in category_order(list(categories))
    ]


def _draw_condition(axes: Axes, part: pd.DataFrame, rows: Mapping[str, int]) -> None:
    measure = str(part["measure"].iloc[0])
    unit = scale(measure)
    axes.axvline(0, color=QUIET, linewidth=1.2)
    for row in part.to_dict("records"):
        at, shade = rows[row["vector"]], colour(row["category"])
        if not pd.isna(row["gap_low"]):
            axes.hlines(at, unit * row["gap_low"], unit * row["gap_high"], color=shade, linewidth=1.4)
        axes.plot(unit * row["gap"], at, marker(row["category"]), color=shade, markersize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(gap_axis(measure))


def draw_distribution(conditions: Sequence[pd.DataFrame]) -> Figure:
    """Return a histogram of the vectors' gaps a condition, one below the other.

    Args:
        conditions: Rows of `real_vectors` of one measure, one table a condition.
    """
    measure = str(conditions[0]["measure"].iloc[0])
    gaps = scale(measure) * pd.concat(conditions)["gap"].astype(float)
    low, high = float(gaps.min()), float(gaps.max())
    edges = np.linspace(low, high, _BINS + 1) if high - low > _SAME else [low - 0.5, high + 0.5]
    figure = new_figure(560, 50 + 130 * len(conditions))
    panels = figure.subplots(len(conditions), 1, sharex=True, squeeze=False)[:, 0]
    for axes, part in zip(panels, conditions, strict=True):
        values = scale(measure) * part["gap"].astype(float)
        histplot(x=values, bins=edges, ax=axes, color=BLUE, alpha=1, edgecolor=PAPER, linewidth=1)
        axes.plot(values, [0] * len(values), "|", color=INK, markersize=9, clip_on=False, zorder=3)
        axes.axvline(0, color=INK, linewidth=1.2)
        axes.axvline(float(values.mean()), color=ORANGE, linewidth=1.6, linestyle="--")
        axes.set_title(str(part["name"].iloc[0]), loc="left")
        axes.set_ylabel("vectors")
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel(gap_axis(measure))
    return figure


_SEVERAL = 5  # fewer vectors are all named
_COLUMNS = 3  # conditions beside each other
_SIDE = ["source", "measure", "model", "framing", "options"]


def gaps_by_vector(tables: Tables) -> ReportFigure | None:
    """Return every vector's gap with its interval, sorted, coloured by category; primers of one model side by side."""
    found = real_vectors(tables)
    if found.empty:
        return None
    single = int(found["gap_low"].isna().sum())
    return ReportFigure(
        key="gaps-by-vector",
        title="Gap of every vector",
        pictures=tuple(_vector_picture(conditions) for conditions in _side_by_side(found)),
        finding=spelled_out([_vector_sentence(part) for _, part in groups(found, CONDITION)]),
        reading="Real arm, all doses together; sorted by the first column. Colours and marks: categories. Lines: 95 % t-intervals "
        "over problems or wordings; a vector that was asked in one only has none"
        + (f", which holds for {single} of {len(found)} here." if single else "."),
        table=found,
    )


def _side_by_side(found: pd.DataFrame) -> list[list[pd.DataFrame]]:
    """Return the conditions that share a picture."""
    together = []
    for _, of_model in groups(found, _SIDE):
        conditions = [part for _, part in groups(of_model, ["primer"])]
        together += [conditions[start : start + _COLUMNS] for start in range(0, len(conditions), _COLUMNS)]
    return together


def _vector_picture(conditions: list[pd.DataFrame]) -> Picture:
    first = conditions[0].iloc[0]
    words = " ".join(_vector_sentence(part) for part in conditions)
    return Picture(slug(*(first[name] for name in CONDITION)), draw_vectors(conditions), words)


def _vector_sentence(part: pd.DataFrame) -> str:
    order = part.sort_values("gap", ascending=False)
    measure, name = str(part["measure"].iloc[0]), part["name"].iloc[0]
    said = [
        f"{visible(str(row['vector']), kept='')} ({points(row['gap'], measure)})" for row in order.to_dict("records")
    ]
    if len(part) < _SEVERAL:
        return f"{name}: {', '.join(said)}."
    known = int(part["gap_low"].notna().sum())
    above, below = int((part["gap_low"].astype(float) > 0).sum()), int((part["gap_high"].astype(float) < 0).sum())
    intervals = (
        f"of {known} vectors with an interval, {above} lie above zero and {below} below (95 % t-intervals over problems or "
        "wordings, not corrected for their number)"
        if known
        else "none has an interval, as each was asked in one problem or wording only"
    )
    return f"{name}: the largest gaps are those of {', '.join(said[:3])}, the smallest that of {said[-1]}; {intervals}."


def gap_distribution(tables: Tables) -> ReportFigure | None:
    """Return how the vectors' gaps are distributed, one panel a condition; None with fewer than three vectors everywhere."""
    found = real_vectors(tables)
    enough = [part for _, part in groups(found, CONDITION) if len(part) > 2] if len(found) else []
    if not enough:
        return None
    shown = pd.concat(enough)
    return ReportFigure(
        key="gap-distribution",
        title="Distribution of the vectors' gaps",
        pictures=tuple(_distribution_picture(part) for _, part in groups(shown, ["measure"])),
        finding=spelled_out([_distribution_sentence(part) for part in enough]),
        reading="Real arm, all doses together. Bars: number of vectors; ticks below: each vector; the solid line is zero, the "
        "dashed one the mean over vectors. All panels of one picture share their axis and bins.",
        table=shown[[*CONDITION, "name", "vector", "category", "valence", "n", "gap"]],
    )


def _distribution_picture(shown: pd.DataFrame) -> Picture:
    parts = [part for _, part in groups(shown, CONDITION)]
    words = " ".join(_distribution_sentence(part) for part in parts)
    return Picture(slug(shown["measure"].iloc[0]), draw_distribution(parts), f"Histograms of gaps. {words}")


def _distribution_sentence(part: pd.DataFrame) -> str:
    above, measure = int((part["gap"] > 0).sum()), str(part["measure"].iloc[0])
    middle, low, high = (points(float(part["gap"].quantile(share)), measure) for share in (0.5, 0.25, 0.75))
    test = test_in_words(binomial_above(above, len(part), 0.5))
    return (
        f"{part['name'].iloc[0]}: {above} of {len(part)} vectors have a gap above zero, {test}; the median is {middle}, "
        f"and half of them lie between {low} and {high}."
    )


_POINTS = 100.0  # shares are shown in percentage points


def gap_agreement(tables: Tables) -> ReportFigure | None:
    """Return vectors' gaps in one model against another's; None where no two models share three vectors."""
    pairs = _large(model_pairs(real_vectors(tables)))
    if pairs.empty:
        return None
    found = correlations(pairs)
    sentences = [_sentence(row) for row in found.to_dict("records")]
    shown = pairs.assign(x=_POINTS * pairs["x"], y=_POINTS * pairs["y"])
    pictures = [
        _picture(part, f"{key['first']}: gap, points", f"{key['second']}: gap, points", words)
        for (key, part), words in zip(groups(shown, PAIR), sentences, strict=True)
    ]
    return ReportFigure(
        key="gap-agreement",
        title="Agreement of two models on the vectors",
        pictures=tuple(pictures),
        finding=spelled_out(sentences),
        reading="One mark a vector, real arm, all doses together, in percentage points, the same primer on both sides; named are "
        "the vectors farthest out, where there is room.",
        table=pairs.merge(found, on=PAIR),
    )


def free_text_against_choice(tables: Tables) -> ReportFigure | None:
    """Return the free text's gain in rating against the multiple choice's gap; None without pairs of free-text ratings."""
    ratings = rating_table(tables)
    if ratings.empty:
        return None
    summary = condition_gaps(ratings)
    names = [f"{name}, {arm} arm" for name, arm in zip(condition_names(summary), summary["arm"], strict=True)]
    sentences = [
        f"Free text, {name}: cached less uncached {gap_in_words(row)}, {tested(row)}."
        for name, row in zip(names, summary.to_dict("records"), strict=True)
    ]
    pairs = _large(experiment_pairs(real_vectors(tables), vector_gaps(ratings)))
    found = correlations(pairs)
    against = [_sentence(row) for row in found.to_dict("records")]
    pictures = [
        _picture(part, "multiple choice: gap, points", "free text: gain in rating", words)
        for (_, part), words in zip(groups(pairs.assign(x=_POINTS * pairs["x"]), PAIR), against, strict=True)
    ]
    alone = "No logs hold both experiments for three vectors of one model and primer, so vectors cannot be compared."
    rows = [summary.assign(mark="mean"), *([pairs.merge(found, on=PAIR).assign(mark="vector")] if len(pairs) else [])]
    return ReportFigure(
        key="free-text",
        title="Free text against multiple choice",
        pictures=(*condition_pictures("free-text", summary, names), *pictures),
        finding=spelled_out([*(against or [alone]), *sentences]),
        reading="Ratings of descriptions by a grader, ours from 1 to 10, the study's from 0 to 1. Filled dots: cached; open "
        "diamonds: uncached; lines: 95 % t-intervals over vectors. In the scatter one mark a vector, real arm: how much better "
        "its description fits with the window than without, against how much more of the answer the true option gets."
        + missing_in_words(tables, "free_text"),
        table=pd.concat(rows, ignore_index=True),
    )


def _large(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with enough vectors for a correlation."""
    return pairs[pairs.groupby(PAIR, dropna=False)["vector"].transform("size") > 2] if len(pairs) else pairs


def _picture(part: pd.DataFrame, across: str, up: str, words: str) -> Picture:
    first = part.iloc[0]
    return Picture(slug(*(first[name] for name in PAIR)), labelled_scatter(part, across, up), words)


def _sentence(row: Mapping[Any, Any]) -> str:
    primer = "" if row["primer"] in (None, "", "none") else f" ({row['primer']} primer)".replace("_", " ")
    head = f"{row['first']} and {row['second']}{primer}, vector by vector: "
    if pd.isna(row.get("pearson")):
        return f"{head}one side does not vary over {row['vectors']} vectors, so there is no correlation."
    said = []
    for kind, name in (("pearson", "Pearson's r"), ("spearman", "Spearman's ρ")):
        low, high = row[f"{kind}_low"], row[f"{kind}_high"]
        interval = "no interval" if pd.isna(low) else f"{number(low)}, {number(high)}"
        said.append(f"{name} {number(row[kind])} [{interval}], {p_in_words(row[f'{kind}_p'])}")
    methods = f"{row['pearson_method']}; {row['pearson_test']}"
    return (
        f"{head}{'; '.join(said)} (n {row['vectors']} vectors, each a cluster; {methods}; for ρ the same over ranks)."
    )
