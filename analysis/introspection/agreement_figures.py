"""Figures of agreement, vector by vector: between two models, and between free text and multiple choice."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.introspection.gap_agreement import PAIR, correlations, experiment_pairs, model_pairs
from self_steering.analysis.introspection.gap_figures import condition_pictures
from self_steering.analysis.introspection.gap_summaries import condition_gaps, vector_gaps
from self_steering.analysis.introspection.gap_words import (
    condition_names,
    gap_in_words,
    missing_in_words,
    real_vectors,
    slug,
    spelled_out,
    tested,
)
from self_steering.analysis.introspection.labelled_scatter import labelled_scatter
from self_steering.analysis.introspection.reading_gaps import rating_table
from self_steering.analysis.page.page_text import number
from self_steering.analysis.statistics import p_in_words
from self_steering.analysis.tables import Tables

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
