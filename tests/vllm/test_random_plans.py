"""Random plans of `make prove` on vLLM, against plain hooks and against the transformers engine."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from self_steering.steering.engine.requests import EngineRequest, Generation
from tests.prove import plans
from tests.prove.talks import opening
from tests.vllm.pairs import TOLERANCE, Pair, open_pair, readout_difference, same_receipts

PLANS = 160
ROWS = 8
SETS = {"few": (5, 6, 7), "one": (300,), "many": tuple(range(1000, 2000))}


@pytest.fixture(
    scope="module",
    params=[("qwen", 64), ("llama", 64), ("gemma", 64), ("llama", 2048)],
    ids=lambda p: f"{p[0]}, chunks of {p[1]}",
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A tiny model of each family, its prompts in small chunks and whole."""
    family, chunk = request.param
    with open_pair(
        tmp_path_factory.mktemp("pair"), family, max_num_batched_tokens=chunk, max_model_len=plans.CONTEXT
    ) as opened:
        yield opened


def test_random_plans_equal_plain_hooks_and_the_other_engine(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    """Windows anywhere, stacked, inverted, failed and open, in company and out of the cache: tokens, receipts, read-outs."""
    seen: list[EngineRequest] = []
    judge = plans.check

    def checked(bench: plans.Bench, talk: object, request: EngineRequest, generation: Generation) -> None:
        seen.append(request)
        judge(bench, talk, request, generation)

    monkeypatch.setattr(plans, "check", checked)
    rng = random.Random(f"vllm/{pair.bench.name}")
    talks = [opening(rng) for _ in range(plans.TALKS)]
    failures: list[str] = []
    for _ in range(PLANS // ROWS):
        failures += asyncio.run(plans.one_round(pair.bench, talks, rng, ROWS))
    assert failures == []
    assert len(seen) == PLANS
    assert pair.engine.stats.most_running == ROWS
    assert pair.engine.stats.reused_tokens > 0
    asked = [replace(one, sampling=replace(one.sampling, max_tokens=1), readout=SETS) for one in seen]
    found, expected = pair.run(*asked), pair.twins(*asked)
    assert max(map(readout_difference, (g.readout for g in found), (g.readout for g in expected))) < TOLERANCE
    same_receipts(found, expected)
    assert sum(len(one.receipts) for one in found) > PLANS / 4
