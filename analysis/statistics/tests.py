"""The test of a count, and corrections for many tests."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.stats import permutation_test

from self_steering.analysis.statistics.estimates import (
    Codes,
    Floats,
    StatisticsError,
    Test,
    cluster_codes,
    complete,
    numbers,
)
from self_steering.analysis.statistics.intervals import Clusters, trials
from self_steering.analysis.statistics.resampling import Statistic, defined, plural


def binomial_above(successes: int, n: int, p: float) -> Test:
    """Test by the exact binomial test whether a share is above `p`. One-sided.

    Args:
        successes: How many of the trials succeeded.
        n: How many trials there were.
        p: The share under chance, in 0..1.

    Returns:
        The test; its statistic is the share.

    Raises:
        StatisticsError: The numbers are not 0 <= successes <= n, n is 0, or `p` is no probability.
    """
    successes, n = trials(successes, n)
    if not 0 <= p <= 1:
        raise StatisticsError(f"p is {p}; the share under chance must be in 0..1")
    result = stats.binomtest(successes, n, p, alternative="greater")
    return Test(successes / n, float(result.pvalue), n, n, f"one-sided binomial over {n} trials")


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected by Holm's method: the chance that any is wrongly found stays at the level.

    Args:
        ps: p-values; None for a test that could not be made, which stays None and does not count.

    Raises:
        StatisticsError: One is NaN or outside 0..1.
    """
    return _corrected(ps, _step_down)


def _step_down(ps: list[float]) -> Floats:
    # statsmodels' multipletests gives the same, and collects the whole process's garbage at each call.
    order = np.argsort(ps)
    scaled = np.maximum.accumulate(np.array(ps)[order] * np.arange(len(ps), 0, -1))
    return np.minimum(scaled[np.argsort(order)], 1.0)


