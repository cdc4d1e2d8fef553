"""The cells of the experiments with a task: their columns, their order, what they are called, and their self-steer rates."""

from collections.abc import Sequence

import pandas as pd

from self_steering.analysis.drawing.words import basis, p_with_test, share_in_words, visible, with_interval
from self_steering.analysis.statistics.estimates import ESTIMATE, Row, estimate_columns, groups
from self_steering.analysis.statistics.intervals import robust_share

NO_TOOLS = "none"
ALL_FRAMINGS = "all"
CELL = ["source", "model", "arm", "framing", "intent", "operators"]

_ORDER: dict[str, tuple[object, ...]] = {
    "arm": ("none", "real", "placebo", "random", "other", "opposite", "mislabelled", "prompt_only"),
    "framing": (NO_TOOLS, ALL_FRAMINGS, "drugs", "aids", "vectors"),
    "intent": (NO_TOOLS, "neutral", "helpful", "mandatory"),
    "tone": ("neutral", "aggressive", "sarcastic", "disappointed"),
    "possible": (True, False),
    "over": ("all", "attempted"),
    "against": ("no tools", "neutral"),
}


def of_family(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the rows of one experiment."""
    return table[table["family"] == family]


def in_order(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return rows sorted by columns: conditions in the protocol's order, unknown ones after them, all else by the alphabet."""
    keys = pd.DataFrame(
        {place: frame[name].map(lambda value, name=name: _rank(name, value)) for place, name in enumerate(by)}
    )
    order = keys.sort_values(list(keys), kind="stable").index if by else frame.index
    return frame.loc[order].reset_index(drop=True)


def _rank(name: str, value: object) -> tuple[int, str]:
    known = _ORDER.get(name, ())
    text = "" if pd.isna(value) else str(value)
    return next((place for place, one in enumerate(known) if str(one) == text), len(known)), text


def pooled_too(frame: pd.DataFrame, fewest: int = 2) -> pd.DataFrame:
    """Return rows apart by framing and, where at least so many framings have tools, those once more as `all`."""
    tools = frame[frame["framing"] != NO_TOOLS]
    return pd.concat([tools.assign(framing=ALL_FRAMINGS), frame]) if tools["framing"].nunique() >= fewest else frame


def condition(row: Row) -> str:
    """Return what a row's cell is called beside others of its model: `no tools`, `drugs, neutral`, `aids, helpful (placebo)`.

    Args:
        row: With `framing`, `intent` and `arm`, and `operators` and `gauge` where they may differ.
    """
    if row["framing"] == NO_TOOLS:
        return "no tools"
    framing = "all framings" if row["framing"] == ALL_FRAMINGS else str(row["framing"])
    words = (
        ", ".join(
            visible(str(part), kept="")
            for part in (framing, row["intent"], row.get("operators"), gauge_in_words(row))
            if part
        )
        or "tools"
    )
    return words if row["arm"] in {"real", NO_TOOLS} else f"{words} ({visible(str(row['arm']), kept='')})"


def gauge_in_words(row: Row) -> str:
    """Return what the gauge of a row's cell is called: `true gauge`; empty where it has none."""
    return f"{row['gauge']} gauge" if row.get("gauge") else ""


def problem_clusters(frame: pd.DataFrame) -> pd.Series:
    """Return each rollout's cluster: its problem where it has a single one, else its sample, which epochs repeat.

    Args:
        frame: With `problem`, `log` and `sample`.
    """
    sample = frame["log"].astype(str) + "/" + frame["sample"].astype(str)
    return frame["problem"].where(frame["problem"] != "", sample)


RATE_COLUMNS = [*ESTIMATE, "took", "steered", "takes", "looked_like_a_call"]


def self_steering_rates(rollouts: pd.DataFrame, by: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the self-steer rate of each cell in which there was something to take.

    A rollout steers itself if the model made at least one take call in it, successful or not; calls that the task inserted do not
    count. Where a problem is repeated, its rollouts are one cluster; where none is, the interval is Wilson's.

    Args:
        rollouts: Rows of the table `rollouts`; those without tools are left out.
        by: Columns that make a cell.

    Returns:
        One row a cell: `by`; `value`, the rate, in 0..1, with `low` and `high`; `n` rollouts in `clusters`; `took`, how many took
        something; `steered`, how many of them successfully; `takes`, their calls in all; `looked_like_a_call`, how often text
        looked like a call and was none, by which the rate may be too low (NaN where no log says).
    """
    offered = rollouts[rollouts["framing"] != NO_TOOLS]
    rows = []
    for cell, part in groups(offered, by):
        took = part["takes"] > 0
        rate = robust_share(took, problem_clusters(part))
        rows.append(
            {
                **cell,
                **estimate_columns(rate),
                "took": int(took.sum()),
                "steered": int((part["steered"] == True).sum()),  # noqa: E712  missing is not True
                "takes": int(part["takes"].sum()),
                "looked_like_a_call": part["looked_like_a_call"].sum(min_count=1),
            }
        )
    return in_order(pd.DataFrame(rows, columns=[*by, *RATE_COLUMNS]), by)


def rate_in_words(row: Row) -> str:
    """Return a rate with its interval, and what it rests on."""
    missed = row.get("looked_like_a_call")
    more = f"; {missed:g} texts looked like a call and were none" if missed and not pd.isna(missed) else ""
    return f"{share_in_words(row)} ({basis(row, 'clusters')}{more})"


def points_in_words(row: Row, clusters: str = "problems", *, correction: str = "Holm") -> str:
    """Return a difference of shares in percentage points: `+12 points [+4, +20] (n 240, 50 problems, …; p 0.01 by …)`."""
    shown = with_interval(row, scale=100, decimals=0, signed=True, after=" points")
    return f"{shown} ({basis(row, clusters)}; {p_with_test(row, correction)})"


def steps_in_words(row: Row) -> str:
    """Return a difference of ratings: `+1.20 [+0.80, +1.60] (n …)`."""
    return f"{with_interval(row, signed=True)} ({basis(row, 'problems')}; {p_with_test(row, 'Holm')})"
