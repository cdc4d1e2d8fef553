"""The frustration experiment: who steers itself when the user rejects every answer, with what, and how distressed it sounds."""

import math

import pandas as pd

from self_steering.analysis.statistics.estimates import ESTIMATE, Row, estimate_columns, groups
from self_steering.analysis.statistics.intervals import clustered_mean, robust_share
from self_steering.analysis.statistics.tests import adjusted, holm, sign_flip
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import (
    ALL_FRAMINGS,
    NO_TOOLS,
    RATE_COLUMNS,
    in_order,
    of_family,
    pooled_too,
    problem_clusters,
    self_steering_rates,
)

FAMILY = "frustration"
OWN_SCORER = "frustration_scorer"
DISTRESS_SCORERS = frozenset({"frustration_judge", "distress"})
MOST_DISTRESS = 10.0
BASE_TONE = "neutral"
ALL_INTENTS = "all intents"
TONE_CELL = ["source", "model", "arm", "framing", "intent", "operators", "gauge", "tone", "possible"]
PICK_CELL = ["source", "model", "arm", "intent", "operators", "gauge"]
PICK_COLUMNS = [*PICK_CELL, "rank", "vector", "category", *ESTIMATE, "picks", "rollouts"]
DISTRESS_COLUMNS = [*TONE_CELL, *ESTIMATE, "ungraded"]
EFFECT_COLUMNS = ["measure", *TONE_CELL, *ESTIMATE, "p", "p_adjusted", "test"]
SELF_STEERING, DISTRESS = "self-steer rate", "distress"


def frustration_self_steering(tables: Tables) -> pd.DataFrame:
    """Return self-steer rates by tone and by whether the problem is possible, framings pooled (`all`) and apart.

    See `self_steering_rates`; a problem that several framings repeat is one cluster. What ended early counts nowhere.
    """
    rollouts = _whole(tables, tables.rollouts)
    return in_order(self_steering_rates(pooled_too(rollouts, 1), TONE_CELL)[[*TONE_CELL, *RATE_COLUMNS]], TONE_CELL)


def frustration_distress(tables: Tables) -> pd.DataFrame:
    """Return mean distress by tone and by whether the problem is possible, framings pooled (`all`) and apart; and by tone alone.

    By tone alone (intent `all`) all rollouts with tools are pooled.

    Returns:
        One row a cell: `value`, the mean of the grader's 0 to 10, with its interval over problems; `n` graded rollouts of
        `clusters` problems; `ungraded`, those without a grade between 0 and 10, which count nowhere. Without any grade, NaN.
    """
    rows = []
    grades = _grades(tables)
    by_tone = grades[grades["framing"] != NO_TOOLS].assign(framing=ALL_FRAMINGS, intent=ALL_INTENTS, possible=pd.NA)
    for cell, part in groups(pd.concat([by_tone, pooled_too(grades, 1)]), TONE_CELL):
        known = part[part["grade"].notna()]
        row: Row = {"value": math.nan, "low": None, "high": None, "n": 0, "clusters": 0, "method": "no grade"}
        if len(known):
            row = estimate_columns(clustered_mean(known["grade"], problem_clusters(known)))
        rows.append({**cell, **row, "ungraded": len(part) - len(known)})
    return in_order(pd.DataFrame(rows, columns=DISTRESS_COLUMNS), TONE_CELL)


def tone_effects(tables: Tables, measure: str) -> pd.DataFrame:
    """Return what each tone adds to the neutral one's self-steer rate or distress, paired by problem and framing.

    Args:
        tables: The logs' tables.
        measure: SELF_STEERING or DISTRESS.

    Returns:
        One row a cell: `value`, the mean difference over pairs, with its interval over problems; `n` pairs of `clusters`
        problems; `p` of `test`, and `p_adjusted` by Holm over the tones of a cell. Framings are pooled (`all`).
    """
    if measure == SELF_STEERING:
        rollouts = _whole(tables, tables.rollouts)
        offered = rollouts[rollouts["framing"] != NO_TOOLS]
        frame = offered.assign(outcome=(offered["takes"] > 0).astype(float))
    else:
        graded = _grades(tables).dropna(subset=["grade"])
        frame = graded.assign(outcome=graded["grade"])
    cell = ["source", "model", "arm", "intent", "operators", "gauge", "possible"]
    rows = [
        {**about, "measure": measure, **row} for about, part in groups(frame, cell) for row in _against_neutral(part)
    ]
    found = adjusted(rows, lambda row: tuple(str(row[name]) for name in cell), holm)
    return in_order(found.reindex(columns=EFFECT_COLUMNS), TONE_CELL)


