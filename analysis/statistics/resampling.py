"""The cluster bootstrap: how a statistic of a table varies when whole clusters are drawn again."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from self_steering.analysis.statistics.estimates import (
    Codes,
    Estimate,
    Floats,
    StatisticsError,
    Test,
    cluster_codes,
    complete,
    numbers,
)
from self_steering.scorers.metrics import LEVEL

Statistic = Callable[[pd.DataFrame], float]
MOST_UNDEFINED = 0.1


def bootstrap(
    frame: pd.DataFrame, statistic: Statistic, cluster: str | list[str], *, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Return a statistic of a table with its bootstrap interval over resampled clusters.

    Each resample draws as many clusters as there are, with replacement, each with all of its rows in their order. A cluster
    that is drawn twice is two clusters: in the resampled table the cluster column holds the number of the draw. A statistic
    that groups by a unit within clusters must therefore group by the cluster column as well.

    With two cluster columns (vector and problem) both are drawn, independently of each other, and a row comes as often as the
    product of how often its two clusters were drawn. This pigeonhole bootstrap (Owen 2007) takes in what either
    column's clusters share; it errs on the wide side: variance that is each row's own counts up to three times.

    The ends are percentiles of the resamples, further out for few clusters (`percentiles`). With fewer than about ten clusters, or
    where few of them hold an event at all, the interval is still somewhat narrow; if no resample differs, it has no width.

    Args:
        frame: The columns that the statistic needs, and no missing value in any of them.
        statistic: Gives a number for a table like `frame`. It runs for every resample, so count what does not depend on the draw
            beforehand, a column each, and let it do sums. Where it gives none for a resample (NaN, infinite, a division by
            zero: an empty denominator), that resample is left out, and the method says how many were.
        cluster: Column of the clusters' ids, or two such columns.
        seed: Of the draws.
        resamples: How many to draw.

    Returns:
        The estimate; without an interval where a column has but one cluster, or more than a tenth of the resamples are undefined.

    Raises:
        StatisticsError: A column is absent or has missing values, the table has no rows, more than two cluster columns are
            named, or the statistic is no number for the whole table.
    """
    columns = [cluster] if isinstance(cluster, str) else list(cluster)
    if len(columns) not in {1, 2}:
        raise StatisticsError(f"{len(columns)} cluster columns ({', '.join(columns)}); name one or two")
    if resamples < 1:
        raise StatisticsError(f"resamples is {resamples}; draw at least 1, usually 2000")
    frame = complete(frame, columns)
    value = defined(statistic, frame)
    if not np.isfinite(value):
        raise StatisticsError(f"the statistic of the whole table is {value}; leave it out where it is undefined")
    ways = [cluster_codes(frame[column], len(frame), column) for column in columns]
    clusters = min(how_many for _, how_many in ways)
    method = f"bootstrap over {' and '.join(plural(column) for column in columns)}"
    if clusters < 2:
        return Estimate(value, None, None, len(frame), clusters, method)
    drawn = np.array([defined(statistic, table) for table in _resampled(frame, columns, ways, seed, resamples)])
    low, high, note = percentiles(drawn, clusters)
    return Estimate(value, low, high, len(frame), clusters, method + note)


def defined(statistic: Statistic, frame: pd.DataFrame) -> float:
    """Return the statistic of a table; NaN where its denominator is empty."""
    if frame.empty:
        return float("nan")
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(statistic(frame))
    except ZeroDivisionError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


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


def plural(column: str) -> str:
    """Return what a column counts: `rollouts` for `rollout`."""
    return f"{column}s"


def _resampled(
    frame: pd.DataFrame, columns: list[str], ways: list[tuple[Codes, int]], seed: int, resamples: int
) -> Iterator[pd.DataFrame]:
    """Yield resampled tables; rows of one draw stand together, in their order."""
    rng = np.random.default_rng(seed)
    others = frame.drop(columns=columns)
    for _ in range(resamples):
        drawn = [np.bincount(rng.integers(of, size=of), minlength=of) for _, of in ways]
        rows, draws = _drawn_rows([codes for codes, _ in ways], drawn)
        table = others.take(rows)
        table.index = pd.RangeIndex(len(rows))
        for column, of_rows in zip(columns, draws, strict=True):
            table[column] = of_rows
        yield table


def _drawn_rows(codes: list[Codes], drawn: list[Codes]) -> tuple[Codes, list[Codes]]:
    """Return the rows of a resample, and for each way of clustering the number of the draw that each belongs to.

    Args:
        codes: The cluster of each row, [rows], for each way.
        drawn: How often each cluster was drawn, [clusters], for each way.
    """
    times = np.prod([often[of] for of, often in zip(codes, drawn, strict=True)], axis=0)
    rows = np.repeat(np.arange(len(times)), times)
    # The copies of a row are numbered, and each number stands for one combination of draws of the row's clusters.
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    draws = []
    for of, often in zip(codes, drawn, strict=True):
        clusters = of[rows]
        copy, draw = np.divmod(copy, often[clusters])
        draws.append((np.cumsum(often) - often)[clusters] + draw)
    order = np.lexsort(draws[::-1])
    return rows[order], [draw[order] for draw in draws]


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
