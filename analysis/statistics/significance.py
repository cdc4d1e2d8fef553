"""The test of a count, and corrections for many tests."""

from collections.abc import Callable, Sequence

from scipy import stats
from statsmodels.stats.multitest import multipletests

from self_steering.analysis.statistics.estimates import Test
from self_steering.analysis.statistics.intervals import trials
from self_steering.analysis.statistics.sample_checks import Floats, StatisticsError


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
    return _corrected(ps, lambda known: multipletests(known, method="holm")[1])


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
