"""The one clustered mean, the headline metrics that a log carries, and what scorers of steered conversations share."""

# ruff: noqa: PLC0415  numpy and scipy take seconds to import, and Inspect imports this whatever it runs

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from inspect_ai.scorer import Metric, SampleScore, Score, metric
from inspect_ai.solver import TaskState

from self_steering.solvers.records import SelfSteerState

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEVEL = 0.95
MAX_HEADLINES = 6  # of a task, over all its scorers
MAX_CELLS = 4
ARM_ORDER = ("real", "none", "random", "placebo", "other", "opposite", "mislabelled", "prompt_only")


@dataclass(frozen=True)
class Mean:
    """A mean with its cluster-robust 95 % interval.

    Attributes:
        value: The mean.
        error: Its standard error; None with one cluster.
        low: Lower end of the interval; None with one cluster.
        high: Upper end of the interval; None with one cluster.
        n: Rows that went in.
        clusters: Clusters that these are of.
    """

    value: float
    error: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int


def clustered_mean(values: "ArrayLike", clusters: Sequence[object], weights: "ArrayLike | None" = None) -> Mean:
    """Return the mean of all rows, with a t-interval from the cluster-robust variance.

    This is the one interval of a mean in the suite: the table, the report and the headline metrics use it. For shares of rows that
    are 0 or 1 there is Wilson's interval beside it (`analysis.statistics.intervals.robust_share`), which stays within 0 and 1 and
    keeps a width where every row is a hit; it is used where a share is itself the result: of problems, picks, takes, failed calls.

    Every row counts by its weight, whatever its cluster. With residuals r and weights w, the variance is
    k / (k - 1) * sum over clusters of (sum of w * r)^2 / (sum of w)^2 for k clusters, and t has k - 1 degrees of freedom. Where all
    clusters have the same number of rows, and no weights are given, this is the t-interval over the clusters' means.

    Args:
        values: Numbers, [n].
        clusters: The cluster of each, [n].
        weights: How much each row counts, [n], not negative, not all zero; default all alike. Rows of weight 0 are left out.

    Returns:
        The mean; without an interval where there is but one cluster.

    Raises:
        ValueError: There is no row with a weight above 0, or the lengths differ.

    Example:
        >>> found = clustered_mean([1.0, 2.0, 3.0, 6.0], ["calm", "calm", "lsd", "lsd"])
        >>> found.value, found.clusters
        (3.0, 2)
        >>> f"[{found.low:.2f}, {found.high:.2f}]"
        '[-16.06, 22.06]'
    """
    import numpy as np
    from scipy.special import stdtrit

    rows = np.asarray(values, dtype=float)
    counts = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=float)
    if not len(rows) == len(clusters) == len(counts):
        raise ValueError(
            f"{len(rows)} values, {len(clusters)} clusters and {len(counts)} weights; give one of each a row"
        )
    used = counts > 0
    if not used.any():
        raise ValueError("no row has a weight above 0; leave the mean out where there is nothing to count")
    rows, counts = rows[used], counts[used]
    number: dict[object, int] = {}
    codes = [number.setdefault(cluster, len(number)) for cluster, kept in zip(clusters, used, strict=True) if kept]
    total = float(counts.sum())
    mean = float((counts * rows).sum() / total)
    k = len(number)
    if k < 2:
        return Mean(mean, None, None, None, len(rows), k)
    sums = np.bincount(codes, counts * (rows - mean), k)
    error = math.sqrt(k / (k - 1) * float((sums**2).sum())) / total
    half = float(stdtrit(k - 1, (1 + LEVEL) / 2)) * error
    return Mean(mean, error, mean - half, mean + half, len(rows), k)


Find = Callable[[Sequence[SampleScore]], Mapping[str, float]]


def headline(find: Find) -> Metric:
    """Return the metric that puts a scorer's few most important numbers into the log, each under its own name.

    Inspect takes the keys of the mapping that a metric returns as names, so that no registry prefix cuts them off on a terminal.
    What is no number in this run is left out.

    Args:
        find: Returns the numbers by name, the most important first, from the scores of all epochs.
    """
    name: str = find.__name__

    # Unreduced, as the mean over epochs would lose each rollout's own metadata: clusters take care of epochs.
    @metric(name=name, scores="unreduced")
    def create() -> Metric:
        def compute(scores: list[SampleScore]) -> dict[str, float | None]:
            found = find(scores) if scores else {}
            known = ((key, value) for key, value in found.items() if not math.isnan(value))
            # None is a metric that does not exist; for an empty mapping Inspect would write NaN.
            return dict(islice(known, MAX_HEADLINES)) or {name: None}

        return compute

    return create()


