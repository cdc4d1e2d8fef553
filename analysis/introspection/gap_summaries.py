"""Gaps averaged by condition, dose, vector, category and valence, with intervals over clusters."""

import math
from typing import Literal

import pandas as pd

from self_steering.analysis.drawing.frame_rows import Row, adjusted, estimated, groups
from self_steering.analysis.introspection.gap_doses import ALL_DOSES, CALIBRATED, DoseChoice, at_doses, dose_choices
from self_steering.analysis.introspection.reading_gaps import CACHED, CONDITION, UNCACHED
from self_steering.analysis.statistics import clustered_mean, sign_flip

_ROUNDING = 1e-12  # what differs less from the uncached reading does so by rounding alone


def condition_gaps(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return mean cached and uncached readings and their gap, one row a condition, arm and choice of doses.

    A condition is what `CONDITION` lists. Where a condition has several doses, there is a row for each of them, one for `all`, and
    one for `calibrated`: each vector at the dose of `calibrated_doses`.

    Args:
        gaps: Of `gap_table` or `rating_table`.

    Returns:
        The columns of `CONDITION`, `arm`, `doses`, `n`, `vectors`, `problems`; `cached`, `uncached` and `gap`, each the mean of
        the vectors' means, with `_low` and `_high` of the 95 % t-interval over vectors; `gap_low_by_problem` and
        `gap_high_by_problem`, the same over problems or wordings; `p`, two-sided by sign flips over vectors, and `p_adjusted`, by
        Benjamini and Hochberg over the rows of the same arm and choice of doses; `method` of the interval and `test`.
    """
    found = [
        {**key, "arm": arm, "doses": doses, **_summary(chosen)}
        for key, of_condition in groups(gaps, CONDITION)
        for doses, of_doses in dose_choices(of_condition)
        for arm, chosen in of_doses.groupby("arm")
    ]
    return adjusted(found, lambda row: (row["arm"], row["doses"] if row["doses"] in {ALL_DOSES, CALIBRATED} else "one"))


def primer_effects(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return by how much each primer moves the real arm's gap, vector by vector, one row a condition and primer but `none`.

    Args:
        gaps: Of `gap_table` or `rating_table`.

    Returns:
        The columns of `CONDITION`; `n`, pairs of mean gaps with the primer and without any, of one vector at one dose; `vectors`;
        `gap`, the mean of the vectors' mean differences, with `_low` and `_high` of the 95 % t-interval over vectors; `p`,
        two-sided by sign flips over vectors, `p_adjusted`, by Benjamini and Hochberg over all rows, and `test`.
    """
    by = [*CONDITION, "vector", "dose"]
    means = gaps[gaps["arm"] == "real"].groupby(by, dropna=False)["gap"].mean().reset_index()
    plain = means["primer"].isin(["", "none"])
    same = [name for name in by if name != "primer"]
    pairs = means[~plain].merge(means[plain].drop(columns="primer"), on=same, suffixes=("", "_plain"))
    pairs["gap"] -= pairs["gap_plain"]
    rows = []
    for key, part in groups(pairs, CONDITION):
        row = {**key, "n": len(part), "vectors": part["vector"].nunique()}
        row |= estimated("gap", clustered_mean(part["gap"], part["vector"])) | _tested(part)
        rows.append(row)
    return adjusted(rows)


def vector_gaps(gaps: pd.DataFrame, choice: DoseChoice = ALL_DOSES) -> pd.DataFrame:
    """Return each vector's gap, one row a condition, arm and vector.

    Returns:
        The columns of `CONDITION`, `arm`, `vector`, `category`, `valence`, `n`, `problems`; `cached`, `uncached` and `gap`, means
        over problems or wordings, and `_low` and `_high` of the t-interval over them, empty where there is but one; a
        rollout without a problem's name is a cluster of its own.
    """
    rows = []
    for key, part in groups(at_doses(gaps, choice), [*CONDITION, "arm", "vector"]):
        clusters = part["problem"].where(_named(part), part["rollout"])
        first = part.iloc[0]
        row = {**key, "category": first["category"], "valence": first["valence"], "n": len(part)}
        row["problems"] = clusters.nunique()
        for name in (CACHED, UNCACHED, "gap"):
            row |= estimated(name, clustered_mean(part[name], clusters))
        rows.append(row)
    return pd.DataFrame(rows)


def grouped_gaps(of_vectors: pd.DataFrame, by: Literal["category", "valence"]) -> pd.DataFrame:
    """Return mean gaps of vectors of one category or valence, one row a condition, arm and group.

    Args:
        of_vectors: Of `vector_gaps`.
        by: What to group by.

    Returns:
        The columns of `CONDITION`, `arm`, `by`, `vectors`, `gap`, `gap_low`, `gap_high` (95 % t-interval over vectors).
    """
    rows = []
    for key, part in groups(of_vectors[of_vectors[by].notna()], [*CONDITION, "arm", by]):
        rows.append({**key, "vectors": len(part), **estimated("gap", clustered_mean(part["gap"], part["vector"]))})
    return pd.DataFrame(rows)


def _summary(part: pd.DataFrame) -> Row:
    known = part[_named(part)]
    row: Row = {"n": len(part), "vectors": part["vector"].nunique(), "problems": known["problem"].nunique()}
    for name in (CACHED, UNCACHED, "gap"):
        row |= estimated(name, estimate := clustered_mean(part[name], part["vector"]))
    by_problem = estimated("gap", clustered_mean(known["gap"], known["problem"])) if len(known) else {}
    row |= {f"{name}_by_problem": by_problem.get(name, math.nan) for name in ("gap_low", "gap_high")}
    return row | {"method": estimate.method} | _tested(part)


def _tested(part: pd.DataFrame) -> Row:
    """Return the test of the gaps as columns `p` and `test`."""
    if part["vector"].nunique() < 2:
        return {"p": None, "test": "no test with one vector"}
    if part["gap"].abs().max() < _ROUNDING:
        return {"p": None, "test": "no difference anywhere"}
    tested = sign_flip(part["gap"], part["vector"])
    return {"p": tested.p, "test": tested.method}


def _named(part: pd.DataFrame) -> pd.Series:
    """Return which rollouts say what problem or wording they had."""
    return part["problem"].fillna("") != ""
