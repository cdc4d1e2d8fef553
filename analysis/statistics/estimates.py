"""What a statistic takes and returns: checked columns, cells in order, and estimates and tests with the name of their method."""

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, SupportsIndex, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Row = dict[Any, Any]
ESTIMATE = ["value", "low", "high", "n", "clusters", "method"]


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


def groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[Row, pd.DataFrame]]:
    """Yield the rows that agree in the columns `by`, in the order of these columns' values.

    Missing values are values of their own. They, the empty text and `none` come first: what is nothing is shown before what differs
    from it.
    """
    found = [(cast(tuple[object, ...], key), part) for key, part in frame.groupby(list(by), dropna=False)]
    for key, part in sorted(found, key=lambda item: [_rank(value) for value in item[0]]):
        yield dict(zip(by, key, strict=True)), part


def _rank(value: Any) -> tuple[int, float, str]:
    if pd.isna(value) or value in ("", "none"):
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value).casefold())


def estimate_columns(estimate: Estimate, columns: Sequence[str] = ESTIMATE) -> Row:
    """Return an estimate as the columns of that name; bounds that there are none of are None."""
    return {name: getattr(estimate, name) for name in columns}


def estimated(name: str, estimate: Estimate) -> Row:
    """Return an estimate as columns: `NAME`, `NAME_low`, `NAME_high`; bounds that there are none of are NaN."""
    low, high = (math.nan if bound is None else bound for bound in (estimate.low, estimate.high))
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}
