"""What several windows add to h together, once what is left of windows that cancel is taken for what it is: nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cachetools import LRUCache

from self_steering.vectors.directions import DirectionTensor


def settled(delta: torch.Tensor, gross: torch.Tensor) -> torch.Tensor:
    """Return `delta` with zeros where only the rounding error of a sum that cancels is left.

    Args:
        delta: Sums of additions, float32.
        gross: Sums of their absolute values, of the same shape.
    """
    rounding = (delta.abs() <= 4 * torch.finfo(delta.dtype).eps * gross) & gross.isfinite()
    return delta.masked_fill(rounding, 0)


# Entries, one a direction and layer.
_DIRECTIONS_ON_DEVICE = 2048
# Decoding steers the same rows in the same way until one joins, leaves, or opens a window; an entry is one layer's.
_ADDITIONS_KEPT = 256


class SteeringFault(RuntimeError):  # noqa: N818  a fault in the field's sense, not a caller's error
    """Planned and realised steering differ: the result would be a lie, so there is none.

    Attributes:
        rows: Rows of the batch that it concerns; empty if it concerns all of them.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


@dataclass(frozen=True)
class Edit:
    """Steering of one row by one window in one step.

    Attributes:
        row: Row of the batch.
        start: First token of the step that is steered.
        stop: First token of the step that no longer is.
        direction: What is added.
        strength: Multiple that is added.
    """

    row: int
    start: int
    stop: int
    direction: DirectionTensor
    strength: float


