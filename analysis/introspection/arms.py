"""What the arms of introspection say: means with intervals, comparisons with tests, and the power that the design has.

Every question counts alike; intervals and t-tests are cluster-robust: over vectors, and over wordings of the prompt. The primary
comparisons are corrected together by Holm's method. What is compared is a table with `arm`, `vector`, `problem` (the wording),
`question` (what all arms of one question share beside these) and `gap`: `gap_table` of logs that were read, `scored_table` of one.
"""

from typing import cast, get_args

import pandas as pd
from inspect_ai.log import EvalLog
from scipy.stats import t as t_distribution

from self_steering.analysis.introspection.gaps import CONDITION, gap_table, reading_pairs
from self_steering.analysis.statistics.estimates import Row, groups
from self_steering.analysis.statistics.tests import holm
from self_steering.analysis.tables import Tables
from self_steering.scorers.identification import answered_of
from self_steering.scorers.metrics import clustered_mean
from self_steering.solvers.readings import Arm

# In the order in which arms are shown.
ARMS: tuple[str, ...] = get_args(Arm)
AT_DOSE = [*CONDITION, "dose"]
QUESTION = ["vector", "problem", "question"]
SCORER = "introspection_scorer"
POWER, ALPHA = 0.8, 0.05
_ROUNDING = 1e-12
# What is compared with what; None compares with no gap at all.
PRIMARY: tuple[tuple[str, str | None], ...] = (
    ("real", None),
    ("real", "random"),
    ("real", "other"),
    ("real", "opposite"),
)


def scored_table(log: EvalLog) -> pd.DataFrame:
    """Return the scored samples of an introspection log, one row each.

    Returns:
        `arm`, `vector`, `problem`, `question`; a column for each of the scorer's numbers, NaN where it could not be given;
        `answered` (`scorers.identification.Answered`); `gaps`, of the random arm the gap of every reading with its `direction`.

    Raises:
        ValueError: The log is not finished, or not of this experiment.
    """
    if log.status != "success" or log.results is None:
        raise ValueError(f"{log.location} is not finished (status {log.status}); finish it with `inspect eval-retry`")
    rows = []
    for sample in log.samples or []:
        score, trial = (sample.scores or {}).get(SCORER), sample.metadata
        if score is not None and isinstance(score.value, dict) and "arm" in trial:
            about = {"arm": trial["arm"], "vector": trial["vector"], "problem": str(trial["wording"])}
            noted = score.metadata or {}
            more = {"answered": answered_of(trial, noted), "gaps": noted.get("gaps") or []}
            rows.append({**about, "question": ", ".join(trial["options"]), **score.value, **more})
    if not rows:
        raise ValueError(f"{log.location} has no scored introspection sample (task {log.eval.task})")
    return pd.DataFrame(rows)


def arm_effect(frame: pd.DataFrame, arm: str, what: str = "gap") -> Row | None:
    """Return the mean of one number in one arm, with the columns of `effect`; None where it is nowhere."""
    known = frame[frame["arm"] == arm].dropna(subset=[what]) if what in frame else frame[:0]
    return effect(known, what) if len(known) else None


def effect(rows: pd.DataFrame, what: str = "gap") -> Row:
    """Return the mean of a column over questions.

    Returns:
        `pairs`, how many rows; `vectors`; `difference` with `_low` and `_high` of the t-interval over vectors, and these bounds
        `_by_problem` over wordings; `p`, two-sided, of the t-test over vectors from the same standard error (None with one
        vector or no spread); `detectable`, the smallest true mean that this design finds with 80 % power, two-sided at 5 %.
    """
    by_vector, by_problem = (clustered_mean(rows[what], rows[key].tolist()) for key in ("vector", "problem"))
    degrees, error = by_vector.clusters - 1, by_vector.error or 0.0
    # Shares are of order one: what varies less varies by rounding alone, and is no ground for a test.
    varies = error > _ROUNDING
    return {
        "pairs": len(rows),
        "vectors": by_vector.clusters,
        "difference": by_vector.value,
        "difference_low": by_vector.low,
        "difference_high": by_vector.high,
        "difference_low_by_problem": by_problem.low,
        "difference_high_by_problem": by_problem.high,
        "p": float(2 * t_distribution.sf(abs(by_vector.value / error), degrees)) if varies else None,
        # What a two-sided t-test finds with this power, by the usual sum of quantiles.
        "detectable": float(t_distribution.ppf([1 - ALPHA / 2, POWER], degrees).sum() * error) if varies else None,
    }


