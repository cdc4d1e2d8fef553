"""Which positions of a conversation are steered by what, as plain numbers: the language of caches. Imports no torch."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """One direction at one strength over token positions.

    Attributes:
        key: Hash of the direction's content.
        strength: Multiple that is added.
        start: First steered position.
        stop: First position that is not; None steers all that follows.
    """

    key: str
    strength: float
    start: int
    stop: int | None

    def covers(self, position: int) -> bool:
        """Tell whether the token at `position` is steered."""
        return self.start <= position and (self.stop is None or position < self.stop)

    def within(self, start: int, stop: int) -> tuple[int, int]:
        """Return the part of the span that lies in `start` to `stop`; it is empty if its ends do not ascend."""
        return max(self.start, start), stop if self.stop is None else min(self.stop, stop)


class Signatures:
    """Numbers for sets of (direction, strength) pairs, so that steering can be compared token by token; 0 is the empty set."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[str, float], ...], int] = {(): 0}
        self._pairs: list[tuple[tuple[str, float], ...]] = [()]

    def of(self, spans: Sequence[Span]) -> int:
        """Return the number of the set that `spans` make up; the order in which they were opened does not matter."""
        pairs = tuple(sorted((span.key, span.strength) for span in spans))
        if pairs not in self._numbers:
            self._numbers[pairs] = len(self._pairs)
            self._pairs.append(pairs)
        return self._numbers[pairs]

    def pairs(self, number: int) -> tuple[tuple[str, float], ...]:
        """Return the (direction key, strength) pairs of a number, in ascending order."""
        return self._pairs[number]

    def keys(self, number: int) -> list[str]:
        """Return the keys of a number's directions, each once, in ascending order."""
        return sorted({key for key, _ in self._pairs[number]})

    def along(self, spans: Sequence[Span], start: int, stop: int) -> NDArray[np.int64]:
        """Return the number at each position from `start` to `stop`: [stop - start]."""
        result = np.zeros(stop - start, np.int64)
        edges = {start, stop}
        for span in spans:
            left, right = span.within(start, stop)
            if left < right:
                edges.update((left, right))
        for left, right in itertools.pairwise(sorted(edges)):
            active = [span for span in spans if span.covers(left)]
            if active:
                result[left - start : right - start] = self.of(active)
        return result


def steering_within(spans: Sequence[Span], start: int, stop: int) -> tuple[tuple[str, float, int, int], ...]:
    """Return what steers the tokens from `start` to `stop`, as (key, strength, first, last + 1) counted from `start`."""
    found = []
    for span in spans:
        left, right = span.within(start, stop)
        if left < right:
            found.append((span.key, span.strength, left - start, right - start))
    return tuple(sorted(found))
