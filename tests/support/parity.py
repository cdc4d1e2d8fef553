"""Windows over random directions, and the same steering by plain PyTorch hooks that recompute everything from scratch."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from self_steering.steering.engine.requests import EngineRequest, SteeringEngine, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.operations import HOLDING, Operation
from tests.support.models import random_direction

ONE, MIDDLE, ALL = (2,), (1, 2, 3), (0, 1, 2, 3, 4, 5)


def prompt(engine: SteeringEngine, length: int, seed: int = 0) -> tuple[int, ...]:
    """Return random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(10, engine.shape.vocabulary, (length,), generator=generator).tolist())


def window(
    engine: SteeringEngine,
    layers: Sequence[int],
    start: int,
    stop: int | None,
    strength: float,
    seed: int = 1,
    operation: Operation = "add",
    target: float = 0.0,
):
    """Return a window over a random direction; clamps and ablations hold `target` at the first layer, a bit more at each next."""
    direction = random_direction(tuple(layers), engine.shape.hidden, seed)
    targets = tuple(target + place / 4 for place in range(len(layers))) if operation in HOLDING else ()
    return TokenWindow(f"w{seed}", direction, strength, start, stop, operation, targets)


def mixed(engine: SteeringEngine, start: int) -> list[TokenWindow]:
    """Return windows of every operation from a position on, over the same and over other directions, most of them overlapping."""
    return [
        window(engine, MIDDLE, start, None, 1.0),
        window(engine, MIDDLE, start + 4, None, 1.0, operation="gain"),
        window(engine, ALL, start + 6, start + 20, 1.0, seed=2, operation="clamp", target=3.0),
        window(engine, MIDDLE, start + 8, start + 30, 1.0, operation="ablate", target=-0.5),
        window(engine, ONE, start + 10, None, -1.5, seed=3),
        window(engine, ALL, start + 12, None, -0.5, seed=2, operation="gain"),
        window(engine, MIDDLE, start + 14, None, 0.0, seed=4, operation="clamp", target=50.0),
        window(engine, MIDDLE, start + 16, None, 0.5, seed=4),
    ]


def reference_logprobs(model: PreTrainedModel, ids: Sequence[int], windows: Sequence[TokenWindow]) -> torch.Tensor:
    """Return log-probabilities [tokens, vocabulary] of one pass without cache, steered by forward hooks."""
    layers = model.get_decoder().layers

    def hook_for(index: int):
        def hook(module: torch.nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
            steered = output.clone()
            for w in windows:
                if index in w.direction.layers:
                    place = w.direction.layers.index(index)
                    here = steered[:, w.start : w.stop]
                    steered[:, w.start : w.stop] = here + w.strength * _change(w, place, here)
            return steered

        return hook

    handles = [layer.register_forward_hook(hook_for(index)) for index, layer in enumerate(layers)]
    try:
        with torch.no_grad():
            return model(torch.tensor([list(ids)]), use_cache=False).logits[0].double().log_softmax(-1)
    finally:
        for handle in handles:
            handle.remove()


def _change(w: TokenWindow, place: int, here: torch.Tensor) -> torch.Tensor:
    """Return what an operation of strength 1 changes of the stream [rows, tokens, hidden]."""
    vector = w.direction.values[place]
    if w.operation == "add":
        return vector.expand_as(here)
    component = (here @ vector)[..., None] * vector / vector.square().sum()  # the part of it along the vector
    if w.operation == "gain":
        return component
    return w.targets[place] * vector / vector.norm() - component


def generate(
    engine: SteeringEngine, ids: Sequence[int], windows: Sequence[TokenWindow] = (), tokens: int = 6, **options
):
    """Run one greedy request and wait for it."""
    sampling = Sampling(max_tokens=tokens, temperature=0.0, top_logprobs=3)
    return engine.submit(EngineRequest(tuple(ids), sampling, tuple(windows), **options)).result(timeout=120)
