"""vLLM's worker, extended: it steers the tokens of its own steps, at the positions that its own count gives them.

vLLM mixes this class into its worker (`worker_extension_cls`); the engine calls its methods on all ranks at once. With
tensor parallelism every rank holds the whole residual stream, and adds the same to it.
"""

from collections.abc import Sequence
from typing import Any

import torch

from self_steering.steering.on_vllm.steered_runner import SteeredRunner


class SteeringExtension:
    """What the engine can ask of a worker."""

    model_runner: Any
    self_steering: SteeredRunner

    def open_steering(self) -> dict[str, int]:
        """Put the hooks in place, and return the model's sizes.

        Raises:
            ValueError: This model, or this vLLM, cannot be steered.
        """
        self.self_steering = SteeredRunner(self.model_runner)
        return self.self_steering.sizes()

    def install_directions(self, directions: Sequence[tuple[str, tuple[int, ...], int, torch.Tensor]]) -> None:
        """Take directions (key, layers, monitor layer, values [layers, hidden]) to the device."""
        for direction in directions:
            self.self_steering.tables.install(*direction)

    def forget_directions(self, keys: Sequence[str]) -> None:
        """Give directions up."""
        self.self_steering.tables.forget(keys)

    def report_steering(self, request: str) -> dict[str, Any]:
        """Return what was done for a request that has just finished."""
        return self.self_steering.report(request)