def value_of(score: SampleScore, key: str) -> float:
    """Return one number of a score; NaN where it has none."""
    values = score.score.value
    found = values.get(key) if isinstance(values, Mapping) else None
    return math.nan if found is None else float(found)


def scored(scores: Iterable[SampleScore], key: str) -> list[SampleScore]:
    """Return the scores that have a number under this key."""
    return [score for score in scores if not math.isnan(value_of(score, key))]


def by_arm(scores: Iterable[SampleScore], key: str) -> dict[str, list[SampleScore]]:
    """Return the scores that have a number under this key by their sample's arm, the most important arms first."""
    found: dict[str, list[SampleScore]] = {}
    for score in scored(scores, key):
        found.setdefault(str((score.sample_metadata or {})["arm"]), []).append(score)
    return {arm: found[arm] for arm in ARM_ORDER if arm in found}


def arm_means(scores: Iterable[SampleScore], key: str, arms: Sequence[str], name: str = "") -> dict[str, float]:
    """Return `NAME_ARM`, the mean of one number in each of these arms; of the first also `NAME_ARM_lower` and `NAME_ARM_upper`.

    Args:
        scores: The scores.
        key: Of the number, in the scores' values.
        arms: The arms, the most important first; those that the run lacks are left out.
        name: What to call it; default the key.
    """
    found = by_arm(scores, key)
    result: dict[str, float] = {}
    for arm in arms:
        if arm in found:
            means = [value_of(score, key) for score in found[arm]]
            mean = clustered_mean(means, [(score.sample_metadata or {})["vector"] for score in found[arm]])
            result[f"{name or key}_{arm}"] = mean.value
            if arm == arms[0] and mean.low is not None and mean.high is not None:
                result |= {f"{name or key}_{arm}_lower": mean.low, f"{name or key}_{arm}_upper": mean.high}
    return result


CELL = ("framing", "arm")
VARYING = ("intent", "visibility", "labels", "operators", "directions", "gauge", "tone", "possible")
NO_TOOLS = "none"


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
    """Return what means by cell need in a score's metadata.

    Args:
        state: The sample.
        record: Its session's record.
        weights: How much the sample counts in a mean, by the name of the weight.
    """
    metadata = state.metadata or {}
    known = {
        **record.condition,
        **{name: metadata[name] for name in (*CELL, *VARYING) if metadata.get(name) is not None},
    }
    return {
        "cell": {name: known[name] for name in (*CELL, *VARYING) if name in known},
        "cluster": str(metadata.get("problem", state.sample_id)),
        "touched_by_sitter": record.sitter_clears > 0,
        "weights": dict(weights or {}),
    }


def cell_means(scores: Iterable[SampleScore], key: str, name: str, most: int = MAX_CELLS) -> dict[str, float]:
    """Return `NAME_FRAMING_ARM`, the mean of one number in each cell, or `NAME_ARM` where there are more cells than `most`.

    The cell without tools is `NAME_without_tools`; in it nothing can be taken, and numbers that are about taking leave it out.

    Args:
        scores: The scores; their metadata is that of `about_cell`.
        key: Of the number, in the scores' values.
        name: What to call it.
        most: Most numbers.
    """
    known = scored(scores, key)
    for about in (CELL, CELL[1:]):
        cells: dict[str, list[SampleScore]] = {}
        for score in sorted(known, key=lambda score: ARM_ORDER.index(_cell(score)["arm"])):
            cell = _cell(score)
            named = "without_tools" if cell["framing"] == NO_TOOLS else "_".join(cell[part] for part in about)
            cells.setdefault(named, []).append(score)
        if len(cells) <= most:
            break
    return {
        f"{name}_{cell}": clustered_mean(
            [value_of(score, key) for score in of], [(score.score.metadata or {})["cluster"] for score in of]
        ).value
        for cell, of in islice(cells.items(), most)
    }


def _cell(score: SampleScore) -> Mapping[str, str]:
    cell: Mapping[str, str] = (score.score.metadata or {})["cell"]
    return cell
