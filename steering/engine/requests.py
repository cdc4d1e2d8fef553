"""What the provider knows of an engine: requests go in, generations with receipts come out. There are two behind it.

And `Row`: a request while this project's own engine runs it, which collects what its receipts are made of.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from self_steering.steering.engine.additions import Signatures, Span, SteeringFault
from self_steering.steering.engine.prefix_store import Segment
from self_steering.steering.engine.sampling import Sampling, TokenLogprob
from self_steering.steering.operations import HOLDING, Operation
from self_steering.steering.request import Receipt
from self_steering.vectors.directions import DirectionTensor


@dataclass(frozen=True)
class EngineRequest:
    """One generation.

    Attributes:
        ids: Prompt.
        sampling: How to choose tokens.
        windows: What steers which positions.
        cuts: Positions at which messages start: prefill chunks end there, so that branches share what is common.
        readout: Named sets of tokens whose log-probabilities at the first generated position are wanted.
        grammar: llguidance grammar that the text must follow.
        canonical: Reuse only cached chunks that a fresh computation would reproduce bit for bit. Otherwise the longest
            known prefix is reused, tokens that were computed one by one in decoding too.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    windows: "tuple[TokenWindow, ...]" = ()
    cuts: tuple[int, ...] = ()
    readout: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    grammar: str | None = None
    canonical: bool = False


@dataclass(frozen=True)
class TokenWindow:
    """A window over token positions.

    Attributes:
        label: What the model called it.
        direction: What is added, or what the operation is along.
        strength: Strength of the operation (`operations`), of an addition the multiple that is added; 0 goes the same way as any
            other, and changes nothing.
        start: First steered position.
        stop: First position that is not; None steers all that follows, generated tokens too.
        operation: What is done with the direction. Where several windows cover a token their order is that of the operations.
        targets: Of a clamp and an ablation the projection that is held at each of the direction's layers; else empty.
    """

    label: str
    direction: DirectionTensor
    strength: float
    start: int
    stop: int | None
    operation: Operation = "add"
    targets: tuple[float, ...] = ()

    @property
    def span(self) -> Span:
        """The window without its label and values."""
        return Span(self.direction.key, self.strength, self.start, self.stop, self.operation, self.targets)

    def covers(self, position: int) -> bool:
        """Tell whether the token at `position` is steered."""
        return self.span.covers(position)

    def receipt(self, processed: int, reused: int, measured: "Measured") -> Receipt:
        """Return the receipt of this window.

        Args:
            processed: Tokens of the conversation that the model has read.
            reused: How many of them were found in the cache.
            measured: What the engine measured.

        Raises:
            SteeringFault: A position that was planned has not been steered.
        """
        stop = processed if self.stop is None else min(self.stop, processed)
        planned = max(0, stop - self.start)
        if measured.steered != planned:
            raise SteeringFault(
                f"window {self.label!r}: {planned} positions were planned, {measured.steered} were steered"
            )
        layer = self.direction.monitor_layer
        target = self.targets[self.direction.layers.index(layer)] if self.targets else None
        return Receipt(
            label=self.label,
            direction=self.direction.key,
            strength=self.strength,
            layers=list(self.direction.layers),
            start=self.start,
            stop=self.stop,
            planned=planned,
            steered=measured.steered,
            reused=max(0, min(stop, reused) - self.start),
            monitor_layer=layer,
            projection_before=measured.before,
            projection_after=measured.after,
            expected_shift=self._expected_shift(layer, target, measured.before),
            operation=self.operation,
            target=target,
        )

    def _expected_shift(self, layer: int, target: float | None, before: float | None) -> float:
        """Return what this window alone adds to the mean projection at a layer."""
        if self.operation == "add":
            return self.strength * float(self.direction.at(layer).norm())
        if before is None:
            return 0.0
        return self.strength * (before if target is None else target - before)


@dataclass(frozen=True)
class Measured:
    """What an engine measured of one window.

    Attributes:
        steered: Positions at which the addition was carried out.
        before: Mean of h·v/‖v‖ over them at the monitor layer, before the addition; None without positions.
        after: The same after it.
    """

    steered: int
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Generation:
    """What came out of one request.

    Attributes:
        tokens: Generated tokens, without the one that ended the turn.
        text: Their text, without a stop string.
        stop_reason: `stop`, `max_tokens` or `model_length`.
        logprobs: One entry a generated token; empty unless requested.
        readout: Log-probability of each named set.
        receipts: One a window.
        prompt_tokens: Length of the prompt.
        reused_tokens: How many of them were found in the cache.
        generated_tokens: Tokens sampled, the one that ended the turn included.
        traces: For each window h·v/‖v‖ before and after the addition, at each of its positions [2, positions]; empty where the
            engine tells only means.
    """

    tokens: list[int]
    text: str
    stop_reason: str
    logprobs: list[TokenLogprob]
    readout: dict[str, float]
    receipts: list[Receipt]
    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int
    traces: Sequence[NDArray[np.float32]] = ()


