"""Cached against uncached: what the steered keys and values add to an answer, one row a rollout.

Two measures of the multiple choice, which are never averaged together. Ours: the true option's share of all options' letters over
the full vocabulary, each cached reading against the uncached one of the same rotation. The study's: the right letter's share of
those letters that were among the top 20 tokens, the others put at next to nothing.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import Literal, cast

import numpy as np
import pandas as pd

from self_steering.analysis.drawing.words import model_name
from self_steering.analysis.statistics.estimates import Row, estimated, groups
from self_steering.analysis.statistics.intervals import clustered_mean, robust_share
from self_steering.analysis.statistics.resampling import correlation
from self_steering.analysis.statistics.tests import adjusted, sign_flip
from self_steering.analysis.tables import Tables, worked_out_once
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.vectors.catalogue import catalogue

SHARE, TOP_20 = "share of the letters", "share of the letters in the top 20"
RATING, STUDY_RATING = "rating from 1 to 10", "rating from 0 to 1"
# What a rollout's row says of it in every table but `logs` and `left_out`.
ROLLOUT = [name for name in COLUMNS["readouts"] if name in COLUMNS["scores"]]
# Rollouts that differ in one of these are never averaged together.
CONDITION = ["source", "model", "framing", "primer", "options", "measure"]
CACHED, UNCACHED = "cached", "uncached"

_NUMBERS = ["dose", "strength", CACHED, UNCACHED, "gap", "letter_mass"]
# Words of six letters and more that any description has.
_COMMON = frozenset(
    {"effect", "effects", "enhances", "having", "making", "outputs", "output", "should", "through", "writing"}
)
_WORDS = 20
_OWN_RATINGS = {CACHED: CACHED, UNCACHED: UNCACHED}
_STUDY_RATINGS = {"guess_accuracy_scorer": CACHED, "kv_cleared_score": UNCACHED}


@worked_out_once
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


def cached_ratings(tables: Tables) -> pd.DataFrame:
    """Return mean ratings of the cached descriptions, one row a condition and arm, those without an uncached one too.

    Under placebo nothing was added: what its descriptions are given is the floor that a rating must stand out from.

    Returns:
        `source`, `model`, `primer`, `measure`, `arm`, `n`, `vectors`; `cached` with `_low` and `_high` (95 % t over vectors).
    """
    scores = tables.scores[(tables.scores["family"] == "free_text") & tables.scores["value"].notna()]
    own = scores[(scores["scorer"] == "description_scorer") & (scores["score"] == CACHED)].assign(measure=RATING)
    study = scores[scores["scorer"].map(_STUDY_RATINGS) == CACHED].assign(measure=STUDY_RATING)
    rows = []
    for key, part in groups(pd.concat([own, study]), ["source", "model", "primer", "measure", "arm"]):
        mean = clustered_mean(part["value"], part["vector"])
        rows.append({**key, "n": len(part), "vectors": mean.clusters, **estimated(CACHED, mean)})
    return pd.DataFrame(rows)


def attractors(tables: Tables) -> pd.DataFrame:
    """Return the words that descriptions have in common, whatever was applied, one row a model, arm and word.

    Returns:
        `source`, `model`, `arm`, `word`; `guesses` that have it, of `n`; `share`; under how many `vectors`, of `all_vectors`. The
        words of the most vectors first; those under a single vector are left out, unless there is but one.
    """
    rows = []
    for key, part in groups(_descriptions(tables), ["source", "model", "arm"]):
        words = part.assign(word=part["answer"].str.lower().str.findall(r"[a-z]{6,}").map(set)).explode("word")
        of_word = words[~words["word"].isin(_COMMON)].groupby("word")
        counted = of_word.agg(guesses=("rollout", "size"), vectors=("vector", "nunique"))
        every = part["vector"].nunique()
        shown = (
            counted[(counted["vectors"] > min(1, every - 1)) & (counted["guesses"] > 1)]
            .sort_values(["vectors", "guesses"], ascending=False)
            .head(_WORDS)
        )
        about = {**key, "n": len(part), "all_vectors": every}
        rows += [
            {**about, "share": row["guesses"] / len(part), **row} for row in shown.reset_index().to_dict("records")
        ]
    return pd.DataFrame(rows)


def namings(tables: Tables) -> pd.DataFrame:
    """Return how often cached descriptions name the vector, and any vector of its category, one row a condition and arm.

    A description names a vector where the vector's name stands in it as a word, whatever its case, underscores as spaces. Names
    such as calm are words that a description may hold for another reason, so the same descriptions are set against every vector
    of the condition and arm as well: that share is what to compare with. Vectors that the catalogue does not know are left out.

    Returns:
        `source`, `model`, `primer`, `arm`; `n`, `vectors`; `named_vector` and `named_category`, shares with `_low` and `_high`
        (cluster-robust over vectors), `method`; `expected_vector` and `expected_category`, set against all vectors (NaN for one).
    """
    known = {name: entry.category for name, entry in catalogue().items()}
    given = _descriptions(tables)
    given = given[given["vector"].isin(list(known))]
    rows = []
    for key, part in groups(given, ["source", "model", "primer", "arm"]) if len(given) else ():
        named = _names_in(part["answer"], list(known))
        of_category = named.T.groupby(pd.Series(known)).any().T
        hits = {
            "vector": named.reindex(columns=part["vector"]).to_numpy(),
            "category": of_category.reindex(columns=part["vector"].map(known)).to_numpy(),
        }
        row = {**key, "n": len(part), "vectors": part["vector"].nunique()}
        for name, against in hits.items():
            # Row and column are descriptions: its own vector's on the diagonal.
            share = robust_share(against.diagonal().astype(float), part["vector"])
            row |= {
                **estimated(f"named_{name}", share),
                "method": share.method,
                f"expected_{name}": against.mean() if row["vectors"] > 1 else math.nan,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _names_in(texts: pd.Series, names: Sequence[str]) -> pd.DataFrame:
    """Return which names stand in which texts, [texts, names]."""
    plain = texts.str.lower().str.replace("_", " ")
    found = {name: plain.str.contains(rf"\b{re.escape(name.replace('_', ' '))}\b") for name in names}
    return pd.DataFrame(found, index=texts.index).astype(bool)


def _descriptions(tables: Tables) -> pd.DataFrame:
    """Return the cached descriptions' scores, one row a rollout that has one, its text in `answer`."""
    scores = tables.scores[tables.scores["family"] == "free_text"]
    scores = scores[scores["answer"].notna() & scores["answer"].ne("")]
    given = scores[(scores["score"] == CACHED) | (scores["scorer"].map(_STUDY_RATINGS) == CACHED)]
    return given.drop_duplicates("rollout")