class Directions:
    """Vectors, and what steps add up from them, on the devices where they are needed."""

    def __init__(self) -> None:
        # Sweeps over random directions would fill an accelerator's memory.
        self._on_device: LRUCache[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = LRUCache(_DIRECTIONS_ON_DEVICE)
        self._additions: LRUCache[tuple[Any, ...], _Additions] = LRUCache(_ADDITIONS_KEPT)

    def vector(self, direction: DirectionTensor, layer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (v, v/‖v‖) of a layer in float32 on the device of `like`."""
        key = (direction.key, layer)
        found = self._on_device.get(key)
        if found is None:
            value = direction.at(layer).to(like.device)
            found = self._on_device[key] = (value, value / value.norm())
        return found

    def additions(self, layer: int, edits: Sequence[Edit], shape: tuple[int, int], like: torch.Tensor) -> "_Additions":
        """Return what `edits` add at a layer in a step of `shape`, on the device and in the dtype of `like`."""
        here = [(index, edit) for index, edit in enumerate(edits) if layer in edit.direction.layers]
        if shape[1] > 1:
            return _Additions(layer, here, shape, self, like)  # a prompt's chunk: its like does not come again
        key = (layer, shape, *((i, e.row, e.start, e.stop, e.direction.key, e.strength) for i, e in here))
        found = self._additions.get(key)
        if found is None:
            found = self._additions[key] = _Additions(layer, here, shape, self, like)
        return found


class _Additions:
    """What one layer's edits add in a step, ready to be added: steps that steer the same places alike share it.

    Attributes:
        rows: Row of each planned position [planned].
        tokens: Token of each [planned].
        delta: What is added there [planned, hidden], in the model's dtype.
        expected: Where that is anything but zero [rows, tokens].
        measured: For each edit that is measured here its index, its place, and its unit vector [hidden].
    """

    def __init__(
        self,
        layer: int,
        edits: Sequence[tuple[int, Edit]],
        shape: tuple[int, int],
        directions: Directions,
        like: torch.Tensor,
    ) -> None:
        delta = torch.zeros((*shape, like.shape[-1]), dtype=torch.float32, device=like.device)
        gross = torch.zeros_like(delta)
        planned = torch.zeros(shape, dtype=torch.bool, device=like.device)
        self.measured: list[tuple[int, tuple[int, slice], torch.Tensor]] = []
        for index, edit in edits:
            vector, unit = directions.vector(edit.direction, layer, like)
            addition = edit.strength * vector
            delta[edit.row, edit.start : edit.stop] += addition
            gross[edit.row, edit.start : edit.stop] += addition.abs()
            planned[edit.row, edit.start : edit.stop] = True
            if edit.direction.monitor_layer == layer:
                self.measured.append((index, (edit.row, slice(edit.start, edit.stop)), unit))
        # Windows that cancel leave a rounding error of their sum behind, which is no steering.
        delta = settled(delta, gross)
        self.expected = (delta != 0).any(-1)
        self.rows, self.tokens = planned.nonzero(as_tuple=True)
        self.delta = delta[self.rows, self.tokens].to(like.dtype)


class LayerEdits:
    """All edits of one layer in one step: applies them, and measures what happened to h.

    `faults` [rows, 3] counts the positions that changed unplanned, did not change as planned, changed by another amount.
    """

    def __init__(self, layer: int, edits: Sequence[Edit], shape: tuple[int, int], directions: Directions) -> None:
        self.layer = layer
        self.faults: torch.Tensor | None = None
        self.projections: dict[int, torch.Tensor] = {}
        self._edits = edits
        self._shape = shape
        self._directions = directions

    def apply(self, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        """Add to a layer's output [rows, tokens, hidden] in place, and measure what that did."""
        h = output[0] if isinstance(output, tuple) else output
        added = self._directions.additions(self.layer, self._edits, self._shape, h)
        before = h.clone()
        # Only the planned positions are written: elsewhere h is not even touched by a zero.
        h[added.rows, added.tokens] = before[added.rows, added.tokens] + added.delta
        self._measure(before, h, added)

    def _measure(self, before: torch.Tensor, after: torch.Tensor, added: _Additions) -> None:
        changed = (after != before).any(-1)
        old, new, delta = before[added.rows, added.tokens], after[added.rows, added.tokens], added.delta
        # One unit of rounding for the addition and one for forming the difference, at the size of what was added up.
        size = old.abs() + new.abs() + delta.abs()
        error = (new.float() - old.float() - delta.float()).abs()
        wrong = ~after.isfinite().all(-1)
        wrong[added.rows, added.tokens] |= (error > 4 * torch.finfo(after.dtype).eps * size.float()).any(-1)
        faults = [changed & ~added.expected, added.expected & ~changed, wrong]
        self.faults = torch.stack([fault.sum(-1) for fault in faults], -1)
        for index, where, unit in added.measured:
            self.projections[index] = torch.stack([before[where].float() @ unit, after[where].float() @ unit])


def verify(per_layer: Sequence[LayerEdits]) -> None:
    """Raise unless every layer's edits ran, changed h where they should, nowhere else, and by the right amount."""
    silent = [work.layer for work in per_layer if work.faults is None]
    if silent:
        raise SteeringFault(f"the edits of layers {silent} never ran; nnsight skipped them")
    for work in per_layer:
        assert work.faults is not None
        rows = work.faults.sum(-1).nonzero().flatten().tolist()
        if rows:
            stray, missing, wrong = (int(n) for n in work.faults.sum(0).tolist())
            raise SteeringFault(
                f"layer {work.layer}: {stray} positions changed that should not, {missing} did not change that should, "
                f"{wrong} changed by another amount or are not finite. If the strength is too small or too large for the "
                "model's precision, use another dose or dtype=float32",
                rows,
            )


def projections_of(per_layer: Sequence[LayerEdits], edits: Sequence[Edit]) -> list[torch.Tensor]:
    """Return for each edit a tensor [2, tokens]: h·v/‖v‖ at its monitor layer before and after."""
    found = {index: value.cpu() for work in per_layer for index, value in work.projections.items()}
    return [found[index] for index in range(len(edits))]


def layers_of(edits: Sequence[Edit]) -> list[int]:
    """Return the layers that any edit adds to, ascending."""
    return sorted({layer for edit in edits for layer in edit.direction.layers})
