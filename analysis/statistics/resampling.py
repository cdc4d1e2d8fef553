"""The cluster bootstrap: how ratios, differences of them and correlations vary when whole clusters are drawn again."""

import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from self_steering.analysis.statistics.estimates import (
    Estimate,
    Floats,
    StatisticsError,
    Test,
    numbers,
)
from self_steering.analysis.statistics.intervals import proportion
from self_steering.analysis.statistics.tests import permutation, rate_differences
from self_steering.scorers.metrics import LEVEL

MOST_UNDEFINED = 0.1


def percentiles(drawn: Floats, clusters: int) -> tuple[float | None, float | None, str]:
    """Return the ends of a 95 % interval from resampled values, and what there is to say of undefined ones.

    The expanded percentile interval (Hesterberg 2015): plain percentiles are too narrow for few clusters, by the factor
    between a normal and a t quantile and by that between n and n - 1. The tails are so much smaller that for a mean of clusters
    the interval is as wide as the t-interval.

    Args:
        drawn: The statistic of each resample, [resamples]; NaN where it is undefined.
        clusters: How many clusters each resample drew.

    Returns:
        The ends, None where more than a tenth of the resamples are undefined; and a note, empty where none is.
    """
    good = drawn[np.isfinite(drawn)]
    undefined = 1 - len(good) / len(drawn)
    note = f" ({undefined:.1%} of resamples undefined)" if undefined else ""
    if undefined > MOST_UNDEFINED:
        return None, None, note
    low, high = np.quantile(good, tails(clusters))
    return float(low), float(high), note


def tails(clusters: int) -> tuple[float, float]:
    """Return the quantiles of resampled values at which the expanded percentile interval ends; `clusters` is 2 or more."""
    quantile = stats.t.ppf((1 + LEVEL) / 2, clusters - 1) * math.sqrt(clusters / (clusters - 1))
    tail = float(stats.norm.sf(quantile))
    return tail, 1 - tail


