"""What a statistic returns, and how a page says it: every effect with its numbers, its clusters and the name of its method."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, SupportsIndex

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from self_steering.analysis.drawing.words import number

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


class StatisticsError(ValueError):
    """Data that a statistic cannot be computed from, with what to do about it."""


def numbers(values: ArrayLike, name: str) -> Floats:
    """Return values as floats, [n], all of them finite.

    Args:
        values: Numbers, [n]; a column's own name is used in errors.
        name: What to call them in errors otherwise.

    Raises:
        StatisticsError: There are none, one is missing or infinite, or they are no numbers.
    """
    name = _name(values, name)
    try:
        found = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise StatisticsError(
            f"{name} must be numbers: {error}; convert them, or drop the rows that hold none"
        ) from error
    if found.ndim != 1 or found.size == 0:
        raise StatisticsError(f"{name} has shape {found.shape}; give a list of at least one number")
    if bad := int((~np.isfinite(found)).sum()):
        raise StatisticsError(
            f"{name} has {bad} of {found.size} values that are NaN or infinite; drop these rows first"
        )
    return found


def cluster_codes(clusters: Sequence[object] | pd.Series, rows: int, name: str) -> tuple[Codes, int]:
    """Return the number of each row's cluster, [rows], from 0 in the order in which they first come, and how many there are.

    Args:
        clusters: Ids of the rows' clusters, [rows].
        rows: How many there must be.
        name: What to call them in errors, where they have no name of their own.

    Raises:
        StatisticsError: There are too few or too many, or one is missing.
    """
    name = _name(clusters, name)
    if len(clusters) != rows:
        raise StatisticsError(f"{name} has {len(clusters)} values for {rows} rows; give one cluster a row")
    codes, found = pd.factorize(pd.Series(clusters).reset_index(drop=True))
    if missing := int((codes < 0).sum()):
        raise StatisticsError(f"{name} has {missing} of {rows} values missing; drop these rows, or give them a cluster")
    return codes, len(found)


def complete(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with its rows numbered from 0, having checked that it has the columns, and nothing missing in any.

    Raises:
        StatisticsError: It has no rows, lacks one of `columns`, or a value is missing anywhere.
    """
    if absent := [column for column in columns if column not in frame]:
        raise StatisticsError(f"no column {absent[0]!r} in the table; its columns are {', '.join(map(str, frame))}")
    if frame.empty:
        raise StatisticsError("the table has no rows; leave the statistic out where there is nothing to count")
    missing = frame.isna().sum()
    if missing.any():
        column = missing.idxmax()
        raise StatisticsError(
            f"column {column!r} has {missing[column]} of {len(frame)} values missing; "
            "drop these rows, or hand over only the columns that the statistic needs"
        )
    return frame.reset_index(drop=True)


def count(value: SupportsIndex, name: str) -> int:
    """Return a whole number of at least 0.

    Raises:
        StatisticsError: It is something else.
    """
    try:
        found = operator.index(value)
    except TypeError:
        found = -1
    if found < 0:
        raise StatisticsError(f"{name} is {value!r}; it must be a whole number, 0 or more")
    return found


def _name(values: object, name: str) -> str:
    own = getattr(values, "name", None)
    return name if own is None else f"column {own!r}"


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
