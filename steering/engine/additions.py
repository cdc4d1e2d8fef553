"""What steers which tokens, what that adds to the residual stream, and the check that it did: one account, for both engines.

At a steered token, h' = h + Δ, at each layer of the directions of the windows that cover it. Of additions Δ = Σ strength·v, known
beforehand. Of the other operations (`operations`) it depends on h: they act one after the other, in the order called, each on
what those before it left of the stream. Δ is formed in float32 in one order, and cast to the model's dtype once. Every layer of
every step is then checked: all tokens that were to change did, by the right amount, and no others. h·v/‖v‖ is measured before and
after all of it. Needs torch alone, no engine.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray

from self_steering.steering.operations import HOLDING, Operation
from self_steering.vectors.directions import DirectionTensor

_TABLES_KEPT = 256
_COMPARED_TOGETHER = 1 << 22  # numbers; what a long prompt's layers take is not held until the last of them has run


class SteeringFault(RuntimeError):  # noqa: N818  a fault in the field's sense, not a caller's error
    """Planned and realised steering differ: the result would be a lie, so there is none.

    Attributes:
        rows: Rows of the batch that it concerns; empty if it concerns all of them.
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


class Applied(NamedTuple):
    """One operation with one direction, wherever it is applied.

    Attributes:
        key: Hash of the direction's content.
        strength: Its strength (`operations`); of an addition the multiple that is added.
        operation: The operation.
        targets: Of a clamp and an ablation the projection that is held at each of the direction's layers; else empty.
    """

    key: str
    strength: float
    operation: Operation = "add"
    targets: tuple[float, ...] = ()


class Span(NamedTuple):
    """One operation over token positions.

    Attributes:
        key: As for `Applied`.
        strength: As for `Applied`.
        start: First steered position.
        stop: First position that is not; None steers all that follows.
        operation: As for `Applied`.
        targets: As for `Applied`.
    """

    key: str
    strength: float
    start: int
    stop: int | None
    operation: Operation = "add"
    targets: tuple[float, ...] = ()

    @property
    def applied(self) -> Applied:
        """What it applies, without its place."""
        return Applied(self.key, self.strength, self.operation, self.targets)

    def covers(self, position: int) -> bool:
        """Tell whether the token at `position` is steered."""
        return self.start <= position and (self.stop is None or position < self.stop)

    def within(self, start: int, stop: int) -> tuple[int, int]:
        """Return the part of the span that lies in `start` to `stop`; it is empty if its ends do not ascend."""
        return max(self.start, start), stop if self.stop is None else min(self.stop, stop)


def runs(applied: Sequence[Applied]) -> Iterator[list[Applied]]:
    """Yield what acts together, in the order called: additions that follow on one another, sorted, and each other operation alone.

    Two stacks of operations do the same where these are equal: the order of additions that are summed does not matter.
    """
    for adds, members in itertools.groupby(applied, key=lambda one: one.operation == "add"):
        run = list(members)
        yield from [sorted(run)] if adds else [[one] for one in run]


class Signatures:
    """Numbers for stacks of operations, so that steering can be compared token by token; 0 is the empty one."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Applied, ...], int] = {(): 0}
        self._stacks: list[tuple[Applied, ...]] = [()]

    def of(self, spans: Sequence[Span]) -> int:
        """Return the number of the stack that `spans` make up; their order matters but for that of additions in a row."""
        stack = tuple(itertools.chain.from_iterable(runs([span.applied for span in spans])))
        if stack not in self._numbers:
            self._numbers[stack] = len(self._stacks)
            self._stacks.append(stack)
        return self._numbers[stack]

    def stack(self, number: int) -> tuple[Applied, ...]:
        """Return the operations of a number, in the order in which they act."""
        return self._stacks[number]

    def keys(self, number: int) -> list[str]:
        """Return the keys of a number's directions, each once, in ascending order."""
        return sorted({one.key for one in self._stacks[number]})

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
class _Moves:
    """Operations that depend on the stream, one after the other: h becomes h + (offset + slope·(h·along))·along in each step.

    Of an addition `along` is what is added, offset 1 and slope 0; else a unit vector.

    Attributes:
        along: Tensor [steps, rows, hidden], float32; zero where a row has fewer steps than others.
        offset: Tensor [steps, rows].
        slope: Tensor [steps, rows].
        depends: Whether a row's change depends on the stream at all [rows].
    """

    along: torch.Tensor
    offset: torch.Tensor
    slope: torch.Tensor
    depends: torch.Tensor

    def of(self, rows: torch.Tensor) -> Self:
        """Return the same for some rows, each as often as it is named."""
        along, offset, slope = (x.index_select(1, rows) for x in (self.along, self.offset, self.slope))
        return type(self)(along, offset, slope, self.depends.index_select(0, rows))

    def change(self, stream: torch.Tensor) -> torch.Tensor:
        """Return what all steps together change of a stream [rows, hidden], float32; exactly zero where none does anything."""
        total = torch.zeros_like(stream)
        for along, offset, slope in zip(self.along, self.offset, self.slope, strict=True):
            # Summed token by token, so that no token's change depends on its company.
            level = ((stream + total) * along).sum(-1)
            weight = torch.where(slope == 0, offset, offset + slope * level)
            total = total + weight[:, None] * along
        return total


