"""What is added to the residual stream: a vector a layer."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class DirectionTensor:
    """A direction, ready to be added.

    Attributes:
        key: Hash of its content: layers and values.
        layers: Indices of the decoder layers whose outputs it is added to, ascending.
        values: Tensor [len(layers), hidden], float32, on the CPU.
    """

    key: str
    layers: tuple[int, ...]
    values: torch.Tensor

    @property
    def monitor_layer(self) -> int:
        """The layer at which receipts measure the projection: the middle one."""
        return self.layers[len(self.layers) // 2]

    def at(self, layer: int) -> torch.Tensor:
        """Return the vector [hidden] of one layer."""
        return self.values[self.layers.index(layer)]
