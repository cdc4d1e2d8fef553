"""How the figures of free play name models and say numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from self_steering.analysis.drawing.words import label, number, visible
from self_steering.analysis.freeplay.rollouts import GROUP
from self_steering.analysis.statistics.estimates import p_in_words

Row = Mapping[Any, Any]


def group_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """Return a name for each model of a table: its own, and its source and visibility where the table has several of these.

    Args:
        frame: Rows with the columns of GROUP.
    """
    several = [column for column in ("source", "visibility") if len(set(frame[column])) > 1]
    found: dict[tuple[str, str, str], str] = {}
    for row in frame[GROUP].drop_duplicates().to_dict("records"):
        more = [visible(row[column], kept="") for column in several if row[column]]
        found[group_of(row)] = model_name(row["model"]) + (f" ({', '.join(more)})" if more else "")
    return found


def group_of(row: Row) -> tuple[str, str, str]:
    """Return a row's source, model and visibility."""
    return row["source"], row["model"], row["visibility"]


def model_name(model: str) -> str:
    """Return a model's name without its organisation, cut where it would take a figure's room."""
    return label(model.rsplit("/", 1)[-1] or model)


def slug(*parts: object) -> str:
    """Return a word for a picture's name."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-")


def with_interval(row: Row, *, percent: bool = False) -> str:
    """Return a row's value with its interval: `25.0% [21.3%, 29.0%]`; differences from an arm as `+20.1 points [+15.2, +25.0]`.

    Args:
        row: With `low`, `high` and `value`, or `share` in its place; `against` where it is a difference.
        percent: Whether to say it in per cent, differences in percentage points.
    """
    value = row["value"] if "value" in row else row["share"]
    signed = bool(row.get("against"))
    unit, points = ("%" if percent and not signed else ""), (" points" if percent and signed else "")

    def say(one: float) -> str:
        return number(100 * one if percent else one, 1 if percent else 2, signed=signed) + unit

    ends = [say(row[end]) for end in ("low", "high") if pd.notna(row[end])]
    return f"{say(value)}{points} [{', '.join(ends) or 'no interval'}]"


def basis(row: Row, what: str) -> str:
    """Return what a row rests on: `n 895 picks, 180 rollouts, bootstrap over rollouts`."""
    return f"n {row['n']} {what}, {counted(row['clusters'], 'rollout')}, {row['method']}"


def tested(row: Row) -> str:
    """Return a row's p with its test, and the adjusted one: `p 0.012 by permutation over 240 rollouts, adjusted p 0.03`."""
    adjusted = (
        "" if row["p_adjusted"] == row["p"] else f", adjusted {p_in_words(row['p_adjusted'])} (Benjamini-Hochberg)"
    )
    return f"{p_in_words(row['p'])} by {row['test']}{adjusted}"


def counted(many: int, what: str) -> str:
    """Return a number with its noun: `1 rollout`, `60 rollouts`."""
    return f"{many} {what}{'' if many == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def who(row: Row, names: Mapping[tuple[str, str, str], str]) -> str:
    """Return whom a row is about: its model and arm, and the arm it is compared with."""
    against = f" minus {row['against']}" if row.get("against") else ""
    return f"{names[group_of(row)]}, {row['arm']}{against}"