def benjamini_hochberg(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected by Benjamini and Hochberg's method: the share of wrong ones among those found stays at the level.

    Args:
        ps: p-values; None for a test that could not be made, which stays None and does not count.

    Raises:
        StatisticsError: One is NaN or outside 0..1.
    """
    return _corrected(ps, stats.false_discovery_control)


def _corrected(ps: Sequence[float | None], correct: Callable[[list[float]], Floats]) -> list[float | None]:
    known = [float(p) for p in ps if p is not None]
    for p in known:
        if not 0 <= p <= 1:
            raise StatisticsError(f"p-value {p} is not in 0..1; give None for a test that could not be made")
    corrected = iter(correct(known) if known else ())
    return [None if p is None else float(next(corrected)) for p in ps]


_ROUNDING = 1e-12


def permutation(
    frame: pd.DataFrame,
    statistic: Statistic,
    *,
    label: str,
    unit: str,
    strata: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 2000,
) -> Test:
    """Test a statistic against what it is when labels are shuffled over whole units, within strata.

    All rows of a unit keep one label, and each stratum keeps its numbers of labels. Two-sided: twice the smaller of the two
    tails, so the statistic need not be zero under chance; a statistic that can only be large, such as a distance, gets
    twice its one-sided p. Where there are no more than `resamples` distinct ways to share the labels out, all of
    them are gone through, and the p is exact; otherwise the data count as one of the shuffles, and p is never 0.

    Args:
        frame: The columns that the statistic needs, and no missing value in any of them.
        statistic: Gives a number for a table like `frame`. A shuffle for which it gives none (an empty denominator) counts
            as extreme, and the method says how many there were.
        label: Column that is shuffled, such as `arm`.
        unit: Column of ids whose rows go together, such as `rollout`.
        strata: Columns within whose groups labels are shuffled, such as `model`, `framing`.
        seed: Of the shuffles.
        resamples: How many to make.

    Returns:
        The test, with the statistic as it is in the data, the number of rows, and the number of units as its clusters.

    Raises:
        StatisticsError: A column is absent or has missing values, the table has no rows, a unit has several labels or is in
            several strata, no stratum holds two labels, or the statistic is no number for the whole table.
    """
    frame = complete(frame, [label, unit, *strata])
    if resamples < 1:
        raise StatisticsError(f"resamples is {resamples}; make at least 1, usually 2000")
    value = defined(statistic, frame)
    if not np.isfinite(value):
        raise StatisticsError(f"the statistic of the whole table is {value}; leave it out where it is undefined")
    unit_of_row, units = cluster_codes(frame[unit], len(frame), unit)
    label_of_row, labels = pd.factorize(frame[label])
    label_of_unit, groups = _units(frame, unit, label, strata, label_of_row, unit_of_row)
    exact = math.prod(_distinct_orders(label_of_unit[group]) for group in groups) <= resamples
    orders = _all_orders(label_of_unit, groups) if exact else _random_orders(label_of_unit, groups, seed, resamples)
    null = np.array([defined(statistic, frame.assign(**{label: labels[of[unit_of_row]]})) for of in orders])
    method = f"{'exact ' if exact else ''}permutation over {units} {plural(unit)}"
    method += f" within {' and '.join(strata)}" if strata else ""
    if undefined := float(np.isnan(null).mean()):
        method += f", {undefined:.1%} of shuffles undefined"
    return Test(value, _two_sided(null, value, exact=exact), len(frame), units, method)


def sign_flip(values: ArrayLike, clusters: Clusters, *, seed: int = 0, resamples: int = 10_000) -> Test:
    """Test whether paired differences are zero on average, by flipping the signs of whole clusters. Two-sided.

    The statistic is the mean of all rows, as in `clustered_mean`. Exact where there are no more than `resamples` ways to
    choose signs (13 clusters and fewer, as a rule); otherwise the data count as one of the draws. With k clusters p cannot be
    below 2 / 2^k: one cluster always has p 1.

    Args:
        values: Differences, [n].
        clusters: The cluster of each, [n].
        seed: Of the draws.
        resamples: How many to make.

    Raises:
        StatisticsError: There are no values, one is missing, or the lengths differ.
    """
    found = numbers(values, "values")
    codes, how_many = cluster_codes(clusters, len(found), "clusters")
    # What each cluster adds to the mean of all rows, times the number of clusters.
    means = np.bincount(codes, found, how_many) * how_many / len(found)
    exact = 2**how_many <= resamples
    method = f"{'exact ' if exact else ''}sign flips over {how_many} cluster{'s' * (how_many > 1)}"
    if how_many == 1:
        return Test(float(means[0]), 1.0, len(found), 1, method)
    # Shares are of order one: what is smaller is rounding alone, and is no ground for a test.
    result = permutation_test(
        (np.where(np.abs(means) < _ROUNDING, 0.0, means),),
        lambda of, axis: np.mean(of, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return Test(float(means.mean()), float(result.pvalue), len(found), how_many, method)


def _units(
    frame: pd.DataFrame, unit: str, label: str, strata: Sequence[str], label_of_row: Codes, unit_of_row: Codes
) -> tuple[Codes, list[Codes]]:
    """Return each unit's label, [units], and the units of each stratum that has several labels."""
    for column in (label, *strata):
        several = frame.groupby(unit, sort=False)[column].nunique()
        if (several > 1).any():
            raise StatisticsError(
                f"{unit} {several.idxmax()!r} has {several.max()} values of {column!r}; a unit needs one: choose a finer unit"
            )
    first = np.unique(unit_of_row, return_index=True)[1]
    label_of_unit = label_of_row[first]
    stratum = frame.loc[first].groupby(list(strata), sort=False).ngroup().to_numpy() if strata else np.zeros(len(first))
    groups = [np.flatnonzero(stratum == number) for number in np.unique(stratum)]
    groups = [group for group in groups if len(np.unique(label_of_unit[group])) > 1]
    if not groups:
        where = f" in any group of {', '.join(strata)}" if strata else ""
        raise StatisticsError(f"column {label!r} has only one value{where}; a permutation test needs two to shuffle")
    return label_of_unit, groups


def _distinct_orders(labels: Codes) -> int:
    return math.factorial(len(labels)) // math.prod(math.factorial(count) for count in np.bincount(labels).tolist())


def _all_orders(labels: Codes, groups: list[Codes]) -> Iterator[Codes]:
    """Yield every distinct way to share labels out within the groups, the given one among them."""
    for orders in product(*(list(_orders(tuple(np.bincount(labels[group]).tolist()))) for group in groups)):
        shuffled = labels.copy()
        for group, order in zip(groups, orders, strict=True):
            shuffled[group] = order
        yield shuffled


def _orders(counts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield every distinct order of `counts[c]` copies of each number c."""
    if not any(counts):
        yield ()
    for number, left in enumerate(counts):
        if left:
            for rest in _orders((*counts[:number], left - 1, *counts[number + 1 :])):
                yield (number, *rest)


def _random_orders(labels: Codes, groups: list[Codes], seed: int, resamples: int) -> Iterator[Codes]:
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        shuffled = labels.copy()
        for group in groups:
            shuffled[group] = rng.permutation(labels[group])
        yield shuffled


def _two_sided(null: Floats, value: float, *, exact: bool) -> float:
    """Return twice the smaller tail, ties and undefined values in both; at most 1."""
    slack = _ROUNDING * max(1.0, abs(value))
    undefined = np.isnan(null)
    tail = min(((null <= value + slack) | undefined).sum(), ((null >= value - slack) | undefined).sum())
    one_sided = tail / len(null) if exact else (tail + 1) / (len(null) + 1)
    return float(min(1.0, 2 * one_sided))
