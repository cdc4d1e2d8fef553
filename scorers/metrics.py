"""Means with intervals that respect clusters, by a key of the sample's metadata."""

from collections.abc import Sequence
from typing import cast

from inspect_ai.scorer import Metric, MetricProtocol, SampleScore, ci, mean, metric


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
