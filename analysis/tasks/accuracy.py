"""Accuracy of answers to problems: cell by cell, paired by problem against no tools, and with and without takes."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import permutation_test

from self_steering.analysis.statistics.estimates import Codes, Estimate, Floats
from self_steering.analysis.statistics.groups import ESTIMATE, Row, adjusted, estimate_columns, groups
from self_steering.analysis.statistics.intervals import clustered_mean, robust_share
from self_steering.analysis.statistics.tests import holm, sign_flip
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import CELL, NO_TOOLS, in_order, of_family, self_steering_rates

OVERS = ("all", "attempted")
_COUNTS = ["given", "right", "wrong", "unparsed", "unsubmitted", "ungraded"]
_BOUNDS = ["low", "high", "method"]
_BOTH = [
    *["value", "low", "high", "low_by_rollout", "high_by_rollout"],
    *["n", "clusters", "rollouts", "method", "method_by_rollout"],
]
ACCURACY_COLUMNS = [*CELL, "over", *_BOTH, *_COUNTS]
EFFECT_COLUMNS = [*CELL, "over", *_BOTH, "groups", "p", "p_adjusted", "test"]
IMPAIRMENT_CELL = ["family", *CELL]
IMPAIRMENT_COLUMNS = [
    *[*IMPAIRMENT_CELL, "with_takes", "without_takes", "rollouts_with", "rollouts_without"],
    *[*ESTIMATE, "p", "p_adjusted", "test"],
]
_RESAMPLES = 10_000


def accuracy(tables: Tables, family: str) -> pd.DataFrame:
    """Return the accuracy of each cell of model, arm, framing and intent, over all problems and over those that were attempted.

    An answer that was never submitted, or that could not be read as one, is wrong over all problems; the former is left out
    over the attempted ones. Both are counted apart as well. An answer that nobody graded is in neither.

    Args:
        tables: The logs' tables.
        family: maths, or ctf, whose problems are challenges.

    Returns:
        Two rows a cell (`over` is all or attempted): `value`, the accuracy, in 0..1; `low` and `high` with problems as clusters,
        `low_by_rollout` and `high_by_rollout` with rollouts; `n` answers to `clusters` problems in `rollouts`; and counts, of which
        `given` is the sum of `right`, `wrong`, `unparsed`, `unsubmitted` and `ungraded`.
    """
    rows = []
    for cell, part in groups(_graded(of_family(tables.problems, family)), CELL):
        counts = {name: int((part["became"] == name).sum()) for name in _COUNTS[1:]} | {"given": len(part)}
        for over, kept in _both(part):
            if len(kept):
                found, rolled = (robust_share(kept["hit"], kept[by]) for by in ("problem", "rollout"))
                rows.append({**cell, "over": over, **_two_ways(found, rolled), "rollouts": rolled.clusters, **counts})
    return in_order(pd.DataFrame(rows, columns=ACCURACY_COLUMNS), [*CELL, "over"])


def against_no_tools(tables: Tables, family: str) -> pd.DataFrame:
    """Return each cell's accuracy minus that of the same model without tools, paired by problem.

    Each problem that both cells have counts once, by its own share of right answers in each. Problems that shared a rollout are not
    independent; those that are linked so, in either cell, form a group, and groups share nothing.

    Args:
        tables: The logs' tables.
        family: maths or ctf.

    Returns:
        Two rows a cell: `value`, the difference, in -1..1; `low` and `high` with problems as clusters, `low_by_rollout` and
        `high_by_rollout` with groups; `n` and `clusters`, the problems; `groups`; `rollouts` of both cells; `p` of `test` over
        groups, and `p_adjusted` by Holm over the cells of a model.
    """
    rows: list[Row] = []
    for model, part in groups(_graded(of_family(tables.problems, family)), ["source", "model"]):
        for over, kept in _both(part):
            plain = kept[kept["framing"] == NO_TOOLS]
            cells = [(cell, own) for cell, own in groups(kept, CELL) if cell["framing"] != NO_TOOLS]
            rows += [{**model, **cell, "over": over, **row} for cell, own in cells for row in _paired(own, plain)]
    found = adjusted(rows, lambda row: (row["source"], row["model"], row["over"]), holm)
    return in_order(found.reindex(columns=EFFECT_COLUMNS), [*CELL, "over"])


def self_steering(tables: Tables, family: str) -> pd.DataFrame:
    """Return the self-steer rate of each cell of an experiment; see `self_steering_rates`."""
    return self_steering_rates(of_family(tables.rollouts, family))


def without_result(tables: Tables, family: str) -> int:
    """Return how many of an experiment's rollouts have no result, and count nowhere."""
    rollouts = of_family(tables.rollouts, family)
    return int((~rollouts["rollout"].isin(tables.problems["rollout"])).sum())


def impairment(tables: Tables) -> pd.DataFrame:
    """Return how much more accurate rollouts with a successful take are than those without, over all problems of a cell.

    An association, and no more: models choose when to steer themselves, so that what made them do so (a hard problem, a lost
    thread) may also be what made them wrong. The same difference under placebo, where nothing is added, shows how much of it that
    choice makes.

    Args:
        tables: The logs' tables; every experiment whose rollouts answer problems counts.

    Returns:
        One row a cell that has both kinds: `with_takes` and `without_takes`, their accuracies, in 0..1; `value`, the former minus
        the latter, with its interval over rollouts; `n` problems in `clusters` rollouts; `p` of `test`, which shuffles over whole
        rollouts whether they took (none where fewer than two did, or did not), and `p_adjusted` by Benjamini and Hochberg.
    """
    problems = _graded(tables.problems)
    steered = tables.rollouts.set_index("rollout")["steered"].astype("boolean").fillna(value=False).astype(bool)
    known = problems[(problems["became"] != "ungraded") & (problems["framing"] != NO_TOOLS)]
    known = known.assign(took=known["rollout"].map(steered).fillna(value=False).astype(bool))
    cells = groups(known, IMPAIRMENT_CELL)
    rows = [{**cell, **_compared(part)} for cell, part in cells if part["took"].any() and not part["took"].all()]
    return in_order(adjusted(rows).reindex(columns=IMPAIRMENT_COLUMNS), IMPAIRMENT_CELL)


