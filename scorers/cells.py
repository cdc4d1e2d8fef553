"""What the scorers of self-steering sessions share: the session's record, and means by cell with clustered intervals."""
# ruff: noqa: PLC0415  scipy takes a second to import, and Inspect imports this whatever it runs

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from inspect_ai.scorer import Metric, SampleScore, Score, metric
from inspect_ai.solver import TaskState

from self_steering.solvers.self_steer_records import SelfSteerState

WITHOUT_SITTER = "without_sitter"
_CELL = ("framing", "arm")
_MORE = ("intent", "visibility", "tone", "possible")


def session_record(state: TaskState) -> SelfSteerState | None:
    """Return what a sample's session noted; None where there was none."""
    # Asked of the store itself: reading the record through its model would write an empty one.
    return state.store_as(SelfSteerState) if state.store.get("SelfSteerState:condition") else None


def no_session() -> Score:
    """Return the score of a sample that no session was held in."""
    return Score.unscored(
        reason="scoring_failed",
        explanation="the sample has no record of a self-steering session; run it with the solver self_steer, or with one of the "
        "experiments freeplay, maths, frustration, ctf",
    )


def about_cell(state: TaskState, record: SelfSteerState, weights: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return what `by_cell` needs in a score's metadata.

    Args:
        state: The sample.
        record: Its session's record.
        weights: How much the sample counts in a mean, by the name that `by_cell` is given.
    """
    metadata = state.metadata or {}
    said = {**record.condition, **{name: metadata[name] for name in (*_CELL, *_MORE) if metadata.get(name) is not None}}
    return {
        "cell": {name: said[name] for name in (*_CELL, *_MORE) if name in said},
        "cluster": str(metadata.get("problem", state.sample_id)),
        "touched_by_sitter": record.sitter_clears > 0,
        "weights": dict(weights or {}),
    }


# Unreduced, as the mean over epochs would lose each rollout's own metadata: clusters take care of epochs.
@metric(scores="unreduced")
def by_cell(weight: str | None = None) -> Metric:
    """Mean and 95 % t-interval in each cell, clustered by problem, or by sample where there are no problems.

    A cell is a framing and an arm, and of intent, visibility, tone and possible those that vary. Reported as `CELL`,
    `CELL_lower` and `CELL_upper`; where there is but one cluster, or no two values differ, there is no interval. Where the trip
    sitter cleared effects in some rollouts, the same without these is reported as `CELL/without_sitter`.

    Args:
        weight: Name of the weight by which a rollout counts, so that a mean of shares becomes the share of all together;
            default that all count alike.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found = [(score.score.as_float(), score.score.metadata or {}) for score in scores]
        varied = [name for name in _MORE if len({str(about["cell"].get(name)) for _, about in found}) > 1]
        groups: dict[str, list[_Row]] = defaultdict(list)
        for value, about in found:
            named = [*_CELL, *varied]
            cell = "/".join(str(about["cell"][name]) for name in named if name in about["cell"])
            row = (value, about["weights"][weight] if weight else 1.0, about["cluster"])
            groups[cell].append(row)
            if not about["touched_by_sitter"]:
                groups[f"{cell}/{WITHOUT_SITTER}"].append(row)
        result: dict[str, float] = {}
        for name, rows in groups.items():
            if not name.endswith(f"/{WITHOUT_SITTER}") or len(rows) < len(
                groups[name.removesuffix(f"/{WITHOUT_SITTER}")]
            ):
                result |= _with_interval(name, rows)
        return result

    return compute


_Row = tuple[float, float, str]  # value, weight, cluster


def _with_interval(name: str, rows: Sequence[_Row]) -> dict[str, float]:
    values, weights = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if not weights.sum():
        return {}
    mean = float((weights * values).sum() / weights.sum())
    clusters, codes = np.unique([row[2] for row in rows], return_inverse=True)
    if len(clusters) < 2 or np.ptp(values[weights > 0]) == 0:
        return {name: mean}
    sums = np.bincount(codes, weights * (values - mean), len(clusters))
    error = math.sqrt(len(clusters) / (len(clusters) - 1) * float((sums**2).sum())) / float(weights.sum())
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(clusters) - 1)) * error
    return {name: mean, f"{name}_lower": mean - half, f"{name}_upper": mean + half}
