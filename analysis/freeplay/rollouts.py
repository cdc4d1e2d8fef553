"""Free play's rollouts and takes, and the cells that its figures compare: model by arm, framings pooled and apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from self_steering.analysis.statistics.estimates import Estimate, Floats, StatisticsError, Test
from self_steering.analysis.statistics.groups import ESTIMATE, estimate_columns
from self_steering.analysis.statistics.intervals import proportion
from self_steering.analysis.statistics.resampling import tails
from self_steering.analysis.statistics.tests import benjamini_hochberg, permutation
from self_steering.analysis.tables import Tables

GROUP = ["source", "model", "visibility"]
CELL = [*GROUP, "arm"]
ALL_FRAMINGS = "all"
PLACEBO = "placebo"
RESULT_COLUMNS = [
    *[*CELL, "against", "framing", "measure"],
    *[*ESTIMATE, "p", "p_adjusted", "test"],
]
_FLAGS = ["known", "ok", "scripted", "after_sitter"]
ARM_ORDER = ("real", "placebo", "random", "mislabelled")


@dataclass(frozen=True)
class FreePlay:
    """What free play's logs hold.

    Attributes:
        rollouts: Its rollouts, as in the tables; what is missing of CELL is empty text.
        takes: Its take calls in call order within each rollout, without those that a task inserted.
    """

    rollouts: pd.DataFrame
    takes: pd.DataFrame


def freeplay(tables: Tables) -> FreePlay:
    """Return free play's rollouts and the takes that its models chose."""
    rollouts = _of_family(tables.rollouts)
    takes = _of_family(tables.takes)
    takes[_FLAGS] = takes[_FLAGS].isin([True])  # what a log does not say is no
    chosen = takes[~takes["scripted"]]
    return FreePlay(rollouts, chosen.sort_values(["rollout", "order"], kind="stable", ignore_index=True))


def arm_place(arm: str) -> str:
    """Return what sorts arms into the one order in which they stand everywhere: the one of interest first."""
    place = ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER)
    return f"{place} {arm}"


def picks_of(takes: pd.DataFrame) -> pd.DataFrame:
    """Return the takes that are picks: calls for a name that the library has, failed ones too, as the model chose all the same."""
    return takes[takes["known"]]


def successes_of(takes: pd.DataFrame) -> pd.DataFrame:
    """Return the takes that put a vector in: calls for a name that the library has, and that succeeded."""
    return takes[takes["known"] & takes["ok"]]


