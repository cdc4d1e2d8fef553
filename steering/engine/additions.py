"""What steers which tokens, what that adds to the residual stream, and the check that it did: one account, for both engines.

At a steered token, h' = h + Σ strength·v over the windows that cover it, at each layer of their directions. The sum is formed in
float32 in one order, and cast to the model's dtype once. Every layer of every step is then checked: all tokens that were to
change did, by the right amount, and no others. h·v/‖v‖ is measured before and after. Needs torch alone, no engine.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray

from self_steering.vectors.directions import DirectionTensor

_TABLES_KEPT = 256


class SteeringFault(RuntimeError):  # noqa: N818  a fault in the field's sense, not a caller's error
    """Planned and realised steering differ: the result would be a lie, so there is none.

    Attributes:
        rows: Rows of the batch that it concerns; empty if it concerns all of them.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


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


def add_up(additions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of additions [hidden], in their order; where they cancel it is exactly zero.

    Doses such as 0.3, -0.1 and -0.2 leave a rounding error of their sum behind, which is no steering.

    Args:
        additions: At least one, each strength·v [hidden], float32.
    """
    total, gross = torch.zeros_like(additions[0]), torch.zeros_like(additions[0])
    for addition in additions:
        total += addition
        gross += addition.abs()
    rounding = (total.abs() <= 4 * torch.finfo(total.dtype).eps * gross) & gross.isfinite()
    return total.masked_fill(rounding, 0)


@dataclass(frozen=True)
class LayerAdditions:
    """What is added to one layer's output h [..., hidden] in one step.

    Attributes:
        places: An index tensor [members] for each dimension of h but the last: the tokens that are added to.
        flat: Where these are among all tokens of the step [members].
        delta: What is added [members, hidden], in the dtype of h.
        changes: Whether that is anything but zero, before the cast [members].
        units: Unit vectors of the directions that are measured at this layer [hidden, directions], float32.
    """

    places: tuple[torch.Tensor, ...]
    flat: torch.Tensor
    delta: torch.Tensor
    changes: torch.Tensor
    units: torch.Tensor

    def add(self, h: torch.Tensor) -> None:
        """Add to h in place; tokens that are not steered are not even touched by a zero."""
        h[self.places] = h[self.places] + self.delta

    def faults(self, before: torch.Tensor, after: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Compare h before and after with what was to be added.

        The amount is right if h' is the model's dtype nearest to h + delta: half a unit in the last place is what rounding
        explains.

        Args:
            before: The tensor that was added to [..., hidden], a copy.
            after: The same afterwards.
            residual: What the model adds to it to form the stream, of the same shape; None where it is the stream itself.

        Returns:
            For every token of the step whether it changed unplanned, did not change as planned, changed by another amount or is
            not finite: [tokens, 3].
        """
        changed = (after != before).any(-1).flatten()
        wrong = ~after.isfinite().all(-1).flatten()
        expected = torch.zeros_like(changed)
        expected[self.flat] = self.changes
        old, new = before[self.places], after[self.places]
        exact = torch.promote_types(new.dtype, torch.float32)
        sum_ = old.to(exact) + self.delta.to(exact)
        info = torch.finfo(new.dtype)
        # The second term is for numbers so small that their last place does not shrink any more.
        rounding = 0.5 * info.eps * sum_.abs() + max(info.tiny * info.eps, torch.finfo(torch.float32).tiny)
        amount = ~((new.to(exact) - sum_).abs() <= rounding).all(-1)
        if residual is not None:
            # In the stream the addition must still be there: next to a large residual it may round to nothing.
            rest = residual[self.places]
            arrived = ((new + rest) != (old + rest)).any(-1)
            changed[self.flat] = torch.where(self.changes, changed[self.flat] & arrived, changed[self.flat])
            amount |= ~(new + rest).isfinite().all(-1)
        wrong[self.flat] |= amount
        return torch.stack([changed & ~expected, expected & ~changed, wrong], -1)

    def projections(self, h: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Return the stream's h·v/‖v‖ at the steered tokens [members, directions], formed in float32."""
        stream = h[self.places].float()
        if residual is not None:
            stream = stream + residual[self.places].float()
        return stream @ self.units


@dataclass(frozen=True)
class _LayerTable:
    """What some signatures add at one layer.

    Attributes:
        row: For each signature its row in the tensors below; -1 where it adds nothing here [signatures].
        delta: What is added [rows, hidden], in the model's dtype.
        changes: Whether that is anything but zero [rows].
        units: Unit vectors of the directions that are measured there [hidden, directions], float32.
    """

    row: NDArray[np.int64]
    delta: torch.Tensor
    changes: torch.Tensor
    units: torch.Tensor


class _Table:
    """What some signatures add, made layer by layer where it is first wanted.

    Attributes:
        layers: Layers that any of them adds at, ascending.
        column: For each signature and each of its directions, in the order of their keys, the column of its projection among
            those of all layers, ascending; -1 where it has fewer directions [signatures, directions].

    Args:
        pairs: For each signature its (direction key, strength) pairs, in ascending order.
        directions: All of these directions by key.

    Raises:
        KeyError: A direction is not among them.
    """

    def __init__(
        self, pairs: Sequence[tuple[tuple[str, float], ...]], directions: Mapping[str, DirectionTensor]
    ) -> None:
        names = [sorted({key for key, _ in of_one}) for of_one in pairs]
        self._pairs = pairs
        self._directions = {key: directions[key] for of_one in names for key in of_one}
        self._made: dict[int, _LayerTable] = {}
        self.layers = tuple(sorted({layer for found in self._directions.values() for layer in found.layers}))
        order = [key for layer in self.layers for key in self.measured(layer)]
        self.column = np.full((len(pairs), max(map(len, names))), -1, np.int64)
        for place, of_one in enumerate(names):
            self.column[place, : len(of_one)] = [order.index(key) for key in of_one]

    def at(self, layer: int, like: torch.Tensor) -> _LayerTable:
        """Return what is added at a layer, on the device and in the dtype of its output."""
        if layer not in self._made:
            self._made[layer] = self._make(layer, like)
        return self._made[layer]

    def members(self, layer: int) -> NDArray[np.bool_]:
        """Tell which of the signatures add at a layer [signatures]."""
        return np.array([any(layer in self._directions[key].layers for key, _ in of_one) for of_one in self._pairs])

    def measured(self, layer: int) -> list[str]:
        """Return the keys of the directions that are measured at a layer, in ascending order."""
        return sorted(key for key, found in self._directions.items() if found.monitor_layer == layer)

    def _make(self, layer: int, like: torch.Tensor) -> _LayerTable:
        here = {key: found for key, found in self._directions.items() if layer in found.layers}
        vectors = {key: found.at(layer).to(like.device, torch.float32) for key, found in here.items()}
        added = [[strength * vectors[key] for key, strength in of_one if key in vectors] for of_one in self._pairs]
        members = self.members(layer)
        delta = torch.stack([add_up(found) for found in added if found])
        units = [vectors[key] / vectors[key].norm() for key in self.measured(layer)]
        return _LayerTable(
            row=np.where(members, np.cumsum(members) - 1, -1),
            delta=delta.to(like.dtype),
            changes=(delta != 0).any(-1),
            units=torch.stack(units, -1) if units else delta.new_zeros((delta.shape[-1], 0)),
        )


class Additions:
    """What one step adds at which of its tokens; steps that steer the same tokens alike share it.

    Attributes:
        steering: Signature of each token, of the shape of the layers' outputs without hidden; 0 is unsteered.
        layers: Layers that are added at, ascending.

    Args:
        steering: As above; some of it is not 0.
        which: For each steered token the place of its signature in the table [steered].
        table: What these signatures add.
    """

    def __init__(self, steering: NDArray[np.int64], which: NDArray[np.int64], table: _Table) -> None:
        self.steering = steering
        self.layers = table.layers
        self._steered = np.flatnonzero(steering)
        self._which = which
        self._table = table
        self._made: dict[int, LayerAdditions] = {}

    def at(self, layer: int, like: torch.Tensor) -> LayerAdditions:
        """Return what is added at a layer, on the device and in the dtype of its output."""
        if layer not in self._made:
            found, members = self._table.at(layer, like), self._members(layer)
            flat = self._steered[members]
            rows = torch.from_numpy(found.row[self._which[members]]).to(like.device)
            self._made[layer] = LayerAdditions(
                tuple(torch.from_numpy(i).to(like.device) for i in np.unravel_index(flat, self.steering.shape)),
                torch.from_numpy(flat).to(like.device),
                found.delta.index_select(0, rows),
                found.changes.index_select(0, rows),
                found.units,
            )
        return self._made[layer]

    def arrange(self, measured: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return projections by token and direction.

        Args:
            measured: For each layer that ran [2, members, directions], as `LayerAdditions.projections` gives them before and after.

        Returns:
            For each token those of its signature's directions, in the order of their keys: [..., 2, directions], of the shape of
            `steering`; NaN where there are none.
        """
        columns = []
        for layer in self.layers:
            values = np.full((len(self._steered), 2, len(self._table.measured(layer))), np.nan, np.float32)
            if layer in measured:
                values[self._members(layer)] = measured[layer].transpose(1, 0, 2)
            columns.append(values)
        columns.append(np.full((len(self._steered), 2, 1), np.nan, np.float32))  # the last one, -1
        column = self._table.column[self._which]
        picked = np.take_along_axis(np.concatenate(columns, -1), column[:, None, :], -1)
        result = np.full((self.steering.size, *picked.shape[1:]), np.nan, np.float32)
        result[self._steered] = picked
        return result.reshape(*self.steering.shape, *picked.shape[1:])

    def _members(self, layer: int) -> NDArray[np.bool_]:
        """Tell which of the steered tokens are added to at a layer [steered]."""
        found: NDArray[np.bool_] = self._table.members(layer)[self._which]
        return found


class AdditionMaker:
    """Makes what steps add, and keeps what comes again: while rows decode, a step's additions are the last one's.

    Args:
        signatures: What the numbers of `Additions.steering` mean.
    """

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self._tables: LRUCache[tuple[int, ...], _Table] = LRUCache(_TABLES_KEPT)
        self._last: Additions | None = None

    def make(self, steering: NDArray[np.int64], directions: Mapping[str, DirectionTensor]) -> Additions | None:
        """Return what a step adds; None if nothing is steered.

        Args:
            steering: Signature of each token, of the shape of the layers' outputs without hidden.
            directions: By key, all that the signatures name.

        Raises:
            KeyError: A direction is missing.
        """
        if not steering.any():
            return None
        if self._last is None or not np.array_equal(self._last.steering, steering):
            numbers, which = np.unique(steering[steering != 0], return_inverse=True)
            wanted = tuple(numbers.tolist())
            if wanted not in self._tables:
                self._tables[wanted] = _Table([self._signatures.pairs(number) for number in wanted], directions)
            self._last = Additions(steering, which, self._tables[wanted])
        return self._last

    def clear(self) -> None:
        """Forget what was made, and with it the directions that it holds."""
        self._tables.clear()
        self._last = None


class SteeredStep:
    """One step of the model while it is steered: adds layer by layer, and notes what that did to the stream.

    Args:
        additions: What is to be added.
    """

    def __init__(self, additions: Additions) -> None:
        self._additions = additions
        self._ran: list[int] = []
        self._faults: list[torch.Tensor] = []
        self._projections: dict[int, torch.Tensor] = {}

    def steer(self, layer: int, h: torch.Tensor, residual: torch.Tensor | None = None) -> None:
        """Add to a layer's output in place, if anything is to be added there, and measure what that did.

        Args:
            layer: Index of the layer.
            h: The tensor to add to [..., hidden].
            residual: What the model adds to it to form the stream, of the same shape; None where h is the stream itself.
        """
        if layer not in self._additions.layers:
            return
        here = self._additions.at(layer, h)
        before = h.clone()
        here.add(h)
        self._ran.append(layer)
        self._faults.append(here.faults(before, h, residual))
        self._projections[layer] = torch.stack([here.projections(x, residual) for x in (before, h)])

    def verify(self, owner: NDArray[np.int64]) -> None:
        """Raise unless each layer was added to once, changed where it should, nowhere else, and by the right amount.

        Args:
            owner: For each token of the step the row that it belongs to [tokens].

        Raises:
            SteeringFault: Something else happened; the message is about the first such layer, `rows` are those concerned.
        """
        if tuple(self._ran) != self._additions.layers:
            raise SteeringFault(f"layers {list(self._additions.layers)} were to be steered, and {self._ran} were")
        faults = torch.stack([found.to(self._faults[0].device) for found in self._faults]).cpu().numpy()
        if not faults.any():
            return
        first = int(faults.any((1, 2)).argmax())
        stray, missing, wrong = faults[first].sum(0).tolist()
        raise SteeringFault(
            f"layer {self._ran[first]}: {stray} positions changed that should not, {missing} did not change that should, "
            f"{wrong} changed by another amount or are not finite. If the strength is too small or too large for the "
            "model's precision, use another dose or dtype=float32",
            sorted(set(owner[faults.any((0, 2))].tolist())),
        )

    def projections(self) -> NDArray[np.float32]:
        """Return h·v/‖v‖ before and after at the layers that receipts measure, as `Additions.arrange` orders them."""
        return self._additions.arrange({layer: found.cpu().numpy() for layer, found in self._projections.items()})
