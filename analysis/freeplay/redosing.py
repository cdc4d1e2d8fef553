"""Redosing in free play: whether models take again what they took, and at what dose."""

from collections.abc import Iterator

import pandas as pd

from self_steering.analysis.freeplay.rollouts import (
    ALL_FRAMINGS,
    PLACEBO,
    RESULT_COLUMNS,
    FreePlay,
    cells,
    comparable,
    comparisons,
    freeplay,
    result,
    results,
    successes_of,
)
from self_steering.analysis.statistics.intervals import proportion
from self_steering.analysis.statistics.resampling import ratio_difference, ratios, shares
from self_steering.analysis.tables import Tables, worked_out_once

RATE, ASKED, REPEATS = "redose rate", "redose rate, failed calls too", "repeats among takes"
EARLY, LATE = "repeats among early takes", "repeats among late takes"
REDOSERS, AFTER_SITTER = "rollouts that redose", "repeats after the trip sitter"
OF_VECTOR = "redose rate of a vector"
FIRST, AGAIN, CHANGE = "first dose", "dose of redoses", "change of dose"
NOMINAL, EFFECTIVE = "nominal dose", "effective strength"
# Which rollouts count.
EVERY, UNTOUCHED, TOUCHED = "all", "without the trip sitter's", "the trip sitter's only"
REDOSING_COLUMNS = ["rollouts", "scale", "vector", *RESULT_COLUMNS]

_SHARES = {  # numerator and denominator among a rollout's counts
    RATE: ("again", "taken"),
    ASKED: ("asked_again", "asked"),
    REPEATS: ("repeats", "takes"),
    EARLY: ("early_repeats", "early_takes"),
    LATE: ("late_repeats", "late_takes"),
    AFTER_SITTER: ("after", "repeats"),
}


@worked_out_once
def redosing(tables: Tables) -> pd.DataFrame:
    """Return redosing by model and arm, framings pooled (`all`) and apart, one row a measure.

    A vector counts as taken in a rollout if a call for it succeeded there (calls that the task inserted, that failed, or that named
    nothing in the library do not count), and as taken again if a second one did, cleared in between or not.

    - `redose rate`: of all vectors taken, rollout by rollout, the share taken again in the same rollout. Rollouts are pooled, as
      the study did: one that takes many vectors weighs more.
    - `redose rate, failed calls too`: the same over all that was asked for by name, the library's or not, as the study's
      history of calls has it.
    - `repeats among takes`: the share of take calls that take again what this rollout had taken.
    - `repeats among early takes`, `… late takes`: the same of the first and of the second half of a rollout's takes (the one in the
      middle is early): does it go back to what it has tried? Late takes have more to go back to, so that what tells is the
      difference from placebo.
    - `rollouts that redose`: the share of all rollouts with at least one repeat, those without a take too.
    - `repeats after the trip sitter`: the share of repeats that came after it had cleared effects in the rollout.
    - `first dose`, `dose of redoses`: mean over vectors' first takes, and over repeats; `change of dose`: mean over repeats of the
      dose minus that of the same vector's take before. Each in nominal dose, and in effective strength, which is dose times the
      vector's default dose: 0 under placebo. Takes whose number the log does not tell are left out.

    - `redose rate of a vector`: of the rollouts that took the `vector`, the share that took it again; framings pooled.

    All of it over all rollouts, without those in which the trip sitter cleared effects, and in those alone (column `rollouts`).

    Args:
        tables: The logs' tables.

    Returns:
        One row a measure, with its interval from resampled rollouts (Wilson's for shares of rollouts), and rows with `against` set:
        that arm's redose rate (under opaque labels also its repeats among late takes) minus placebo's over the framings that both
        have, with p from shuffling arm labels over whole rollouts within framings, and p_adjusted by Benjamini and Hochberg over
        these.
    """
    play = freeplay(tables)
    takes, counts = _numbered(successes_of(play.takes)), _counts(play)
    rows: list[dict[str, object]] = []
    for which, kept in _choices_of_rollouts(play.rollouts):
        found = list(_against_placebo(kept, counts)) if which != TOUCHED else []
        for cell, of_cell in cells(kept):
            found += _rates(cell, counts.loc[of_cell["rollout"]])
            of_takes = takes[takes["rollout"].isin(of_cell["rollout"])]
            found += _doses(cell, of_takes)
            found += _by_vector(cell, of_takes) if cell["framing"] == ALL_FRAMINGS else []
        rows += [{**row, "rollouts": which} for row in found]
    return results(rows, REDOSING_COLUMNS)