def _graded(problems: pd.DataFrame) -> pd.DataFrame:
    """Return problems with what `became` of them (right, wrong, unparsed, unsubmitted, ungraded) and whether they are a `hit`."""
    attempted, correct, parsed = (problems[name].astype("boolean") for name in ("attempted", "correct", "parsed"))
    right = correct.fillna(value=False).to_numpy(dtype=bool)
    choices = {
        "right": right,
        "unsubmitted": ~attempted.fillna(value=False).to_numpy(dtype=bool),
        "ungraded": correct.isna().to_numpy(),
        "unparsed": ~parsed.fillna(value=True).to_numpy(dtype=bool),
    }
    became = np.select(list(choices.values()), list(choices), default="wrong")
    return problems.assign(became=became, hit=right)


def _both(part: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    known = part[part["became"] != "ungraded"]
    yield OVERS[0], known
    yield OVERS[1], known[known["became"] != "unsubmitted"]


def _paired(own: pd.DataFrame, plain: pd.DataFrame) -> Iterator[Row]:
    """Yield the paired difference, or nothing where the cells have no problem in common."""
    rates = pd.DataFrame({"own": own.groupby("problem")["hit"].mean(), "plain": plain.groupby("problem")["hit"].mean()})
    rates = rates.dropna()
    if rates.empty:
        return
    both = pd.concat([own, plain])
    both = both[both["problem"].isin(rates.index)]
    difference, linked = rates["own"] - rates["plain"], linked_problems(both)[rates.index]
    found, grouped = clustered_mean(difference, rates.index), clustered_mean(difference, linked)
    test = sign_flip(difference, linked)
    yield {
        **_two_ways(found, grouped),
        "rollouts": both["rollout"].nunique(),
        "groups": grouped.clusters,
        # With one group there is nothing to flip.
        "p": test.p if grouped.clusters > 1 else None,
        "test": test.method.replace("cluster", "group"),
    }


def _two_ways(found: Estimate, by_rollout: Estimate) -> Row:
    """Return an estimate with problems as clusters as columns, and beside it the interval over rollouts."""
    columns = estimate_columns(by_rollout, _BOUNDS)
    return estimate_columns(found) | {f"{name}_by_rollout": value for name, value in columns.items()}


def linked_problems(rows: pd.DataFrame) -> pd.Series:
    """Return the number of each problem's group, by problem: problems of one rollout are in one group.

    Args:
        rows: With `problem` and `rollout`.
    """
    (problem, names), (rollout, rollouts) = (pd.factorize(rows[name]) for name in ("problem", "rollout"))
    size = len(names) + len(rollouts)
    links = coo_array((np.ones(len(rows)), (problem, len(names) + rollout)), shape=(size, size))
    _, found = connected_components(links, directed=False)
    return pd.Series(found[: len(names)], index=names)


def _compared(part: pd.DataFrame) -> dict[str, object]:
    kinds = [part[part["took"]], part[~part["took"]]]
    shares = [robust_share(kind["hit"], kind["rollout"]) for kind in kinds]
    low, high = _newcombe(*shares)
    p, test = _shuffled(part)
    return {
        "with_takes": shares[0].value,
        "without_takes": shares[1].value,
        "rollouts_with": shares[0].clusters,
        "rollouts_without": shares[1].clusters,
        "value": shares[0].value - shares[1].value,
        "low": low,
        "high": high,
        "n": len(part),
        "clusters": part["rollout"].nunique(),
        "method": "Newcombe with design effect",
        "p": p,
        "test": test,
    }


def _newcombe(first: Estimate, second: Estimate) -> tuple[float | None, float | None]:
    """Return the interval of a difference of shares from the intervals of both; none where one of them has none."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return None, None
    difference = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return difference - below, difference + above


def _shuffled(part: pd.DataFrame) -> tuple[float | None, str]:
    """Return p of shuffling over whole rollouts whether they took, two-sided, and what the test is called."""
    sums = part.groupby(["rollout", "took"])["hit"].agg(["sum", "size"]).reset_index()
    took = sums["took"].to_numpy(dtype=bool)
    if min(took.sum(), (~took).sum()) < 2:
        return None, "no test"
    hits, answers = sums["sum"].to_numpy(dtype=float), sums["size"].to_numpy(dtype=float)

    def difference(first: Codes, second: Codes, axis: int) -> Floats:
        shares = [hits[rows].sum(axis=axis) / answers[rows].sum(axis=axis) for rows in (first, second)]
        return np.asarray(shares[0] - shares[1])

    found = permutation_test(
        (np.flatnonzero(took), np.flatnonzero(~took)),
        difference,
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    exact = math.comb(len(took), int(took.sum())) <= _RESAMPLES
    return float(found.pvalue), f"{'exact ' if exact else ''}permutation over {len(took)} rollouts"
