"""Tokens a second of several ways to generate, in interleaved rounds, and what reading the weights once takes."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from inspect_ai.model import GenerateConfig, Model, get_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from self_steering.steering.engine.threads import in_short_lived_thread
from tests.bench.contest import BAND, HOOKED, ONE_LAYER, OURS, PLAIN, Contest, Speeds, timed

PROMPT, NEW = 64, 32
ROWS = (1, 8)
HF = "Inspect's hf provider"
WAYS = (PLAIN, HOOKED, HF, OURS, ONE_LAYER, BAND)
_MANY = 2  # Inspect's provider looks for results once a second: its share of a short run would be noise


@dataclass(frozen=True)
class Decoding(Speeds):
    """What was measured on one model.

    Attributes:
        read: Seconds of one matrix-vector product with every weight matrix that a token needs.
    """

    read: Sequence[float]

    @property
    def step(self) -> float:
        """Seconds of one decoding step of a single row, steered at the whole band, over the seconds of reading the weights."""
        return median(self.seconds[BAND, 1]) / NEW / median(self.read)


def measure(folder: Path, band: tuple[int, ...], rounds: int) -> Decoding:
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
                if way == HF and 0 < number < rounds:
                    continue  # Inspect's provider takes longer than all the others together: it is in one round
                run = theirs.submit(_hf, rows, number) if way == HF else ours.submit(_ours, way, rows, number)
                found.append(run.result())
            read.append(ours.submit(_read).result())
    return Decoding({way: values[1:] for way, values in seconds.items()}, dict.fromkeys(ROWS, NEW), read[1:])


# ------------------------------------------------------------ in the processes that measure

_contest: Contest
_model: Model


def _open_ours(folder: Path, band: tuple[int, ...]) -> None:
    global _contest  # noqa: PLW0603  a process's own
    model = in_short_lived_thread(_load, folder)
    _contest = Contest(model, AutoTokenizer.from_pretrained(folder), band, prompt=PROMPT, new=dict.fromkeys(ROWS, NEW))


def _load(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def _open_hf(folder: Path) -> None:
    global _model  # noqa: PLW0603
    _model = get_model("hf/local", model_path=str(folder), device="cpu", dtype=torch.float32)
    _model.api.model.generation_config.min_new_tokens = 1


def _ours(way: str, rows: int, seed: int) -> float:
    return _contest.seconds(way, rows, seed)


def _hf(rows: int, seed: int) -> float:
    tokenizer, settings = _model.api.tokenizer, _model.api.model.generation_config
    prompts = torch.randint(100, 20_000, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))
    texts = tokenizer.batch_decode(prompts)

    def run(new: int) -> None:
        settings.min_new_tokens = new
        config = GenerateConfig(max_tokens=new, max_connections=rows)

        async def all_rows() -> None:
            await asyncio.gather(*(_model.generate(text, config=config) for text in texts))

        asyncio.run(all_rows())

    return (timed(lambda: run(_MANY * NEW + 1)) - timed(lambda: run(1))) / _MANY


def _read() -> float:
    return _contest.engine.call(lambda: read_weights(_contest.untouched)).result()


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
