"""What models pick in free play, vector by vector, and whether they pick otherwise when nothing is added."""

from collections.abc import Iterator
from statistics import fmean

import numpy as np
import pandas as pd

from self_steering.analysis.drawing.style import VALENCE_NAMES
from self_steering.analysis.freeplay.rollouts import (
    CELL,
    GROUP,
    PLACEBO,
    cells,
    comparable,
    comparisons,
    freeplay,
    picks_of,
    result,
    results,
)
from self_steering.analysis.statistics.estimates import Estimate, Floats, estimate_columns, groups
from self_steering.analysis.statistics.intervals import clustered_mean
from self_steering.analysis.statistics.resampling import correlation, ratio_difference, ratios, shares
from self_steering.analysis.statistics.tests import Ways, permutation
from self_steering.analysis.tables import Tables, worked_out_once
from self_steering.vectors.catalogue import catalogue

PICK_COLUMNS = [
    *[*CELL, "framing", "vector", "category", "valence"],
    *["picks", "failed", "rollouts_picking", "rollouts", "share", "low", "high", "n", "clusters", "method"],
]
_NAMED = 10  # unknown names that are listed
DISTANCE, AGREEMENT = "distance of picks from placebo", "rank correlation of picks with placebo"


def picks(tables: Tables) -> pd.DataFrame:
    """Return how often each vector was picked, by model and arm, framings pooled (`all`) and apart.

    A pick is a take call that the model made for a name that the library has. Failed calls are picks too (the model chose,
    whatever the tool made of it; `failed` counts them, so that `picks - failed` is the stricter reading); calls that the task
    inserted are not, and calls for names outside the library are not. What counts is the name that was asked for, so that
    mislabelled vectors count under their label.

    Args:
        tables: The logs' tables.

    Returns:
        One row a vector, for all vectors that this model picked in any arm: `picks`; `failed`, those of them whose call failed;
        `rollouts_picking`, the rollouts with at least one; `rollouts` of the cell; `share` of all its picks, with its interval from
        resampled rollouts; `n`, all its picks; `clusters`, its rollouts with a pick. A cell without picks has no rows.
    """
    play = freeplay(tables)
    chosen = picks_of(play.takes)
    known = chosen.groupby("name")[["taken_category", "taken_valence"]].first()
    rows = []
    for _, of_group in play.rollouts.groupby(GROUP, sort=False):
        counts = _counts(chosen, of_group)
        failed = _counts(chosen[~chosen["ok"]], of_group).reindex(columns=counts.columns, fill_value=0)
        for cell, rollouts in cells(of_group):
            of_cell = counts.loc[rollouts["rollout"]]
            if not of_cell.to_numpy().sum():
                continue
            for vector, share in zip(counts, shares(of_cell, of_cell.sum(axis=1)), strict=True):
                rows.append(
                    {
                        **cell,
                        "vector": vector,
                        "category": known.loc[vector, "taken_category"],
                        "valence": known.loc[vector, "taken_valence"],
                        "picks": int(of_cell[vector].sum()),
                        "failed": int(failed.loc[rollouts["rollout"], vector].sum()),
                        "rollouts_picking": int((of_cell[vector] > 0).sum()),
                        "rollouts": len(rollouts),
                        "share": share.value,
                        **estimate_columns(share, ["low", "high", "n", "clusters", "method"]),
                    }
                )
    return pd.DataFrame(rows, columns=PICK_COLUMNS)


def pick_tests(tables: Tables) -> pd.DataFrame:
    """Return whether a model's picks differ from its picks under placebo, a row a measure.

    - distance: half the summed absolute differences of the vectors' shares (0 the same, 1 nothing in common), tested by shuffling
      arm labels over whole rollouts within framings. Chance alone makes it positive, so it has no interval, and its
      p is doubled: it errs on the safe side.
    - agreement: Spearman's correlation of the vectors' shares, over the vectors that were picked in either arm.

    Only framings that both arms have count.
    """
    play = freeplay(tables)
    rows = []
    for cell, rollouts in comparisons(play.rollouts):
        counts = _counts(picks_of(play.takes), rollouts)
        frame = rollouts[["rollout", "arm", "framing"]].join(counts, on="rollout")
        frame = frame[counts.sum(axis=1).reindex(frame["rollout"]).to_numpy() > 0]
        if comparable(frame):
            rows += _compared(cell, frame, list(counts))
    return results(rows)


CALL_CELL = ["source", "model", "family", "arm", "framing"]
BECAME = ("taken", "failed", "unknown name")


def calls(tables: Tables) -> pd.DataFrame:
    """Return what became of all take calls that models made, in any experiment, by framing.

    Returns:
        One row a source, model, experiment, arm and framing: `calls`, the sum of `taken`, `failed` (a name of the library that the
        tool refused, or an answer that never came) and `unknown name`; `unknown_names`, those names with their counts, the most
        frequent first.
    """
    own = tables.takes[~tables.takes["scripted"].isin([True])]
    rows = []
    for key, part in groups(own, CALL_CELL):
        known, ok = part["known"].isin([True]), part["ok"].isin([True])
        counts = {"taken": (known & ok).sum(), "failed": (known & ~ok).sum(), "unknown name": (~known).sum()}
        named = part.loc[~known, "name"].value_counts()
        listing = ", ".join(f"{name} {count}" for name, count in named.head(_NAMED).items())
        rows.append(
            {**key, "calls": len(part), **{name: int(n) for name, n in counts.items()}, "unknown_names": listing}
        )
    return pd.DataFrame(rows, columns=[*CALL_CELL, "calls", *BECAME, "unknown_names"])


