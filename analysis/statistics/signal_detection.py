"""Signal detection: how well trials with a signal are told from those without, with bootstrap intervals over clusters."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import binomtest

from self_steering.analysis.statistics.estimates import Codes, Estimate, Floats, cluster_codes, numbers
from self_steering.analysis.statistics.intervals import Clusters
from self_steering.analysis.statistics.resampling import percentiles, times_drawn

_RESAMPLES = 2000
_METHOD = "bootstrap over clusters"
_EXACT = "exact, as no resample differs"
_TAIL = 0.025


def d_prime(signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters) -> Estimate:
    """Return d' of yes answers (values above 0), with the log-linear correction, and its percentile bootstrap interval.

    A cluster that is in both parts is drawn with both of its parts. Where all trials of a part are answered alike, no resample
    differs, and the interval follows from the exact (Clopper-Pearson) bounds of both rates, a trial a cluster; its outer end is
    where the correction puts a rate of 0 or 1, as d' has no finite one there.

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
    (least, most), (lowest, highest) = (_rate_bounds(values > 0, codes) for values, codes in parts)
    exact = float(ndtri(least) - ndtri(highest)), float(ndtri(most) - ndtri(lowest))
    return _estimate(value, corrected_d_prime(*(times @ count for count in counts)), parts, clusters, exact)


def auroc(signal: ArrayLike, noise: ArrayLike, signal_clusters: Clusters, noise_clusters: Clusters) -> Estimate:
    """Return the area under the ROC curve (ties count half), with its percentile bootstrap interval over clusters.

    A cluster that is in both parts is drawn with both of its parts. Where every pair agrees, no resample differs: the interval is
    then the exact (Clopper-Pearson) one of as many pairs as there are without a common cluster, which are independent. There is
    none where all pairs are ties.

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
    value = float(won.sum() / pairs.sum())
    apart = min(len(set(our_codes)), len(set(their_codes)), clusters // 2)
    bound = _TAIL ** (1 / max(1, apart))
    return _estimate(value, resampled, parts, clusters, {0.0: (0.0, 1 - bound), 1.0: (bound, 1.0)}.get(value))


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


def _rate_bounds(answers: NDArray[np.bool_], codes: Codes) -> tuple[float, float]:
    """Return the exact bounds of the rate of answers that are all alike; the outer one is the corrected rate itself."""
    bound, outermost = _TAIL ** (1 / len(set(codes))), (len(answers) + 0.5) / (len(answers) + 1.0)
    return (bound, outermost) if answers.all() else (1 - outermost, 1 - bound)


def _estimate(
    value: float,
    resampled: Floats,
    parts: tuple[_Part, _Part],
    clusters: int,
    exact: tuple[float, float] | None,
) -> Estimate:
    """Return the estimate with the interval of its resamples; where none of them differs with an exact one, if there is one."""
    n = sum(len(values) for values, _ in parts)
    if clusters < 2:
        return Estimate(value, None, None, n, clusters, _METHOD)
    low, high, note = percentiles(resampled, clusters)
    if low is not None and low == high:
        low, high = exact or (None, None)
        return Estimate(value, low, high, n, clusters, _EXACT)
    return Estimate(value, low, high, n, clusters, _METHOD + note)