def times_drawn(clusters: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Return how often each cluster comes in each resample of as many clusters, drawn with replacement, [resamples, clusters]."""
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)


METHOD = "bootstrap over rollouts"


def ratios(numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0, resamples: int = 2000) -> list[Estimate]:
    """Return ratios of sums over rollouts, with expanded percentile intervals (`resampling.tails`) over resampled rollouts.

    Args:
        numerators: What each rollout adds to each ratio's numerator, [rollouts, ratios].
        denominators: What it adds to the denominator of all of them, [rollouts]; rollouts that add 0 are left out.
        seed: Of the draws.
        resamples: How many to draw.

    Returns:
        One estimate a ratio: n is the denominator's sum, clusters are the rollouts that add to it. NaN where there are none. No
        interval where there is one rollout, or where all rollouts have the same ratio and resampling says nothing.

    Raises:
        StatisticsError: A number is missing, a denominator is negative, or the shapes do not fit.
    """
    top, bottom = _sums(numerators, denominators)
    n, clusters = round(float(bottom.sum())), len(bottom)
    if not clusters:
        return [Estimate(float("nan"), None, None, 0, 0, METHOD)] * top.shape[1]
    values = top.sum(axis=0) / bottom.sum()
    if clusters == 1:
        return [Estimate(float(value), None, None, n, 1, METHOD) for value in values]
    low, high = np.quantile(_drawn(top, bottom, np.random.default_rng(seed), resamples), tails(clusters), axis=0)
    varies = np.ptp(top / bottom[:, None], axis=0) > 0
    return [
        Estimate(float(value), float(from_), float(to), n, clusters, METHOD)
        if varying
        else Estimate(float(value), None, None, n, clusters, METHOD)
        for value, from_, to, varying in zip(values, low, high, varies, strict=True)
    ]


def shares(numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0, resamples: int = 2000) -> list[Estimate]:
    """Return `ratios` that lie between 0 and 1; one that is 0 or 1 in every rollout has Wilson's interval over the rollouts.

    That interval takes a rollout for one observation, however many takes it has: the widest that the data can mean.
    """
    found = ratios(numerators, denominators, seed=seed, resamples=resamples)
    return [_at_the_edge(one) if one.low is None and one.value in {0, 1} else one for one in found]


def ratio_difference(
    frame: pd.DataFrame, arm: str, against: str, *, seed: int = 0, resamples: int = 2000
) -> tuple[Estimate, Test]:
    """Return how much one arm's ratio lies above another's, and a test that shuffles arm labels over whole rollouts.

    Args:
        frame: One row a rollout: `rollout`, `arm`, `framing`, `numerator`, `denominator`; rollouts with denominator 0 are left out.
        arm: The arm of interest.
        against: The arm it is compared with.
        seed: Of the draws and shuffles.
        resamples: How many of the former.

    Returns:
        The difference, both arms' rollouts resampled apart, and the permutation test, which shuffles within framings.

    Raises:
        StatisticsError: An arm has no rollouts, or no framing has both.
    """
    frame = frame.loc[frame["denominator"] > 0, ["rollout", "arm", "framing", "numerator", "denominator"]]
    parts = [frame[frame["arm"] == one] for one in (arm, against)]
    for name, part in zip((arm, against), parts, strict=True):
        if part.empty:
            raise StatisticsError(f"no rollout of arm {name!r} adds to the ratio; compare arms that have some")
    sums = [_sums(part[["numerator"]], part["denominator"]) for part in parts]
    values = [float(top.sum() / bottom.sum()) for top, bottom in sums]
    rng = np.random.default_rng(seed)
    n, clusters = round(float(frame["denominator"].sum())), len(frame)
    low = high = None
    if min(len(part) for part in parts) > 1:
        drawn = [_drawn(top, bottom, rng, resamples)[:, 0] for top, bottom in sums]
        low, high = (float(end) for end in np.quantile(drawn[0] - drawn[1], tails(min(len(part) for part in parts))))
    estimate = Estimate(values[0] - values[1], low, high, n, clusters, METHOD)

    both = pd.concat(parts)
    test = permutation(
        both["arm"] == arm,
        rate_differences(both["numerator"], both["denominator"]),
        unit="rollout",
        strata=both["framing"],
        seed=seed,
    )
    return estimate, test


def ratio_of_sums(
    top: pd.Series, bottom: pd.Series, clusters: pd.Series, *, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Return the sum of one column over that of another, of either sign, with its interval over resampled clusters.

    A resample in which the latter has the other sign, or is nothing, has no ratio.

    Returns:
        The ratio; without an interval where there is but one cluster, or more than a tenth of the resamples have none.
    """
    sums = pd.DataFrame({"top": top, "bottom": bottom}).groupby(clusters).sum().to_numpy(dtype=float)
    value, method = float(sums[:, 0].sum() / sums[:, 1].sum()), f"bootstrap over {clusters.name}s"
    if len(sums) < 2:
        return Estimate(value, None, None, len(top), len(sums), method)
    above, below = (times_drawn(len(sums), resamples, np.random.default_rng(seed)) @ sums).T
    same = below * sums[:, 1].sum() > 0
    low, high, note = percentiles(np.where(same, above / np.where(same, below, 1.0), np.nan), len(sums))
    return Estimate(value, low, high, len(top), len(sums), method + note)


def _sums(numerators: ArrayLike, denominators: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as numbers, [rollouts, ratios] and [rollouts], without the rollouts that add nothing."""
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if top.ndim != 2 or bottom.shape != top.shape[:1]:
        raise StatisticsError(
            f"numerators have shape {top.shape} and denominators {bottom.shape}; give [rollouts, ratios] and [rollouts]"
        )
    if not (np.isfinite(top).all() and np.isfinite(bottom).all() and (bottom >= 0).all()):
        raise StatisticsError(
            "a numerator is missing, or a denominator is missing or negative; count 0 where there is nothing"
        )
    return top[bottom > 0], bottom[bottom > 0]


def _drawn(top: Floats, bottom: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Return the ratios of resampled rollouts, [resamples, ratios]."""
    times = times_drawn(len(bottom), resamples, rng)
    drawn: Floats = (times @ top) / (times @ bottom)[:, None]
    return drawn


def _at_the_edge(share: Estimate) -> Estimate:
    wilson = proportion(round(share.value * share.clusters), share.clusters)
    return Estimate(share.value, wilson.low, wilson.high, share.n, share.clusters, "Wilson over rollouts")


_PERMUTATIONS = math.factorial(7)
_RESAMPLES = 2000
_BATCH = 500  # at once, so that thousands of pairs fit in memory
_ROUNDING = 1e-12


def correlation(
    x: ArrayLike, y: ArrayLike, kind: Literal["pearson", "spearman"], *, seed: int = 0
) -> tuple[Estimate, Test]:
    """Return a correlation with its bootstrap interval, and a two-sided permutation test of x and y being independent.

    Args:
        x: Numbers, [n], at least three.
        y: Their partners, [n]. Every pair is taken for a cluster of its own.
        kind: `pearson`, or `spearman` for ranks.
        seed: Of the permutations.

    Returns:
        The estimate with its interval over resampled pairs (none for three pairs, nor where the correlation is perfect), and
        the test, exact for up to seven pairs.

    Raises:
        StatisticsError: A value is missing, lengths differ, there are fewer than three pairs, one side does not vary, or the
            kind is unknown.
    """
    if kind not in _KINDS:
        raise StatisticsError(f"no correlation {kind!r}; choose one of {', '.join(_KINDS)}")
    pairs = _paired(x, "x"), _paired(y, "y")
    n = len(pairs[0])
    if n != len(pairs[1]):
        raise StatisticsError(f"x has {n} values and y has {len(pairs[1])}; give pairs")
    rng = np.random.default_rng(seed)
    how = _KINDS[kind]
    shuffled = stats.permutation_test(
        pairs[:1],
        lambda x, axis: how(x, pairs[1], axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        batch=_BATCH,
        rng=rng,
    )
    r = float(shuffled.statistic)
    exact = "exact " if math.factorial(n) <= _PERMUTATIONS else ""
    test = Test(r, float(shuffled.pvalue), n, n, f"{exact}permutation over {n} pairs, {kind.capitalize()}")
    low, high, note = _interval(pairs, how, rng) if n > 3 and abs(r) < 1 - _ROUNDING else (None, None, "")
    return Estimate(r, low, high, n, n, f"{kind.capitalize()}, bootstrap over pairs{note}"), test


def _paired(values: ArrayLike, name: str) -> Floats:
    found = numbers(values, name)
    if len(found) < 3:
        raise StatisticsError(f"{name} has {len(found)} values; a correlation needs at least 3 pairs")
    if np.ptp(found) == 0:
        raise StatisticsError(
            f"all {len(found)} values of {name} are {found[0]:g}; what does not vary has no correlation"
        )
    return found


def _interval(
    pairs: tuple[Floats, Floats], how: Callable[..., Floats], rng: np.random.Generator
) -> tuple[float | None, float | None, str]:
    with warnings.catch_warnings():
        # Resamples without a value are counted and said by `percentiles`.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            pairs, how, paired=True, vectorized=True, n_resamples=_RESAMPLES, batch=_BATCH, method="percentile", rng=rng
        )
    return percentiles(drawn.bootstrap_distribution, len(pairs[0]))


def _pearson(x: Floats, y: Floats, axis: int = -1) -> Floats:
    """Return the correlation of each pair of rows; NaN where one of them does not vary."""
    x, y = (of - of.mean(axis=axis, keepdims=True) for of in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=axis) / np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis)))


def _spearman(x: Floats, y: Floats, axis: int = -1) -> Floats:
    return _pearson(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis), axis)


_KINDS: dict[str, Callable[..., Floats]] = {"pearson": _pearson, "spearman": _spearman}
