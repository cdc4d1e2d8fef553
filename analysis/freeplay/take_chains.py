"""Takes in call order as chains of neighbours, and the same takes in shuffled orders."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from self_steering.analysis.statistics.sample_checks import Codes

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
        codes, names = pd.factorize(takes["name"].where(takes["known"]), sort=True)
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
