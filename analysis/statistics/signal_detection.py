"""Signal detection: how well trials with a signal are told from those without, with bootstrap intervals over clusters."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import binomtest

from self_steering.analysis.statistics.estimates import Codes, Estimate, Floats, cluster_codes, numbers
from self_steering.analysis.statistics.intervals import Clusters
from self_steering.analysis.statistics.resampling import percentiles, times_drawn

_RESAMPLES = 2000
_METHOD = "bootstrap over clusters"


def d_prime(signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters) -> Estimate:
    """Return d' of yes answers (values above 0), with the log-linear correction, and its percentile bootstrap interval.

    A cluster that is in both parts is drawn with both of its parts.

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
    parts, clusters = _parts(signal, noise, signal_clusters, noise_clusters)
    counts = [
        np.bincount(codes, of_trial, clusters)
        for values, codes in parts
        for of_trial in ((values > 0).astype(float), np.ones_like(values))
    ]
    value = float(corrected_d_prime(*(count.sum() for count in counts)))
    times = times_drawn(clusters, _RESAMPLES, np.random.default_rng(0))
    return _estimate(
        value,
        corrected_d_prime(*(times @ count for count in counts)),
        parts,
        clusters,
    )


def auroc(signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters) -> Estimate:
    """Return the area under the ROC curve (ties count half), with its percentile bootstrap interval over clusters.

    A cluster that is in both parts is drawn with both of its parts.

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
    parts, clusters = _parts(signal, noise, signal_clusters, noise_clusters)
    (ours, our_codes), (theirs, their_codes) = parts
    wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
    ours_of, theirs_of = (np.eye(clusters)[codes] for codes in (our_codes, their_codes))
    won = ours_of.T @ wins @ theirs_of
    pairs = np.outer(ours_of.sum(axis=0), theirs_of.sum(axis=0))
    weights = times_drawn(clusters, _RESAMPLES, np.random.default_rng(0))
    with np.errstate(invalid="ignore"):  # a resample may leave one side empty; it is left out below
        resampled = _quadratic(weights, won) / _quadratic(weights, pairs)
    return _estimate(float(won.sum() / pairs.sum()), resampled, parts, clusters)


def corrected_d_prime(hits: ArrayLike, injected: ArrayLike, false_alarms: ArrayLike, clean: ArrayLike) -> Floats:
    """Return z(hit rate) - z(false-alarm rate), with the log-linear correction (Hautus 1995).

    One half is added to both counts and one to both numbers of trials, always, so that rates of 0 and 1 stay finite.

    Args:
        hits: Yes answers among the injected trials.
        injected: Number of injected trials.
        false_alarms: Yes answers among the trials without injection.
        clean: Number of trials without injection.
    """
    hit_rate = (np.asarray(hits) + 0.5) / (np.asarray(injected) + 1.0)
    alarm_rate = (np.asarray(false_alarms) + 0.5) / (np.asarray(clean) + 1.0)
    return np.asarray(ndtri(hit_rate) - ndtri(alarm_rate))


def exact_upper_bound(count: int, trials: int) -> float:
    """Return the one-sided exact (Clopper-Pearson) 95 % upper bound of a rate: 0 of 300 shows 1 %."""
    return float(binomtest(count, trials, alternative="less").proportion_ci(0.95, method="exact").high)


_Part = tuple[Floats, Codes]


def _parts(
    signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters
) -> tuple[tuple[_Part, _Part], int]:
    """Return values and numbers of the clusters of both parts, and how many clusters there are."""
    ours, theirs = numbers(signal, "signal"), numbers(noise, "noise")
    for part, clusters, name in ((ours, signal_clusters, "signal"), (theirs, noise_clusters, "noise")):
        cluster_codes(clusters, len(part), f"{name}_clusters")
    # Both parts' clusters are numbered together, so that 1 in one column and 1.0 in the other are the same.
    codes, how_many = cluster_codes([*signal_clusters, *noise_clusters], len(ours) + len(theirs), "clusters")
    return ((ours, codes[: len(ours)]), (theirs, codes[len(ours) :])), how_many


def _quadratic(weights: Floats, matrix: Floats) -> Floats:
    return cast(Floats, ((weights @ matrix) * weights).sum(axis=1))


def _estimate(value: float, resampled: Floats, parts: tuple[_Part, _Part], clusters: int) -> Estimate:
    n = sum(len(values) for values, _ in parts)
    if clusters < 2:
        return Estimate(value, None, None, n, clusters, _METHOD)
    low, high, note = percentiles(resampled, clusters)
    return Estimate(value, low, high, n, clusters, _METHOD + note)
