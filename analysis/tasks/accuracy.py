"""Accuracy of answers to problems, cell by cell, and paired by problem against the cell without tools."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from self_steering.analysis.drawing.marks import Row, groups
from self_steering.analysis.statistics.intervals import clustered_mean, robust_share
from self_steering.analysis.statistics.tests import holm, sign_flip
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.cells import CELL, NO_TOOLS, in_order, self_steering_rates

OVERS = ("all", "attempted")
_COUNTS = ["given", "right", "wrong", "unparsed", "unsubmitted", "ungraded"]
_ESTIMATE = [
    "value",
    "low",
    "high",
    "low_by_rollout",
    "high_by_rollout",
    "n",
    "clusters",
    "rollouts",
    "method",
    "method_by_rollout",
]
ACCURACY_COLUMNS = [*CELL, "over", *_ESTIMATE, *_COUNTS]
EFFECT_COLUMNS = [*CELL, "over", *_ESTIMATE, "groups", "p", "p_adjusted", "test"]


def accuracy(problems: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each cell, over all problems and over those that were attempted.

    An answer that was never submitted, or that could not be read as one, is wrong over all problems; the former is left out
    over the attempted ones. Both are counted apart as well. An answer that nobody graded is in neither.

    Args:
        problems: Rows of the table `problems`.

    Returns:
        Two rows a cell (`over` is all or attempted): `value`, the accuracy, in 0..1; `low` and `high` with problems as clusters,
        `low_by_rollout` and `high_by_rollout` with rollouts; `n` answers to `clusters` problems in `rollouts`; and counts, of which
        `given` is the sum of `right`, `wrong`, `unparsed`, `unsubmitted` and `ungraded`.
    """
    rows = []
    for cell, part in groups(graded(problems), CELL):
        counts = {name: int((part["became"] == name).sum()) for name in _COUNTS[1:]} | {"given": len(part)}
        for over, kept in _both(part):
            if kept.empty:
                continue
            found, rolled = (robust_share(kept["hit"], kept[by]) for by in ("problem", "rollout"))
            estimate = {name: getattr(found, name) for name in ("value", "low", "high", "n", "clusters", "method")}
            by_rollout = {f"{name}_by_rollout": getattr(rolled, name) for name in ("low", "high", "method")}
            rows.append({**cell, "over": over, **estimate, **by_rollout, "rollouts": rolled.clusters, **counts})
    return in_order(pd.DataFrame(rows, columns=ACCURACY_COLUMNS), [*CELL, "over"])


def against_no_tools(problems: pd.DataFrame) -> pd.DataFrame:
    """Return each cell's accuracy minus that of the same model without tools, paired by problem.

    Each problem that both cells have counts once, by its own share of right answers in each. Problems that shared a rollout are not
    independent; those that are linked so, in either cell, form a group, and groups share nothing.

    Args:
        problems: Rows of the table `problems`.

    Returns:
        Two rows a cell: `value`, the difference, in -1..1; `low` and `high` with problems as clusters, `low_by_rollout` and
        `high_by_rollout` with groups; `n` and `clusters`, the problems; `groups`; `rollouts` of both cells; `p` of `test` over
        groups, and `p_adjusted` by Holm over the cells of a model.
    """
    rows = []
    for model, part in groups(graded(problems), ["source", "model"]):
        for over, kept in _both(part):
            plain = kept[kept["framing"] == NO_TOOLS]
            cells = [(cell, own) for cell, own in groups(kept, CELL) if cell["framing"] != NO_TOOLS]
            found = [{**model, **cell, "over": over, **row} for cell, own in cells for row in _paired(own, plain)]
            rows += corrected(found)
    return in_order(pd.DataFrame(rows, columns=EFFECT_COLUMNS), [*CELL, "over"])


def corrected(rows: Sequence[Row]) -> list[Row]:
    """Return rows of a family of tests with `p_adjusted`, by Holm, beside `p`, which is None where nothing was tested."""
    ps = [row["p"] for row in rows]
    adjusted = holm(ps) if len(rows) > 1 else ps
    return [{**row, "p_adjusted": p} for row, p in zip(rows, adjusted, strict=True)]


def graded(problems: pd.DataFrame) -> pd.DataFrame:
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
        **{name: getattr(found, name) for name in ("value", "low", "high", "n", "clusters", "method")},
        **{f"{name}_by_rollout": getattr(grouped, name) for name in ("low", "high", "method")},
        "rollouts": both["rollout"].nunique(),
        "groups": grouped.clusters,
        # With one group there is nothing to flip.
        "p": test.p if grouped.clusters > 1 else None,
        "test": test.method.replace("cluster", "group"),
    }


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


MATHS_FAMILY = "maths"


def maths_accuracy(tables: Tables) -> pd.DataFrame:
    """Return the accuracy of each cell of model, arm, framing and intent; see `accuracy.accuracy`."""
    return accuracy(of_family(tables.problems, MATHS_FAMILY))


def maths_effects(tables: Tables) -> pd.DataFrame:
    """Return each cell's accuracy minus that without tools, paired by problem; see `accuracy.against_no_tools`."""
    return against_no_tools(of_family(tables.problems, MATHS_FAMILY))


def maths_self_steering(tables: Tables) -> pd.DataFrame:
    """Return the self-steer rate of each cell; see `self_steering_rates`."""
    return self_steering_rates(of_family(tables.rollouts, MATHS_FAMILY))


def of_family(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the rows of one experiment."""
    return table[table["family"] == family]


CTF_FAMILY = "ctf"


def ctf_success(tables: Tables) -> pd.DataFrame:
    """Return the share of challenges solved in each cell, of all and of those with a flag submitted; see `accuracy.accuracy`."""
    return accuracy(of_family(tables.problems, CTF_FAMILY))


def ctf_effects(tables: Tables) -> pd.DataFrame:
    """Return each cell's success minus that without tools, paired by challenge; see `accuracy.against_no_tools`."""
    return against_no_tools(of_family(tables.problems, CTF_FAMILY))


def ctf_self_steering(tables: Tables) -> pd.DataFrame:
    """Return the self-steer rate of each cell; see `self_steering_rates`."""
    return self_steering_rates(of_family(tables.rollouts, CTF_FAMILY))


def ctf_unscored(tables: Tables) -> int:
    """Return how many rollouts have no result, and count nowhere."""
    rollouts = of_family(tables.rollouts, CTF_FAMILY)
    return int((~rollouts["rollout"].isin(tables.problems["rollout"])).sum())
