"""General impairment: are rollouts in which the model steered itself less accurate? An association, and no more.

Models choose when to steer themselves, so that what made them do so (a hard problem, a lost thread) may also be what made them
wrong. The same difference under placebo, where nothing is added, shows how much of it that choice makes.
"""

import math

import numpy as np
import pandas as pd
from scipy.stats import permutation_test

from self_steering.analysis.drawing.marks import groups
from self_steering.analysis.statistics.estimates import Codes, Estimate, Floats
from self_steering.analysis.statistics.intervals import robust_share
from self_steering.analysis.statistics.tests import benjamini_hochberg
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import graded
from self_steering.analysis.tasks.cells import CELL, NO_TOOLS, in_order

_RESAMPLES = 10_000
IMPAIRMENT_CELL = ["family", *CELL]
IMPAIRMENT_COLUMNS = [
    *IMPAIRMENT_CELL,
    *["with_takes", "without_takes", "rollouts_with", "rollouts_without"],
    *["value", "low", "high", "n", "clusters", "method", "p", "p_adjusted", "test"],
]


def impairment(tables: Tables) -> pd.DataFrame:
    """Return how much more accurate rollouts with a successful take are than those without, over all problems of a cell.

    Args:
        tables: The logs' tables; every experiment whose rollouts answer problems counts.

    Returns:
        One row a cell that has both kinds: `with_takes` and `without_takes`, their accuracies, in 0..1; `value`, the former minus
        the latter, with its interval over rollouts; `n` problems in `clusters` rollouts; `p` of `test`, which shuffles over whole
        rollouts whether they took (none where fewer than two did, or did not), and `p_adjusted` by Benjamini and Hochberg.
    """
    problems = graded(tables.problems)
    steered = tables.rollouts.set_index("rollout")["steered"].astype("boolean").fillna(value=False).astype(bool)
    known = problems[(problems["became"] != "ungraded") & (problems["framing"] != NO_TOOLS)]
    known = known.assign(took=known["rollout"].map(steered).fillna(value=False).astype(bool))
    both = [
        (cell, part) for cell, part in groups(known, IMPAIRMENT_CELL) if part["took"].any() and not part["took"].all()
    ]
    rows = [{**cell, **_compared(part)} for cell, part in both]
    adjusted = benjamini_hochberg([row["p"] for row in rows])
    rows = [{**row, "p_adjusted": p} for row, p in zip(rows, adjusted, strict=True)]
    return in_order(pd.DataFrame(rows, columns=IMPAIRMENT_COLUMNS), IMPAIRMENT_CELL)


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
