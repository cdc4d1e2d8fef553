"""What each signature adds at each layer, ready on the device: made once for a set of signatures, used in every step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray

from self_steering.steering.additions import settled
from self_steering.steering.span import Signatures

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
