"""One step of a worker: which of its tokens are steered by what, the additions, and what they did to the stream.

A vLLM layer returns its own part of the residual stream apart from what came before (`hidden_states, residual`), to be added
up by the next layer's norm; some return the whole stream. Either way the addition goes to the first tensor, and
measurements are made on the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray

from self_steering.steering.engine.additions import settled
from self_steering.steering.engine.spans import Signatures

_TABLES_KEPT = 256


@dataclass(frozen=True)
class Installed:
    """A direction on the device.

    Attributes:
        layers: Decoder layers that it is added at, ascending.
        values: Tensor [layers, hidden], float32.
        monitor_layer: The layer at which receipts measure it.
    """

    layers: tuple[int, ...]
    values: torch.Tensor
    monitor_layer: int


@dataclass(frozen=True)
class LayerTable:
    """What some signatures add at one layer.

    Attributes:
        members: Which of the signatures add there [signatures].
        row: For each signature its row in the tensors below; meaningless where it is no member [signatures].
        delta: What is added [members, hidden], in the model's dtype.
        changes: Whether that is anything but zero [members].
        units: Unit vectors of the directions that are measured there [hidden, directions], float32; None without any.
    """

    members: NDArray[np.bool_]
    row: NDArray[np.int64]
    delta: torch.Tensor
    changes: torch.Tensor
    units: torch.Tensor | None


@dataclass(frozen=True)
class Table:
    """What some signatures add.

    Attributes:
        layers: By layer.
        column: For each signature and each of its directions, in the order of their keys, the column of its projection among
            those of all layers, ascending; -1 where it has fewer directions [signatures, directions].
    """

    layers: dict[int, LayerTable]
    column: NDArray[np.int64]


class Tables:
    """Makes and keeps tables.

    Args:
        signatures: What the numbers mean.
        dtype: Of the residual stream.
        device: Where it lies.
    """

    def __init__(self, signatures: Signatures, dtype: torch.dtype, device: torch.device) -> None:
        self.directions: dict[str, Installed] = {}
        self._signatures = signatures
        self._dtype = dtype
        self._device = device
        self._kept: LRUCache[tuple[int, ...], Table] = LRUCache(_TABLES_KEPT)

    def install(self, key: str, layers: tuple[int, ...], monitor_layer: int, values: torch.Tensor) -> None:
        """Take a direction to the device."""
        self.directions[key] = Installed(layers, values.to(self._device, torch.float32), monitor_layer)

    def forget(self, keys: Sequence[str]) -> None:
        """Give directions up, and all tables, as some may hold them."""
        for key in keys:
            self.directions.pop(key, None)
        self._kept.clear()

    def of(self, numbers: tuple[int, ...]) -> Table:
        """Return the table of some signatures.

        Raises:
            KeyError: A direction was not installed.
        """
        if numbers not in self._kept:
            self._kept[numbers] = self._make(numbers)
        return self._kept[numbers]

    def _make(self, numbers: tuple[int, ...]) -> Table:
        pairs = [self._signatures.pairs(number) for number in numbers]
        keys = [sorted({key for key, _ in of_one}) for of_one in pairs]
        layers = sorted({layer for names in keys for key in names for layer in self.directions[key].layers})
        columns: dict[str, int] = {}
        tables = {}
        for layer in layers:
            measured = sorted({k for names in keys for k in names if self.directions[k].monitor_layer == layer})
            columns.update({key: len(columns) + place for place, key in enumerate(measured)})
            tables[layer] = self._at(layer, pairs, measured)
        column = np.full((len(numbers), max(map(len, keys))), -1, np.int64)
        for place, names in enumerate(keys):
            column[place, : len(names)] = [columns[key] for key in names]
        return Table(tables, column)

    def _at(self, layer: int, pairs: list[tuple[tuple[str, float], ...]], measured: list[str]) -> LayerTable:
        here = [[(k, s) for k, s in of_one if layer in self.directions[k].layers] for of_one in pairs]
        members = np.array([bool(found) for found in here])
        deltas = []
        for found in here:
            if not found:
                continue
            added = torch.stack([strength * self._vector(key, layer) for key, strength in found])
            # Windows that cancel leave a rounding error of their sum behind, which is no steering.
            deltas.append(settled(added.sum(0), added.abs().sum(0)))
        delta = torch.stack(deltas)
        units = [self._vector(key, layer) for key in measured]
        return LayerTable(
            members=members,
            row=np.cumsum(members) - 1,
            delta=delta.to(self._dtype),
            changes=(delta != 0).any(-1),
            units=torch.stack([unit / unit.norm() for unit in units], -1) if units else None,
        )

    def _vector(self, key: str, layer: int) -> torch.Tensor:
        installed = self.directions[key]
        return installed.values[installed.layers.index(layer)]


Output = torch.Tensor | tuple[torch.Tensor, ...]


class UnknownOutput(TypeError):  # noqa: N818  named for what it says
    """A decoder layer returned something that cannot be steered."""


@dataclass
class Edits:
    """The additions of a step that steers the same tokens in the same way as the one before it.

    Attributes:
        steered: Places of the steered tokens among the step's tokens [steered].
        which: For each of them the row of its signature in the table [steered].
        table: What these signatures add.
        parts: For each layer the places, what is added there, whether that changes anything, and which of `steered` they are.
    """

    steered: NDArray[np.int64]
    which: NDArray[np.int64]
    table: Table
    device: torch.device
    places: torch.Tensor = field(init=False)
    parts: dict[int, "LayerEdits"] = field(init=False)

    def __post_init__(self) -> None:
        self.places = torch.from_numpy(self.steered).to(self.device)
        self.parts = {layer: self._part(found) for layer, found in self.table.layers.items()}

    def _part(self, found: LayerTable) -> "LayerEdits":
        members = found.members[self.which]
        rows = torch.from_numpy(found.row[self.which[members]]).to(self.device)
        everywhere = bool(members.all())
        places = self.places if everywhere else self.places[torch.from_numpy(members).to(self.device)]
        delta, changes = found.delta.index_select(0, rows), found.changes.index_select(0, rows)
        return LayerEdits(places, delta, changes, found.units, None if everywhere else members)


@dataclass(frozen=True)
class LayerEdits:
    """The additions at one layer: places [tokens], delta [tokens, hidden], changes [tokens], units [hidden, directions]."""

    places: torch.Tensor
    delta: torch.Tensor
    changes: torch.Tensor
    units: torch.Tensor | None
    members: NDArray[np.bool_] | None

    def apply(self, output: Output) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Add to a layer's output in place.

        Returns:
            Which places did not change as planned [tokens], and the projections before and after [2, tokens, directions].

        Raises:
            UnknownOutput: The output has another form than expected.
        """
        h, residual = stream_of(output)
        before = h.index_select(0, self.places)
        h.index_copy_(0, self.places, before + self.delta)
        after = h.index_select(0, self.places)
        if residual is not None:
            rest = residual.index_select(0, self.places)
            before, after = before + rest, after + rest
        wrong = ((after != before).any(-1) != self.changes) | ~after.isfinite().all(-1)
        if self.units is None:
            return wrong, None
        return wrong, torch.stack((before.float() @ self.units, after.float() @ self.units))


