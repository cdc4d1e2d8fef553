"""Correlations, with their intervals over pairs and a test of the pairing."""

import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from self_steering.analysis.statistics.estimates import Estimate, Test
from self_steering.analysis.statistics.resampling import percentiles
from self_steering.analysis.statistics.sample_checks import Floats, StatisticsError, numbers

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
