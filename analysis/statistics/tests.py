"""Tests over whole clusters and of counts, and corrections for many of them."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.stats import permutation_test

from self_steering.analysis.statistics.estimates import (
    Codes,
    Floats,
    Row,
    StatisticsError,
    Test,
    cluster_codes,
    numbers,
)
from self_steering.analysis.statistics.intervals import Clusters, trials


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


def adjusted(
    rows: Sequence[Row],
    family: Callable[[Row], object] = lambda _: None,
    correct: Callable[[list[float | None]], list[float | None]] = benjamini_hochberg,
) -> pd.DataFrame:
    """Return rows with a `p`, None where nothing was tested, as a table with `p_adjusted`.

    Args:
        rows: The rows.
        family: Rows for which it gives the same are corrected together; default all.
        correct: Corrects the p-values of a family; by default Benjamini and Hochberg's.
    """
    families: dict[object, list[Row]] = {}
    for row in rows:
        families.setdefault(family(row), []).append(row)
    for together in families.values():
        for row, p in zip(together, correct([row["p"] for row in together]), strict=True):
            row["p_adjusted"] = p
    found = pd.DataFrame(rows)
    return found.astype({"p": float, "p_adjusted": float}) if len(found) else found


_ROUNDING = 1e-12
_BATCH = 1000


Ways = NDArray[np.bool_]  # ways to share labels out, [ways, units]: which units have the label of interest


def permutation(
    ours: ArrayLike,
    statistic: Callable[[Ways], Floats],
    *,
    unit: str,
    strata: pd.Series | None = None,
    seed: int = 0,
    resamples: int = 20_000,
) -> Test:
    """Test a statistic against what it is when labels are shuffled over whole units, within strata.

    Each stratum keeps its numbers of labels. Two-sided: twice the smaller of the two tails, so the statistic need not be zero
    under chance; a statistic that can only be large, such as a distance, gets twice its one-sided p. Where there are no more
    than `resamples` distinct ways to share the labels out, all of them are gone through, and the p is exact; otherwise the data
    count as one of the shuffles, and p is never 0.

    Args:
        ours: Which units have the label of interest, [units].
        statistic: Gives the number of each of several ways to share the labels out; NaN where there is none (an empty denominator),
            which counts as extreme, and the method says how many there were.
        unit: What a unit is called.
        strata: The stratum of each unit, [units], its name that of the column; default one for all.
        seed: Of the shuffles.
        resamples: How many to make.

    Returns:
        The test, with the statistic as it is in the data; n and clusters are the units.

    Raises:
        StatisticsError: A stratum is missing, no stratum holds both labels, or the statistic is no number for the data.
    """
    labels = np.asarray(ours, dtype=bool)
    codes = np.zeros(len(labels), dtype=np.intp) if strata is None else cluster_codes(strata, len(labels), "strata")[0]
    groups = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    where = "" if strata is None else f" within {strata.name}"
    if not any(0 < labels[group].sum() < len(group) for group in groups):
        raise StatisticsError(f"all {unit}s have one label{where}; a permutation test needs two to shuffle")
    value = float(statistic(labels[None])[0])
    if not np.isfinite(value):
        raise StatisticsError(f"the statistic of the data is {value}; leave it out where it is undefined")
    exact = math.prod(math.comb(len(group), int(labels[group].sum())) for group in groups) <= resamples
    ways = _all_ways(labels, groups) if exact else _random_ways(labels, groups, seed, resamples)
    null = np.concatenate([statistic(batch) for batch in ways])
    method = f"{'exact ' if exact else ''}permutation over {len(labels)} {unit}s{where}"
    if undefined := float(np.isnan(null).mean()):
        method += f", {undefined:.1%} of shuffles undefined"
    return Test(value, _two_sided(null, value, exact=exact), len(labels), len(labels), method)


def _all_ways(labels: Ways, groups: Sequence[Codes]) -> Iterator[Ways]:
    """Yield every distinct way to share labels out within the groups, the given one among them."""
    chosen = [list(combinations(group.tolist(), int(labels[group].sum()))) for group in groups]
    ways = list(product(*chosen))
    shared = np.zeros((len(ways), len(labels)), dtype=bool)
    for row, way in zip(shared, ways, strict=True):
        row[[unit for part in way for unit in part]] = True
    yield shared


def _random_ways(labels: Ways, groups: Sequence[Codes], seed: int, resamples: int) -> Iterator[Ways]:
    rng = np.random.default_rng(seed)
    for begin in range(0, resamples, _BATCH):
        shuffled = np.tile(labels, (min(_BATCH, resamples - begin), 1))
        for group in groups:
            shuffled[:, group] = rng.permuted(shuffled[:, group], axis=1)
        yield shuffled


def _two_sided(null: Floats, value: float, *, exact: bool) -> float:
    """Return twice the smaller tail, ties and undefined values in both; at most 1."""
    slack = _ROUNDING * max(1.0, abs(value))
    undefined = np.isnan(null)
    tail = min(((null <= value + slack) | undefined).sum(), ((null >= value - slack) | undefined).sum())
    one_sided = tail / len(null) if exact else (tail + 1) / (len(null) + 1)
    return float(min(1.0, 2 * one_sided))


def rate_differences(numerators: ArrayLike, denominators: ArrayLike) -> Callable[[Ways], Floats]:
    """Return the statistic for `permutation`: the ratio of sums over the units of interest less that over the others."""
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)

    def differences(ours: Ways) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(ours @ top / (ours @ bottom) - ~ours @ top / (~ours @ bottom))

    return differences


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
