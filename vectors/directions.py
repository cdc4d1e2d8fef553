"""From a plan's direction to the tensor that is added."""

import hashlib

import torch

from self_steering.steering.forward import DirectionTensor
from self_steering.steering.plan import Direction
from self_steering.vectors.library import Library


def resolve_direction(library: Library, direction: Direction) -> DirectionTensor:
    """Return the tensor of a direction.

    Raises:
        LibraryError: The library has no such vector.
    """
    values = library.vector(direction.vector)
    if direction.random_seed is not None:
        values = random_like(values, direction.random_seed)
    digest = hashlib.sha256(repr(library.card.layers).encode())
    digest.update(values.contiguous().numpy().tobytes())
    return DirectionTensor(key=digest.hexdigest()[:16], layers=tuple(library.card.layers), values=values)


def random_like(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Return a Gaussian direction drawn from `seed`, with the norms of `values` [layers, hidden] at each layer."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(values.shape, generator=generator)
    scaled: torch.Tensor = noise * (values.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))
    return scaled