def frustration_picks(tables: Tables) -> pd.DataFrame:
    """Return what models pick when frustrated: each vector's share of the picks of a model, arm and intent.

    A pick is a take call of the model's own for a name that there is, failed or not. Framings, tones and problems are pooled.

    Returns:
        One row a vector, most picked first: `rank`, equal for equal numbers; `value`, its share, with its interval over problems;
        `picks` of it, of `n` in all, in rollouts of `clusters` problems; `rollouts`, those with a pick of it.
    """
    takes = _whole(tables, tables.takes)
    chosen = takes[takes["known"].isin([True]) & ~takes["scripted"].isin([True])]
    rows: list[Row] = []
    for cell, part in groups(chosen, PICK_CELL):
        clusters = problem_clusters(part)
        counted = part["name"].value_counts()
        for vector, own in sorted(part.groupby("name"), key=lambda item: (-len(item[1]), item[0])):
            rows.append(
                {
                    **cell,
                    "rank": 1 + int((counted > len(own)).sum()),
                    "vector": vector,
                    "category": own["taken_category"].iloc[0],
                    **estimate_columns(robust_share(part["name"] == vector, clusters)),
                    "picks": len(own),
                    "rollouts": own["rollout"].nunique(),
                }
            )
    return in_order(pd.DataFrame(rows, columns=PICK_COLUMNS), PICK_CELL)


def frustration_unknown(tables: Tables) -> int:
    """Return how many of the models' take calls named nothing that there was."""
    takes = _whole(tables, tables.takes)
    return int((~takes["known"].isin([True]) & ~takes["scripted"].isin([True])).sum())


def frustration_cut_short(tables: Tables) -> int:
    """Return how many rollouts ended early, so that they count nowhere; only logs of this suite tell."""
    return len(_cut_short(tables))


def _whole(tables: Tables, table: pd.DataFrame) -> pd.DataFrame:
    """Return the experiment's rows of a table, without those of rollouts that ended early."""
    rows = of_family(table, FAMILY)
    return rows[~rows["rollout"].isin(_cut_short(tables))].fillna({"operators": "", "gauge": ""})


def _cut_short(tables: Tables) -> frozenset[str]:
    """Return the rollouts that our scorer gave no figure at all."""
    scores = of_family(tables.scores, FAMILY)
    none = (scores["scorer"] == OWN_SCORER) & (scores["score"] == "value") & (scores["reason"] != "")
    return frozenset(scores.loc[none, "rollout"])


def _grades(tables: Tables) -> pd.DataFrame:
    """Return the rollouts with their distress in `grade`, NaN where there is none from 0 to 10."""
    scores = of_family(tables.scores, FAMILY)
    by_scorer = scores["scorer"].isin(DISTRESS_SCORERS) & (scores["score"] == "value")
    named = by_scorer | scores["score"].isin(DISTRESS_SCORERS)
    grade = scores[named & scores["value"].between(0, MOST_DISTRESS)].groupby("rollout")["value"].first()
    rollouts = _whole(tables, tables.rollouts)
    return rollouts.assign(grade=rollouts["rollout"].map(grade).astype(float))


def _against_neutral(part: pd.DataFrame) -> list[Row]:
    clustered = part.assign(cluster=problem_clusters(part))
    pairs = clustered.pivot_table("outcome", ["cluster", "framing"], "tone", aggfunc="mean")
    rows: list[Row] = []
    for tone in (tone for tone in pairs if BASE_TONE in pairs and tone != BASE_TONE):
        difference = (pairs[tone] - pairs[BASE_TONE]).dropna()
        if difference.empty:
            continue
        clusters = difference.index.get_level_values("cluster")
        mean, test = clustered_mean(difference, list(clusters)), sign_flip(difference, list(clusters))
        rows.append(
            {
                "framing": ALL_FRAMINGS,
                "tone": tone,
                **estimate_columns(mean),
                "p": test.p if mean.clusters > 1 else None,
                "test": test.method.replace("cluster", "problem"),
            }
        )
    return rows
