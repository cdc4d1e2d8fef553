"""From the groups of a table to the rows of another: cells in order, estimates as columns, corrected p-values."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pandas as pd

from self_steering.analysis.statistics.estimates import Estimate
from self_steering.analysis.statistics.tests import benjamini_hochberg

Row = dict[str, Any]
ESTIMATE = ["value", "low", "high", "n", "clusters", "method"]


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
