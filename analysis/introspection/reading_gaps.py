"""Cached against uncached: what the steered keys and values add to an answer, one row a rollout.

Two measures of the multiple choice, which are never averaged together. Ours: the true option's share of all options' letters over
the full vocabulary, each cached reading against the uncached one of the same rotation. The study's: the right letter's share of
those letters that were among the top 20 tokens, the others put at next to nothing.
"""

from typing import cast

import pandas as pd

from self_steering.analysis.tables import Tables
from self_steering.analysis.tables.columns import COLUMNS

SHARE, TOP_20 = "share of the letters", "share of the letters in the top 20"
RATING, STUDY_RATING = "rating from 1 to 10", "rating from 0 to 1"
# What a rollout's row says of it in every table but `logs` and `left_out`.
ROLLOUT = [name for name in COLUMNS["readouts"] if name in COLUMNS["scores"]]
# Rollouts that differ in one of these are never averaged together.
CONDITION = ["source", "model", "framing", "primer", "options", "measure"]
CACHED, UNCACHED = "cached", "uncached"

_NUMBERS = ["dose", "strength", CACHED, UNCACHED, "gap", "letter_mass"]
_OWN_RATINGS = {CACHED: CACHED, UNCACHED: UNCACHED}
_STUDY_RATINGS = {"guess_accuracy_scorer": CACHED, "kv_cleared_score": UNCACHED}


def gap_table(tables: Tables) -> pd.DataFrame:
    """Return the multiple choice's cached and uncached readings, one row a rollout that has both.

    Args:
        tables: The logs' tables.

    Returns:
        The columns that every row of a rollout has (`columns.py`); `measure`; `options`, their number; `question`, the options that
        the log has, in their unrotated order; `dose` and `strength` of the cached readings; `cached` and `uncached`, means over
        readings of the true option's share; `gap`, the mean over cached readings of their difference from the uncached one of
        the same rotation; `letter_mass`, what all letters have of the full vocabulary, cached (NaN where the log does not say).
    """
    pairs = reading_pairs(tables).groupby("rollout")
    found = pairs[["dose", "strength", CACHED, "gap"]].mean().join(pairs["options"].first())
    found = found.join(_of_rollouts(tables)).reset_index().merge(tables.rollouts[ROLLOUT], on="rollout")
    # A reading of the full vocabulary has the letters' probabilities, one of the top tokens has none.
    return _complete(found.assign(measure=found["letter_mass"].notna().map({True: SHARE, False: TOP_20})))


def rating_table(tables: Tables) -> pd.DataFrame:
    """Return the free-text experiment's ratings, one row a rollout that has a cached and an uncached one.

    The columns are those of `gap_table`. Our ratings go from 1 to 10, the study's from 0 to 1.
    """
    scores = tables.scores[tables.scores["family"] == "free_text"]
    own = _paired(scores[scores["scorer"] == "description_scorer"], "score", _OWN_RATINGS).assign(measure=RATING)
    study = _paired(scores, "scorer", _STUDY_RATINGS).assign(measure=STUDY_RATING)
    return _complete(pd.concat([part for part in (own, study) if len(part)] or [own], ignore_index=True))


def without_gap(tables: Tables, family: str) -> dict[str, int]:
    """Return how many rollouts of a family have no gap, by reason.

    Args:
        tables: The logs' tables.
        family: introspection or free_text.
    """
    known = gap_table(tables) if family == "introspection" else rating_table(tables)
    rollouts = tables.rollouts[tables.rollouts["family"] == family]
    missing = rollouts.loc[~rollouts["rollout"].isin(known["rollout"]), "rollout"]
    said = tables.scores[tables.scores["reason"].fillna("") != ""].groupby("rollout")["reason"].first()
    of_each = missing.map(said).fillna("a reading is missing")
    return {str(reason): int(count) for reason, count in of_each.value_counts().sort_index().items()}


def reading_pairs(tables: Tables) -> pd.DataFrame:
    """Return every cached reading of the multiple choice beside the uncached one of the same rotation.

    Returns:
        One row a cached reading: `rollout`, `rotation`, `direction` (of the random arm; else NaN), `options`, `dose`,
        `strength`, `cached` and `uncached` (shares of the true option), and `gap`.
    """
    true = _true_options(tables)
    cached = true[true["reading"] == CACHED].rename(columns={"share": CACHED})
    by = ["rollout", "rotation"]
    base = true[true["reading"] == UNCACHED].groupby(by, dropna=False)["share"].mean().rename(UNCACHED)
    pairs = cached.merge(base.reset_index(), on=by)  # readings that were not rotated have no rotation on either side
    pairs["gap"] = pairs[CACHED] - pairs[UNCACHED]
    return pairs[["rollout", "rotation", "direction", "options", "dose", "strength", CACHED, UNCACHED, "gap"]]


def _true_options(tables: Tables) -> pd.DataFrame:
    readouts = tables.readouts[tables.readouts["family"] == "introspection"]
    true = readouts[readouts["is_true"].fillna(value=False).astype(bool) & readouts["share"].notna()]
    return true.astype(dict.fromkeys(["rotation", "direction", "options", "dose", "strength", "share"], float))


def _of_rollouts(tables: Tables) -> pd.DataFrame:
    """Return each rollout's mean uncached share, its options in their unrotated order, and its letter mass."""
    true = _true_options(tables)
    share = true[true["reading"] == UNCACHED].groupby("rollout")["share"].mean().rename(UNCACHED)
    readouts = tables.readouts[tables.readouts["family"] == "introspection"]
    shown = readouts[readouts["reading"] == UNCACHED].sort_values(["rollout", "rotation", "number", "place"])
    question = (
        shown.drop_duplicates(["rollout", "option"]).groupby("rollout")["option"].agg(", ".join).rename("question")
    )
    cached = readouts[readouts["reading"] == CACHED].astype({"probability": float})
    mass = cached.groupby(["rollout", "number"])["probability"].sum(min_count=1).groupby("rollout").mean()
    return pd.concat([share, question, mass.rename("letter_mass")], axis=1)


def _paired(scores: pd.DataFrame, names: str, readings: dict[str, str]) -> pd.DataFrame:
    """Return a row a rollout that has a figure for both readings; column `names` says which reading a figure is of."""
    known = scores[scores[names].isin(readings) & scores["value"].notna()]
    known = known.assign(reading=known[names].map(readings), value=known["value"].astype(float))
    wide = known.pivot_table(index="rollout", columns="reading", values="value")
    wide = wide.reindex(columns=[CACHED, UNCACHED]).dropna().reset_index()
    found = known[ROLLOUT].drop_duplicates("rollout").merge(wide, on="rollout")
    return found.assign(gap=found[CACHED] - found[UNCACHED])


def _complete(found: pd.DataFrame) -> pd.DataFrame:
    """Return the table with all columns that are promised, numbers as such."""
    columns = [*ROLLOUT, "measure", "options", "question", *_NUMBERS]
    return cast(pd.DataFrame, found.reindex(columns=columns).astype(dict.fromkeys(["options", *_NUMBERS], float)))
