"""Ways in which an engine could steer otherwise than planned, each in the place of `LayerAdditions.add`."""

from collections.abc import Callable

import torch

from self_steering.steering.engine.additions import LayerAdditions

Mutation = Callable[[LayerAdditions, torch.Tensor], None]


def _scaled(factor: float) -> Mutation:
    def add(additions: LayerAdditions, h: torch.Tensor) -> None:
        h[additions.places] += (factor * additions.delta.float()).to(h.dtype)

    return add


def _moved(dimension: int) -> Mutation:
    """Counts dimensions without hidden, from the end: -1 is the token's, -2 the row's, where rows are apart."""

    def add(additions: LayerAdditions, h: torch.Tensor) -> None:
        places = list(additions.places)
        places[dimension] = (places[dimension] + 1) % h.shape[dimension - 1]
        h[tuple(places)] += additions.delta

    return add


def _in_part(additions: LayerAdditions, h: torch.Tensor) -> None:
    delta = additions.delta.clone()
    delta[:, : delta.shape[-1] // 2] = 0
    h[additions.places] += delta


def _twice(additions: LayerAdditions, h: torch.Tensor) -> None:
    h[additions.places] += additions.delta
    h[additions.places] += additions.delta


def _everywhere(additions: LayerAdditions, h: torch.Tensor) -> None:
    h += additions.delta[0]


MUTATIONS: dict[str, Mutation] = {
    "2 % too much": _scaled(1.02),
    "2 % too little": _scaled(0.98),
    "inverted": _scaled(-1),
    "nothing": _scaled(0),
    "not finite": _scaled(float("inf")),
    "one token later": _moved(-1),
    "the next row": _moved(-2),
    "half of it": _in_part,
    "twice": _twice,
    "everywhere": _everywhere,
}
