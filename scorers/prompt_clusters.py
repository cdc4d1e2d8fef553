"""Intervals clustered by prompt: does a result hold for other words, not only for other vectors?"""

from typing import cast

from inspect_ai.scorer import Metric, MetricProtocol, SampleScore, metric

from self_steering.scorers.metrics import clustered_mean


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
