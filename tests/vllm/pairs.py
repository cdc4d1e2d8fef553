"""The same weights on both engines, and whether what came out of them agrees."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from inspect_ai.model import get_model

from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.requests import EngineRequest, Generation, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from tests.prove.plans import Bench, open_bench
from tests.support.parity import reference_logprobs

TOLERANCE = 2e-4  # in log-probability
PATIENCE = 240  # seconds; only reached where something hangs
# vLLM's attention on the CPU knows no smaller heads, and no smaller blocks.
SIZES = {"head_dim": 32}
BLOCK = 32
CONTEXT = 1024
SETS = {"few": (5, 6, 7), "many": tuple(range(1000, 2000))}


@dataclass(frozen=True)
class Pair:
    """One model on both engines.

    Attributes:
        bench: The provider on vLLM, and the model for plain hooks.
        twin: The transformers engine.
    """

    bench: Bench
    twin: Engine

    @property
    def engine(self) -> Any:
        """The engine on vLLM."""
        return self.bench.model.api.engine

    def run(self, *requests: EngineRequest) -> list[Generation]:
        """Run requests together on vLLM."""
        return [future.result(PATIENCE) for future in self.engine.submit_all(requests)]

    def twins(self, *requests: EngineRequest) -> list[Generation]:
        """Run requests together on the transformers engine."""
        return [future.result(PATIENCE) for future in self.twin.submit_all(requests)]

    def hooked(self, request: EngineRequest, generation: Generation) -> float:
        """Return the largest difference in log-probability of a generation's tokens from plain hooks."""
        tokens = [entry.token for entry in generation.logprobs]
        expected = reference_logprobs(self.bench.reference.model, [*request.ids, *tokens], request.windows)
        found = torch.tensor([entry.logprob for entry in generation.logprobs])
        places = torch.arange(len(tokens)) + len(request.ids) - 1
        return float((found - expected[places, tokens]).abs().max())

    def scheduler(self) -> Any:
        """Return vLLM's scheduler; only to be used in the engine's thread."""
        return self.engine._llm.engine_core.engine_core.scheduler


@contextmanager
def open_pair(folder: Path, family: str = "qwen", **arguments: object) -> Iterator[Pair]:
    """Open a tiny model of a family on both engines; `arguments` are vLLM's."""
    settings = {"block_size": BLOCK, "max_model_len": CONTEXT, **arguments}
    bench = open_bench(folder, family, SIZES, engine="vllm", **settings)
    bench.tolerance = TOLERANCE
    twin = get_model(f"nnsight/{folder / 'model'}", memoize=False)
    try:
        yield Pair(bench, twin.api.engine)
    finally:
        bench.model.api.close()
        twin.api.close()


def greedy(ids: tuple[int, ...], *windows: TokenWindow, tokens: int = 1) -> EngineRequest:
    """Return a greedy request with a read-out."""
    sampling = Sampling(max_tokens=tokens, temperature=0.0, top_logprobs=2)
    return EngineRequest(ids, sampling, windows, readout=SETS)


def readout_difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the largest difference between two read-outs of the same sets."""
    assert one.keys() == other.keys()
    assert one
    return max(abs(one[name] - other[name]) for name in one)


def same_receipts(found: Sequence[Generation], expected: Sequence[Generation]) -> None:
    """Compare receipts; how much was cached is each engine's own."""
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one.receipts, other.receipts, strict=True):
            measured = {"reused", "projection_before", "projection_after", "expected_shift"}
            assert mine.model_dump(exclude=measured) == theirs.model_dump(exclude=measured)
            for name in measured - {"reused"}:
                a, b = getattr(mine, name), getattr(theirs, name)
                assert (a is None) == (b is None)
                assert a is None or abs(a - b) < 1e-3 * max(1.0, abs(b)), f"{name}: {a} and {b}"
