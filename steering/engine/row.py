"""One conversation being generated: its tokens so far, and what was measured at them."""

from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from self_steering.steering.engine.prefix_store import Segment
from self_steering.steering.engine.requests import EngineRequest, Generation, Measured, TokenWindow
from self_steering.steering.engine.sampling import TokenLogprob
from self_steering.steering.engine.spans import Signatures
from self_steering.steering.request import Receipt
from self_steering.vectors.directions import DirectionTensor


class Row:
    """The state of one request while it runs; owned by the engine's thread.

    Args:
        request: What is wanted.
        future: Receives the generation.
        signatures: Gives the number of a set of (direction key, strength) pairs.
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