@dataclass(frozen=True)
class EngineShape:
    """The sizes that requests must fit.

    Attributes:
        context: Most tokens, prompt and generated, that the model takes.
        vocabulary: Number of token ids.
        n_layers: Number of decoder layers.
        hidden: Width of the residual stream.
        dtype: Type that the residual stream is held in.
    """

    context: int
    vocabulary: int
    n_layers: int
    hidden: int
    dtype: torch.dtype


class SteeringEngine(Protocol):
    """Runs requests on one model, many at a time.

    A future is cancelled to free what its request holds. A generation's receipts are what was measured; where that is not
    what was planned, the future has a SteeringFault.
    """

    @property
    def shape(self) -> EngineShape:
        """The sizes that requests must fit."""

    @property
    def max_concurrency(self) -> int:
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
        held = len(layers) if window.operation in HOLDING else 0
        if len(window.targets) != held or not all(map(math.isfinite, window.targets)):
            raise ValueError(
                f"window {window.label!r}: {window.operation} with targets {window.targets}; expected {held} finite numbers"
            )
        single = float(torch.tensor(window.strength, dtype=torch.float32))
        if not math.isfinite(single) or (single == 0) != (window.strength == 0):
            raise ValueError(f"window {window.label!r}: strength {window.strength} is no float32; give another dose")


class Row:
    """The state of one request while it runs; owned by the engine's thread.

    Args:
        request: What is wanted.
        future: Receives the generation.
        signatures: Gives the number of a stack of operations.
    """

    def __init__(self, request: EngineRequest, future: "Future[Generation]", signatures: Signatures) -> None:
        self.request = request
        self.future = future
        self.ids = list(request.ids)
        self.computed = 0
        self.reused = 0
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.readout: dict[str, float] = {}
        self.segment: Segment | None = None
        self.canonical = True
        self._signatures = signatures
        room = len(self.ids) + request.sampling.max_tokens
        self._measured = {w.direction.key: np.full((2, room), np.nan, np.float32) for w in request.windows}

    @property
    def prompt_length(self) -> int:
        """Number of prompt tokens."""
        return len(self.request.ids)

    def steering(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the steering signature of each position from `start` to `stop`."""
        return self._signatures.along([window.span for window in self.request.windows], start, stop)

    def directions(self) -> dict[str, DirectionTensor]:
        """Return the directions of the windows by key."""
        return {window.direction.key: window.direction for window in self.request.windows}

    def record(self, steering: NDArray[np.int64], projections: NDArray[np.float32]) -> None:
        """Remember what a step measured at the tokens from `computed` on.

        Args:
            steering: Signature of each of its tokens [tokens].
            projections: As in `StepResult.projections` [tokens, 2, directions].
        """
        for number in set(steering.tolist()) - {0}:
            tokens = np.flatnonzero(steering == number)
            for place, key in enumerate(self._signatures.keys(number)):
                self._measured[key][:, self.computed + tokens] = projections[tokens, :, place].T

    def measured(self, start: int, stop: int) -> dict[str, NDArray[np.float32]]:
        """Return copies of what was measured from `start` to `stop`, for the prefix store."""
        return {key: value[:, start:stop].copy() for key, value in self._measured.items()}

    def adopt(self, segment: Segment, count: int) -> None:
        """Take over the first `count` tokens' measurements of a cached segment."""
        for key, value in segment.projections.items():
            if key in self._measured:
                self._measured[key][:, self.computed : self.computed + count] = value[:, :count]
        self.computed += count
        self.reused += count

    def receipts(self) -> list[Receipt]:
        """Return one receipt a window.

        Raises:
            SteeringFault: A position that was planned has not been steered.
        """
        return [self._receipt(window) for window in self.request.windows]

    def traces(self) -> list[NDArray[np.float32]]:
        """Return for each window what was measured at each of its positions, [2, positions]."""
        return [self._along(window) for window in self.request.windows]

    def _along(self, window: TokenWindow) -> NDArray[np.float32]:
        stop = self.computed if window.stop is None else min(window.stop, self.computed)
        return self._measured[window.direction.key][:, window.start : max(window.start, stop)]

    def _receipt(self, window: TokenWindow) -> Receipt:
        values = self._along(window)
        steered = int((~np.isnan(values[0])).sum())
        before, after = values.mean(-1, dtype=np.float64).tolist() if steered else (None, None)
        return window.receipt(self.computed, self.reused, Measured(steered, before, after))
