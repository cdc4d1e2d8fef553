"""Windows over random directions, and the same steering by plain PyTorch hooks that recompute everything from scratch."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from self_steering.steering.engine.requests import EngineRequest, SteeringEngine, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from tests.support.models import random_direction

ONE, MIDDLE, ALL = (2,), (1, 2, 3), (0, 1, 2, 3, 4, 5)


def prompt(engine: SteeringEngine, length: int, seed: int = 0) -> tuple[int, ...]:
    """Return random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(10, engine.shape.vocabulary, (length,), generator=generator).tolist())


def window(engine: SteeringEngine, layers: Sequence[int], start: int, stop: int | None, strength: float, seed: int = 1):
    """Return a window over a random direction."""
    direction = random_direction(tuple(layers), engine.shape.hidden, seed)
    return TokenWindow(f"w{seed}", direction, strength, start, stop)


def reference_logprobs(model: PreTrainedModel, ids: Sequence[int], windows: Sequence[TokenWindow]) -> torch.Tensor:
    """Return log-probabilities [tokens, vocabulary] of one pass without cache, steered by forward hooks."""
    layers = model.get_decoder().layers

    def hook_for(index: int):
        def hook(module: torch.nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
            steered = output.clone()
            for w in windows:
                if index in w.direction.layers:
                    steered[:, w.start : w.stop] += w.strength * w.direction.values[w.direction.layers.index(index)]
            return steered

        return hook

    handles = [layer.register_forward_hook(hook_for(index)) for index, layer in enumerate(layers)]
    try:
        with torch.no_grad():
            return model(torch.tensor([list(ids)]), use_cache=False).logits[0].double().log_softmax(-1)
    finally:
        for handle in handles:
            handle.remove()


def generate(
    engine: SteeringEngine, ids: Sequence[int], windows: Sequence[TokenWindow] = (), tokens: int = 6, **options
):
    """Run one greedy request and wait for it."""
    sampling = Sampling(max_tokens=tokens, temperature=0.0, top_logprobs=3)
    return engine.submit(EngineRequest(tuple(ids), sampling, tuple(windows), **options)).result(timeout=120)
