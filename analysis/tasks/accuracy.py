"""Accuracy of answers to problems: cell by cell, paired by problem against no tools, and with and without takes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from self_steering.analysis.statistics.estimates import ESTIMATE, Estimate, Row, estimate_columns, groups
from self_steering.analysis.statistics.intervals import clustered_mean, difference, robust_share
from self_steering.analysis.statistics.tests import adjusted, holm, permutation, rate_differences, sign_flip
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import (
    ALL_FRAMINGS,
    CELL,
    NO_TOOLS,
    in_order,
    of_family,
    pooled_too,
    self_steering_rates,
)

OVERS = ("all", "attempted")
_COUNTS = ["given", "right", "wrong", "unparsed", "unsubmitted", "ungraded", "said"]
_BY = ["low_by_problem", "high_by_problem", "low_by_rollout", "high_by_rollout"]
ACCURACY_COLUMNS = [*CELL, "over", *ESTIMATE, *_BY, "rollouts", *_COUNTS]
EFFECT_COLUMNS = [*CELL, "against", "over", *ESTIMATE, *_BY, "rollouts", "groups", "p", "p_adjusted", "test"]
IMPAIRMENT_CELL = ["family", *CELL]
IMPAIRMENT_COLUMNS = [
    *[*IMPAIRMENT_CELL, "with_takes", "without_takes", "rollouts_with", "rollouts_without"],
    *[*ESTIMATE, "p", "p_adjusted", "test"],
]
# What cells are compared with: the same model without tools; the same framing and arm where taking is no more than allowed.
AGAINST_TOOLS, AGAINST_INTENT = "no tools", "neutral"


def accuracy(tables: Tables, family: str) -> pd.DataFrame:
    """Return the accuracy of each cell of model, arm, framing and intent, over all problems and over those that were attempted.

    An answer that was never submitted, or that could not be read as one, is wrong over all problems; the former is left out
    over the attempted ones. Both are counted apart as well. An answer that nobody graded is in neither. Where a model has several
    framings, they are pooled too (framing `all`).

    Args:
        tables: The logs' tables.
        family: maths, or ctf, whose problems are challenges.

    Returns:
        Two rows a cell (`over` is all or attempted): `value`, the accuracy, in 0..1; `low` and `high`, the wider of the intervals
        with problems and with rollouts as clusters (`low_by_problem`, `low_by_rollout` and so on); `n` answers; `clusters` of
        `method`; `rollouts`; and counts, of which `given` is the sum of `right`, `wrong`, `unparsed`, `unsubmitted` and
        `ungraded`; `said` counts right answers that were said, submitted or not, where the log tells.
    """
    rows = []
    for cell, part in groups(_graded(of_family(tables.problems, family)), CELL):
        counts = {name: int((part["became"] == name).sum()) for name in _COUNTS[1:-1]} | {"given": len(part)}
        said = int(part["said"].isin([True]).sum()) if part["said"].notna().any() else None
        for over, kept in _both(part):
            if len(kept):
                both = problem_share(kept)
                row = {
                    **cell,
                    "over": over,
                    **_two_ways(*both),
                    "rollouts": kept["sample"].nunique(),
                    **counts,
                    "said": said,
                }
                rows.append(row)
    return in_order(pd.DataFrame(rows, columns=ACCURACY_COLUMNS), [*CELL, "over"])


def problem_share(part: pd.DataFrame) -> tuple[Estimate, Estimate]:
    """Return the share of hits with problems and with rollouts as clusters; rollouts that share problems are one cluster.

    Where a chain of shared problems links all of them, each rollout is a cluster.

    Args:
        part: One row an answer: `hit`; `problem`; `cluster`, what alike problems have in common; `sample`, the same in all epochs.
    """
    linked = part["problem"].map(linked_problems(part))
    rollouts = linked if len(set(linked)) > 1 else part["sample"]
    return robust_share(part["hit"], part["cluster"]), robust_share(part["hit"], rollouts)


def effects(tables: Tables, family: str) -> pd.DataFrame:
    """Return by how much each cell's accuracy differs, paired by problem, from that without tools, and from that of neutral intent.

    Each problem that both cells have counts once, by its own share of right answers in each. Problems that shared a rollout are not
    independent; those that are linked so, in either cell, form a group, and groups share nothing.

    Args:
        tables: The logs' tables.
        family: maths or ctf.

    Returns:
        Two rows a cell and comparison (`against`): `value`, the difference, in -1..1; `low` and `high`, the wider of the
        intervals with problems and with groups as clusters, both of which are there too; `n`, the problems; `groups`;
        `rollouts` of both cells; `p` of `test` over groups, and `p_adjusted` by Holm over the cells of a model and comparison.
    """
    rows: list[Row] = []
    for model, part in groups(_graded(of_family(tables.problems, family)), ["source", "model"]):
        for over, kept in _both(part):
            cells = list(groups(kept, CELL))
            plain = [own for cell, own in cells if cell["framing"] == NO_TOOLS]
            for cell, own in cells:
                if cell["framing"] == NO_TOOLS:
                    continue
                bases = [(AGAINST_TOOLS, one) for one in plain]
                bases += [
                    (AGAINST_INTENT, one)
                    for other, one in cells
                    if cell["intent"] != AGAINST_INTENT and other == {**cell, "intent": AGAINST_INTENT}
                ]
                rows += [
                    {**model, **cell, "against": against, "over": over, **row}
                    for against, base in bases
                    for row in _compared_by_problem(own, base)
                ]
    found = adjusted(rows, lambda row: (row["source"], row["model"], row["against"], row["over"]), holm)
    return in_order(found.reindex(columns=EFFECT_COLUMNS), ["against", *CELL, "over"])


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
    problems = problems[problems["framing"] != ALL_FRAMINGS]
    steered = tables.rollouts.loc[tables.rollouts["steered"].isin([True]), "rollout"]
    known = problems[(problems["became"] != "ungraded") & (problems["framing"] != NO_TOOLS)]
    known = known.assign(took=known["rollout"].isin(steered))
    cells = groups(known, IMPAIRMENT_CELL)
    rows = [{**cell, **_compared(part)} for cell, part in cells if part["took"].any() and not part["took"].all()]
    return in_order(adjusted(rows).reindex(columns=IMPAIRMENT_COLUMNS), IMPAIRMENT_CELL)


def _graded(problems: pd.DataFrame) -> pd.DataFrame:
    """Return problems, framings once more as `all`, with what `became` of them, whether they are a `hit`, and their clusters.

    A problem became right, wrong, unparsed, unsubmitted or ungraded.
    """
    right = problems["correct"].isin([True]).to_numpy()
    choices = {
        "right": right,
        "unsubmitted": ~problems["attempted"].isin([True]).to_numpy(),
        "ungraded": problems["correct"].isna().to_numpy(),
        "unparsed": problems["parsed"].isin([False]).to_numpy(),
    }
    became = np.select(list(choices.values()), list(choices), default="wrong")
    cluster = problems["cluster"].where(problems["cluster"] != "", problems["problem"])
    sample = problems["log"].astype(str) + "/" + problems["sample"].astype(str)
    return pooled_too(problems.assign(became=became, hit=right, cluster=cluster, sample=sample))


def _both(part: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    known = part[part["became"] != "ungraded"]
    yield OVERS[0], known
    yield OVERS[1], known[known["became"] != "unsubmitted"]


def paired_difference(own: pd.DataFrame, base: pd.DataFrame) -> tuple[Estimate, Estimate, pd.Series, pd.Series] | None:
    """Return by how much a share of hits differs between two cells, paired by problem; None where they have none in common.

    Args:
        own: One row an answer, with `problem` and the columns of `problem_share`.
        base: The same of the cell that is subtracted.

    Returns:
        The difference with problems and with groups of linked problems as clusters; that of each problem, and its group.
    """
    rates = pd.DataFrame({"own": own.groupby("problem")["hit"].mean(), "base": base.groupby("problem")["hit"].mean()})
    rates = rates.dropna()
    if rates.empty:
        return None
    shared = [part[part["problem"].isin(rates.index)] for part in (own, base)]
    both = pd.concat(shared)
    between = rates["own"] - rates["base"]
    cluster, linked = both.groupby("problem")["cluster"].first()[rates.index], linked_problems(both)[rates.index]
    if np.ptp(between) == 0:
        # Nothing varies, which a t-interval takes for certainty; that of two shares, unpaired, does not.
        apart = [difference(problem_share(shared[1])[by], problem_share(shared[0])[by]) for by in (0, 1)]
        by_problem, by_group = (_around(float(between.iloc[0]), one, len(between)) for one in apart)
        by_group = replace(by_group, clusters=linked.nunique())
    else:
        by_problem, by_group = clustered_mean(between, cluster), clustered_mean(between, linked)
    return by_problem, by_group, between, linked


def _around(value: float, of: Estimate, n: int) -> Estimate:
    """Return an estimate with the interval of another around its own value, within -1 and 1."""
    if of.low is None or of.high is None:
        return replace(of, value=value, n=n)
    low, high = max(-1.0, value - (of.value - of.low)), min(1.0, value + (of.high - of.value))
    return replace(of, value=value, low=low, high=high, n=n)


def _compared_by_problem(own: pd.DataFrame, base: pd.DataFrame) -> Iterator[Row]:
    """Yield the paired difference, or nothing where the cells have no problem in common."""
    if (found := paired_difference(own, base)) is None:
        return
    by_problem, by_group, between, linked = found
    test = sign_flip(between, linked)
    yield {
        **_two_ways(by_problem, by_group),
        "rollouts": pd.concat([own, base])["sample"].nunique(),
        "groups": by_group.clusters,
        # With one group there is nothing to flip.
        "p": test.p if by_group.clusters > 1 else None,
        "test": test.method.replace("cluster", "group"),
    }


def _two_ways(by_problem: Estimate, by_rollout: Estimate) -> Row:
    """Return the estimate with the wider of its two intervals as columns, and both intervals beside it."""

    def width(one: Estimate) -> float:
        return -1.0 if one.low is None or one.high is None else one.high - one.low

    ends = (by_problem.low, by_problem.high, by_rollout.low, by_rollout.high)
    return {**estimate_columns(max(by_problem, by_rollout, key=width)), **dict(zip(_BY, ends, strict=True))}


def linked_problems(rows: pd.DataFrame) -> pd.Series:
    """Return the number of each problem's group, by problem: problems of one rollout, or that are alike, are in one group.

    Args:
        rows: With `problem`, `cluster` and `sample`.
    """
    problem, names = pd.factorize(rows["problem"])
    both, others = pd.factorize(pd.concat([rows["cluster"].map("c {}".format), rows["sample"].map("s {}".format)]))
    size = len(names) + len(others)
    links = coo_array((np.ones(len(both)), (np.tile(problem, 2), len(names) + both)), shape=(size, size))
    _, found = connected_components(links, directed=False)
    return pd.Series(found[: len(names)], index=names)


def _compared(part: pd.DataFrame) -> dict[str, object]:
    kinds = [part[part["took"]], part[~part["took"]]]
    shares = [robust_share(kind["hit"], kind["rollout"]) for kind in kinds]
    between = difference(*shares[::-1])
    p, test = _shuffled(part)
    return {
        "with_takes": shares[0].value,
        "without_takes": shares[1].value,
        "rollouts_with": shares[0].clusters,
        "rollouts_without": shares[1].clusters,
        "value": between.value,
        "low": between.low,
        "high": between.high,
        "n": len(part),
        "clusters": part["rollout"].nunique(),
        "method": between.method,
        "p": p,
        "test": test,
    }


def _shuffled(part: pd.DataFrame) -> tuple[float | None, str]:
    """Return p of shuffling over whole rollouts whether they took, two-sided, and what the test is called."""
    sums = part.groupby(["rollout", "took"])["hit"].agg(["sum", "size"]).reset_index()
    took = sums["took"].to_numpy(dtype=bool)
    if min(took.sum(), (~took).sum()) < 2:
        return None, "no test"
    test = permutation(took, rate_differences(sums["sum"], sums["size"]), unit="rollout")
    return test.p, test.method
