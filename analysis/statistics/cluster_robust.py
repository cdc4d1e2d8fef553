"""Means and shares over all rows, with intervals that know that rows of one cluster hang together.

`intervals.clustered_mean` lets clusters count alike; here rows do, so that the estimate is the plain share that one would count.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from self_steering.analysis.statistics.estimates import LEVEL, Estimate
from self_steering.analysis.statistics.intervals import proportion
from self_steering.analysis.statistics.sample_checks import Codes, Floats, StatisticsError, cluster_codes, numbers

Clusters: TypeAlias = Sequence[object] | pd.Series
_TAIL = (1 + LEVEL) / 2


def robust_mean(values: ArrayLike, clusters: Clusters) -> Estimate:
    """Return the mean of all rows, with a t-interval from the cluster-robust variance (the sandwich with k / (k - 1)).

    Args:
        values: Numbers, [n].
        clusters: The cluster of each, [n].

    Returns:
        The mean; without an interval where there is but one cluster.

    Raises:
        StatisticsError: There are no values, one is missing, or the lengths differ.
    """
    found = numbers(values, "values")
    codes, how_many = cluster_codes(clusters, len(found), "clusters")
    mean, method = float(found.mean()), "cluster-robust t"
    if how_many < 2:
        return Estimate(mean, None, None, len(found), how_many, method)
    half = float(stats.t.ppf(_TAIL, how_many - 1)) * _robust_variance(found, codes, how_many) ** 0.5
    return Estimate(mean, mean - half, mean + half, len(found), how_many, method)


def robust_share(hits: ArrayLike, clusters: Clusters) -> Estimate:
    """Return the share of hits among all rows, with Wilson's interval for as many independent rows as the clusters are worth.

    That number is n divided by the design effect, and corrected for the few clusters that this was estimated from (Korn and
    Graubard 1998, with Wilson's interval as in Dean and Pagano 2015). Where hits are few the design effect comes out too
    small, so it is estimated with half a cluster of hits and half a cluster of misses added. In simulations of 8 to 50 clusters
    of 3 to 9 rows, 94 of 100 intervals at least held the truth. Where every row is a hit or none is, a cluster counts as
    one row. Where every row is a cluster of its own this is Wilson's interval.

    Args:
        hits: Whether each row is a hit, [n].
        clusters: The cluster of each, [n].

    Returns:
        The share; without an interval where there is but one cluster of several rows.

    Raises:
        StatisticsError: There are no rows, a hit is neither 0 nor 1, one is missing, or the lengths differ.
    """
    found = numbers(hits, "hits")
    if not np.isin(found, (0, 1)).all():
        raise StatisticsError("hits has values other than 0 and 1; give whether each row is a hit")
    codes, how_many = cluster_codes(clusters, len(found), "clusters")
    n, share, method = len(found), float(found.mean()), "Wilson with design effect"
    if how_many == n:
        return proportion(round(found.sum()), n)
    if how_many < 2:
        return Estimate(share, None, None, n, how_many, method)
    worth = _worth(found, share, codes, how_many)
    low, high = proportion_confint(share * worth, worth, alpha=1 - LEVEL, method="wilson")
    return Estimate(share, float(low), float(high), n, how_many, method)


def _worth(hits: Floats, share: float, codes: Codes, clusters: int) -> float:
    """Return how many independent rows would tell as much."""
    if share in {0, 1}:
        return float(clusters)
    n = len(hits)
    half = n / clusters / 2
    rows, guess, weights = n + 2 * half, (share * n + half) / (n + 2 * half), clusters + 1.0
    sums = np.bincount(codes, hits - guess, clusters)
    squares = float((sums**2).sum()) + (half * (1 - guess)) ** 2 + (half * guess) ** 2
    robust = weights / (weights - 1) * squares / rows**2
    effect = max(1.0, robust / (guess * (1 - guess) / (rows - 1)))
    few = float(stats.t.ppf(_TAIL, n - 1) / stats.t.ppf(_TAIL, clusters - 1))
    return n / effect * few**2


def _robust_variance(values: Floats, codes: Codes, clusters: int) -> float:
    """Return the variance of the mean of all rows, from the sums of their residuals by cluster."""
    sums = np.bincount(codes, values - values.mean(), clusters)
    return float(clusters / (clusters - 1) * (sums**2).sum() / len(values) ** 2)
