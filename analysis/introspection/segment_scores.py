"""Detection, localisation and comparison in this suite's logs: was anything there, where was it, and which was the harder?"""

from dataclasses import replace

import pandas as pd

from self_steering.analysis.introspection.gaps import ROLLOUT
from self_steering.analysis.statistics.estimates import Estimate
from self_steering.analysis.statistics.groups import Row, adjusted, estimated, groups
from self_steering.analysis.statistics.intervals import clustered_mean, proportion
from self_steering.analysis.statistics.signal_detection import auroc, d_prime, exact_upper_bound
from self_steering.analysis.statistics.tests import sign_flip
from self_steering.analysis.tables import Tables

MODEL = ["source", "model", "framing"]
_UNCACHED = "uncached"


def score_table(tables: Tables, family: str) -> pd.DataFrame:
    """Return the scored rollouts of one experiment, one row each.

    Args:
        tables: The logs' tables.
        family: detection, localisation or comparison.

    Returns:
        The columns that every row of a rollout has, one column for each figure of its scorer, and of its steered readings `dose`
        (the largest) and `place` (of the right option, from 0) and `options`.
    """
    scores = tables.scores[(tables.scores["family"] == family) & (tables.scores["scorer"] == f"{family}_scorer")]
    known = scores[scores["value"].notna()]
    wide = known.astype({"value": float}).pivot_table(index="rollout", columns="score", values="value").reset_index()
    found = known[ROLLOUT].drop_duplicates("rollout").merge(wide, on="rollout")
    readouts = tables.readouts[(tables.readouts["family"] == family) & (tables.readouts["reading"] != _UNCACHED)]
    by_rollout = readouts.groupby("rollout")
    true = readouts[readouts["is_true"].fillna(value=False).astype(bool)].groupby("rollout")["place"].first()
    read = pd.concat([by_rollout["dose"].max(), by_rollout["options"].first(), true], axis=1)
    return found.merge(read, left_on="rollout", right_index=True, how="left")


def detection_conditions(tables: Tables) -> pd.DataFrame:
    """Return how well injections are told from none, one row a model, framing, arm and dose.

    Returns:
        The columns of `MODEL`, `arm`, `dose`, `n`, `vectors`, `problems`; `says_yes`, the share of trials with log-odds of yes
        above zero; `beyond_line`, the shift of these log-odds beyond the line of the control questions' shifts over their uncached
        log-odds, with `p` by sign flips over vectors and `p_adjusted` (Benjamini-Hochberg over all); `line_slope`, that line's
        mean slope; `net_shift`, the shift beyond the controls' mean, which a mere loss of sureness can raise. Earlier logs have
        only the last. For arms that inject, or tamper with the text, also `d_prime` (log-linear correction) and
        `auroc` against the trials without either, and for the real arm `auroc_over_random` against the random one of the same dose
        and `auroc_over_tampered`; `_low` and `_high` are 95 % bounds over vectors (of d' and AUROC by bootstrap). For the trials
        without injection also `false_positives` and `bound`, the one-sided exact 95 % upper bound of their rate.
    """
    trials = score_table(tables, "detection")
    rows: list[Row] = []
    for key, of_model in groups(trials, MODEL):
        noise = of_model[of_model["arm"] == "placebo"]
        for at, part in groups(of_model[of_model["arm"] != "placebo"], ["arm", "dose"]):
            row = {**key, **at, **_shifts(part), **_separation(part, noise)}
            if at["arm"] == "real":
                random = of_model[(of_model["arm"] == "random") & (of_model["dose"] == at["dose"])]
                others = {"random": random, "tampered": of_model[of_model["arm"] == "tampered"]}
                row |= {
                    name: value
                    for arm, other in others.items()
                    if len(other)
                    for name, value in estimated(f"auroc_over_{arm}", _auroc(part, other)).items()
                }
            rows.append(row)
        if len(noise):
            count = int((noise["log_odds"] > 0).sum())
            bound = exact_upper_bound(count, len(noise))
            rows.append(
                {**key, "arm": "placebo", "dose": 0.0, **_shifts(noise), "false_positives": count, "bound": bound}
            )
    return adjusted(rows)