def primary_effects(frame: pd.DataFrame) -> list[Row]:
    """Return the primary comparisons that the arms allow: `comparison`, the columns of `effect`, and `p_holm` over all of them."""
    arms = set(frame["arm"])
    effects = [
        {"comparison": first if second is None else f"{first} - {second}", **effect(_differences(frame, first, second))}
        for first, second in PRIMARY
        if first in arms and (second is None or second in arms)
    ]
    return [{**one, "p_holm": p} for one, p in zip(effects, holm([one["p"] for one in effects]), strict=True)]


def _differences(frame: pd.DataFrame, first: str, second: str | None) -> pd.DataFrame:
    """Return one arm's rows with their gap less that of another, question by question."""
    rows = frame[frame["arm"] == first]
    if second is None:
        return rows
    # A question can come more than once: over few vectors, or in epochs.
    base = frame[frame["arm"] == second].groupby(QUESTION)["gap"].mean().rename("base")
    paired = rows.join(base, on=QUESTION, how="inner")
    return paired.assign(gap=paired["gap"] - paired["base"])


def rank_among_random(frame: pd.DataFrame, directions: pd.Series) -> Row:
    """Return where the real arm's mean gap lies among those of random directions.

    Args:
        frame: As for `primary_effects`.
        directions: Mean gap of every direction, over the questions that it was read in.

    Returns:
        `random_directions`, how many; `random_above`, how many of them have a mean gap at least as large; `random_p`, (above + 1) /
        (directions + 1). None each without both arms.
    """
    real = frame.loc[frame["arm"] == "real", "gap"]
    if real.empty or directions.empty:
        return dict.fromkeys(("random_directions", "random_above", "random_p"))
    above = int((directions >= real.mean()).sum())
    return {
        "random_directions": len(directions),
        "random_above": above,
        "random_p": (above + 1) / (len(directions) + 1),
    }


def arm_comparisons(tables: Tables) -> pd.DataFrame:
    """Return the primary comparisons, one row each, for every condition and dose that has the real arm and another one.

    Returns:
        The columns of `CONDITION`, `dose`, and those of `primary_effects` and `rank_among_random`.
    """
    gaps, directions = gap_table(tables), direction_gaps(tables)
    rows: list[Row] = []
    for key, part in groups(gaps, AT_DOSE):
        if {"real"} < set(part["arm"]):
            ranked = rank_among_random(part, directions.merge(pd.DataFrame([key]), on=AT_DOSE)["gap"])
            rows += [{**key, **one, **ranked} for one in primary_effects(part)]
    return pd.DataFrame(rows)


def direction_gaps(tables: Tables) -> pd.DataFrame:
    """Return the mean gap of every random direction, one row a condition, dose and direction: `gap`, `n` (readings)."""
    pairs = reading_pairs(tables).merge(tables.rollouts[["rollout", "log"]], on="rollout")
    known = pairs[pairs["direction"].notna()].merge(tables.logs[["log", "seed"]], on="log")
    # Directions of the same number under another seed are others.
    known = known.assign(direction=known.groupby(["seed", "direction"], dropna=False).ngroup())
    readings = known[["rollout", "direction", "gap"]].merge(gap_table(tables)[["rollout", *AT_DOSE]], on="rollout")
    found = readings.groupby([*AT_DOSE, "direction"], dropna=False)["gap"].agg(gap="mean", n="size").reset_index()
    return cast(pd.DataFrame, found)
