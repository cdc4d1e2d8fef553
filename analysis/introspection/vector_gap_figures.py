"""Figures of gaps vector by vector: each with its interval, and their distribution."""

import pandas as pd

from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.introspection.gap_words import points, real_vectors, slug, spelled_out
from self_steering.analysis.introspection.reading_gaps import CONDITION
from self_steering.analysis.introspection.vector_gap_pictures import draw_distribution, draw_vectors
from self_steering.analysis.page.page_text import visible
from self_steering.analysis.statistics import binomial_above, test_in_words
from self_steering.analysis.tables import Tables

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
