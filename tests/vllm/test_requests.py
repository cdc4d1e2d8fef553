"""What a request may ask for besides steering: stops, seeds, log-probabilities, tool calls, and to be dropped."""

import asyncio
import dataclasses
import importlib
import time

import pytest
from inspect_ai.model import ChatMessageUser, GenerateConfig
from inspect_ai.tool import ToolFunction

from self_steering.steering.engine.additions import SteeringFault
from self_steering.steering.engine.requests import EngineRequest, check_request
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.on_vllm.settings import VLLM_ARGS
from self_steering.steering.tools import tool_infos
from tests.prove import plans
from tests.support.parity import ALL, MIDDLE, prompt, window
from tests.vllm.pairs import CONTEXT, PATIENCE, TOLERANCE, Pair


def test_texts_end_for_the_same_reasons_as_on_the_other_engine(pair: Pair):
    """Greedy texts: at a stop string, at the most tokens, at the end of the context; the same tokens, text and counts."""
    ids = prompt(pair.engine, 30, seed=1)
    (whole,) = pair.twins(EngineRequest(ids, Sampling(max_tokens=24, temperature=0.0)))
    middle = pair.bench.reference.tokenizer.decode(whole.tokens[9:11])
    longest = prompt(pair.engine, CONTEXT - 3, seed=2)
    requests = [
        EngineRequest(ids, Sampling(max_tokens=24, temperature=0.0)),
        EngineRequest(ids, Sampling(max_tokens=24, temperature=0.0, stop=("nowhere in it", middle))),
        EngineRequest(longest, Sampling(max_tokens=24, temperature=0.0)),
    ]
    found, expected = pair.run(*requests), pair.twins(*requests)
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.stop_reason, one.tokens) == (other.text, other.stop_reason, other.tokens)
        assert (one.prompt_tokens, one.generated_tokens) == (other.prompt_tokens, other.generated_tokens)
    assert [one.stop_reason for one in found] == ["max_tokens", "stop", "model_length"]


def test_an_end_of_turn_ends_the_text_and_is_counted(pair: Pair):
    """Steered towards its own end-of-turn token a model stops there; the token is counted, and is no part of the text."""
    (end,) = pair.engine._identity.end_ids
    weights = pair.bench.reference.model.lm_head.weight[end].detach()
    toward = window(pair.engine, (5,), 30, None, 1.0)
    direction = type(toward.direction)("end", (5,), 400 * weights[None] / weights.norm())
    pushed = type(toward)("end", direction, 1.0, 30, None)
    request = EngineRequest(prompt(pair.engine, 40, seed=3), Sampling(max_tokens=9, temperature=0.0), (pushed,))
    (found,), (expected,) = pair.run(request), pair.twins(request)
    assert (found.stop_reason, found.tokens, found.generated_tokens) == ("stop", expected.tokens, len(found.tokens) + 1)
    assert found.generated_tokens == expected.generated_tokens < 9


def test_logprobs_are_the_models_own_at_any_temperature(pair: Pair):
    """The sampled token's log-probability and the top ones are those of the unmasked model at temperature 1."""
    sampling = Sampling(max_tokens=6, temperature=2.0, top_p=0.9, top_k=50, seed=5, top_logprobs=4)
    request = EngineRequest(prompt(pair.engine, 50, seed=4), sampling, (window(pair.engine, ALL, 10, 40, 0.5),))
    (found,) = pair.run(request)
    assert pair.hooked(request, found) < TOLERANCE
    for entry in found.logprobs:
        values = [value for _, value in entry.top]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)


def test_a_seed_gives_the_same_text_alone_in_company_and_in_chunks(pair: Pair):
    """What is drawn follows from the seed and the position, not from who shares the batch or how the prompt was cut."""
    ids = prompt(pair.engine, 150, seed=6)
    wanted = EngineRequest(
        ids, Sampling(max_tokens=12, temperature=1.0, seed=11), (window(pair.engine, MIDDLE, 5, None, 1.0),)
    )
    others = [
        EngineRequest(prompt(pair.engine, 60 + row, seed=row), Sampling(max_tokens=12, temperature=1.0, seed=row))
        for row in range(5)
    ]
    (alone,) = pair.run(wanted)
    crowd = pair.run(*others[:3], wanted, *others[3:])
    assert crowd[3].tokens == alone.tokens
    assert pair.run(*others)[0].tokens == crowd[0].tokens
    other_seed = EngineRequest(ids, Sampling(max_tokens=12, temperature=1.0, seed=12), wanted.windows)
    assert pair.run(other_seed)[0].tokens != alone.tokens


def test_a_forced_tool_call_is_one_and_names_the_tool(pair: Pair):
    """Even a random model calls the tool it is told to, in a form that can be read."""
    config = GenerateConfig(max_tokens=120, temperature=1.0, seed=1)
    choice = ToolFunction(name="clear_effects")
    plans._seen.set([])
    ask = pair.bench.model.generate([ChatMessageUser(content="Go.")], tool_infos("vectors"), choice, config)
    output = asyncio.run(ask)
    (call,) = output.message.tool_calls
    assert (call.function, call.parse_error) == ("clear_effects", None)
    assert output.stop_reason == "tool_calls"


