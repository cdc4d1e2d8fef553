"""Random plans on tiny models of three architectures and with templates of many kinds, in company, against plain hooks."""

import asyncio
import random
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import torch
from inspect_ai.model import GenerateConfig, Model, get_model, modelapi

from self_steering.steering.engine.requests import EngineRequest, Generation
from self_steering.steering.operations import OPERATIONS
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.steering.provider import NNsightAPI
from self_steering.steering.request import SteeringRequest
from self_steering.steering.tools import tool_infos
from self_steering.vectors.directions import random_like
from tests.prove.outcome import Outcome
from tests.prove.reference import Reference
from tests.prove.talks import Talk, edited, grown, opening
from tests.support.small_library import LAYERS, save_library
from tests.support.templates import family_of, save_family_model

TOLERANCE = 3e-4
MOST_TOKENS = 500
TALKS = 6
BLOCK = 500  # plans on one provider
PROCESSES = 2
_TOOLS = tool_infos("vectors", OPERATIONS)
# The template, the cache in GiB, and the most rows in a batch: small caches evict all the time.
_SETTINGS = (
    ("qwen", 0.5, 8),
    ("llama", 0.5, 8),
    ("gemma", 0.5, 8),
    ("qwen", 0.0005, 4),
    ("gemma", 0.0005, 2),
    *((family, 0.5, 8) for family in ("nemo", "harmony", "gemma4", "glm", "kimi")),
)
_UNITS = {"d1": ("calm", 2.0, None), "d2": ("proud", -1.0, None), "d3": ("calm", 1.0, 5), "zero": ("calm", 0.0, None)}
_TREATMENTS = {
    label: Treatment(direction=Direction(vector=name, random_seed=seed), unit_strength=unit)
    for label, (name, unit, seed) in _UNITS.items()
}
_seen: ContextVar[list[tuple[EngineRequest, Generation]]] = ContextVar("seen")


@modelapi(name="recorded")
class RecordedAPI(NNsightAPI):
    """The provider, which also shows what went to the engine and came back."""

    async def _run(self, request: EngineRequest) -> Generation:
        generation = await super()._run(request)
        _seen.get().append((request, generation))
        return generation


@dataclass
class Bench:
    """A provider and its reference."""

    name: str
    model: Model
    library: str
    reference: Reference
    tolerance: float = TOLERANCE


CONTEXT = 2048  # tokens: some templates write the tools' schemas at length


def open_bench(folder: Path, family: str, sizes: Mapping[str, int] | None = None, **arguments: object) -> Bench:
    """Save a tiny model, of the given `sizes`, and a library, and open the provider over it with `arguments`."""
    saved = save_family_model(folder / "model", family, **{"max_position_embeddings": CONTEXT, **(sizes or {})})
    model = get_model(f"recorded/{saved}", memoize=False, **arguments)
    library = save_library(folder / "library", model.api.loaded.fingerprint, neutral=True)
    opened = model.api.library(library)
    held = opened.vectors
    vectors = {
        label: unit * (held[name] if seed is None else _unlike(held[name], seed))
        for label, (name, unit, seed) in _UNITS.items()
    }
    return Bench(family, model, library, Reference(saved, family_of(family).ends, LAYERS, vectors, opened.neutral))


def _unlike(vector: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the random direction of a seed, once it is shown to be what it is said to be."""
    noise = random_like(vector, seed)
    assert float((noise * vector).sum(-1).abs().max()) < 1e-4 * float((vector * vector).sum(-1).max())
    assert torch.allclose(noise.norm(dim=-1), vector.norm(dim=-1), rtol=1e-5)
    return noise


async def generate(bench: Bench, talk: Talk, rng: random.Random) -> tuple[EngineRequest, Generation]:
    """Generate one to three tokens of the next turn."""
    plan = plan_windows(talk.messages, _TREATMENTS, outside_clears=talk.outside)
    base = GenerateConfig(
        max_tokens=rng.randrange(1, 4),
        temperature=rng.choice([0.0, 1.0]),
        seed=rng.randrange(10**6),
        logprobs=True,
        top_logprobs=5,
    )
    config = SteeringRequest(plan=plan, library=bench.library, canonical=rng.random() < 0.2).config(base)
    _seen.set([])
    await bench.model.generate(list(talk.messages), tools=_TOOLS, config=config)
    (found,) = _seen.get()
    return found


def check(bench: Bench, talk: Talk, request: EngineRequest, generation: Generation) -> None:
    """Compare a generation with the reference.

    Raises:
        AssertionError: Something was steered otherwise, or the numbers differ.
    """
    spans = bench.reference.spans(talk, request.ids)
    tokens = [entry.token for entry in generation.logprobs]
    total = len(request.ids) + len(tokens) - 1  # the last token is chosen, and not read any more
    planned = [(s.start, s.stop, min(s.stop or total, total) - min(s.start, total)) for s in spans]
    realised = [(r.start, r.stop, r.steered) for r in generation.receipts]
    assert realised == planned, f"planned {planned}, realised {realised}"
    assert all(r.planned == r.steered for r in generation.receipts), "a receipt says that it was not carried out"
    expected = bench.reference.logprobs([*request.ids, *tokens[:-1]], spans, len(tokens))
    for step, entry in enumerate(generation.logprobs):
        for token, found in ((entry.token, entry.logprob), *entry.top):
            off = abs(found - float(expected[step, token]))
            assert off < bench.tolerance, f"token {token} at step {step} is off by {off:.2g}"


async def one_round(bench: Bench, talks: list[Talk], rng: random.Random, size: int) -> list[str]:
    """Let some conversations go on, or back and on otherwise; generate them together; return what did not hold."""
    chosen = [rng.choice(talks) for _ in range(size)]
    moved = [edited(talk, rng) if rng.random() < 0.3 else grown(talk, rng) for talk in chosen]
    found = await asyncio.gather(*(generate(bench, talk, rng) for talk in moved))
    failures = []
    for talk, (request, generation) in zip(moved, found, strict=True):
        try:
            check(bench, talk, request, generation)
        except AssertionError as error:
            failures.append(f"{bench.name}: {error}; {len(talk.messages)} messages, effects {talk.effects}")
        longest = len(request.ids) > MOST_TOKENS
        talks[rng.randrange(len(talks))] = opening(rng) if longest else talk
    return failures


def run(count: int = 10_000, seed: int = 0, processes: int = PROCESSES) -> Outcome:
    """Check `count` random plans, an equal share in each setting; what is tried does not depend on `processes`."""
    blocks = [
        (setting, size, f"plans/{seed}/{setting}/{block}")
        for setting, share in enumerate(_shares(count, len(_SETTINGS)))
        for block, size in enumerate(_shares(share, -(-share // BLOCK)))
    ]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        failures = list(chain.from_iterable(pool.map(_block, *zip(*blocks, strict=True))))
    return Outcome("random plans", count, failures)


def _shares(count: int, parts: int) -> list[int]:
    return [count // parts + (part < count % parts) for part in range(parts)]


def _block(setting: int, left: int, seed: str) -> list[str]:
    """Check `left` random plans in one setting, on one provider; return what did not hold."""
    family, cache_gb, max_batch = _SETTINGS[setting]
    rng = random.Random(seed)
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = open_bench(Path(folder), family, cache_gb=cache_gb, max_batch=max_batch)
        talks = [opening(rng) for _ in range(TALKS)]
        try:
            while left:
                size = min(rng.choice([1, 2, 4, 8]), left)
                failures += asyncio.run(one_round(bench, talks, rng, size))
                left -= size
        finally:
            bench.model.api.close()
    return failures
