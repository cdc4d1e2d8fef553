"""Stacking in free play: which vector is taken after which, more often than their popularity and their rollouts explain."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from self_steering.analysis.freeplay.rollouts import arm_place, freeplay
from self_steering.analysis.statistics.estimates import Codes, Floats
from self_steering.analysis.statistics.resampling import tails, times_drawn
from self_steering.analysis.statistics.tests import benjamini_hochberg, binomial_above
from self_steering.analysis.tables import Tables
from self_steering.vectors.catalogue import catalogue

_BATCH = 500


class Chains:
    """The takes of one arm as numbers, and where two of them stand next to each other.

    Attributes:
        names: The vectors, in alphabetical order.
        codes: Number of each take's vector, [takes]; -1 outside the library.
        rollout: Number of each take's rollout, [takes].
        left: Places of the takes that a pair begins with, [pairs]; the next place ends it.
    """

    def __init__(self, takes: pd.DataFrame) -> None:
        codes, names = pd.factorize(_vectors(takes), sort=True)
        self.names: list[str] = list(names)
        self.codes: Codes = codes
        self.rollout: Codes = pd.factorize(takes["rollout"])[0]
        known = codes >= 0
        self.left: Codes = np.flatnonzero(known[:-1] & known[1:] & (self.rollout[:-1] == self.rollout[1:]))

    @property
    def pairs(self) -> NDArray[np.int64]:
        """Number of each pair, [pairs]: that of its first vector times the number of vectors, plus that of its second."""
        return self.codes[self.left] * len(self.names) + self.codes[self.left + 1]

    def most_possible(self) -> NDArray[np.int64]:
        """Return how often each pair could come at most in any order of each rollout's takes, [vectors, vectors]."""
        known = self.codes >= 0
        of_rollout = np.zeros((self.rollout.max() + 1, len(self.names)), dtype=np.int64)
        np.add.at(of_rollout, (self.rollout[known], self.codes[known]), 1)
        most: NDArray[np.int64] = np.minimum(of_rollout[:, :, None], of_rollout[:, None, :]).sum(axis=0)
        np.fill_diagonal(most, np.maximum(of_rollout - 1, 0).sum(axis=0))
        return most

    def shuffled(self, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
        """Yield how often each pair comes when the order of the takes is shuffled within rollouts, [batch, vectors squared]."""
        rng = np.random.default_rng(seed)
        known = np.flatnonzero(self.codes >= 0)
        codes, many = self.codes[known], len(self.names) ** 2
        # Where a pair's two takes stand among the known ones: a pair's takes are both known, hence neighbours there too.
        left = np.searchsorted(known, self.left)
        for begin in range(0, resamples, _BATCH):
            batch = min(_BATCH, resamples - begin)
            # Takes are in order of rollout, so that sorting by rollout plus a fraction shuffles within it.
            order = np.argsort(self.rollout[known] + rng.random((batch, len(known))), axis=1)
            mixed = codes[order]
            pairs = mixed[:, left] * len(self.names) + mixed[:, left + 1]
            counted = np.bincount((pairs + many * np.arange(batch)[:, None]).ravel(), minlength=batch * many)
            yield counted.reshape(batch, many)


def _vectors(takes: pd.DataFrame) -> pd.Series:
    """Return the vector that each take asks for; missing outside the library.

    A name that was refused for its case, a space or a hyphen asks for the vector that it spells, as published.
    """
    library = {*catalogue(), *takes.loc[takes["known"], "name"]}
    spelt = takes["name"].str.strip().str.lower().str.replace(r"[\s-]+", "_", regex=True)
    return takes["name"].where(takes["known"], spelt.where(spelt.isin(library)))


AT_LEAST = 3
ALL_MODELS = "all"
STACKING_COLUMNS = [
    *["source", "arm", "model", "first", "second", "pairs", "rollouts", "of_first", "all_pairs", "all_rollouts"],
    *["share_after_first", "share", "lift", "low", "high", "method", "p_binomial", "q_binomial"],
    *["expected", "order_lift", "p_order", "q_order", "order_tests"],
]
_BOOTSTRAP = 2000


def stacking(
    tables: Tables, *, at_least: int = AT_LEAST, seed: int = 0, resamples: int = 20_000, by_model: bool = False
) -> pd.DataFrame:
    """Return ordered pairs of consecutive takes, A then B, with their lift and two tests, one row a pair that is tested.

    As published: models and framings pooled; takes in call order, failed ones too (calls that the task inserted are no takes);
    clearing does not break a chain, and a name outside the library does, unless it only differs in case, spaces or hyphens;
    a vector after itself is a pair. Lift is
    P(B|A) / P(B): how often B follows A, among the pairs that begin with A, over B's share of all pairs' second places.
    Pairs seen at least `at_least` times are tested, by a one-sided binomial test of P(B|A) against P(B), corrected by
    Benjamini and Hochberg over all tested pairs. That test takes every pair for independent and all rollouts for alike, and
    does not count that pairs are tested because they were seen often: it finds pairs where order means nothing.

    Stricter, beside it: the order-permutation test. The order of the takes is shuffled within each rollout (those outside the
    library stay where they are), so that what a rollout took, and how often, explains nothing; p is how often A then B
    comes at least as often. It is made, and corrected by Benjamini and Hochberg, for all `order_tests` pairs that the same takes in
    another order could have shown `at_least` times: what was seen does not choose them. `order_lift` is the number of pairs
    over its mean under shuffling.

    The study's results are for arm real; other arms are given on their own, and so is each source of logs.

    Args:
        tables: The logs' tables.
        at_least: How often a pair must be seen to be tested.
        seed: Of the shuffles and of the resampled rollouts.
        resamples: How many shuffles.
        by_model: Whether each model is looked at by itself as well, tested and corrected like an arm of its own, where an arm has
            several.

    Returns:
        `model`, or `all` where they are pooled; `first` and `second`, A and B; `pairs`, how often; in how many `rollouts`;
        `of_first`, pairs that begin with A; `all_pairs` and `all_rollouts` of the arm; `share_after_first` P(B|A) and `share`
        P(B); `lift` with its interval from resampled rollouts; p of either test, and q after correction. Sorted by lift within
        source, arm and model.
    """
    takes = freeplay(tables).takes
    parts = []
    of_arms = sorted(takes.groupby(["source", "arm"]), key=lambda one: (one[0][0], arm_place(one[0][1])))
    for (source, arm), of_arm in of_arms:
        of_models = list(of_arm.groupby("model")) if by_model and len(of_arm["model"].unique()) > 1 else []
        for model, own in [(ALL_MODELS, of_arm), *of_models]:
            found = pd.DataFrame(_tested(Chains(own), max(1, at_least), seed, resamples))
            if not found.empty:
                found["q_binomial"] = benjamini_hochberg(found["p_binomial"].tolist())
                found = found.sort_values("lift", ascending=False, kind="stable")
                parts.append(found.assign(source=source, arm=arm, model=model))
    return pd.concat(parts, ignore_index=True)[STACKING_COLUMNS] if parts else pd.DataFrame(columns=STACKING_COLUMNS)


def _tested(chains: Chains, at_least: int, seed: int, resamples: int) -> list[dict[str, object]]:
    size = len(chains.names)
    counts = np.bincount(chains.pairs, minlength=size**2).reshape(size, size)
    first, second = np.nonzero(counts >= at_least)
    if not len(first):
        return []
    low, high = _lift_intervals(chains, first, second, seed)
    order = _order_tests(chains, counts, at_least, seed, resamples)
    rollouts, seen = chains.rollout[chains.left], chains.pairs
    rows = []
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        pairs, of_first, all_pairs = int(counts[a, b]), int(counts[a].sum()), int(counts.sum())
        share = float(counts[:, b].sum() / all_pairs)
        rows.append(
            {
                "first": chains.names[a],
                "second": chains.names[b],
                "pairs": pairs,
                "rollouts": len(np.unique(rollouts[seen == a * size + b])),
                "of_first": of_first,
                "all_pairs": all_pairs,
                "all_rollouts": len(np.unique(rollouts)),
                "share_after_first": pairs / of_first,
                "share": share,
                "lift": pairs / of_first / share,
                "low": low[place],
                "high": high[place],
                "method": "bootstrap over rollouts",
                "p_binomial": binomial_above(pairs, of_first, share).p,
                "expected": order.expected[a, b],
                "order_lift": pairs / order.expected[a, b],
                "p_order": order.p[a, b],
                "q_order": order.q[a, b],
                "order_tests": order.tests,
            }
        )
    return rows


@dataclass(frozen=True)
class _OrderTests:
    """The order-permutation tests, each [vectors, vectors]; NaN for pairs that are not tested.

    Attributes:
        expected: Mean number under shuffling, the data being one of the shuffles.
        p: How often there are at least as many as in the data.
        q: The same, corrected.
        tests: How many pairs are tested.
    """

    expected: Floats
    p: Floats
    q: Floats
    tests: int


def _order_tests(chains: Chains, counts: Codes, at_least: int, seed: int, resamples: int) -> _OrderTests:
    total, above = counts.astype(float), np.ones(counts.shape)
    for counted in chains.shuffled(seed, resamples):
        total += counted.sum(axis=0).reshape(counts.shape)
        above += (counted >= counts.ravel()).sum(axis=0).reshape(counts.shape)
    tested = chains.most_possible() >= at_least
    p = np.where(tested, above / (resamples + 1), np.nan)
    q = np.full(counts.shape, np.nan)
    q[tested] = np.array(benjamini_hochberg(p[tested].tolist()), dtype=float)
    return _OrderTests(total / (resamples + 1), p, q, int(tested.sum()))


def _lift_intervals(
    chains: Chains, first: Codes, second: Codes, seed: int
) -> tuple[list[float | None], list[float | None]]:
    """Return the ends of the lifts' intervals over resampled rollouts; None for one rollout."""
    size = len(chains.names)
    rollout, rollouts = pd.factorize(chains.rollout[chains.left])
    if len(rollouts) < 2:
        return [None] * len(first), [None] * len(first)
    counts = np.zeros((len(rollouts), size, size))
    np.add.at(counts, (rollout, chains.pairs // size, chains.pairs % size), 1)
    times = times_drawn(len(rollouts), _BOOTSTRAP, np.random.default_rng(seed))
    pairs = times @ counts[:, first, second]
    of_first = times @ counts.sum(axis=2)[:, first]
    of_second = times @ counts.sum(axis=1)[:, second]
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may hold no A, or no B
        lifts = pairs / of_first / of_second * (times @ counts.sum(axis=(1, 2)))[:, None]
    ends = np.nanquantile(lifts, tails(len(rollouts)), axis=0)
    return ends[0].tolist(), ends[1].tolist()
