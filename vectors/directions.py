"""Directions of the residual stream, as tensors that can be added: vectors of a library, and random ones like them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from self_steering.vectors.card import NO_NEUTRAL, LibraryError
from self_steering.vectors.library import Library

_CANCELLED = 0.01  # of its own norm


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


def resolve_direction(
    library: Library,
    vector: str,
    random_seed: int | None = None,
    random_index: int = 0,
    apart_from: Sequence[str] = (),
) -> DirectionTensor:
    """Return the tensor of a direction: a vector of a library, or a random direction with its norms.

    Args:
        library: The library.
        vector: Name of one of its vectors.
        random_seed: If set, a member of this seed's set of random directions (`random_like`) in place of the vector.
        random_index: Which member.
        apart_from: Names of vectors with which it is to have nothing in common.

    Raises:
        LibraryError: The library has no such vector, the residual stream too few dimensions, or nothing is left of the vector.
    """
    values = library.vector(vector)
    if apart_from:
        values = orthogonal(values, [library.vector(name) for name in apart_from])
        if not (values.any(dim=-1) == library.vector(vector).any(dim=-1)).all():
            raise LibraryError(
                f"nothing of {vector!r} is left without what it shares with {', '.join(apart_from)}; leave some of them out"
            )
    if random_seed is not None:
        values = random_like(values, random_seed, random_index)
    return direction_of(values, library.card.layers)


def held_projections(library: Library, direction: DirectionTensor, multiple: float) -> tuple[float, ...]:
    """Return the projection h·v/‖v‖ that lies so many multiples of v from that of neutral text, at each of a direction's layers.

    Args:
        library: The library.
        direction: One of its vectors, or a random direction.
        multiple: How many; 0 is the mean over neutral stories itself.

    Raises:
        LibraryError: The library does not have that mean.
    """
    if library.neutral is None:
        raise LibraryError(NO_NEUTRAL.format(model=library.card.model))
    rows = [library.card.layers.index(layer) for layer in direction.layers]
    norms = direction.values.norm(dim=-1)
    found = (library.neutral[rows] * direction.values).sum(-1) / norms + multiple * norms
    return tuple(found.tolist())


def gauge_scale(library: Library, direction: DirectionTensor) -> tuple[float, float]:
    """Return where neutral text lies on a direction at its monitor layer, h·v/‖v‖, and what one multiple of it adds there.

    What is added at an earlier layer stays in the residual stream, so that Σ v_l·v/‖v‖ over the layers l up to the monitor layer
    arrives there when the direction is added at each of them; what the blocks between make of it is not counted. It is about ‖v‖
    of a random direction, whose layers are independent, and several times that of a vector whose layers are alike.

    Args:
        library: The library.
        direction: One of its vectors, or a random direction.

    Raises:
        LibraryError: The library does not have the neutral mean, or what the layers add cancels, so that there is no scale.
    """
    place = direction.layers.index(direction.monitor_layer)
    neutral = held_projections(library, direction, 0.0)[place]
    upto = direction.values[: place + 1]
    norm = float(upto[-1].norm())
    added = float((upto @ (upto[-1] / norm)).sum())
    if abs(added) < _CANCELLED * norm:
        raise LibraryError(
            f"what the layers of a vector add cancels at layer {direction.monitor_layer}: its level has no scale to be read on; "
            "leave it out, or the gauge"
        )
    return neutral, added


def direction_of(values: torch.Tensor, layers: Sequence[int]) -> DirectionTensor:
    """Return the direction of a vector [layers, hidden] at those of `layers` where it is not zero."""
    held = values.any(dim=-1)
    at = [layer for layer, here in zip(layers, held.tolist(), strict=True) if here]
    values = values[held]
    digest = hashlib.sha256(repr(at).encode())
    digest.update(values.contiguous().numpy().tobytes())
    return DirectionTensor(key=digest.hexdigest()[:16], layers=tuple(at), values=values)


def orthogonal(values: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a vector [layers, hidden] without what it shares with others, in each layer as long as it was.

    A layer in which hardly anything is left, less than a thousandth of its length, becomes zero.

    Args:
        values: The vector.
        others: The others, of its shape.
    """
    left = values.double()
    # Twice, as the first time leaves rounding errors of the larger ones behind; those that are zero span nothing.
    basis = torch.linalg.svd(torch.stack(list(others), -1).double(), full_matrices=False)
    rank = basis.S.gt(1e-9 * basis.S.amax(-1, keepdim=True))
    axes = basis.U * rank[:, None, :]
    for _ in range(2):
        left = left - (axes @ (axes.mT @ left[:, :, None]))[:, :, 0]
    norms, own = left.norm(dim=-1, keepdim=True), values.double().norm(dim=-1, keepdim=True)
    scaled = torch.where(norms > 1e-3 * own, left * own / norms.clamp_min(1e-300), torch.zeros_like(left))
    return scaled.to(values.dtype)


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
