"""How the figures of tasks say their numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from self_steering.analysis.drawing.words import number
from self_steering.analysis.statistics.estimates import Estimate, in_words, p_in_words

SPELLED_OUT = 10


def end(value: Any) -> float | None:
    """Return an end of an interval, None where there is none."""
    return None if pd.isna(value) else float(value)


def estimate_of(row: Mapping[Any, Any]) -> Estimate:
    """Return the estimate that a row holds in `value`, `low`, `high`, `n`, `clusters` and `method`."""
    ends = end(row["low"]), end(row["high"])
    return Estimate(float(row["value"]), *ends, int(row["n"]), int(row["clusters"]), str(row["method"]))


def share_in_words(row: Mapping[Any, Any]) -> str:
    """Return a share with its interval and numbers, in per cent."""
    return in_words(estimate_of(row), percent=True)


def wider(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a row with the wider of its two intervals (clustered by problem, by rollout) as `low`, `high` and `method`."""
    both = [tuple(row[f"{name}{by}"] for name in ("low", "high", "method")) for by in ("", "_by_rollout")]
    low, high, method = max(both, key=lambda ends: -1.0 if end(ends[0]) is None else ends[1] - ends[0])
    return {**row, "low": end(low), "high": end(high), "method": method}


def points_in_words(row: Mapping[Any, Any], clusters: str = "problems") -> str:
    """Return a difference of shares in percentage points: `+12 points [+4, +20] (n 240, 50 problems, …; p 0.01 by …)`."""
    return _difference(row, 100, 0, " points", clusters)


def steps_in_words(row: Mapping[Any, Any], clusters: str = "problems") -> str:
    """Return a difference of ratings: `+1.20 [0.80, 1.60] (n …)`."""
    return _difference(row, 1, 2, "", clusters)


def _difference(row: Mapping[Any, Any], unit: int, decimals: int, after: str, clusters: str) -> str:
    ends = [
        number(unit * float(row[name]), decimals, signed=True) for name in ("low", "high") if end(row[name]) is not None
    ]
    interval = ", ".join(ends) or "no interval"
    how_many = int(row["clusters"])
    counted = f"{how_many} {clusters.removesuffix('s') if how_many == 1 else clusters}"
    p = "no p" if pd.isna(row["p"]) else f"{p_in_words(row['p'])} by {row['test']}"
    if not pd.isna(row["p_adjusted"]) and row["p_adjusted"] != row["p"]:
        p += f", adjusted {p_in_words(row['p_adjusted'])}"
    value = number(unit * float(row["value"]), decimals, signed=True)
    return f"{value}{after} [{interval}] (n {row['n']}, {counted}, {row['method']}; {p})"


def told(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return one sentence for each title, of the first of its parts, and how many more of them the table has.

    Args:
        parts: Titles with what there is to say of each.
    """
    most = max(2, SPELLED_OUT // max(1, len(parts)))
    sentences = []
    for title, said in parts:
        more = [f"and {len(said) - most} more in the table"] if len(said) > most else []
        sentences.append(f"{title}: {'; '.join([*said[:most], *more])}.")
    return " ".join(sentences)