def accuracy(found: pd.DataFrame, score: str, by: list[str]) -> pd.DataFrame:
    """Return the share of right answers, one row a model, framing, arm, number of options and group of `by`.

    Args:
        found: Of `score_table`.
        score: The column that says whether an answer was right.
        by: Further columns to group by.

    Returns:
        The columns of `MODEL`, `arm`, `options` and `by`, `n`, `vectors`, `right` with `_low` and `_high` (95 %, over vectors),
        `method`; `p`, two-sided by sign flips over vectors of the difference from chance; `p_adjusted`, by Benjamini and Hochberg
        over all rows.
    """
    rows: list[Row] = []
    for key, part in groups(found, [*MODEL, "arm", "options", *by]):
        estimate = share(part[score], part["vector"])
        row = {**key, "n": len(part), "vectors": part["vector"].nunique(), **estimated("right", estimate)}
        over = part[score] - 1 / key["options"]
        tested = sign_flip(over, part["vector"]) if row["vectors"] > 1 else None
        rows.append({**row, "method": estimate.method, "p": tested.p if tested else None})
    return adjusted(rows)


def share(values: pd.Series, clusters: pd.Series) -> Estimate:
    """Return a share of right answers with its interval: Wilson's where each cluster has one trial, else over clusters.

    Over clusters it is a t-interval, kept within 0 and 1; where all clusters agree on 0 or 1 it is Wilson's, a cluster for a trial.

    Args:
        values: 1 for right, 0 for wrong, 0.5 for a tie, [n].
        clusters: The cluster of each, [n].
    """
    estimate = clustered_mean(values, clusters)
    whole = values.isin([0.0, 1.0]).all()
    if whole and (estimate.n == estimate.clusters or estimate.value in (0.0, 1.0)):
        wilson = proportion(round(estimate.value * estimate.clusters), estimate.clusters)
        method = wilson.method if estimate.n == estimate.clusters else "Wilson over clusters"
        return replace(wilson, n=estimate.n, method=method)
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def order_accuracy(tables: Tables) -> pd.DataFrame:
    """Return comparison trials by which sentence was steered harder, one row a rollout and assignment of the doses.

    Returns:
        The columns that every row of a rollout has; `options`; `harder`, `first` or `second`; `right`, 1 where the log-odds of the
        sentence that was steered harder, averaged over both orders of the options, are above zero, 0.5 where they are zero.
    """
    readouts = tables.readouts[(tables.readouts["family"] == "comparison") & (tables.readouts["reading"] != _UNCACHED)]
    logprob = readouts["logprob"].astype(float)
    signed = readouts.assign(signed=logprob.where(readouts["is_true"].astype(bool), -logprob))
    log_odds = signed.groupby(["rollout", "reading"])["signed"].sum().reset_index()
    right = (log_odds["signed"] > 0) + 0.5 * (log_odds["signed"] == 0)
    harder = log_odds["reading"].str.removesuffix(" harder")
    options = readouts.groupby("rollout")["options"].first().reset_index()
    found = log_odds[["rollout"]].assign(harder=harder, right=right).merge(options, on="rollout")
    return found.merge(tables.rollouts[ROLLOUT], on="rollout")


def _shifts(part: pd.DataFrame) -> Row:
    row: Row = {"n": len(part), "vectors": part["vector"].nunique(), "problems": part["problem"].nunique()}
    row |= estimated("says_yes", share((part["log_odds"] > 0).astype(float), part["vector"]))
    row |= estimated("net_shift", clustered_mean(part["net_shift"], part["vector"]))
    beyond = part[part["beyond_line"].notna()] if "beyond_line" in part else part.iloc[:0]
    if len(beyond):
        row |= estimated("beyond_line", clustered_mean(beyond["beyond_line"], beyond["vector"]))
        row["line_slope"] = float(beyond["line_slope"].mean())
    several = len(set(beyond["vector"])) > 1
    return row | {"p": sign_flip(beyond["beyond_line"], beyond["vector"]).p if several else None}


def _separation(part: pd.DataFrame, noise: pd.DataFrame) -> Row:
    if noise.empty:
        return {}
    found = d_prime(part["log_odds"], noise["log_odds"], part["vector"], noise["vector"])
    return {**estimated("d_prime", found), **estimated("auroc", _auroc(part, noise))}


def _auroc(signal: pd.DataFrame, noise: pd.DataFrame) -> Estimate:
    return auroc(signal["log_odds"], noise["log_odds"], signal["vector"], noise["vector"])
