"""Keys and values of past prompts, found again by tokens *and* steering.

A tree of segments. A segment holds some tokens' keys and values, and is only ever reached through the segments before it,
so a lookup matches a whole prefix of (token, steering) pairs. Steered keys and values can therefore never reach a
request that was not steered so.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from self_steering.steering.engine.kv_cache import KeyValues


@dataclass(eq=False)
class Segment:
    """Some consecutive tokens of a conversation.

    Attributes:
        ids: Token ids [tokens].
        steering: Steering signature of each token [tokens]; 0 is unsteered.
        block: Keys and values.
        canonical: Computed in one prefill chunk whose boundaries follow from the conversation alone, after segments
            that are canonical too: computing it again would give the same bits.
        projections: For each direction's key the projection before and after [2, tokens], NaN where unsteered.
        logits: Logits [vocabulary] after the last token, if they were computed.
    """

    ids: NDArray[np.int64]
    steering: NDArray[np.int64]
    block: KeyValues
    canonical: bool
    projections: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    logits: torch.Tensor | None = None
    parent: "Segment | None" = None
    children: list["Segment"] = field(default_factory=list)
    used: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes that this segment alone holds."""
        return self.block.nbytes + (0 if self.logits is None else self.logits.numel() * self.logits.element_size())

    def common(self, ids: NDArray[np.int64], steering: NDArray[np.int64]) -> int:
        """Return how many leading tokens agree with `ids` and `steering`."""
        n = min(len(self), len(ids))
        differs = (self.ids[:n] != ids[:n]) | (self.steering[:n] != steering[:n])
        return int(differs.argmax()) if differs.any() else n


class PrefixStore:
    """A tree of segments within a memory budget; the least recently used leaves go first.

    Args:
        budget: Bytes of keys and values to keep.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._clock = 0
        self._root = Segment(np.empty(0, np.int64), np.empty(0, np.int64), KeyValues([], []), canonical=True)
        self._segments: set[Segment] = set()

    @property
    def root(self) -> Segment:
        """The empty prefix."""
        return self._root

    def find_canonical(
        self, ids: NDArray[np.int64], steering: NDArray[np.int64], cuts: list[int]
    ) -> list[tuple[Segment, int]]:
        """Return the canonical segments that cover the longest prefix of whole chunks; `cuts` are all chunk ends."""
        path: list[tuple[Segment, int]] = []
        node, position = self._root, 0
        for cut in cuts:
            match = next(
                (
                    child
                    for child in node.children
                    if child.canonical
                    and len(child) == cut - position
                    and child.common(ids[position:cut], steering[position:cut]) == len(child)
                ),
                None,
            )
            if match is None:
                break
            path.append((match, len(match)))
            node, position = match, cut
        return self._touch(path)

    def find_longest(self, ids: NDArray[np.int64], steering: NDArray[np.int64]) -> list[tuple[Segment, int]]:
        """Return the segments, the last one perhaps in part, that cover the longest known prefix."""
        path: list[tuple[Segment, int]] = []
        node, position = self._root, 0
        while position < len(ids):
            best, common = None, 0
            for child in node.children:
                n = child.common(ids[position:], steering[position:])
                if n > common:
                    best, common = child, n
            if best is None:
                break
            path.append((best, common))
            position += common
            if common < len(best):
                break
            node = best
        return self._touch(path)

    def add(self, parent: Segment, segment: Segment) -> Segment:
        """Hang `segment` below `parent` and return it; an equal one that is there already is returned instead."""
        for child in parent.children:
            same = len(child) == len(segment) == child.common(segment.ids, segment.steering)
            if same and child.canonical == segment.canonical:
                if child.logits is None and segment.logits is not None:
                    child.logits = segment.logits
                    self.nbytes += child.logits.numel() * child.logits.element_size()
                self._touch([(child, len(child))])
                return child
        segment.parent = parent
        # A parent that was evicted meanwhile is unreachable; so is what hangs below it, and it holds no memory for long.
        if parent is not self._root and parent not in self._segments:
            return segment
        parent.children.append(segment)
        self._segments.add(segment)
        self.nbytes += segment.nbytes
        self._touch([(segment, len(segment))])
        self._evict(keep=segment)
        return segment

    def clear(self) -> None:
        """Forget everything. Rows that run hold on to segments of theirs, but need no keys and values of them."""
        for segment in self._segments:
            segment.block, segment.logits = KeyValues([], []), None
        self._segments.clear()
        self._root.children.clear()
        self.nbytes = 0

    def _touch(self, path: list[tuple[Segment, int]]) -> list[tuple[Segment, int]]:
        self._clock += 1
        for segment, _ in path:
            segment.used = self._clock
        return path

    def _evict(self, keep: Segment) -> None:
        while self.nbytes > self.budget:
            leaves = [s for s in self._segments if not s.children and s is not keep]
            if not leaves:
                return
            oldest = min(leaves, key=lambda s: s.used)
            assert oldest.parent is not None
            oldest.parent.children.remove(oldest)
            self._segments.remove(oldest)
            self.nbytes -= oldest.nbytes
