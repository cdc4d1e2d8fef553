"""Intervals around means, shares and measures of detection, over clusters where there are any."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from self_steering.analysis.statistics.estimates import LEVEL, Estimate
from self_steering.analysis.statistics.sample_checks import (
    Codes,
    Floats,
    StatisticsError,
    cluster_codes,
    count,
    numbers,
)
from self_steering.scorers.signal_detection import (
    Interval,
    Trials,
    auroc_with_interval,
    d_prime_with_interval,
)

Clusters: TypeAlias = Sequence[object] | pd.Series


def clustered_mean(values: ArrayLike, clusters: Clusters) -> Estimate:
    """Return the mean of the clusters' means, with a t-interval over the clusters.

    Clusters count alike, however many rows each has. Where all clusters have the same mean the interval has no width: for a
    share that is 0 or 1 throughout, `proportion` says more.

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
    means = cluster_means(found, codes, how_many)
    mean, method = float(means.mean()), "t over cluster means"
    if how_many < 2:
        return Estimate(mean, None, None, len(found), how_many, method)
    half = float(stats.t.ppf((1 + LEVEL) / 2, how_many - 1) * means.std(ddof=1) / np.sqrt(how_many))
    return Estimate(mean, mean - half, mean + half, len(found), how_many, method)


def proportion(successes: int, n: int) -> Estimate:
    """Return a share with its Wilson interval, which takes every trial for a cluster of its own.

    Args:
        successes: How many of the trials succeeded.
        n: How many trials there were, at least one. Where trials share a rollout or a problem, use `bootstrap` over those.

    Raises:
        StatisticsError: The numbers are not 0 <= successes <= n, or n is 0.
    """
    successes, n = trials(successes, n)
    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method="wilson")
    return Estimate(successes / n, float(low), float(high), n, n, "Wilson")


def d_prime(signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters) -> Estimate:
    """Return d' of yes answers (values above 0), with the log-linear correction, and its percentile bootstrap interval.

    Value and interval are those that the log's own metric gives. A cluster that is in both parts is drawn with both of its parts.

    Args:
        signal: Decision variable of each trial with the signal, [n].
        noise: The same of each trial without it, [m].
        signal_clusters: The cluster of each trial with the signal, [n].
        noise_clusters: The cluster of each trial without it, [m].

    Returns:
        The estimate; n counts the trials of both parts. Without an interval where there is but one cluster.

    Raises:
        StatisticsError: A part is empty, a value is missing, or lengths differ.
    """
    parts = _parts(signal, noise, signal_clusters, noise_clusters)
    return _detected(*parts, d_prime_with_interval(*parts))


def auroc(signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters) -> Estimate:
    """Return the area under the ROC curve (ties count half), with its percentile bootstrap interval over clusters.

    Value and interval are those that the log's own metric gives. A cluster that is in both parts is drawn with both of its parts.

    Args:
        signal: Decision variable of each trial with the signal, [n].
        noise: The same of each trial without it, [m].
        signal_clusters: The cluster of each trial with the signal, [n].
        noise_clusters: The cluster of each trial without it, [m].

    Returns:
        The estimate; n counts the trials of both parts. Without an interval where there is but one cluster.

    Raises:
        StatisticsError: A part is empty, a value is missing, or lengths differ.
    """
    parts = _parts(signal, noise, signal_clusters, noise_clusters)
    return _detected(*parts, auroc_with_interval(*parts))


def cluster_means(values: Floats, codes: Codes, clusters: int) -> Floats:
    """Return the mean of each cluster's values, [clusters]; `codes`, [n], number the clusters from 0."""
    return np.bincount(codes, values, clusters) / np.bincount(codes, minlength=clusters)


def trials(successes: int, n: int) -> tuple[int, int]:
    """Return a number of successes and of trials as whole numbers.

    Raises:
        StatisticsError: They are not 0 <= successes <= n, or n is 0.
    """
    successes, n = count(successes, "successes"), count(n, "n")
    if n == 0:
        raise StatisticsError("n is 0; a share of no trials does not exist: leave it out")
    if successes > n:
        raise StatisticsError(f"{successes} successes in {n} trials; successes must be at most n")
    return successes, n


def _parts(
    signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters
) -> tuple[Trials, Trials]:
    values = numbers(signal, "signal"), numbers(noise, "noise")
    for part, clusters, name in zip(values, (signal_clusters, noise_clusters), ("signal", "noise"), strict=True):
        cluster_codes(clusters, len(part), f"{name}_clusters")
    # Both parts' clusters are numbered together, so that 1 in one column and 1.0 in the other are the same.
    codes, _ = cluster_codes([*signal_clusters, *noise_clusters], len(values[0]) + len(values[1]), "clusters")
    names = [str(code) for code in codes]
    return Trials(values[0], names[: len(values[0])]), Trials(values[1], names[len(values[0]) :])


def _detected(signal: Trials, noise: Trials, found: tuple[float, Interval | None]) -> Estimate:
    value, interval = found
    low, high = (None, None) if interval is None else interval
    clusters = len({*signal.clusters, *noise.clusters})
    return Estimate(
        value, low, high, len(signal.clusters) + len(noise.clusters), clusters, "percentile bootstrap over clusters"
    )
