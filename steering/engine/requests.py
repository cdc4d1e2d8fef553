"""What the provider knows of an engine: requests go in, generations with receipts come out. There are two behind it."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import torch

from self_steering.steering.engine.row import EngineRequest, Generation


@dataclass(frozen=True)
class EngineShape:
    """The sizes that requests must fit.

    Attributes:
        context: Most tokens, prompt and generated, that the model takes.
        vocabulary: Number of token ids.
        n_layers: Number of decoder layers.
        hidden: Width of the residual stream.
    """

    context: int
    vocabulary: int
    n_layers: int
    hidden: int


class SteeringEngine(Protocol):
    """Runs requests on one model, many at a time.

    A future is cancelled to free what its request holds. A generation's receipts are what was measured; where that is not
    what was planned, the future has a SteeringFault.
    """

    @property
    def shape(self) -> EngineShape:
        """The sizes that requests must fit."""

    @property
    def most_requests(self) -> int:
        """How many requests are worth having in flight."""

    def submit(self, request: EngineRequest) -> "Future[Generation]":
        """Queue a request.

        Raises:
            ValueError: The request does not fit the model.
            RuntimeError: The engine is closed.
        """

    def submit_all(self, requests: Sequence[EngineRequest]) -> "list[Future[Generation]]":
        """Queue requests together."""

    def close(self) -> None:
        """Stop; requests that are still running fail."""


def check_request(request: EngineRequest, shape: EngineShape) -> None:
    """Refuse what would fail in a step that other rows share.

    Raises:
        ValueError: The request does not fit the model; the message names what does.
    """
    if not 0 < len(request.ids) < shape.context:
        raise ValueError(f"prompt of {len(request.ids)} tokens; expected 1 to {shape.context - 1}")
    if request.sampling.max_tokens < 1:
        raise ValueError(f"max_tokens is {request.sampling.max_tokens}; expected at least 1")
    outside = sorted({token for token in request.ids if not 0 <= token < shape.vocabulary})
    if outside:
        raise ValueError(f"prompt tokens {outside}; expected 0 to {shape.vocabulary - 1}")
    for window in request.windows:
        layers, values = window.direction.layers, window.direction.values
        if not layers or min(layers) < 0 or max(layers) >= shape.n_layers:
            raise ValueError(f"window {window.label!r}: layers {layers}; expected some of 0 to {shape.n_layers - 1}")
        if tuple(values.shape) != (len(layers), shape.hidden):
            expected = (len(layers), shape.hidden)
            raise ValueError(
                f"window {window.label!r}: a direction of shape {tuple(values.shape)}; expected {expected}"
            )
        if window.start < 0:
            raise ValueError(f"window {window.label!r}: starts at {window.start}; expected 0 or more")
        single = float(torch.tensor(window.strength, dtype=torch.float32))
        if not math.isfinite(single) or (single == 0) != (window.strength == 0):
            raise ValueError(f"window {window.label!r}: strength {window.strength} is no float32; give another dose")
