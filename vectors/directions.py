"""From a plan's direction to the tensor that is added."""

import hashlib

import torch

from self_steering.steering.direction import DirectionTensor
from self_steering.steering.plan import Direction
from self_steering.vectors.card import LibraryError
from self_steering.vectors.library import Library


def resolve_direction(library: Library, direction: Direction) -> DirectionTensor:
    """Return the tensor of a direction.

    Raises:
        LibraryError: The library has no such vector.
    """
    values = library.vector(direction.vector)
    if direction.random_seed is not None:
        values = random_like(values, direction.random_seed, direction.random_index)
    digest = hashlib.sha256(repr(library.card.layers).encode())
    digest.update(values.contiguous().numpy().tobytes())
    return DirectionTensor(key=digest.hexdigest()[:16], layers=tuple(library.card.layers), values=values)


def random_like(values: torch.Tensor, seed: int, index: int = 0) -> torch.Tensor:
    """Return one of a seeded set of random directions with the norms of a vector at each layer.

    The set is Gaussian, orthogonalised in each layer: its members are orthogonal to the vector and to each other. The same
    seed and index give the same draw for every vector of these dimensions.

    Args:
        values: The vector [layers, hidden].
        seed: Seed of the set.
        index: Which of the set.

    Raises:
        LibraryError: The residual stream has too few dimensions for so many directions.
    """
    layers, hidden = values.shape
    if not 0 <= index <= hidden - 2:
        raise LibraryError(f"random direction {index}; a residual stream of {hidden} dimensions has 0 to {hidden - 2}")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.stack([torch.randn(layers, hidden, generator=generator) for _ in range(index + 1)], -1)
    found = torch.linalg.qr(torch.cat([values[:, :, None], draws], -1).double()).Q[:, :, -1]
    # The sign of what QR returns is arbitrary; the direction is to point where it was drawn.
    found = found * (found * draws[:, :, -1]).sum(-1, keepdim=True).sign()
    scaled: torch.Tensor = found * values.norm(dim=-1, keepdim=True)
    return scaled.to(values.dtype)