def test_logprobs_of_a_forced_call_are_refused(pair: Pair):
    """They would be those of the masked distribution."""
    request = EngineRequest((5, 6), Sampling(max_tokens=3, top_logprobs=0), grammar='start: "a"')
    with pytest.raises(ValueError, match="not for both, or use engine=transformers"):
        pair.engine.submit(request)


def test_a_malformed_grammar_fails_its_own_request_only(pair: Pair):
    """Its future has the error, and the others of the batch their texts."""
    bad = EngineRequest((5, 6), Sampling(max_tokens=3), grammar="start: %json {")
    good = EngineRequest((5, 6), Sampling(max_tokens=3))
    futures = pair.engine.submit_all([good, bad, good])
    with pytest.raises(ValueError, match="grammar"):
        futures[1].result(PATIENCE)
    assert all(future.result(PATIENCE).generated_tokens == 3 for future in futures[::2])


def test_a_cancelled_request_frees_what_it_holds(pair: Pair):
    """VLLM no longer runs it, its blocks are free again, and its neighbours come out as they would."""
    requests = [
        EngineRequest(prompt(pair.engine, 60, seed=60 + row), Sampling(max_tokens=300, temperature=0.0),
                      (window(pair.engine, MIDDLE, 5, None, 1.0),))
        for row in range(4)
    ]  # fmt: skip
    steps = pair.engine.stats.steps
    futures = pair.engine.submit_all(requests)
    while pair.engine.stats.steps < steps + 6:
        time.sleep(0.01)
    for future in futures[:3]:
        assert future.cancel()
    rest = futures[3].result(PATIENCE)
    assert rest.generated_tokens == 300
    scheduler = pair.scheduler()

    def held() -> tuple[int, int]:
        pool = scheduler.kv_cache_manager.block_pool
        return len(scheduler.running) + len(scheduler.waiting), pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()

    assert pair.engine.call(held).result(PATIENCE) == (0, 0)
    assert pair.engine._running == {}
    assert rest.tokens == pair.twins(requests[3])[0].tokens


def test_a_fault_in_one_row_is_that_rows_alone(pair: Pair):
    """A strength that overflows the stream ends its own request with an error, and no other's, nor that of who gets its memory."""
    ids = prompt(pair.engine, 40, seed=7)
    huge = EngineRequest(ids, Sampling(max_tokens=3, temperature=0.0), (window(pair.engine, MIDDLE, 5, 9, 3e38),))
    fine = EngineRequest(ids, Sampling(max_tokens=3, temperature=0.0), (window(pair.engine, MIDDLE, 5, 9, 1.0),))
    futures = pair.engine.submit_all([fine, huge, fine])
    with pytest.raises(SteeringFault, match="changed by another amount or are not finite"):
        futures[1].result(PATIENCE)
    assert [r.steered for future in futures[::2] for r in future.result(PATIENCE).receipts] == [4, 4]
    for _ in range(3):
        pair.run(*[EngineRequest((5, 6), Sampling(max_tokens=3))] * 3)


def test_directions_come_and_go(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    """Far more directions than the workers hold at once: each request is steered by its own."""
    monkeypatch.setattr("self_steering.steering.on_vllm.engine._DIRECTIONS_INSTALLED", 3)
    ids = prompt(pair.engine, 20, seed=8)
    requests = [
        EngineRequest(ids, Sampling(max_tokens=2, temperature=0.0, top_logprobs=0),
                      (window(pair.engine, MIDDLE, 5, None, 1.0, seed=100 + number % 6),))
        for number in range(12)
    ]  # fmt: skip
    for first in range(0, 12, 2):
        found = pair.run(*requests[first : first + 2])
        assert max(map(pair.hooked, requests[first : first + 2], found)) < TOLERANCE
    assert len(pair.engine._installed) <= 5


def test_requests_that_do_not_fit_are_refused_before_they_run(pair: Pair):
    """The same check as on the other engine, with the sizes that vLLM runs with."""
    shape = pair.engine.shape
    assert (shape.context, shape.n_layers, shape.hidden) == (CONTEXT, 6, 64)
    assert shape.vocabulary == pair.twin.shape.vocabulary
    for ids in ((), (0,) * CONTEXT, (shape.vocabulary,)):
        with pytest.raises(ValueError, match="expected"):
            check_request(EngineRequest(ids, Sampling(max_tokens=1)), shape)
        with pytest.raises(ValueError, match="expected"):
            pair.engine.submit(EngineRequest(ids, Sampling(max_tokens=1)))


def test_every_argument_that_passes_through_is_one_of_vllms():
    """A name that vLLM does not know would fail only on the machine of who uses it."""
    known = {field.name for field in dataclasses.fields(importlib.import_module("vllm").EngineArgs)}
    assert set(VLLM_ARGS) <= known
