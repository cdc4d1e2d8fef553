"""What the figure of redosing says in words."""

from collections.abc import Mapping

import pandas as pd

from self_steering.analysis.freeplay.freeplay import CELL
from self_steering.analysis.freeplay.freeplay_words import basis, tested, who, with_interval
from self_steering.analysis.freeplay.redosing import (
    AFTER_SITTER,
    AGAIN,
    CHANGE,
    EVERY,
    FIRST,
    RATE,
    REDOSERS,
    UNTOUCHED,
)

Names = Mapping[tuple[str, str, str], str]


def finding(pooled: pd.DataFrame, names: Names, *, touched: bool) -> str:
    """Return the redose rates in whole sentences.

    Args:
        pooled: Rows of `redosing` with all framings together.
        names: The models' names.
        touched: Whether there are rollouts that the trip sitter touched, so that the rates without them are others.
    """
    sentences = []
    for which in (EVERY, UNTOUCHED) if touched else (EVERY,):
        rows = pooled[(pooled["rollouts"] == which) & (pooled["measure"] == RATE)].to_dict("records")
        told = [
            f"{who(row, names)}: {with_interval(row, percent=True)} ({basis(row, 'vectors taken')})"
            for row in rows
            if not row["against"]
        ]
        where = "" if which == EVERY else " without the rollouts that the trip sitter touched"
        sentences.append(f"Redose rate{where}: {'; '.join(told) or 'nothing was taken'}.")
        sentences += [
            f"{who(row, names)}: {with_interval(row, percent=True)} ({basis(row, 'vectors taken')}; {tested(row)})."
            for row in rows
            if row["against"]
        ]
    after = pooled[(pooled["rollouts"] == EVERY) & (pooled["measure"] == AFTER_SITTER) & (pooled["value"] > 0)]
    sentences += [
        f"{who(row, names)}: of the repeats, {with_interval(row, percent=True)} came after the trip sitter "
        f"({basis(row, 'repeats')})."
        for row in after.to_dict("records")
    ]
    return " ".join(sentences)


def rates_in_words(own: pd.DataFrame, names: Names) -> str:
    """Return the alternative text of the rates; `own` has the rows of `redosing` that are no differences, framings pooled."""
    rows = own[(own["rollouts"] == EVERY) & own["measure"].isin([RATE, REDOSERS])]
    return f"Redosing by model and arm. {_told(rows, names, percent=True)}."


def doses_in_words(own: pd.DataFrame, names: Names) -> str:
    """Return the alternative text of the doses; `own` as above."""
    rows = own[(own["rollouts"] == EVERY) & own["measure"].isin([FIRST, AGAIN, CHANGE])]
    return f"Doses of first takes and of redoses. {_told(rows, names, percent=False)}."


def _told(rows: pd.DataFrame, names: Names, *, percent: bool) -> str:
    told = []
    for _, of_cell in rows.groupby(CELL, sort=False):
        records = of_cell.to_dict("records")
        shown = [
            f"{row['measure']} {with_interval(row, percent=percent)}" + ("" if percent else f" in {row['scale']}")
            for row in records
        ]
        told.append(f"{who(records[0], names)}: {', '.join(shown)}")
    return "; ".join(told)
