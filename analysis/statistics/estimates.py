"""What a statistic returns, and how a page says it: every effect with its numbers, its clusters and the name of its method."""

from dataclasses import dataclass
from typing import ClassVar

from self_steering.analysis.page.page_text import number

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval; None where the data give none, as with one cluster.
        high: Upper end of the interval; None where the data give none.
        n: Rows that went in.
        clusters: Clusters that these are of; in two-way designs the smaller number of the two.
        method: Name of the method that made the interval.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    method: str


@dataclass(frozen=True)
class Test:
    """A test's result.

    Attributes:
        statistic: What was tested, as it is in the data.
        p: How often chance alone gives something at least as extreme.
        n: Rows that went in.
        clusters: Clusters, or whole units, that these are of.
        method: Name of the test, with what it counts.
    """

    __test__: ClassVar[bool] = False  # pytest takes classes of this name for tests of its own

    statistic: float
    p: float
    n: int
    clusters: int
    method: str


def in_words(estimate: Estimate, *, percent: bool = False, decimals: int = 2) -> str:
    """Return an estimate as text, such as `0.25 [0.20, 0.31] (n 240, 40 clusters, Wilson)`.

    Args:
        estimate: What to say.
        percent: Whether to say it in per cent.
        decimals: Decimals of the plain number; in per cent there are two fewer, so that both are as precise.
    """

    def say(value: float) -> str:
        return f"{number(100 * value, max(decimals - 2, 0))}%" if percent else number(value, decimals)

    ends = [say(end) for end in (estimate.low, estimate.high) if end is not None]
    interval = ", ".join(ends) or "no interval"
    clusters = "1 cluster" if estimate.clusters == 1 else f"{estimate.clusters} clusters"
    return f"{say(estimate.value)} [{interval}] (n {estimate.n}, {clusters}, {estimate.method})"


def test_in_words(test: Test) -> str:
    """Return a test as text, such as `p 0.012 (permutation over 240 rollouts)`."""
    return f"{p_in_words(test.p)} ({test.method})"


test_in_words.__test__ = False  # type: ignore[attr-defined]  # pytest takes functions of such names for tests of its own


def p_in_words(p: float | None) -> str:
    """Return a p-value as text: `p < 0.001`, `p 0.012`, `p 0.34`; `no p` for None."""
    if p is None:
        return "no p"
    if p < 0.001:
        return "p < 0.001"
    return f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"
