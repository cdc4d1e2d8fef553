"""Tokens a second of several ways to generate, in interleaved rounds, and what reading the weights once takes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.engine import Engine
from self_steering.steering.forward import SteeredModel
from self_steering.steering.row import EngineRequest, TokenWindow
from self_steering.steering.sampling import Sampling
from tests.models import random_direction

PROMPT, NEW = 200, 48


@dataclass(frozen=True)
class Speeds:
    """Median tokens a second by (way, rows), and seconds.

    Attributes:
        tokens: New tokens a second.
        step: Seconds of one decoding step of our steered single row.
        read: Seconds of one matrix–vector product with every weight matrix that a token needs.
    """

    tokens: Mapping[tuple[str, int], float]
    step: float
    read: float


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rounds: int, band: tuple[int, ...]) -> Speeds:
    """Measure every way in each round, one after the other, so that what else the machine does falls on all alike."""
    engine = Engine(
        SteeredModel(model, tokenizer),
        tokenizer,
        end_ids=frozenset(),
        context=PROMPT + 4 * NEW,
        max_batch=8,
        cache_budget=0,
    )
    ways: dict[tuple[str, int], Callable[[int], float]] = {}
    for rows in (1, 8):
        ways["transformers generate", rows] = lambda seed, rows=rows: _plain(model, rows, seed)
        ways["transformers, plain hooks on the band", rows] = lambda seed, rows=rows: _hooked(model, rows, seed, band)
        for name, layers in (("ours, unsteered", ()), ("ours, 1 layer", band[:1]), ("ours, the band", band)):
            ways[name, rows] = lambda seed, rows=rows, layers=layers: _ours(engine, rows, seed, layers)
    times: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    reads: list[float] = []
    try:
        for number in range(rounds + 1):
            for way, run in ways.items():
                seconds = engine.call(lambda run=run: run(number)).result() if "ours" not in way[0] else run(number)
                times[way].append(seconds)
            reads.append(engine.call(lambda: read_weights(model)).result())
    finally:
        engine.close()
    # The first round warms up.
    tokens = {way: way[1] * NEW / median(seconds[1:]) for way, seconds in times.items()}
    return Speeds(tokens, 1 / tokens["ours, the band", 1], median(reads[1:]))


def read_weights(model: PreTrainedModel) -> float:
    """Return the seconds that one product of every weight matrix with a vector takes; the embedding's is the last one."""
    matrices = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    vectors = [torch.randn(matrix.shape[1]) for matrix in matrices]
    seconds = []
    with torch.inference_mode():
        for _ in range(5):
            start = time.perf_counter()
            for matrix, vector in zip(matrices, vectors, strict=True):
                torch.mv(matrix, vector)
            seconds.append(time.perf_counter() - start)
    return median(seconds)


def _prompt(rows: int, seed: int) -> torch.Tensor:
    return torch.randint(100, 20_000, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))


def _decoding_seconds(run: Callable[[int], object]) -> float:
    """Return what the new tokens take: the time with all of them, less that with the first one alone."""
    seconds = []
    for new in (1, NEW + 1):
        start = time.perf_counter()
        run(new)
        seconds.append(time.perf_counter() - start)
    return seconds[1] - seconds[0]


def _plain(model: PreTrainedModel, rows: int, seed: int) -> float:
    ids = _prompt(rows, seed)

    def run(new: int) -> object:
        mask = torch.ones_like(ids)
        return model.generate(
            ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
        )

    return _decoding_seconds(run)


def _hooked(model: PreTrainedModel, rows: int, seed: int, band: tuple[int, ...]) -> float:
    with _hooks(model, band):
        return _plain(model, rows, seed)


@contextmanager
def _hooks(model: PreTrainedModel, band: tuple[int, ...]) -> Iterator[None]:
    values = random_direction(band, model.config.hidden_size, seed=1, size=0.1).values
    layers = model.get_decoder().layers
    handles = [
        layers[index].register_forward_hook(lambda module, inputs, output, v=v: output + v)
        for index, v in zip(band, values, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ours(engine: Engine, rows: int, seed: int, layers: tuple[int, ...]) -> float:
    prompts = [tuple(row) for row in _prompt(rows, seed).tolist()]

    def run(new: int) -> object:
        requests = []
        for number, ids in enumerate(prompts):
            # Each row is steered by another direction.
            direction = random_direction(layers, engine.model.hidden, seed=number, size=0.1) if layers else None
            windows = (TokenWindow("w", direction, 1.0, 20, None),) if direction is not None else ()
            requests.append(EngineRequest(ids, Sampling(max_tokens=new, temperature=0.0), windows))
        return [future.result(timeout=600) for future in engine.submit_all(requests)]

    return _decoding_seconds(run)
