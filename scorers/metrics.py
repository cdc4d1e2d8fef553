"""Means with intervals that respect clusters, by a key of the sample's metadata."""

import math

# ruff: noqa: PLC0415  scipy takes a second to import, and Inspect imports this whatever it runs
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from inspect_ai.scorer import Metric, MetricProtocol, SampleScore, Score, ci, mean, metric
from inspect_ai.solver import TaskState

from self_steering.solvers.records import SelfSteerState


@metric
def clustered_mean(
    group: str, cluster: str = "vector", within: str | None = None, second_cluster: str | None = None
) -> Metric:
    """Mean and 95 % t-interval for each value of a metadata key, clustered.

    Reported as `VALUE`, `VALUE_lower` and `VALUE_upper`; where there is but one cluster there is no interval.

    Args:
        group: Metadata key to group by.
        cluster: Metadata key of the clusters.
        within: Another key to group by first; the names then read `WITHIN/VALUE`.
        second_cluster: Another metadata key of clusters, for a second interval: `VALUE_lower_by_KEY`, `VALUE_upper_by_KEY`.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        groups: dict[str, list[SampleScore]] = {}
        for score in scores:
            metadata = score.sample_metadata or {}
            keys = [str(metadata[key]) for key in (within, group) if key is not None]
            groups.setdefault("/".join(keys), []).append(score)
        result: dict[str, float] = {}
        for name, members in groups.items():
            result |= _with_interval(name, members, cluster)
            if second_cluster is not None:
                result |= {
                    f"{key}_by_{second_cluster}": value
                    for key, value in _with_interval(name, members, second_cluster).items()
                    if key != name
                }
        return result

    return compute


def _with_interval(name: str, scores: list[SampleScore], cluster: str) -> dict[str, float]:
    # Inspect types a metric as either of two protocols; those it ships today take sample scores.
    average = cast(MetricProtocol, mean())(scores)
    result = {name: float(cast(float, average))}
    if len(_clusters(scores, cluster)) > 1:
        interval = cast(dict[str, float], cast(MetricProtocol, ci(cluster=cluster))(scores))
        result |= {f"{name}_lower": interval["lower"], f"{name}_upper": interval["upper"]}
    return result


def _clusters(scores: Sequence[SampleScore], cluster: str) -> set[str]:
    return {str((score.sample_metadata or {})[cluster]) for score in scores}


@metric
def total() -> Metric:
    """Sum over samples."""

    def compute(scores: list[SampleScore]) -> float:
        return sum(score.score.as_float() for score in scores)

    return compute


@metric
def prompt_interval(group: str) -> Metric:
    """95 % t-interval for each value of a metadata key, clustered by the metadata key `prompt`.

    Reported as `VALUE_lower_by_prompt` and `VALUE_upper_by_prompt`, beside the intervals clustered by vector; where there is but
    one prompt there is no interval.

    Args:
        group: Metadata key to group by.
    """
    by_prompt = cast(MetricProtocol, clustered_mean(group, cluster="prompt"))

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found = cast(dict[str, float], by_prompt(scores))
        return {f"{name}_by_prompt": value for name, value in found.items() if name.endswith(("_lower", "_upper"))}

    return compute


# The projection's shift is read off float32 means of values of order 100: this is rounding, not tolerance of error.
_SHIFT_TOLERANCE = 1e-3


def window_faults(receipts: Sequence[Mapping[str, Any]], strengths: Sequence[float]) -> list[str]:
    """Return what went otherwise than planned, in words; an empty list means nothing.

    Args:
        receipts: What the engine did, one entry a window.
        strengths: The strength that each window was to have, in the same order.
    """
    if len(receipts) != len(strengths):
        return [f"{len(receipts)} windows, expected {len(strengths)}"]
    pairs = enumerate(zip(receipts, strengths, strict=True))
    return [f"window {index}: {fault}" for index, (receipt, strength) in pairs for fault in _faults(receipt, strength)]


def _faults(receipt: Mapping[str, Any], strength: float) -> list[str]:
    if not 0 < receipt["planned"] == receipt["steered"]:
        return [f"{receipt['planned']} positions planned, {receipt['steered']} steered"]
    faults = []
    if not math.isclose(receipt["strength"], strength, rel_tol=1e-9):
        faults.append(f"strength {receipt['strength']}, expected {strength}")
    shift = receipt["projection_after"] - receipt["projection_before"]
    size = max(1.0, abs(receipt["projection_before"]), abs(receipt["expected_shift"]))
    # Asked this way round, so that a projection that is no number is a fault too.
    if not abs(shift - receipt["expected_shift"]) <= _SHIFT_TOLERANCE * size:
        faults.append(f"projection moved by {shift:.4f}, expected {receipt['expected_shift']:.4f}")
    return faults


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
                result |= _cells_with_interval(name, rows)
        return result

    return compute


_Row = tuple[float, float, str]  # value, weight, cluster


def _cells_with_interval(name: str, rows: Sequence[_Row]) -> dict[str, float]:
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