def cells(rollouts: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield each cell with its rollouts: all framings together (framing `all`), then each of them apart."""
    for key, of_cell in rollouts.groupby(CELL, sort=False):
        cell = dict(zip(CELL, key, strict=True))
        yield {**cell, "framing": ALL_FRAMINGS}, of_cell
        for framing, of_framing in of_cell.groupby("framing", sort=True):
            yield {**cell, "framing": str(framing)}, of_framing


def comparisons(rollouts: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield each model's arms beside its placebo, with both arms' rollouts of the framings that both have."""
    for key, of_group in rollouts.groupby(GROUP, sort=False):
        group = dict(zip(GROUP, key, strict=True))
        framings = of_group.groupby("arm", sort=False)["framing"].agg(set)
        for arm in framings.index.drop(PLACEBO, errors="ignore") if PLACEBO in framings else []:
            both = of_group["arm"].isin([arm, PLACEBO]) & of_group["framing"].isin(framings[arm] & framings[PLACEBO])
            if both.any():
                yield {**group, "arm": str(arm), "against": PLACEBO, "framing": ALL_FRAMINGS}, of_group[both]


def comparable(frame: pd.DataFrame) -> bool:
    """Return whether some framing has rollouts (rows, with `arm` and `framing`) of two arms, so that labels can be shuffled."""
    return any(len(set(of_framing["arm"])) > 1 for _, of_framing in frame.groupby("framing"))


def result(cell: Mapping[str, str], measure: str, estimate: Estimate, test: Test | None = None) -> dict[str, object]:
    """Return a row of a table of results."""
    return {
        "against": "",
        **cell,
        "measure": measure,
        **estimate_columns(estimate),
        "p": None if test is None else test.p,
        "test": "" if test is None else test.method,
    }


def results(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = RESULT_COLUMNS) -> pd.DataFrame:
    """Return rows that `result` made as a table, with `p_adjusted` by Benjamini and Hochberg over all tests in it."""
    found = pd.DataFrame(rows, columns=list(columns))
    found["p_adjusted"] = benjamini_hochberg([None if pd.isna(p) else float(p) for p in found["p"]])
    return found


def _of_family(frame: pd.DataFrame) -> pd.DataFrame:
    found = frame[frame["family"] == "freeplay"].copy()
    names = [*CELL, "framing"]
    found[names] = found[names].astype(object).where(found[names].notna(), "").astype(str)
    return found.sort_values(
        [*CELL, "framing"],
        key=lambda column: column.map(arm_place) if column.name == "arm" else column,
        kind="stable",
        ignore_index=True,
    )


METHOD = "bootstrap over rollouts"


def ratios(numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0, resamples: int = 2000) -> list[Estimate]:
    """Return ratios of sums over rollouts, with expanded percentile intervals (`resampling.tails`) over resampled rollouts.

    Args:
        numerators: What each rollout adds to each ratio's numerator, [rollouts, ratios].
        denominators: What it adds to the denominator of all of them, [rollouts]; rollouts that add 0 are left out.
        seed: Of the draws.
        resamples: How many to draw.

    Returns:
        One estimate a ratio: n is the denominator's sum, clusters are the rollouts that add to it. NaN where there are none. No
        interval where there is one rollout, or where all rollouts have the same ratio and resampling says nothing.

    Raises:
        StatisticsError: A number is missing, a denominator is negative, or the shapes do not fit.
    """
    top, bottom = _sums(numerators, denominators)
    n, clusters = round(float(bottom.sum())), len(bottom)
    if not clusters:
        return [Estimate(float("nan"), None, None, 0, 0, METHOD)] * top.shape[1]
    values = top.sum(axis=0) / bottom.sum()
    if clusters == 1:
        return [Estimate(float(value), None, None, n, 1, METHOD) for value in values]
    low, high = np.quantile(_drawn(top, bottom, np.random.default_rng(seed), resamples), tails(clusters), axis=0)
    varies = np.ptp(top / bottom[:, None], axis=0) > 0
    return [
        Estimate(float(value), float(from_), float(to), n, clusters, METHOD)
        if varying
        else Estimate(float(value), None, None, n, clusters, METHOD)
        for value, from_, to, varying in zip(values, low, high, varies, strict=True)
    ]


def shares(numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0, resamples: int = 2000) -> list[Estimate]:
    """Return `ratios` that lie between 0 and 1; one that is 0 or 1 in every rollout has Wilson's interval over the rollouts.

    That interval takes a rollout for one observation, however many takes it has: the widest that the data can mean.
    """
    found = ratios(numerators, denominators, seed=seed, resamples=resamples)
    return [_at_the_edge(one) if one.low is None and one.value in {0, 1} else one for one in found]


def ratio_difference(
    frame: pd.DataFrame, arm: str, against: str, *, seed: int = 0, resamples: int = 2000
) -> tuple[Estimate, Test]:
    """Return how much one arm's ratio lies above another's, and a test that shuffles arm labels over whole rollouts.

    Args:
        frame: One row a rollout: `rollout`, `arm`, `framing`, `numerator`, `denominator`; rollouts with denominator 0 are left out.
        arm: The arm of interest.
        against: The arm it is compared with.
        seed: Of the draws and shuffles.
        resamples: How many of each.

    Returns:
        The difference, both arms' rollouts resampled apart, and the permutation test, which shuffles within framings.

    Raises:
        StatisticsError: An arm has no rollouts, or no framing has both.
    """
    frame = frame.loc[frame["denominator"] > 0, ["rollout", "arm", "framing", "numerator", "denominator"]]
    parts = [frame[frame["arm"] == one] for one in (arm, against)]
    for name, part in zip((arm, against), parts, strict=True):
        if part.empty:
            raise StatisticsError(f"no rollout of arm {name!r} adds to the ratio; compare arms that have some")
    sums = [_sums(part[["numerator"]], part["denominator"]) for part in parts]
    values = [float(top.sum() / bottom.sum()) for top, bottom in sums]
    rng = np.random.default_rng(seed)
    n, clusters = round(float(frame["denominator"].sum())), len(frame)
    low = high = None
    if min(len(part) for part in parts) > 1:
        drawn = [_drawn(top, bottom, rng, resamples)[:, 0] for top, bottom in sums]
        low, high = (float(end) for end in np.quantile(drawn[0] - drawn[1], tails(min(len(part) for part in parts))))
    estimate = Estimate(values[0] - values[1], low, high, n, clusters, METHOD)

    both = pd.concat(parts)
    top, bottom = both["numerator"].to_numpy(), both["denominator"].to_numpy()

    def difference(shuffled: pd.DataFrame) -> float:
        ours = shuffled["ours"].to_numpy()
        return float(top[ours].sum() / bottom[ours].sum() - top[~ours].sum() / bottom[~ours].sum())

    labels = both[["rollout", "framing"]].assign(ours=both["arm"] == arm)
    test = permutation(
        labels, difference, label="ours", unit="rollout", strata=["framing"], seed=seed, resamples=resamples
    )
    return estimate, test


def _sums(numerators: ArrayLike, denominators: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as numbers, [rollouts, ratios] and [rollouts], without the rollouts that add nothing."""
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if top.ndim != 2 or bottom.shape != top.shape[:1]:
        raise StatisticsError(
            f"numerators have shape {top.shape} and denominators {bottom.shape}; give [rollouts, ratios] and [rollouts]"
        )
    if not (np.isfinite(top).all() and np.isfinite(bottom).all() and (bottom >= 0).all()):
        raise StatisticsError(
            "a numerator is missing, or a denominator is missing or negative; count 0 where there is nothing"
        )
    return top[bottom > 0], bottom[bottom > 0]


def _drawn(top: Floats, bottom: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Return the ratios of resampled rollouts, [resamples, ratios]."""
    rollouts = len(bottom)
    times = rng.multinomial(rollouts, np.full(rollouts, 1 / rollouts), size=resamples).astype(float)
    drawn: Floats = (times @ top) / (times @ bottom)[:, None]
    return drawn


def _at_the_edge(share: Estimate) -> Estimate:
    wilson = proportion(round(share.value * share.clusters), share.clusters)
    return Estimate(share.value, wilson.low, wilson.high, share.n, share.clusters, "Wilson over rollouts")
