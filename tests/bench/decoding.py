"""Tokens a second of several ways to generate, in interleaved rounds, and what reading the weights once takes."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from inspect_ai.model import GenerateConfig, Model, get_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.requests import EngineRequest, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.engine.threads import in_short_lived_thread
from tests.support.models import random_direction

PROMPT, NEW = 64, 32
ROWS = (1, 8)
PLAIN, HOOKED, HF, OURS, ONE_LAYER, BAND = (
    "transformers generate",
    "transformers, hooks on the band",
    "Inspect's hf provider",
    "ours, unsteered",
    "ours, 1 layer",
    "ours, the band",
)
WAYS = (PLAIN, HOOKED, HF, OURS, ONE_LAYER, BAND)
_MANY = 2  # Inspect's provider looks for results once a second: its share of a short run would be noise


@dataclass(frozen=True)
class Speeds:
    """What was measured on one model, a value a round.

    Attributes:
        seconds: Seconds of `NEW` tokens of every row, by (way, rows).
        read: Seconds of one matrix-vector product with every weight matrix that a token needs.
    """

    seconds: Mapping[tuple[str, int], Sequence[float]]
    read: Sequence[float]

    def tokens_a_second(self, way: str, rows: int) -> float:
        """Return new tokens a second, over all rows, in the median round."""
        return rows * NEW / median(self.seconds[way, rows])

    @property
    def step(self) -> float:
        """Seconds of one decoding step of a single row, steered at the whole band, over the seconds of reading the weights."""
        return median(self.seconds[BAND, 1]) / NEW / median(self.read)


def measure(folder: Path, band: tuple[int, ...], rounds: int) -> Speeds:
    """Measure every way in each round, one after the other, so that what else the machine does falls on all alike.

    Args:
        folder: A local model.
        band: The layers that are steered.
        rounds: Rounds after one that warms up.
    """
    spawn = get_context("spawn")
    seconds: dict[tuple[str, int], list[float]] = {(way, rows): [] for rows in ROWS for way in WAYS}
    read: list[float] = []
    # Inspect's provider has a thread of its own for the model, with its own team of workers: it gets its own process too.
    with (
        ProcessPoolExecutor(1, spawn, _open_ours, (folder, band)) as ours,
        ProcessPoolExecutor(1, spawn, _open_hf, (folder,)) as theirs,
    ):
        for number in range(rounds + 1):
            for (way, rows), found in seconds.items():
                run = theirs.submit(_hf, rows, number) if way == HF else ours.submit(_ours, way, rows, number)
                found.append(run.result())
            read.append(ours.submit(_read).result())
    return Speeds({way: values[1:] for way, values in seconds.items()}, read[1:])


# ------------------------------------------------------------ in the processes that measure

_engine: Engine
_untouched: PreTrainedModel
_model: Model
_band: tuple[int, ...]


def _open_ours(folder: Path, band: tuple[int, ...]) -> None:
    global _engine, _band, _untouched  # noqa: PLW0603  a process's own
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # The engine lays its model's weights out anew: what it is compared with has a model of its own.
    model, _untouched = (in_short_lived_thread(_load, folder) for _ in range(2))
    _band = band
    _engine = Engine(
        in_short_lived_thread(SteeredModel, model, tokenizer),
        tokenizer,
        end_ids=frozenset(),
        context=PROMPT + 4 * NEW,
        max_batch=max(ROWS),
        cache_budget=0,
    )


def _load(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def _open_hf(folder: Path) -> None:
    global _model  # noqa: PLW0603
    _model = get_model("hf/local", model_path=str(folder), device="cpu", dtype=torch.float32)
    _model.api.model.generation_config.min_new_tokens = 1


def _ours(way: str, rows: int, seed: int) -> float:
    # All of ours, and plain generate, in the thread that owns the model: teams of workers of two threads hinder each other.
    if way == PLAIN:
        return _engine.call(lambda: _plain(_untouched, rows, seed)).result()
    if way == HOOKED:
        return _engine.call(lambda: _hooked(_untouched, rows, seed)).result()
    return _steered(rows, seed, {OURS: (), ONE_LAYER: _band[:1], BAND: _band}[way])


def _prompt(rows: int, seed: int) -> torch.Tensor:
    return torch.randint(100, 20_000, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))


def _decoding_seconds(run: Callable[[int], object], new: int = NEW) -> float:
    """Return what the new tokens take: the time with all of them, less that with the first one alone."""
    seconds = []
    for count in (1, new + 1):
        start = time.perf_counter()
        run(count)
        seconds.append(time.perf_counter() - start)
    return seconds[1] - seconds[0]


def _plain(model: PreTrainedModel, rows: int, seed: int) -> float:
    ids = _prompt(rows, seed)
    mask = torch.ones_like(ids)
    fixed = {"attention_mask": mask, "do_sample": False, "pad_token_id": 0}
    return _decoding_seconds(lambda new: model.generate(ids, max_new_tokens=new, min_new_tokens=new, **fixed))


def _hooked(model: PreTrainedModel, rows: int, seed: int) -> float:
    with _hooks(model, _band):
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


def _steered(rows: int, seed: int, layers: tuple[int, ...]) -> float:
    prompts = [tuple(row) for row in _prompt(rows, seed).tolist()]

    def run(new: int) -> object:
        requests = []
        for number, ids in enumerate(prompts):
            # Each row is steered by another direction.
            direction = random_direction(layers, _engine.model.hidden, seed=number, size=0.1) if layers else None
            windows = (TokenWindow("w", direction, 1.0, 20, None),) if direction is not None else ()
            requests.append(EngineRequest(ids, Sampling(max_tokens=new, temperature=0.0), windows))
        return [future.result(timeout=600) for future in _engine.submit_all(requests)]

    return _decoding_seconds(run)


def _hf(rows: int, seed: int) -> float:
    tokenizer, settings = _model.api.tokenizer, _model.api.model.generation_config
    texts = tokenizer.batch_decode(_prompt(rows, seed))

    def run(new: int) -> None:
        settings.min_new_tokens = new
        config = GenerateConfig(max_tokens=new, max_connections=rows)

        async def all_rows() -> None:
            await asyncio.gather(*(_model.generate(text, config=config) for text in texts))

        asyncio.run(all_rows())

    return _decoding_seconds(run, _MANY * NEW) / _MANY


def _read() -> float:
    return _engine.call(lambda: read_weights(_untouched)).result()


def read_weights(model: PreTrainedModel) -> float:
    """Return the seconds that one product of every weight matrix with a vector takes; the embedding's is the last one."""
    matrices = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    vectors = [torch.randn(matrix.shape[1]) for matrix in matrices]
    seconds = []
    with torch.inference_mode():
        for _ in range(5):
            start = time.perf_counter()
            for matrix, vector in zip(matrices, vectors, strict=True):
                torch.mv(matrix, vector)
            seconds.append(time.perf_counter() - start)
    return median(seconds)
