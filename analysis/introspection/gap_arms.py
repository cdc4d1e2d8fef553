"""The control arms beside the real one: the comparisons of `introspection_statistics`, from the tables of any number of logs."""

from collections.abc import Mapping
from typing import Any, cast, get_args

import pandas as pd

from self_steering.analysis.drawing.frame_rows import Row, groups
from self_steering.analysis.introspection.introspection_statistics import (
    Effect,
    Scored,
    primary_effects,
    rank_among_random,
)
from self_steering.analysis.introspection.reading_gaps import CONDITION, gap_table, reading_pairs
from self_steering.analysis.tables import Tables
from self_steering.solvers.introspect import Arm

# In the order in which arms are shown.
ARMS: tuple[str, ...] = get_args(Arm)
AT_DOSE = [*CONDITION, "dose"]


def arm_comparisons(tables: Tables) -> pd.DataFrame:
    """Return the primary comparisons, one row each, for every condition and dose that has the real arm and another one.

    Args:
        tables: The logs' tables.

    Returns:
        The columns of `CONDITION`, `dose`, `comparison`, `pairs` (of questions that both arms were asked), `vectors`; `difference`
        with `_low` and `_high` (95 % t-interval over vectors), and the same bounds `_by_problem`; `p` of the t-test over vectors;
        `p_holm`, corrected over the condition's comparisons; `detectable`, the smallest difference that is found with 80 % power;
        `random_directions`, `random_above` (how many of them have a mean gap at least as large as the real one), `random_p`.
    """
    gaps = gap_table(tables)
    readings = _numbered_directions(tables).groupby("rollout")
    directions = {rollout: part[["direction", "gap"]].to_dict("records") for rollout, part in readings}
    rows: list[Row] = []
    for key, part in groups(gaps, AT_DOSE):
        if {"real"} < set(part["arm"]):
            scored = [_scored(rollout, directions) for rollout in part.to_dict("records")]
            rows += [{**key, **_columns(effect), **_rank(scored)} for effect in primary_effects(scored)]
    return pd.DataFrame(rows)


def direction_gaps(tables: Tables) -> pd.DataFrame:
    """Return the mean gap of every random direction, one row a condition, dose and direction: `gap`, `n` (readings)."""
    readings = _numbered_directions(tables)[["rollout", "direction", "gap"]]
    known = gap_table(tables)[["rollout", *AT_DOSE]]
    of_each = readings.merge(known, on="rollout").groupby([*AT_DOSE, "direction"], dropna=False)["gap"]
    return cast(pd.DataFrame, of_each.agg(gap="mean", n="size").reset_index())


def _numbered_directions(tables: Tables) -> pd.DataFrame:
    """Return the random arm's cached readings (`reading_pairs`), their directions numbered so that each number is one direction."""
    pairs = reading_pairs(tables).merge(tables.rollouts[["rollout", "log"]], on="rollout")
    known = pairs[pairs["direction"].notna()].merge(tables.logs[["log", "seed"]], on="log")
    # Directions of the same number under another seed are others.
    return known.assign(direction=known.groupby(["seed", "direction"], dropna=False).ngroup())


def _scored(rollout: Mapping[Any, Any], directions: Mapping[object, list[dict[str, float]]]) -> Scored:
    """Return a row of the gap table as `introspection_statistics` takes it."""
    question = {"vector": rollout["vector"], "wording": rollout["problem"], "options": [rollout["question"]]}
    gaps = {"gaps": directions.get(rollout["rollout"], [])}
    return Scored({"arm": rollout["arm"], **question}, {"gap": float(rollout["gap"])}, gaps)


def _rank(scored: list[Scored]) -> Row:
    rank = rank_among_random(scored)
    values = (rank.directions, rank.above, rank.p) if rank else (None, None, None)
    return dict(zip(("random_directions", "random_above", "random_p"), values, strict=True))


def _columns(effect: Effect) -> Row:
    by_vector, by_problem = effect.by_vector, effect.by_wording
    return {
        "comparison": effect.name,
        "pairs": effect.n,
        "vectors": by_vector.clusters if by_vector else 1,
        "difference": effect.mean,
        "difference_low": by_vector.low if by_vector else None,
        "difference_high": by_vector.high if by_vector else None,
        "difference_low_by_problem": by_problem.low if by_problem else None,
        "difference_high_by_problem": by_problem.high if by_problem else None,
        "p": effect.p,
        "p_holm": effect.p_holm,
        "detectable": effect.detectable,
    }