def outside_library(tables: Tables) -> int:
    """Return how many of free play's take calls named nothing that the library has."""
    return int((~freeplay(tables).takes["known"]).sum())


def _compared(cell: dict[str, str], frame: pd.DataFrame, vectors: list[str]) -> list[dict[str, object]]:
    numbers = frame[vectors].to_numpy()

    def distances(ours: Ways) -> Floats:
        first = ours @ numbers
        parts = [counts / counts.sum(axis=1, keepdims=True) for counts in (first, numbers.sum(axis=0) - first)]
        return np.asarray(np.abs(parts[0] - parts[1]).sum(axis=1) / 2)

    test = permutation(frame["arm"] == cell["arm"], distances, unit="rollout", strata=frame["framing"])
    n = int(numbers.sum())
    rows = [result(cell, DISTANCE, Estimate(test.statistic, None, None, n, test.clusters, "plug-in"), test)]
    totals = frame.groupby("arm")[vectors].sum()
    shown = totals.div(totals.sum(axis=1), axis=0)
    first, second = shown.loc[cell["arm"]], shown.loc[PLACEBO]
    if len(vectors) >= 3 and np.ptp(first) > 0 and np.ptp(second) > 0:
        rows.append(result(cell, AGREEMENT, *correlation(first.to_numpy(), second.to_numpy(), "spearman")))
    return rows


def _counts(takes: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
    """Return how often each rollout picked each vector, [rollouts, vectors]; vectors that none of these picked are left out."""
    here = takes[takes["rollout"].isin(rollouts["rollout"])]
    counted = pd.crosstab(here["rollout"], here["name"])
    return counted.reindex(index=rollouts["rollout"], fill_value=0).astype(int)


MEAN, MEAN_OF_ROLLOUTS = "mean valence", "mean of the rollouts' mean valences"
SHARES: dict[int, str] = {valence: f"{name} share" for valence, name in VALENCE_NAMES.items()}


@worked_out_once
def valences(tables: Tables) -> pd.DataFrame:
    """Return the valence of picks by model and arm, framings pooled (`all`) and apart, one row a measure.

    Picks are those of `picks.picks` (failed calls for names of the library too), as far as the catalogue gives the name a valence:
    -1, 0 or 1.

    - `negative share`, `neutral share`, `positive share` of the picks, and their `mean valence`, all picks pooled as the study did.
    - `mean of the rollouts' mean valences`: stricter, each rollout counts alike; t-interval over the rollouts.

    Args:
        tables: The logs' tables.

    Returns:
        One row a measure, with its interval from resampled rollouts. Rows with `against` set: that arm's figure minus placebo's
        over the framings that both have, for the mean and the negative share, with p from shuffling arm labels over
        whole rollouts within framings, and p_adjusted by Benjamini and Hochberg over all of these.
    """
    play = freeplay(tables)
    sums = _sums(picks_of(play.takes), play.rollouts)
    rows = list(_against_placebo(play.rollouts, sums))
    for cell, rollouts in cells(play.rollouts):
        rows += _of_cell(cell, sums.loc[rollouts["rollout"]])
    return results(rows)


def uniform_valence() -> dict[str, float]:
    """Return what a picker to whom all vectors of the catalogue are alike would show: each share, and the mean valence."""
    known = [entry.valence for entry in catalogue().values()]
    of_shares = {SHARES[valence]: fmean(one == valence for one in known) for valence in SHARES}
    return {**of_shares, MEAN: fmean(known)}


def _sums(picks: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
    """Return each rollout's number of picks with a valence, of each valence, and the sum, [rollouts, figures]."""
    valence = pd.to_numeric(picks["taken_valence"]).dropna()
    of = picks["rollout"]
    counted = {measure: (valence == one).groupby(of).sum() for one, measure in SHARES.items()}
    found = pd.DataFrame({**counted, MEAN: valence.groupby(of).sum(), "picks": valence.groupby(of).size()})
    return found.reindex(rollouts["rollout"]).fillna(0).astype(int)


def _of_cell(cell: dict[str, str], sums: pd.DataFrame) -> Iterator[dict[str, object]]:
    known = sums[sums["picks"] > 0]
    if known.empty:
        return
    for measure, share in zip(SHARES.values(), shares(known[list(SHARES.values())], known["picks"]), strict=True):
        yield result(cell, measure, share)
    (mean,) = ratios(known[[MEAN]], known["picks"])
    yield result(cell, MEAN, mean)
    yield result(cell, MEAN_OF_ROLLOUTS, clustered_mean((known[MEAN] / known["picks"]).to_numpy(), list(known.index)))


def _against_placebo(rollouts: pd.DataFrame, sums: pd.DataFrame) -> Iterator[dict[str, object]]:
    for cell, both in comparisons(rollouts):
        for measure in (MEAN, SHARES[-1]):
            of_measure = sums[[measure, "picks"]].set_axis(["numerator", "denominator"], axis=1)
            frame = both[["rollout", "arm", "framing"]].join(of_measure, on="rollout")
            if comparable(frame[frame["denominator"] > 0]):
                yield result(cell, measure, *ratio_difference(frame, cell["arm"], PLACEBO))
