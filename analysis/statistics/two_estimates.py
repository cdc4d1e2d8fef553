"""The difference and the ratio of two estimates, with intervals recovered from their own (MOVER; Zou and Donner 2008).

The two are taken for independent. Where they share clusters (the same vectors, the same problems) that makes both alike, the
interval is wider than it had to be.
"""

import math

from self_steering.analysis.statistics import Estimate


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return second - first.

    Returns:
        The difference; n and clusters are those of both together. Without an interval where one of the two has none.
    """
    value, n, clusters = second.value - first.value, first.n + second.n, first.clusters + second.clusters
    method = "MOVER of " + "; ".join(dict.fromkeys((first.method, second.method)))
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value, None, None, n, clusters, method)
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value, value - below, value + above, n, clusters, method)


def ratio(first: Estimate, second: Estimate) -> Estimate | None:
    """Return second / first, whose logarithm is a difference; None where one of the two is not above zero.

    Returns:
        The ratio; without an interval where one of the two has none, or one that reaches to zero.
    """
    if first.value <= 0 or second.value <= 0:
        return None
    between = difference(_logarithm(first), _logarithm(second))
    low, high = (None if end is None else math.exp(end) for end in (between.low, between.high))
    return Estimate(
        second.value / first.value, low, high, between.n, between.clusters, f"{between.method}, on logarithms"
    )


def _logarithm(one: Estimate) -> Estimate:
    held = one.low is not None and one.high is not None and one.low > 0
    low, high = (math.log(one.low), math.log(one.high)) if held else (None, None)  # type: ignore[arg-type]  # both are held
    return Estimate(math.log(one.value), low, high, one.n, one.clusters, one.method)
