"""The valence of what models pick in free play: negative, neutral or positive, and whether real steering shifts it."""

from collections.abc import Iterator
from statistics import fmean

import pandas as pd

from self_steering.analysis.drawing.categories import VALENCE_NAMES
from self_steering.analysis.freeplay.freeplay import (
    PLACEBO,
    cells,
    comparable,
    comparisons,
    freeplay,
    picks_of,
    result,
    results,
)
from self_steering.analysis.freeplay.rollout_ratios import ratio_difference, ratios, shares
from self_steering.analysis.statistics import clustered_mean
from self_steering.analysis.tables import Tables
from self_steering.vectors.catalogue import catalogue

MEAN, MEAN_OF_ROLLOUTS = "mean valence", "mean of the rollouts' mean valences"
SHARES: dict[int, str] = {valence: f"{name} share" for valence, name in VALENCE_NAMES.items()}


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
