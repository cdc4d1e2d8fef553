"""How the figures of readings name conditions and say numbers."""

from collections.abc import Sequence

import pandas as pd

from self_steering.analysis.drawing.style import CATEGORY_LOOKS, NO_CATEGORY
from self_steering.analysis.drawing.words import basis, model_name, number, with_interval
from self_steering.analysis.introspection.gaps import (
    ALL_DOSES,
    CALIBRATED,
    RATING,
    SHARE,
    STUDY_RATING,
    TOP_20,
    gap_table,
    vector_gaps,
    without_gap,
)
from self_steering.analysis.statistics.estimates import Row
from self_steering.analysis.tables import Tables

_AXES = {
    SHARE: "right option's share of all options",
    TOP_20: "right option's share, top 20 tokens only",
    RATING: "rating, 1 to 10",
    STUDY_RATING: "rating, 0 to 1",
}
_RATINGS = frozenset({RATING, STUDY_RATING})
# What else a condition's name says, and how.
_ALSO = {"framing": "{}", "options": "{} options", "dose": "dose {}", "doses": "dose: {}"}
_DOSES = {ALL_DOSES: "all", CALIBRATED: "calibrated"}


def real_vectors(tables: Tables) -> pd.DataFrame:
    """Return the real arm's gap of every vector over all doses (`vector_gaps`), with its condition's name in `name`.

    Vectors that the catalogue does not know are all of one category.
    """
    gaps = gap_table(tables)
    found = vector_gaps(gaps[gaps["arm"] == "real"])
    if found.empty:
        return found
    category = found["category"].where(found["category"].isin(CATEGORY_LOOKS), NO_CATEGORY)
    return found.assign(name=condition_names(found), category=category)


def condition_names(frame: pd.DataFrame) -> list[str]:
    """Return a name for each row's condition: the model, its source and primer, and what else rows of one model differ in.

    Args:
        frame: Rows with a column `model`; of `source`, `primer`, `framing`, `options`, `dose` and `doses` those that there are.
    """
    of_model = [name for name in ("source", "model") if name in frame]
    also = [name for name in _ALSO if name in frame and not (name == "doses" and "dose" in frame)]
    varies = {name: frame.groupby(of_model, dropna=False)[name].transform("nunique") > 1 for name in also}
    rows = frame.to_dict("records")
    return [_name(row, [name for name in also if varies[name].iloc[at]]) for at, row in enumerate(rows)]


def _name(row: Row, also: Sequence[str]) -> str:
    parts = [model_name(row["model"], row.get("source") or "self_steering")]
    if (primer := row.get("primer")) not in (None, "", "none") and not pd.isna(primer):
        parts.append(f"{primer} primer".replace("_", " "))
    parts += [_ALSO[name].format(_DOSES.get(row[name], _plain(row[name]))) for name in also if not pd.isna(row[name])]
    return ", ".join(parts)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def axis(measure: str) -> str:
    """Return what an axis of a measure is called."""
    return _AXES[measure]


def bounds(measure: str) -> tuple[float, float | None]:
    """Return where an axis of a measure begins and ends; None leaves the end to the data."""
    return {RATING: (1.0, 10.0), STUDY_RATING: (0.0, 1.0)}.get(measure, (0.0, None))


def scale(measure: str) -> float:
    """Return what gaps of a measure are multiplied by to be shown: probabilities and shares are shown in percentage points."""
    return 1.0 if measure in _RATINGS else 100.0


def gap_axis(measure: str) -> str:
    """Return what an axis of gaps is called."""
    return "cached − uncached, rating" if measure in _RATINGS else "cached − uncached, points"


def gap_in_words(row: Row, name: str = "gap", n: str = "n") -> str:
    """Return a gap with its interval and numbers: `+6.8 points [+4.1, +9.5] (n 400, 40 vectors, cluster-robust t)`.

    Args:
        row: With `measure`, `n`, `vectors`, and `name`, `name_low`, `name_high`.
        name: Which figure.
        n: Column of the number of rows.
    """
    unit = scale(str(row["measure"]))
    widest = max(abs(unit * row[key]) for key in (name, f"{name}_low", f"{name}_high") if not pd.isna(row[key]))
    decimals, after = 1 if widest >= 1 and unit > 1 else 2, " points" if unit > 1 else ""
    shown = with_interval(row, name, scale=unit, decimals=decimals, signed=True, after=after)
    return f"{shown} ({basis({**row, 'n': row[n], 'method': 'cluster-robust t'}, 'vectors', column='vectors')})"


def points(value: float, measure: str) -> str:
    """Return a gap as text, signed: in percentage points, or in steps of the rating."""
    unit = scale(measure)
    return number(unit * value, 1 if unit > 1 else 2, signed=True)


def missing_in_words(tables: Tables, family: str) -> str:
    """Return how many rollouts of a family have no gap and why; empty where all have one."""
    missing = without_gap(tables, family)
    if not missing:
        return ""
    reasons = ", ".join(f"{reason}: {count}" for reason, count in missing.items())
    return f" Left out, as they have no pair of readings: {sum(missing.values())} rollouts ({reasons})."