@dataclass(frozen=True)
class LayerAdditions:
    """What is added to one layer's output h [..., hidden] in one step.

    Attributes:
        places: An index tensor [members] for each dimension of h but the last: the tokens that are added to.
        flat: Where these are among all tokens of the step [members].
        delta: What is added [members, hidden], in the dtype of h; meaningless before it is `formed`, where it depends on h.
        changes: Whether each token must change [members]: whether that is anything but zero, before the cast; where it depends on
            h, whether it is more than the dtype rounds away.
        units: Unit vectors of the directions that are measured at this layer [hidden, directions], float32.
        moves: What depends on h, of all members; None where nothing does.
        may: Whether each token may change [members]; None where that is `changes`.
    """

    places: tuple[torch.Tensor, ...]
    flat: torch.Tensor
    delta: torch.Tensor
    changes: torch.Tensor
    units: torch.Tensor
    moves: _Moves | None = None
    may: torch.Tensor | None = None

    def formed(self, h: torch.Tensor, residual: torch.Tensor | None = None) -> "LayerAdditions":
        """Return the same with `delta` as it is for this h.

        Args:
            h: The tensor to add to [..., hidden].
            residual: As for `faults`.
        """
        if self.moves is None:
            return self
        delta = self.moves.change(self._stream(h, residual)).to(h.dtype)
        old = h[self.places]
        new = old + delta
        # Where the stream is in two parts it is their sum, in its own precision, that the next layer reads.
        rest = 0 if residual is None else residual[self.places]
        planned = (new + rest != old + rest).any(-1)
        return replace(
            self, delta=delta, changes=torch.where(self.moves.depends, planned, self.changes), may=self.changes
        )

    def add(self, h: torch.Tensor) -> None:
        """Add to h in place; tokens that are not steered are not even touched by a zero."""
        if len(self.flat) == h.shape[:-1].numel():  # all are, in their order
            h += self.delta.view_as(h)
        else:
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
        allowed = expected
        if self.may is not None:
            allowed = expected.clone()
            allowed[self.flat] = self.may
        old, new = before[self.places], after[self.places]
        exact = torch.promote_types(new.dtype, torch.float32)
        sum_ = old.to(exact) + self.delta.to(exact)
        info = torch.finfo(new.dtype)
        # The second term is for numbers so small that their last place does not shrink any more.
        rounding = 0.5 * info.eps * sum_.abs() + max(info.tiny * info.eps, torch.finfo(torch.float32).tiny)
        amount = ~((new.to(exact) - sum_).abs() <= rounding).all(-1)
        if residual is not None:
            # In the stream what must change must have: next to a large residual it may round to nothing.
            rest = residual[self.places]
            arrived = ((new + rest) != (old + rest)).any(-1)
            changed[self.flat] = torch.where(self.changes, changed[self.flat] & arrived, changed[self.flat])
            amount |= ~(new + rest).isfinite().all(-1)
        wrong[self.flat] |= amount
        return torch.stack([changed & ~allowed, expected & ~changed, wrong], -1)

    @classmethod
    def of_layers(cls, layers: Sequence[Self], tokens: int) -> Self:
        """Return several layers' additions in one step of `tokens` tokens as one's, over their outputs one after the other.

        It says what was to be done with all of them [layers · tokens, hidden], not what is measured there.
        """
        flat = torch.cat([one.flat + place * tokens for place, one in enumerate(layers)])
        changes = torch.cat([one.changes for one in layers])
        may = torch.cat([one.changes if one.may is None else one.may for one in layers])
        return cls((flat,), flat, torch.cat([one.delta for one in layers]), changes, layers[0].units[:, :0], None, may)

    def projections(self, h: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Return the stream's h·v/‖v‖ at the steered tokens [members, directions], formed in float32."""
        return self._stream(h, residual) @ self.units

    def _stream(self, h: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """Return the stream at the steered tokens [members, hidden], float32."""
        stream = h[self.places].float()
        return stream if residual is None else stream + residual[self.places].float()


@dataclass(frozen=True)
class _LayerTable:
    """What some signatures add at one layer.

    Attributes:
        row: For each signature its row in the tensors below; -1 where it adds nothing here [signatures].
        delta: What is added [rows, hidden], in the model's dtype; where that depends on the stream it says nothing.
        changes: Whether that can be anything but zero [rows].
        units: Unit vectors of the directions that are measured there [hidden, directions], float32.
        moves: All rows' operations, where one of them depends on the stream; else None.
    """

    row: NDArray[np.int64]
    delta: torch.Tensor
    changes: torch.Tensor
    units: torch.Tensor
    moves: _Moves | None


class _Table:
    """What some signatures add, made layer by layer where it is first wanted.

    Attributes:
        layers: Layers that any of them adds at, ascending.
        column: For each signature and each of its directions, in the order of their keys, the column of its projection among
            those of all layers, ascending; -1 where it has fewer directions [signatures, directions].

    Args:
        stacks: For each signature its operations, in the order in which they act.
        directions: All of these directions by key.

    Raises:
        KeyError: A direction is not among them.
    """

    def __init__(self, stacks: Sequence[tuple[Applied, ...]], directions: Mapping[str, DirectionTensor]) -> None:
        names = [sorted({one.key for one in of_one}) for of_one in stacks]
        self._stacks = stacks
        self._directions = {key: directions[key] for of_one in names for key in of_one}
        self._made: dict[int, _LayerTable] = {}
        self.layers = tuple(sorted({layer for found in self._directions.values() for layer in found.layers}))
        order = [key for layer in self.layers for key in self.measured(layer)]
        self.column = np.full((len(stacks), max(map(len, names))), -1, np.int64)
        for place, of_one in enumerate(names):
            self.column[place, : len(of_one)] = [order.index(key) for key in of_one]

    def at(self, layer: int, like: torch.Tensor) -> _LayerTable:
        """Return what is added at a layer, on the device and in the dtype of its output."""
        if layer not in self._made:
            self._made[layer] = self._make(layer, like)
        return self._made[layer]

    def members(self, layer: int) -> NDArray[np.bool_]:
        """Tell which of the signatures add at a layer [signatures]."""
        return np.array([any(layer in self._directions[one.key].layers for one in of_one) for of_one in self._stacks])

    def measured(self, layer: int) -> list[str]:
        """Return the keys of the directions that are measured at a layer, in ascending order."""
        return sorted(key for key, found in self._directions.items() if found.monitor_layer == layer)

    def _make(self, layer: int, like: torch.Tensor) -> _LayerTable:
        here = {key: found for key, found in self._directions.items() if layer in found.layers}
        vectors = {key: found.at(layer).to(like.device, torch.float32) for key, found in here.items()}
        rows = [found for of_one in self._stacks if (found := [one for one in of_one if one.key in vectors])]
        members = self.members(layer)
        units = [vectors[key] / vectors[key].norm() for key in self.measured(layer)]
        if all(one.operation == "add" for found in rows for one in found):
            delta = torch.stack([add_up([one.strength * vectors[one.key] for one in found]) for found in rows])
            changes, moves = (delta != 0).any(-1), None
        else:
            moves = self._moves(layer, rows, vectors)
            delta = torch.zeros_like(moves.along[0])
            changes = ((moves.along != 0).any(-1) & ((moves.offset != 0) | (moves.slope != 0))).any(0)
        return _LayerTable(
            row=np.where(members, np.cumsum(members) - 1, -1),
            delta=delta.to(like.dtype),
            changes=changes,
            units=torch.stack(units, -1) if units else delta.new_zeros((delta.shape[-1], 0)),
            moves=moves,
        )

    def _moves(self, layer: int, rows: Sequence[list[Applied]], vectors: Mapping[str, torch.Tensor]) -> _Moves:
        steps = [[self._step(layer, run, vectors) for run in runs(found)] for found in rows]
        like = next(iter(vectors.values()))
        nothing = (torch.zeros_like(like), 0.0, 0.0)
        padded = list(itertools.zip_longest(*steps, fillvalue=nothing))  # a tuple a step, with an entry for each row
        offset, slope = (like.new_tensor([[one[part] for one in step] for step in padded]) for part in (1, 2))
        depends = [any(one.operation != "add" for one in found) for found in rows]
        return _Moves(
            along=torch.stack([torch.stack([along for along, *_ in step]) for step in padded]),
            offset=offset,
            slope=slope,
            depends=torch.tensor(depends, device=like.device),
        )

    def _step(
        self, layer: int, run: Sequence[Applied], vectors: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, float, float]:
        """Return along, offset and slope of what acts together, as `_Moves` has them."""
        one = run[0]
        vector = vectors[one.key]
        if one.operation == "add":
            return add_up([added.strength * vectors[added.key] for added in run]), 1.0, 0.0
        unit = vector / vector.norm()
        if one.operation in HOLDING:
            target = one.targets[self._directions[one.key].layers.index(layer)]
            return unit, one.strength * target, -one.strength
        return unit, 0.0, one.strength


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
        self._joined: dict[tuple[int, ...], LayerAdditions] = {}

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
                None if found.moves is None else found.moves.of(rows),
            )
        return self._made[layer]

    def together(self, layers: Sequence[int], formed: Sequence[LayerAdditions], tokens: int) -> LayerAdditions:
        """Return what is added at several layers as one, `LayerAdditions.of_layers`; made once where no step changes it.

        Args:
            layers: Indices of the layers.
            formed: What is added at each of them in this step.
            tokens: Number of the step's tokens.
        """
        key = tuple(layers)
        if any(one.may is not None for one in formed):
            return LayerAdditions.of_layers(formed, tokens)
        if key not in self._joined:
            self._joined[key] = LayerAdditions.of_layers(formed, tokens)
        return self._joined[key]

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
                self._tables[wanted] = _Table([self._signatures.stack(number) for number in wanted], directions)
            self._last = Additions(steering, which, self._tables[wanted])
        return self._last

    def clear(self) -> None:
        """Forget what was made, and with it the directions that it holds."""
        self._tables.clear()
        self._last = None


class _Done(NamedTuple):
    """What was done at one layer, and is still to be compared with what was planned.

    Attributes:
        layer: Index of the layer.
        additions: What was to be added.
        before: The layer's output [..., hidden] before.
        after: The same afterwards.
    """

    layer: int
    additions: LayerAdditions
    before: torch.Tensor
    after: torch.Tensor


class SteeredStep:
    """One step of the model while it is steered: adds layer by layer, and notes what that did to the stream.

    What was done is compared with what was planned for many layers at once, as the dozens of small operations that this takes
    would otherwise be most of what steering costs.

    Args:
        additions: What is to be added.
    """

    def __init__(self, additions: Additions) -> None:
        self._additions = additions
        self._ran: list[int] = []
        self._done: list[_Done] = []
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
        here = self._additions.at(layer, h).formed(h, residual)
        before = h.clone()
        here.add(h)
        self._ran.append(layer)
        if here.units.shape[1]:
            self._projections[layer] = torch.stack([here.projections(x, residual) for x in (before, h)])
        if residual is not None:
            self._faults.append(here.faults(before, h, residual)[None])
            return
        if self._done and not self._fits(h):
            self._compare()
        # A copy, as whatever reads it next may write to it.
        self._done.append(_Done(layer, here, before, h.clone()))

    def _fits(self, h: torch.Tensor) -> bool:
        """Tell whether a layer's output can be compared together with those that wait for it."""
        first = self._done[0].after
        return h.device == first.device and (len(self._done) + 1) * h.numel() <= _COMPARED_TOGETHER

    def _compare(self) -> None:
        """Compare what was done with what was planned at the layers that wait for it."""
        done, self._done = self._done, []
        if not done:
            return
        before = torch.stack([one.before for one in done]).flatten(0, -2)
        after = torch.stack([one.after for one in done]).flatten(0, -2)
        tokens = len(after) // len(done)
        planned = self._additions.together([one.layer for one in done], [one.additions for one in done], tokens)
        self._faults.append(planned.faults(before, after).reshape(len(done), tokens, -1))

    def verify(self, owner: NDArray[np.int64]) -> None:
        """Raise unless each layer was added to once, changed where it should, nowhere else, and by the right amount.

        Args:
            owner: For each token of the step the row that it belongs to [tokens].

        Raises:
            SteeringFault: Something else happened; the message is about the first such layer, `rows` are those concerned.
        """
        if tuple(self._ran) != self._additions.layers:
            raise SteeringFault(f"layers {list(self._additions.layers)} were to be steered, and {self._ran} were")
        self._compare()
        faults = torch.cat([found.to(self._faults[0].device) for found in self._faults]).cpu().numpy()
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
