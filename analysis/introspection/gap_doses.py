"""Which doses go into a mean: all of them, each one, or the one that identification peaks at, as the study chose it."""

from collections.abc import Iterator
from typing import Literal

import pandas as pd

from self_steering.analysis.drawing.frame_rows import Row, groups
from self_steering.analysis.introspection.reading_gaps import CACHED, CONDITION, UNCACHED

# All doses of a vector together; each vector at the dose that `calibrated_doses` finds.
DoseChoice = Literal["all", "calibrated"]
ALL_DOSES: DoseChoice = "all"
CALIBRATED: DoseChoice = "calibrated"


def dose_choices(of_condition: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (name, rows) of every choice of doses that a condition allows: each, and of several `all` and `calibrated` as well."""
    doses = sorted(of_condition["dose"].dropna().unique())
    if len(doses) < 2:
        yield (f"{doses[0]:g}" if doses else "unknown"), of_condition
        return
    yield ALL_DOSES, of_condition
    if len(at := at_doses(of_condition, CALIBRATED)):
        yield CALIBRATED, at
    for dose in doses:
        yield f"{dose:g}", of_condition[of_condition["dose"] == dose]


def at_doses(gaps: pd.DataFrame, choice: DoseChoice) -> pd.DataFrame:
    """Return the rows of a choice of doses."""
    if choice == ALL_DOSES:
        return gaps
    known = calibrated_doses(gaps)[[*CONDITION, "vector", "dose"]]
    return gaps.merge(known, on=[*CONDITION, "vector", "dose"])  # pandas takes missing keys for equal ones


def calibrated_doses(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return each vector's calibrated dose as the study chose it: where identification peaks, or else the mean of such doses.

    Identification peaks at the dose with the largest mean cached probability of the right option, in the real arm. It is no peak
    where the uncached probability is at least as large; those vectors take the dose that they were read at and
    that is nearest to the mean of the others' peaks. A dose chosen on the very readings that are then averaged flatters them.

    Returns:
        One row a condition and vector: the columns of `CONDITION`, `vector`, `dose`, `peaked`, `tried` (number of doses).
    """
    found: list[Row] = []
    for key, real in groups(gaps[(gaps["arm"] == "real") & gaps["dose"].notna()], CONDITION):
        means = real.groupby(["vector", "dose"])[[CACHED, "gap"]].mean().reset_index()
        best = means.sort_values([CACHED, "dose"], ascending=[False, True]).groupby("vector").first()
        peaks = best.loc[best["gap"] > 0, "dose"]
        typical = float(peaks.mean() if len(peaks) else means["dose"].mean())
        for vector, of_vector in means.groupby("vector"):
            nearest = of_vector["dose"].iloc[(of_vector["dose"] - typical).abs().argmin()]
            dose = peaks.get(vector, nearest)
            found.append({**key, "vector": vector, "dose": dose, "peaked": vector in peaks, "tried": len(of_vector)})
    return pd.DataFrame(found, columns=[*CONDITION, "vector", "dose", "peaked", "tried"])


def strength_points(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return mean readings by what was really added, one row a condition, arm, vector, dose and strength.

    Returns:
        The columns of `CONDITION`, `arm`, `vector`, `category`, `dose`, `strength`, `n`, `cached`, `uncached`, `gap`. Rollouts of
        unknown strength are in none of the rows.
    """
    by = [*CONDITION, "arm", "vector", "category", "dose", "strength"]
    known = gaps[gaps["strength"].notna()]
    of_each = known.groupby(by, dropna=False)
    means = of_each[[CACHED, UNCACHED, "gap"]].mean()
    return pd.concat([of_each.size().rename("n"), means], axis=1).reset_index()
