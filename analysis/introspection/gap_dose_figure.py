"""The figure of gaps by dose: as it is called, and as what was really added."""

import pandas as pd

from self_steering.analysis.drawing.categories import CATEGORY_COLOURS, NO_CATEGORY
from self_steering.analysis.drawing.frame_rows import groups
from self_steering.analysis.drawing.report_figure import Picture, ReportFigure
from self_steering.analysis.introspection.gap_dose_pictures import draw_nominal, draw_strengths
from self_steering.analysis.introspection.gap_doses import ALL_DOSES, CALIBRATED, strength_points
from self_steering.analysis.introspection.gap_summaries import condition_gaps
from self_steering.analysis.introspection.gap_words import (
    condition_names,
    gap_in_words,
    points,
    slug,
    spelled_out,
    tested,
)
from self_steering.analysis.introspection.reading_gaps import CONDITION, gap_table
from self_steering.analysis.page.page_text import plain
from self_steering.analysis.statistics import StatisticsError, correlation, in_words, test_in_words
from self_steering.analysis.tables import Tables

_MODEL = ["source", "model", "measure"]


def gaps_by_dose(tables: Tables) -> ReportFigure | None:
    """Return cached readings and gaps by nominal dose and by effective strength; None where all were read at one of each."""
    gaps = gap_table(tables)
    gaps = gaps[gaps["arm"] == "real"]
    nominal, effective = _nominal(gaps), _effective(gaps)
    if nominal.empty and effective.empty:
        return None
    unknown = int(gaps["strength"].isna().sum())
    return ReportFigure(
        key="gaps-by-dose",
        title="Gaps by dose",
        pictures=(
            *(_nominal_picture(part) for _, part in groups(nominal, _MODEL)),
            *(_effective_picture(part) for _, part in groups(effective, CONDITION)),
        ),
        finding=spelled_out(_sentences(nominal, effective)),
        reading="Real arm. By nominal dose: means of the vectors' means, with 95 % t-intervals over vectors; hollow and dashed is "
        "the uncached reading. By effective strength (dose times the vector's default dose, in multiples of the vector): one mark "
        "a vector and dose, by category. Doses of one number add different strengths from vector to vector."
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
    found["category"] = found["category"].where(found["category"].isin(CATEGORY_COLOURS), NO_CATEGORY)
    of_condition = found.groupby(CONDITION, dropna=False)
    several = (of_condition["strength"].transform("nunique") > 1) & (of_condition["vector"].transform("nunique") > 2)
    return found[several]


def _sentences(nominal: pd.DataFrame, effective: pd.DataFrame) -> list[str]:
    names = condition_names(nominal) if len(nominal) else []
    said = [
        f"{name}: gap {gap_in_words(row)}, {tested(row)}."
        for name, row in zip(names, nominal.to_dict("records"), strict=True)
    ]
    return [*said, *(_strength_sentence(part) for _, part in groups(effective, CONDITION))]


def _nominal_picture(part: pd.DataFrame) -> Picture:
    names = condition_names(part)
    words = [
        f"{name}: cached {row['cached']:.3f}, gap {points(row['gap'], row['measure'])}"
        for name, row in zip(names, part.to_dict("records"), strict=True)
    ]
    return Picture(slug("nominal", *part[_MODEL].iloc[0]), draw_nominal(part), f"{'; '.join(words)}.")


def _effective_picture(part: pd.DataFrame) -> Picture:
    name = condition_names(part.iloc[:1])[0]
    return Picture(slug("strength", *part[CONDITION].iloc[0]), draw_strengths(part, name), _strength_sentence(part))


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
