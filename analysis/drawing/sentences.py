"""How figures say what their tables hold: estimates with intervals, tests, and as many sentences as a reader wants."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from self_steering.analysis.drawing.words import counted, number
from self_steering.analysis.statistics.estimates import p_in_words

Row = Mapping[Any, Any]
# How many sentences a figure's text has, and how many statements all of its pictures together; the table has the others.
_SENTENCES, _STATEMENTS = 4, 10


def bound(value: Any) -> float | None:
    """Return an end of an interval, None where there is none."""
    return None if pd.isna(value) else float(value)


def with_interval(
    row: Row,
    name: str = "value",
    *,
    scale: float = 1,
    decimals: int = 2,
    signed: bool = False,
    unit: str = "",
    after: str = "",
) -> str:
    """Return a row's figure with its interval: `25.0% [21.3%, 29.0%]`, `+12 points [+4, +20]`.

    Args:
        row: With `name`, and `NAME_low` and `NAME_high`, or else `low` and `high`.
        name: Which figure.
        scale: What all three are multiplied by; 100 for per cent and percentage points.
        decimals: Decimals of each.
        signed: Whether those above zero have a plus.
        unit: What stands after each of them.
        after: What stands after the figure alone.
    """
    own = f"{name}_" if f"{name}_low" in row else ""
    ends = [end for side in ("low", "high") if (end := bound(row[f"{own}{side}"])) is not None]
    figure, *interval = (number(scale * value, decimals, signed=signed) + unit for value in (float(row[name]), *ends))
    return f"{figure}{after} [{', '.join(interval) or 'no interval'}]"


def share_in_words(row: Row, name: str = "value", *, decimals: int = 0) -> str:
    """Return a share with its interval, in per cent."""
    return with_interval(row, name, scale=100, decimals=decimals, unit="%")


def basis(row: Row, clusters: str, what: str = "", *, column: str = "clusters") -> str:
    """Return what a row rests on: `n 895 picks, 180 rollouts, bootstrap over rollouts`.

    Args:
        row: With `n`, `column` and `method`.
        clusters: What its clusters are, in the plural.
        what: What is counted by `n`.
        column: Where the number of clusters stands.
    """
    return (
        f"n {row['n']}{what and f' {what}'}, {counted(int(row[column]), clusters.removesuffix('s'))}, {row['method']}"
    )


def p_with_test(row: Row, correction: str = "Benjamini-Hochberg") -> str:
    """Return a row's p with its test: `p 0.012 by sign flips over 10 clusters, adjusted p 0.03 (Holm)`.

    Args:
        row: With `p`, `p_adjusted` and `test`.
        correction: How it was adjusted.
    """
    if pd.isna(row["p"]):
        return str(row["test"]) if str(row["test"]).startswith("no ") else "no p"
    changed = not pd.isna(row["p_adjusted"]) and row["p_adjusted"] != row["p"]
    adjusted = f", adjusted {p_in_words(row['p_adjusted'])} ({correction})" if changed else ""
    return f"{p_in_words(row['p'])} by {row['test']}{adjusted}"


def spelled_out(sentences: Sequence[str]) -> str:
    """Return the first sentences as one text, and how many more there are."""
    more = len(sentences) - _SENTENCES
    rest = [f"The other {more} are in the table."] if more > 0 else []
    return " ".join([*sentences[:_SENTENCES], *rest])


def statements(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return one sentence for each title, of the first of its parts, and how many more of them the table has.

    Args:
        parts: Titles with what there is to say of each.
    """
    most = max(2, _STATEMENTS // max(1, len(parts)))
    sentences = []
    for title, said in parts:
        more = [f"and {len(said) - most} more in the table"] if len(said) > most else []
        sentences.append(f"{title}: {'; '.join([*said[:most], *more])}.")
    return " ".join(sentences)