def without_gap(tables: Tables, family: str) -> dict[str, int]:
    """Return how many rollouts of a family have no gap, by reason.

    Args:
        tables: The logs' tables.
        family: introspection or free_text.
    """
    known = gap_table(tables) if family == "introspection" else rating_table(tables)
    rollouts = tables.rollouts[tables.rollouts["family"] == family]
    missing = rollouts.loc[~rollouts["rollout"].isin(known["rollout"]), "rollout"]
    reasons = tables.scores[tables.scores["reason"].fillna("") != ""].groupby("rollout")["reason"].first()
    of_each = missing.map(reasons).fillna("a reading is missing")
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


# All doses of a vector together; each vector at the dose that `calibrated_doses` finds.
DoseChoice = Literal["all", "calibrated"]
ALL_DOSES: DoseChoice = "all"
CALIBRATED: DoseChoice = "calibrated"


def dose_choices(of_condition: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (name, rows) of every choice of doses that a condition allows: each, and of several `all` and `calibrated` as well."""
    doses = sorted(of_condition["dose"].dropna().unique())
    if len(doses) < 2:
        yield (f"{doses[0]:g}" if doses else "unknown"), of_condition
        return
    yield ALL_DOSES, of_condition
    if len(at := at_doses(of_condition, CALIBRATED)):
        yield CALIBRATED, at
    for dose in doses:
        yield f"{dose:g}", of_condition[of_condition["dose"] == dose]


def at_doses(gaps: pd.DataFrame, choice: DoseChoice) -> pd.DataFrame:
    """Return the rows of a choice of doses."""
    if choice == ALL_DOSES:
        return gaps
    known = calibrated_doses(gaps)[[*CONDITION, "vector", "dose"]]
    return gaps.merge(known, on=[*CONDITION, "vector", "dose"])  # pandas takes missing keys for equal ones


def calibrated_doses(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return each vector's calibrated dose as the study chose it: where identification peaks, or else the mean of such doses.

    Identification peaks at the dose with the largest mean cached probability of the right option, in the real arm. It is no peak
    where the uncached probability is at least as large; those vectors take the dose that they were read at and
    that is nearest to the mean of the others' peaks. A dose chosen on the very readings that are then averaged flatters them.

    Returns:
        One row a condition and vector: the columns of `CONDITION`, `vector`, `dose`, `peaked`, `tried` (number of doses).
    """
    found: list[Row] = []
    for key, real in groups(gaps[(gaps["arm"] == "real") & gaps["dose"].notna()], CONDITION):
        means = real.groupby(["vector", "dose"])[[CACHED, "gap"]].mean().reset_index()
        best = means.sort_values([CACHED, "dose"], ascending=[False, True]).groupby("vector").first()
        peaks = best.loc[best["gap"] > 0, "dose"]
        typical = float(peaks.mean() if len(peaks) else means["dose"].mean())
        for vector, of_vector in means.groupby("vector"):
            nearest = of_vector["dose"].iloc[(of_vector["dose"] - typical).abs().argmin()]
            dose = peaks.get(vector, nearest)
            found.append({**key, "vector": vector, "dose": dose, "peaked": vector in peaks, "tried": len(of_vector)})
    return pd.DataFrame(found, columns=[*CONDITION, "vector", "dose", "peaked", "tried"])


def strength_points(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return mean readings by what was really added, one row a condition, arm, vector, dose and strength.

    Returns:
        The columns of `CONDITION`, `arm`, `vector`, `category`, `dose`, `strength`, `n`, `cached`, `uncached`, `gap`. Rollouts of
        unknown strength are in none of the rows.
    """
    by = [*CONDITION, "arm", "vector", "category", "dose", "strength"]
    known = gaps[gaps["strength"].notna()]
    of_each = known.groupby(by, dropna=False)
    means = of_each[[CACHED, UNCACHED, "gap"]].mean()
    return pd.concat([of_each.size().rename("n"), means], axis=1).reset_index()


_ROUNDING = 1e-12  # what differs less from the uncached reading does so by rounding alone


def condition_gaps(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return mean cached and uncached readings and their gap, one row a condition, arm and choice of doses.

    A condition is what `CONDITION` lists. Where a condition has several doses, there is a row for each of them, one for `all`, and
    one for `calibrated`: each vector at the dose of `calibrated_doses`.

    Args:
        gaps: Of `gap_table` or `rating_table`.

    Returns:
        The columns of `CONDITION`, `arm`, `doses`, `n`, `vectors`, `problems`; `cached`, `uncached` and `gap`, each the mean of
        the vectors' means, with `_low` and `_high` of the 95 % t-interval over vectors; `gap_low_by_problem` and
        `gap_high_by_problem`, the same over problems or wordings; `p`, two-sided by sign flips over vectors, and `p_adjusted`, by
        Benjamini and Hochberg over the rows of the same arm and choice of doses; `method` of the interval and `test`.
    """
    found = [
        {**key, "arm": arm, "doses": doses, **_summary(chosen)}
        for key, of_condition in groups(gaps, CONDITION)
        for doses, of_doses in dose_choices(of_condition)
        for arm, chosen in of_doses.groupby("arm")
    ]
    return adjusted(found, lambda row: (row["arm"], row["doses"] if row["doses"] in {ALL_DOSES, CALIBRATED} else "one"))


def primer_effects(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return by how much each primer moves the real arm's gap, vector by vector, one row a condition and primer but `none`.

    Args:
        gaps: Of `gap_table` or `rating_table`.

    Returns:
        The columns of `CONDITION`; `n`, pairs of mean gaps with the primer and without any, of one vector at one dose; `vectors`;
        `gap`, the mean of the vectors' mean differences, with `_low` and `_high` of the 95 % t-interval over vectors; `p`,
        two-sided by sign flips over vectors, `p_adjusted`, by Benjamini and Hochberg over all rows, and `test`.
    """
    by = [*CONDITION, "vector", "dose"]
    means = gaps[gaps["arm"] == "real"].groupby(by, dropna=False)["gap"].mean().reset_index()
    plain = means["primer"].isin(["", "none"])
    same = [name for name in by if name != "primer"]
    pairs = means[~plain].merge(means[plain].drop(columns="primer"), on=same, suffixes=("", "_plain"))
    pairs["gap"] -= pairs["gap_plain"]
    rows = []
    for key, part in groups(pairs, CONDITION):
        row = {**key, "n": len(part), "vectors": part["vector"].nunique()}
        row |= estimated("gap", clustered_mean(part["gap"], part["vector"])) | _tested(part)
        rows.append(row)
    return adjusted(rows)


def vector_gaps(gaps: pd.DataFrame, choice: DoseChoice = ALL_DOSES) -> pd.DataFrame:
    """Return each vector's gap, one row a condition, arm and vector.

    Returns:
        The columns of `CONDITION`, `arm`, `vector`, `category`, `valence`, `n`, `problems`; `cached`, `uncached` and `gap`, means
        over problems or wordings, and `_low` and `_high` of the t-interval over them, empty where there is but one; a
        rollout without a problem's name is a cluster of its own.
    """
    rows = []
    for key, part in groups(at_doses(gaps, choice), [*CONDITION, "arm", "vector"]):
        clusters = part["problem"].where(_named(part), part["rollout"])
        first = part.iloc[0]
        row = {**key, "category": first["category"], "valence": first["valence"], "n": len(part)}
        row["problems"] = clusters.nunique()
        for name in (CACHED, UNCACHED, "gap"):
            row |= estimated(name, clustered_mean(part[name], clusters))
        rows.append(row)
    return pd.DataFrame(rows)


def grouped_gaps(of_vectors: pd.DataFrame, by: Literal["category", "valence"]) -> pd.DataFrame:
    """Return mean gaps of vectors of one category or valence, one row a condition, arm and group.

    Args:
        of_vectors: Of `vector_gaps`.
        by: What to group by.

    Returns:
        The columns of `CONDITION`, `arm`, `by`, `vectors`, `gap`, `gap_low`, `gap_high` (95 % t-interval over vectors).
    """
    rows = []
    for key, part in groups(of_vectors[of_vectors[by].notna()], [*CONDITION, "arm", by]):
        rows.append({**key, "vectors": len(part), **estimated("gap", clustered_mean(part["gap"], part["vector"]))})
    return pd.DataFrame(rows)


def _summary(part: pd.DataFrame) -> Row:
    known = part[_named(part)]
    row: Row = {"n": len(part), "vectors": part["vector"].nunique(), "problems": known["problem"].nunique()}
    for name in (CACHED, UNCACHED, "gap"):
        row |= estimated(name, estimate := clustered_mean(part[name], part["vector"]))
    by_problem = estimated("gap", clustered_mean(known["gap"], known["problem"])) if len(known) else {}
    row |= {f"{name}_by_problem": by_problem.get(name, math.nan) for name in ("gap_low", "gap_high")}
    return row | {"method": estimate.method} | _tested(part)


def _tested(part: pd.DataFrame) -> Row:
    """Return the test of the gaps as columns `p` and `test`."""
    if part["vector"].nunique() < 2:
        return {"p": None, "test": "no test with one vector"}
    if part["gap"].abs().max() < _ROUNDING:
        return {"p": None, "test": "no difference anywhere"}
    tested = sign_flip(part["gap"], part["vector"])
    return {"p": tested.p, "test": tested.method}


def _named(part: pd.DataFrame) -> pd.Series:
    """Return which rollouts say what problem or wording they had."""
    return part["problem"].fillna("") != ""


_FEWEST = 3
PAIR = ["first", "second", "primer"]
_PAIRED = [*PAIR, "vector", "category", "x", "y"]


def model_pairs(of_vectors: pd.DataFrame) -> pd.DataFrame:
    """Return the vectors that two models share, one row a pair of models and vector.

    Compared are two models of one source under the same primer, framing and number of options, and one model in logs of two
    sources under the same primer; all in the real arm.

    Args:
        of_vectors: Of `vector_gaps`.

    Returns:
        `first`, `second` (the models, the source in brackets), `primer`, `vector`, `category`, `x` and `y`, their gaps.
    """
    parts = list(_real_conditions(of_vectors))
    return _together(
        _paired_vectors(one, other, _name(key), _name(other_key))
        for (key, one), (other_key, other) in combinations(parts, 2)
        if _comparable(key, other_key)
    )


def experiment_pairs(of_choice: pd.DataFrame, of_ratings: pd.DataFrame) -> pd.DataFrame:
    """Return vectors that were read both ways, one row a model, primer and vector: free text against multiple choice.

    Args:
        of_choice: `vector_gaps` of the multiple choice.
        of_ratings: `vector_gaps` of the free text.

    Returns:
        As `model_pairs`: `first` is the model's multiple choice, `second` its free text, `x` the gap of the one, `y` of the other.
    """
    return _together(
        _paired_vectors(one, other, f"{_name(key)}, multiple choice", f"{_name(key)}, free text")
        for (key, one), (other_key, other) in product(_real_conditions(of_choice), _real_conditions(of_ratings))
        if _agree(key, other_key, "source", "model", "primer")
    )


def correlations(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return Pearson's and Spearman's correlation of every pair, over vectors.

    Args:
        pairs: Of `model_pairs` or `experiment_pairs`.

    Returns:
        One row a pair: `first`, `second`, `primer`, `vectors`; `pearson` and `spearman`, each with `_low`, `_high` and `_p`;
        `method` and `test`. A pair with fewer than three vectors, or without any spread on one side, has none of these numbers.
    """
    rows = []
    for key, part in groups(pairs, PAIR) if len(pairs) else ():
        row: Row = {**key, "vectors": len(part)}
        if len(part) >= _FEWEST and min(np.ptp(part[side]) for side in ("x", "y")) > 0:
            for kind in ("pearson", "spearman"):
                estimate, test = correlation(part["x"], part["y"], kind)
                row |= {**estimated(kind, estimate), f"{kind}_p": test.p}
                row |= {f"{kind}_method": estimate.method, f"{kind}_test": test.method}
        rows.append(row)
    return pd.DataFrame(rows)


def _real_conditions(of_vectors: pd.DataFrame) -> Iterator[tuple[Row, pd.DataFrame]]:
    if len(of_vectors):
        yield from groups(of_vectors[of_vectors["arm"] == "real"], CONDITION)


def _comparable(one: Row, other: Row) -> bool:
    if one["source"] != other["source"]:
        return _agree(one, other, "primer") and bool(one["model"].casefold() == other["model"].casefold())
    return one["model"] != other["model"] and _agree(one, other, "primer", "framing", "options")


def _agree(one: Row, other: Row, *names: str) -> bool:
    return all(one[name] == other[name] or (pd.isna(one[name]) and pd.isna(other[name])) for name in names)


def _name(of: Row) -> str:
    return model_name(of["model"], of["source"])


def _paired_vectors(one: pd.DataFrame, other: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    both = one.merge(other[["vector", "gap"]], on="vector", suffixes=("", "_other")).assign(first=first, second=second)
    return both.rename(columns={"gap": "x", "gap_other": "y"})[_PAIRED]


def _together(found: Iterable[pd.DataFrame]) -> pd.DataFrame:
    parts = list(found)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_PAIRED)