def _choices_of_rollouts(rollouts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield EVERY, rollouts
    touched = pd.to_numeric(rollouts["sitter_clears"]) > 0  # missing where it did not run
    yield UNTOUCHED, rollouts[~touched]
    yield TOUCHED, rollouts[touched]


def _numbered(takes: pd.DataFrame) -> pd.DataFrame:
    """Return takes with `repeat`, how often the rollout had so taken the vector before, and dose and strength of the last time."""
    numbers = takes.assign(**{name: pd.to_numeric(takes[name]) for name in ("dose", "strength")})
    of_vector = numbers.groupby(["rollout", "name", "operation"], sort=False)
    before = {f"{name}_before": of_vector[name].shift() for name in ("dose", "strength")}
    return numbers.assign(repeat=of_vector.cumcount(), **before)


def _counts(play: FreePlay) -> pd.DataFrame:
    """Return what each rollout adds to the shares, [rollouts, counts]."""
    takes, calls = _numbered(successes_of(play.takes)), _numbered(play.takes)
    repeats = takes["repeat"] > 0
    in_rollout = takes.groupby("rollout")["repeat"]
    late = in_rollout.cumcount() >= (in_rollout.transform("size") + 1) // 2
    of_rollout = {
        "early_takes": ~late,
        "early_repeats": repeats & ~late,
        "late_takes": late,
        "late_repeats": repeats & late,
        "takes": takes["repeat"] >= 0,
        "taken": ~repeats,
        "again": takes["repeat"] == 1,
        "repeats": repeats,
        "after": repeats & takes["after_sitter"],
    }
    counted = {name: which.groupby(takes["rollout"]).sum() for name, which in of_rollout.items()}
    for name, number in (("asked", 0), ("asked_again", 1)):
        counted[name] = (calls["repeat"] == number).groupby(calls["rollout"]).sum()
    return pd.DataFrame(counted).reindex(play.rollouts["rollout"]).fillna(0).astype(int)


def _rates(cell: dict[str, str], counts: pd.DataFrame) -> Iterator[dict[str, object]]:
    for measure, (top, bottom) in _SHARES.items():
        (share,) = shares(counts[[top]], counts[bottom])
        if share.n:
            yield result(cell, measure, share)
    yield result(cell, REDOSERS, proportion(int((counts["repeats"] > 0).sum()), len(counts)))


def _by_vector(cell: dict[str, str], takes: pd.DataFrame) -> Iterator[dict[str, object]]:
    again = takes.groupby(["name", "rollout"])["repeat"].max() > 0
    for vector, of_rollouts in again.groupby("name"):
        rate = proportion(int(of_rollouts.sum()), len(of_rollouts))
        yield {**result(cell, OF_VECTOR, rate), "vector": vector}


def _doses(cell: dict[str, str], takes: pd.DataFrame) -> Iterator[dict[str, object]]:
    takes = takes[takes["operation"] == "add"]  # doses of other operations are not of their kind
    repeats = takes["repeat"] > 0
    for scale, column in ((NOMINAL, "dose"), (EFFECTIVE, "strength")):
        change = takes[column] - takes[f"{column}_before"]
        for measure, values in (
            (FIRST, takes[column][~repeats]),
            (AGAIN, takes[column][repeats]),
            (CHANGE, change[repeats]),
        ):
            of_rollout = values.dropna().groupby(takes["rollout"]).agg(["sum", "size"])
            (mean,) = ratios(of_rollout[["sum"]], of_rollout["size"])
            if mean.n:
                yield {**result(cell, measure, mean), "scale": scale}


def _against_placebo(rollouts: pd.DataFrame, counts: pd.DataFrame) -> Iterator[dict[str, object]]:
    for cell, both in comparisons(rollouts):
        # Under opaque labels the second half tells more: what is gone back to was found by trying.
        for measure in (RATE, LATE) if cell["labels"] == "opaque" else (RATE,):
            sums = counts[list(_SHARES[measure])].set_axis(["numerator", "denominator"], axis=1)
            frame = both[["rollout", "arm", "framing"]].join(sums, on="rollout")
            if comparable(frame[frame["denominator"] > 0]):
                yield result(cell, measure, *ratio_difference(frame, cell["arm"], PLACEBO))
