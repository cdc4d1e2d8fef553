"""Ours beside plain transformers over the same weights, and how long either takes for its new tokens."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.requests import EngineRequest, Generation, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.engine.threads import in_short_lived_thread
from tests.support.models import random_direction

PLAIN, HOOKED, OURS, ONE_LAYER, BAND = (
    "transformers generate",
    "transformers, hooks on the band",
    "ours, unsteered",
    "ours, 1 layer",
    "ours, the band",
)
STEERED_FROM = 4  # the first position that is steered
GREEDY = Sampling(max_tokens=1, temperature=0.0)


@dataclass(frozen=True)
class Speeds:
    """What was measured on one model, a value a round.

    Attributes:
        seconds: Seconds of all new tokens of every row, by (way, rows).
        new: How many new tokens a row, by rows.
    """

    seconds: Mapping[tuple[str, int], Sequence[float]]
    new: Mapping[int, int]

    def tokens_a_second(self, way: str, rows: int) -> float:
        """Return new tokens a second, over all rows, in the median round."""
        return rows * self.new[rows] / median(self.seconds[way, rows])

    def ratio(self, way: str, other: str, rows: int) -> float:
        """Return how many times as many tokens a second one way makes as another."""
        return self.tokens_a_second(way, rows) / self.tokens_a_second(other, rows)

    def rows_of_table(self, model: str) -> list[dict[str, str]]:
        """Return tokens a second as a table, a row a way."""
        ways = dict.fromkeys(way for way, _ in self.seconds)
        return [
            {
                "model": model,
                "way": way,
                **{f"batch {rows}": f"{self.tokens_a_second(way, rows):.1f}" for rows in self.new},
            }
            for way in ways
        ]

    def as_json(self) -> dict[str, list[float]]:
        """Return the seconds of each round."""
        return {f"{way}, batch {rows}": list(of) for (way, rows), of in self.seconds.items()}


class Contest:
    """Ours and plain transformers, both in the thread that owns the model: two threads' teams of workers hinder each other.

    Args:
        model: The model; the engine lays its weights out anew, so plain transformers runs a copy that shares what is left alone.
        tokenizer: Its tokenizer.
        band: The layers that are steered.
        prompt: Tokens of each prompt.
        new: New tokens a row, by rows.
        sampling: How they are chosen.
        context: Tokens that a row is to have room for, if these are more than prompt and new tokens.
        size: Norm of what is added at a layer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        band: tuple[int, ...],
        *,
        prompt: int,
        new: Mapping[int, int],
        sampling: Sampling = GREEDY,
        context: int = 0,
        size: float = 0.1,
    ) -> None:
        self.band, self.prompt, self.new, self.sampling, self.size = band, prompt, new, sampling, size
        tensors = chain(model.parameters(), model.buffers())
        self.untouched: PreTrainedModel = deepcopy(model, {id(tensor): tensor for tensor in tensors})
        self.engine = Engine(
            in_short_lived_thread(SteeredModel, model, tokenizer),
            tokenizer,
            end_ids=frozenset(),
            context=max(context, prompt + max(new.values())) + 2,
            max_batch=max(new),
            cache_budget=0,
        )

    def prompts(self, rows: int, seed: int, length: int | None = None) -> list[tuple[int, ...]]:
        """Return random prompts of one length."""
        most = min(20_000, self.engine.model.vocabulary)
        shape, generator = (rows, length or self.prompt), torch.Generator().manual_seed(seed)
        return [tuple(row) for row in torch.randint(100, most, shape, generator=generator).tolist()]

    def run(
        self, prompts: Sequence[tuple[int, ...]], new: int, layers: Sequence[int] = (), strength: float = 1.0
    ) -> list[Generation]:
        """Let ours generate, each row steered by a direction of its own at some layers."""
        requests = []
        for number, ids in enumerate(prompts):
            windows: tuple[TokenWindow, ...] = ()
            if layers:
                direction = random_direction(tuple(layers), self.engine.model.hidden, seed=number, size=self.size)
                windows = (TokenWindow("w", direction, strength, STEERED_FROM, None),)
            sampling = replace(self.sampling, max_tokens=new, seed=number)
            requests.append(EngineRequest(ids, sampling, windows))
        return [future.result(timeout=600) for future in self.engine.submit_all(requests)]

    def close(self) -> None:
        """Let go of the engine."""
        self.engine.close()

    def generate(self, prompts: Sequence[tuple[int, ...]], new: int) -> None:
        """Let plain transformers generate."""
        how = self.sampling
        drawn = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": how.top_k}
        chosen = drawn if how.temperature else {"do_sample": False}
        ids = torch.tensor(prompts, device=self.untouched.device)
        fixed = {
            "attention_mask": torch.ones_like(ids),
            "pad_token_id": 0,
            "min_new_tokens": new,
            "max_new_tokens": new,
        }
        self.engine.call(lambda: self.untouched.generate(ids, **fixed, **chosen)).result()

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        values = random_direction(self.band, self.engine.model.hidden, seed=1, size=self.size).values
        layers = self.untouched.get_decoder().layers
        handles = [
            layers[index].register_forward_hook(lambda module, inputs, output, v=v: output + v)
            for index, v in zip(self.band, values.to(self.untouched.device, self.untouched.dtype), strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def runner(self, way: str) -> Callable[[Sequence[tuple[int, ...]], int], object]:
        """Return what generates so many new tokens after each of some prompts, in one of the ways."""
        if way == PLAIN:
            return self.generate
        if way == HOOKED:

            def hooked(prompts: Sequence[tuple[int, ...]], new: int) -> None:
                with self._hooks():
                    self.generate(prompts, new)

            return hooked
        layers = {OURS: (), ONE_LAYER: self.band[:1], BAND: self.band}[way]
        return lambda prompts, new: self.run(prompts, new, layers)

    def seconds(self, way: str, rows: int, seed: int) -> float:
        """Return what the new tokens take: the time with all of them, less that with the first one alone."""
        prompts, run = self.prompts(rows, seed), self.runner(way)
        return timed(lambda: run(prompts, self.new[rows] + 1)) - timed(lambda: run(prompts, 1))

    def measure(self, ways: Sequence[str], rounds: int, until: float = math.inf) -> Speeds:
        """Measure every way in each round, one after the other, so that what else the machine does falls on all alike.

        Args:
            ways: The ways.
            rounds: Rounds after one that warms up.
            until: Reading of `time.monotonic` after which no round is begun, but for the first.
        """
        seconds: dict[tuple[str, int], list[float]] = {(way, rows): [] for rows in self.new for way in ways}
        for number in range(rounds + 1):
            if number > 1 and time.monotonic() > until:
                break
            for (way, rows), found in seconds.items():
                found.append(self.seconds(way, rows, number))
        return Speeds({way: values[1:] for way, values in seconds.items()}, self.new)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that something takes, what it has an accelerator do included."""
    finish()
    start = time.perf_counter()
    run()
    finish()
    return time.perf_counter() - start


def finish() -> None:
    """Wait for what an accelerator was told to do."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