def stream_of(output: Output) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the tensor of a layer's output to add to, and what is still to be added to it.

    Raises:
        UnknownOutput: The output has another form than expected.
    """
    parts = (output,) if isinstance(output, torch.Tensor) else output
    plain = isinstance(parts, tuple) and all(isinstance(part, torch.Tensor) and part.ndim == 2 for part in parts)
    if not plain or len(parts) not in (1, 2) or len({part.shape for part in parts}) != 1:
        raise UnknownOutput(f"a decoder layer returned {_form(output)}; expected one or two tensors [tokens, hidden]")
    if len(parts) == 1:
        return parts[0], None
    if parts[0].data_ptr() == parts[1].data_ptr():
        raise UnknownOutput("a decoder layer returned the same memory twice, where it adds up to the residual stream")
    return parts[0], parts[1]


def _form(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor {list(output.shape)}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {', '.join(map(_form, output))}"
    return type(output).__name__


@dataclass
class Step:
    """A step under way.

    Attributes:
        edits: What it adds; None if it steers nothing.
        requests: The requests whose tokens it runs, in their order.
        owner: For each token the place of its request [tokens].
        slots: Slot of each token [tokens].
        steering: Signature of each token [tokens].
        ran: Layers that were steered.
        wrong: For each of those, and for the check of positions, which of the steered tokens came out otherwise.
        projections: For each layer that measures, [2, steered, directions].
    """

    edits: Edits | None
    requests: list[str]
    owner: NDArray[np.int64]
    slots: NDArray[np.int64]
    steering: NDArray[np.int64]
    ran: list[int] = field(default_factory=list)
    wrong: list[torch.Tensor] = field(default_factory=list)
    projections: list[torch.Tensor] = field(default_factory=list)

    def steer(self, layer: int, output: Output) -> None:
        """Steer the output of a layer."""
        if self.edits is None or layer not in self.edits.parts:
            return
        part = self.edits.parts[layer]
        wrong, projections = part.apply(output)
        self.ran.append(layer)
        self.wrong.append(self._spread(wrong, part))
        if projections is not None:
            self.projections.append(self._spread(projections, part))

    def _spread(self, values: torch.Tensor, part: LayerEdits) -> torch.Tensor:
        """Return values of some of the steered tokens as values of all, with zeros between."""
        if part.members is None:
            return values
        assert self.edits is not None
        where = torch.from_numpy(np.flatnonzero(part.members)).to(values.device)
        dimension = 0 if values.ndim == 1 else 1
        shape = list(values.shape)
        shape[dimension] = len(self.edits.steered)
        return values.new_zeros(shape).index_copy_(dimension, where, values)

    def check_positions(self, positions: torch.Tensor, expected: NDArray[np.int64]) -> None:
        """Compare the positions that the model is given with those the plan was looked up by.

        Args:
            positions: The model's [tokens or more], or one row for each kind [kinds, tokens].
            expected: Of the steered tokens [steered].
        """
        assert self.edits is not None
        given = (positions if positions.ndim == 1 else positions[0]).index_select(0, self.edits.places)
        self.wrong.append(given != torch.from_numpy(expected).to(given.device))

    def results(self) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which steered tokens came out otherwise [steered], and their projections [steered, 2, directions]."""
        assert self.edits is not None
        edits = self.edits
        wrong = torch.stack(self.wrong).any(0).cpu().numpy()
        together = torch.cat(self.projections, -1).cpu().numpy()
        column = edits.table.column[edits.which]
        picked = together[:, np.arange(len(column))[:, None], column].astype(np.float32)
        picked[:, column < 0] = np.nan
        return wrong, picked.transpose(1, 0, 2)

    def missed(self) -> list[int]:
        """Return the layers that should have been steered once, and were not."""
        planned = [] if self.edits is None else sorted(self.edits.parts)
        return planned if sorted(self.ran) != planned else []
