"""What the engine promises beyond right logits: placebo, no bleed, reuse, determinism, seeds, and loud failure."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest
import torch
from llguidance import LLMatcher
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.additions import LayerAdditions, SteeringFault
from self_steering.steering.engine.engine import Engine, chunk_ends
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.requests import EngineRequest, Generation, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from tests.support.models import CONTEXT, make_engine, plain_reading, random_direction, shared_model, tiny_model
from tests.support.mutations import MUTATIONS
from tests.support.parity import ALL, MIDDLE, ONE, prompt, window

GREEDY = Sampling(max_tokens=8, temperature=0.0, top_logprobs=0)
SETS = {"low": (11, 12, 13), "high": (400, 500)}


def fresh(engine: Engine, tokenizer: PreTrainedTokenizerBase, **options) -> Engine:
    """Return a second engine over the same weights, with nothing cached."""
    return make_engine(engine.model.hf, tokenizer, **options)


def run(engine: Engine, *requests: EngineRequest) -> list[Generation]:
    """Submit all at once and wait."""
    return [future.result(timeout=120) for future in [engine.submit(request) for request in requests]]


def readout(ids: tuple[int, ...], *windows: TokenWindow, cuts: tuple[int, ...] = (30, 60)) -> EngineRequest:
    """Return a canonical read-out request."""
    return EngineRequest(ids, Sampling(max_tokens=1, temperature=0.0), windows, cuts, SETS, canonical=True)


def exact(generation: Generation) -> tuple:
    """Return what must agree to the bit."""
    return generation.tokens, [(e.token, e.logprob) for e in generation.logprobs], generation.readout


def test_strength_zero_is_no_steering_to_the_bit(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """The placebo goes through the hooks, and yet tokens, logprobs and read-outs are those of no steering."""
    ids = prompt(engine, 90)
    placebo_window = window(engine, MIDDLE, 20, None, 0.0)
    for make in (lambda *w: readout(ids, *w), lambda *w: EngineRequest(ids, GREEDY, w)):
        engines = [fresh(engine, tokenizer) for _ in range(2)]
        (placebo,), (plain,) = run(engines[0], make(placebo_window)), run(engines[1], make())
        for made in engines:
            made.close()
        assert exact(placebo) == exact(plain)
        assert placebo.receipts[0].steered == placebo.receipts[0].planned > 0
        assert placebo.receipts[0].projection_after == placebo.receipts[0].projection_before


def test_a_clean_request_after_a_steered_one_is_untouched(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """Steered, then clean, then steered again on one prefix: each equals a fresh engine's answer."""
    ids = prompt(engine, 90)
    steered, clean = readout(ids, window(engine, MIDDLE, 20, 80, 1.0)), readout(ids)
    first, second, third = (run(engine, request)[0] for request in (steered, clean, steered))
    other = fresh(engine, tokenizer)
    (alone,) = run(other, clean)
    other.close()
    assert exact(second) == exact(alone)
    assert exact(third) == exact(first)
    assert first.readout != second.readout


@pytest.mark.parametrize("change", ["strength", "direction", "layers", "start", "stop"])
def test_steered_keys_and_values_are_shared_by_equal_steering_only(engine: Engine, change: str) -> None:
    """A request is served from the cache only up to the first token that is steered otherwise."""
    ids = prompt(engine, 90)
    plan = {"layers": MIDDLE, "start": 40, "stop": 80, "strength": 1.0, "seed": 1}
    changed = {"strength": 0.5, "seed": 2, "layers": (1, 2), "start": 50, "stop": 70}
    key = "seed" if change == "direction" else change
    run(engine, EngineRequest(ids, GREEDY, (window(engine, **plan),)))
    (same,) = run(engine, EngineRequest(ids, GREEDY, (window(engine, **plan),)))
    (different,) = run(engine, EngineRequest(ids, GREEDY, (window(engine, **{**plan, key: changed[key]}),)))
    assert same.reused_tokens == len(ids) - 1
    assert same.receipts[0].reused == 40
    assert different.reused_tokens == (70 if change == "stop" else 40)


def test_readouts_are_the_same_bits_in_any_company(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """Cold or warm, alone or among decoding rows, with a cache too small to keep anything: one answer."""
    ids = prompt(engine, 100)
    request = readout(ids, window(engine, MIDDLE, 20, 80, 1.0))
    alone = run(engine, request)[0]
    noise = [EngineRequest(prompt(engine, 30 + i, seed=50 + i), GREEDY) for i in range(6)]
    warm = run(engine, *noise[:3], request, *noise[3:])[3]
    small = fresh(engine, tokenizer, cache_budget=1, max_batch=2)
    evicted = run(small, *noise[:3], request, *noise[3:], request)
    small.close()
    assert exact(alone) == exact(warm) == exact(evicted[3]) == exact(evicted[-1])


def test_batch_size_one_and_eight_agree(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoding alone or eight at once gives the same tokens, and log-probabilities within 1e-4."""
    requests = [
        EngineRequest(prompt(engine, 30 + 7 * i, seed=i), GREEDY, (window(engine, MIDDLE, 4, None, 0.3 * i, seed=i),))
        for i in range(8)
    ]
    single = fresh(engine, tokenizer, max_batch=1)
    together, one_by_one = run(engine, *requests), run(single, *requests)
    assert set(single.stats.batch_sizes) == {1}
    assert max(engine.stats.batch_sizes) > 4
    single.close()
    for a, b in zip(together, one_by_one, strict=True):
        assert a.tokens == b.tokens
        assert max(abs(x.logprob - y.logprob) for x, y in zip(a.logprobs, b.logprobs, strict=True)) < 1e-4


def test_branches_compute_their_common_part_once(engine: Engine) -> None:
    """Ten endings of one conversation cost one beginning."""
    start = prompt(engine, 200)
    run(engine, readout(start, cuts=(100,)))
    before = engine.stats.reused_tokens
    branches = [readout((*start, *prompt(engine, 20, seed=i)), cuts=(100, 200)) for i in range(10)]
    run(engine, *branches)
    assert engine.stats.reused_tokens - before == 10 * 200


def test_chunks_of_a_common_beginning_are_the_same() -> None:
    """What follows a cut does not move the chunk boundaries before it."""
    short, long = chunk_ends(500, (5, 40, 300)), chunk_ends(900, (5, 40, 300, 500, 510))
    assert short == long[: len(short)]
    assert long[-1] == 900


def test_the_receipt_measures_the_planned_shift(engine: Engine) -> None:
    """One window moves the projection on its direction by strength times norm, at every position of the window."""
    (generation,) = run(engine, readout(prompt(engine, 90), window(engine, MIDDLE, 20, 70, 0.5)))
    receipt = generation.receipts[0]
    assert (receipt.planned, receipt.steered, receipt.layers) == (50, 50, list(MIDDLE))
    assert receipt.projection_after - receipt.projection_before == pytest.approx(0.5 * 4.0, abs=1e-4)
    assert receipt.expected_shift == pytest.approx(2.0, abs=1e-5)


def test_steering_below_the_models_precision_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    """In bfloat16 a tiny strength would round to nothing; that is an error, and others in the queue go on."""
    engine = make_engine(tiny_model("llama", len(tokenizer)).to(torch.bfloat16), tokenizer)
    ids = prompt(engine, 40)
    faint = engine.submit(EngineRequest(ids, GREEDY, (window(engine, MIDDLE, 5, 30, 1e-9),)))
    good = engine.submit(EngineRequest(ids, GREEDY, (window(engine, MIDDLE, 5, 30, 1.0),)))
    with pytest.raises(SteeringFault, match="did not change that should"):
        faint.result(timeout=60)
    assert good.result(timeout=60).receipts[0].steered == 25
    engine.close()


def test_sampling_depends_on_the_rows_seed_alone(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """The same seed draws the same tokens alone and in a batch; another seed draws others."""
    ids = prompt(engine, 40)
    requests = [EngineRequest(ids, Sampling(max_tokens=10, seed=seed)) for seed in range(8)]
    together = run(engine, *requests)
    single = fresh(engine, tokenizer, max_batch=1)
    assert [g.tokens for g in run(single, *requests[:3])] == [g.tokens for g in together[:3]]
    single.close()
    assert len({tuple(g.tokens) for g in together}) > 4


def test_generation_stops_where_it_should(engine: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """max_tokens, a stop string, and the end of the context each have their reason."""
    ids = prompt(engine, 40)
    (limit,) = run(engine, EngineRequest(ids, GREEDY))
    assert (limit.stop_reason, limit.generated_tokens) == ("max_tokens", 8)
    words = limit.text
    stop = words[2:6]
    (stopped,) = run(engine, EngineRequest(ids, Sampling(max_tokens=8, temperature=0.0, stop=(stop,))))
    assert stopped.stop_reason == "stop"
    assert stopped.text == words[: words.index(stop)]
    (full,) = run(engine, EngineRequest(prompt(engine, CONTEXT - 3), Sampling(max_tokens=50, temperature=0.0)))
    assert (full.stop_reason, full.generated_tokens) == ("model_length", 3)
    with pytest.raises(ValueError, match=f"1 to {CONTEXT - 1}"):
        engine.submit(EngineRequest(prompt(engine, CONTEXT), GREEDY))


def test_a_cancelled_request_leaves_and_the_rest_goes_on(engine: Engine) -> None:
    """Cancelling frees the row; closing fails what still runs and refuses what comes later."""
    long = Sampling(max_tokens=900, temperature=0.0)
    futures: list[Future[Generation]] = [engine.submit(EngineRequest(prompt(engine, 30, seed=i), long)) for i in (1, 2)]
    (done,) = run(engine, EngineRequest(prompt(engine, 30, seed=3), GREEDY))
    assert done.tokens
    assert futures[0].cancel()
    with pytest.raises(CancelledError):
        futures[0].result()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        futures[1].result(timeout=30)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(EngineRequest(prompt(engine, 30), GREEDY))


@pytest.fixture
def llama(tokenizer: PreTrainedTokenizerBase) -> Iterator[Engine]:
    """An engine over a tiny Llama, for what does not depend on the architecture."""
    made = make_engine(shared_model("llama", len(tokenizer)), tokenizer)
    yield made
    made.close()


def agree(one: Generation, other: Generation) -> bool:
    """Return whether two generations are the same up to what batching makes of floats."""
    same = one.tokens == other.tokens
    return same and all(abs(a.logprob - b.logprob) < 1e-4 for a, b in zip(one.logprobs, other.logprobs, strict=True))


@pytest.mark.parametrize("steered_first", [True, False])
def test_no_bleed_while_chatting_in_either_order(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, steered_first: bool
) -> None:
    """With longest-prefix reuse too, steered and clean runs of one prompt share only what lies before the window."""
    ids = prompt(engine, 90)
    requests = [EngineRequest(ids, GREEDY, (window(engine, MIDDLE, 40, None, 1.0),)), EngineRequest(ids, GREEDY)]
    if not steered_first:
        requests.reverse()
    generations = [run(engine, request)[0] for request in requests]
    assert [g.reused_tokens for g in generations] == [0, 40]
    alone = fresh(engine, tokenizer)
    (expected,) = run(alone, requests[1])
    alone.close()
    assert agree(generations[1], expected)
    assert not agree(generations[0], expected)


def test_part_of_a_chunk_never_passes_for_a_canonical_chunk(llama: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """What a chat pieced together from half a cached chunk is no chunk that a read-out may reuse."""
    start, one, other = (prompt(llama, 50, seed=seed) for seed in range(3))
    run(llama, EngineRequest((*start, *one), GREEDY))
    (pieced,) = run(llama, EngineRequest((*start, *other), GREEDY, cuts=(50,)))
    assert pieced.reused_tokens == 50
    (found,) = run(llama, readout((*start, *other), cuts=()))
    alone = fresh(llama, tokenizer)
    (expected,) = run(alone, readout((*start, *other), cuts=()))
    alone.close()
    assert found.reused_tokens == 0
    assert exact(found) == exact(expected)


def test_the_order_in_which_equal_windows_were_opened_changes_no_bit(
    llama: Engine, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Stacked windows share the cache whatever their order, so their sum is formed in one order."""
    ids = prompt(llama, 90)
    windows = [window(llama, ALL, 20, 80, strength, seed=seed) for seed, strength in enumerate((0.3, -1.1, 0.7, 0.13))]
    answers = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        alone = fresh(llama, tokenizer)
        answers += run(alone, readout(ids, *(windows[i] for i in order)))
        alone.close()
    assert exact(answers[0]) == exact(answers[1]) == exact(answers[2])


def test_doses_that_cancel_are_no_fault_and_no_steering(llama: Engine) -> None:
    """Three doses that sum to nothing but a rounding error are steered positions at which nothing is added."""
    ids = prompt(llama, 60)
    windows = [window(llama, MIDDLE, 10, None, strength) for strength in (0.3, -0.1, -0.2)]
    cancelled, clean = run(llama, EngineRequest(ids, GREEDY, tuple(windows)), EngineRequest(ids, GREEDY))
    assert agree(cancelled, clean)
    assert [r.steered for r in cancelled.receipts] == [r.planned for r in cancelled.receipts] == [57, 57, 57]


@pytest.mark.parametrize("strength", [1e-30, 3e38])
def test_a_fault_in_one_row_of_a_batch_hurts_no_other(
    llama: Engine, tokenizer: PreTrainedTokenizerBase, strength: float
) -> None:
    """A window that fails while decoding fails its own request; its neighbours, and who gets its place, are untouched."""
    direction = random_direction(MIDDLE, llama.model.hidden, 1, size=40.0)
    bad = EngineRequest(prompt(llama, 50), GREEDY, (TokenWindow("bad", direction, strength, 51, None),))
    long = Sampling(max_tokens=40, temperature=0.0, top_logprobs=0)
    neighbour = EngineRequest(prompt(llama, 80, seed=1), long, (window(llama, MIDDLE, 10, None, 1.0),))
    successor = EngineRequest(prompt(llama, 20, seed=2), GREEDY)
    pair = fresh(llama, tokenizer, max_batch=2)
    futures = [pair.submit(request) for request in (neighbour, bad, successor)]
    with pytest.raises(SteeringFault, match="layer 1"):
        futures[1].result(timeout=60)
    beside, after = futures[0].result(timeout=60), futures[2].result(timeout=60)
    assert pair.stats.batch_sizes[2] > 2
    pair.close()
    alone = [run(llama, request)[0] for request in (neighbour, successor)]
    assert agree(beside, alone[0])
    assert agree(after, alone[1])
    assert beside.receipts[0].planned == beside.receipts[0].steered == 109


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_that_steers_otherwise_fails_its_request_and_no_other(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Another amount, token or row than planned: a row that was steered so, or should not have been, has no result."""
    pair = make_engine(tiny_model("llama", len(tokenizer)).to(dtype), tokenizer, max_batch=2)
    add = LayerAdditions.add
    for seed, (name, mutation) in enumerate(MUTATIONS.items()):
        # In a prompt of one row there is no next row; where one token decodes, no token later.
        start = 51 if name == "the next row" else 20
        steered = EngineRequest(prompt(pair, 50, seed=seed), GREEDY, (window(pair, MIDDLE, start, None, 0.2),))
        monkeypatch.setattr(LayerAdditions, "add", mutation)
        futures = pair.submit_all([EngineRequest(prompt(pair, 30, seed=99), GREEDY), steered])
        with pytest.raises(SteeringFault, match="layer 1: "):
            futures[1].result(timeout=60)
        if name == "the next row":
            with pytest.raises(SteeringFault, match="layer 1: "):
                futures[0].result(timeout=60)
        else:
            assert futures[0].result(timeout=60).generated_tokens == 8
        monkeypatch.setattr(LayerAdditions, "add", add)
    pair.close()


def test_half_precision_does_not_swallow_a_strength_that_rounds_to_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    """In float16 an addition below the smallest number is an error, and not a placebo."""
    engine = make_engine(tiny_model("llama", len(tokenizer)).to(torch.float16), tokenizer)
    future = engine.submit(EngineRequest(prompt(engine, 40), GREEDY, (window(engine, MIDDLE, 5, 30, 1e-9),)))
    with pytest.raises(SteeringFault, match="25 did not change that should"):
        future.result(timeout=60)
    engine.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": (4, 5, 6)}, "expected some of 0 to 5"),
        ({"layers": ()}, "expected some of 0 to 5"),
        ({"start": -1}, "expected 0 or more"),
        ({"strength": float("inf")}, "another dose"),
        ({"strength": float("nan")}, "another dose"),
        ({"strength": 1e-300}, "another dose"),
        ({"hidden": 32}, r"expected \(3, 64\)"),
    ],
)
def test_windows_that_no_step_could_carry_out_are_refused(llama: Engine, change: dict, message: str) -> None:
    """A window outside the model is refused when it is submitted, before it shares a step with others."""
    made = {"layers": MIDDLE, "start": 5, "strength": 1.0, "hidden": 64, **change}
    direction = random_direction(made["layers"], made["hidden"], 1)
    steered = TokenWindow("drug", direction, made["strength"], made["start"], None)
    with pytest.raises(ValueError, match=f"drug.*{message}"):
        llama.submit(EngineRequest(prompt(llama, 30), GREEDY, (steered,)))


@pytest.mark.parametrize("ids", [(), (5, -1), (5, 10**6)])
def test_prompts_that_the_model_cannot_read_are_refused(llama: Engine, ids: tuple[int, ...]) -> None:
    """An empty prompt, and tokens that the vocabulary lacks, are refused when submitted."""
    with pytest.raises(ValueError, match="expected"):
        llama.submit(EngineRequest(ids, GREEDY))


def test_receipts_count_generated_tokens_and_are_the_same_from_the_cache(llama: Engine) -> None:
    """An open window counts what was generated; a second run reports the same measurements, and where they came from."""
    ids = prompt(llama, 60)
    request = EngineRequest(ids, GREEDY, (window(llama, MIDDLE, 20, None, 0.5), window(llama, ONE, 90, None, 1.0, 2)))
    first, second = (run(llama, request)[0].receipts for _ in range(2))
    # The last token is sampled and never run, so nothing can be steered there.
    assert [(r.planned, r.steered, r.reused) for r in first] == [(47, 47, 0), (0, 0, 0)]
    assert [(r.planned, r.steered, r.reused) for r in second] == [(47, 47, 39), (0, 0, 0)]
    assert second[0].projection_before == pytest.approx(first[0].projection_before, abs=1e-4)
    assert second[0].projection_after == pytest.approx(first[0].projection_after, abs=1e-4)
    assert first[1].projection_before is None


def test_an_end_token_ends_the_turn_and_is_no_part_of_it(llama: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """Generation stops at the first end token, which is counted and reported but not returned."""
    ids = prompt(llama, 40)
    (free,) = run(llama, EngineRequest(ids, GREEDY))
    end = free.tokens[4]
    model = SteeredModel(llama.model.hf, tokenizer)
    ending = Engine(model, tokenizer, end_ids=frozenset({end}), context=CONTEXT)
    (ended,) = run(ending, EngineRequest(ids, GREEDY))
    ending.close()
    before = free.tokens[: free.tokens.index(end)]
    assert (ended.tokens, ended.stop_reason, ended.generated_tokens) == (before, "stop", len(before) + 1)
    assert ended.logprobs[-1].token == end
    assert ended.text == tokenizer.decode(before, skip_special_tokens=True)


def test_a_grammar_rules_its_own_row_and_a_malformed_one_fails_it_alone(llama: Engine) -> None:
    """Of three rows in one batch one follows its grammar, one fails for its own, and one is as free as alone."""
    ids = prompt(llama, 40)
    grammar = LLMatcher.grammar_from_regex("(calm|anxious) [0-9]{2}")
    follows = EngineRequest(ids, Sampling(max_tokens=30, temperature=1.0), grammar=grammar)
    free = EngineRequest(ids, GREEDY)
    futures = [llama.submit(request) for request in (follows, EngineRequest(ids, GREEDY, grammar="no grammar"), free)]
    with pytest.raises(ValueError, match="grammar"):
        futures[1].result(timeout=60)
    constrained = futures[0].result(timeout=60)
    assert re.fullmatch("(calm|anxious) [0-9]{2}", constrained.text)
    assert constrained.stop_reason == "stop"
    assert agree(futures[2].result(timeout=60), run(llama, free)[0])


def test_cancelling_makes_room_for_who_waits(llama: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """With one place in the batch, the next request runs as soon as the first is cancelled, running or waiting."""
    single = fresh(llama, tokenizer, max_batch=1)
    endless = Sampling(max_tokens=900, temperature=0.0)
    running, waiting = (single.submit(EngineRequest(prompt(single, 30, seed=seed), endless)) for seed in range(2))
    last = single.submit(EngineRequest(prompt(single, 30, seed=2), GREEDY))
    assert running.cancel()
    assert waiting.cancel()
    assert last.result(timeout=60).generated_tokens == 8
    assert single.stats.decode_steps < 800
    single.close()


def test_closing_fails_who_waits_and_may_be_done_twice_or_unused(tokenizer: PreTrainedTokenizerBase) -> None:
    """No future hangs after `close`, whether its row was decoding, waiting, or not even received."""
    engine = make_engine(tiny_model("llama", len(tokenizer)), tokenizer, max_batch=1)
    unused = fresh(engine, tokenizer)
    unused.close()
    endless = Sampling(max_tokens=900, temperature=0.0)
    futures = [engine.submit(EngineRequest(prompt(engine, 30, seed=seed), endless)) for seed in range(3)]
    engine.close()
    engine.close()
    for future in futures:
        with pytest.raises(RuntimeError, match="closed"):
            future.result(timeout=5)
    with pytest.raises(RuntimeError, match="closed"):
        unused.submit(EngineRequest(prompt(engine, 30), GREEDY))


def test_a_tiny_cache_gives_the_answers_of_a_large_one(llama: Engine, tokenizer: PreTrainedTokenizerBase) -> None:
    """Evicting while conversations branch and grow costs time only."""
    small = fresh(llama, tokenizer, cache_budget=100_000, max_batch=3)
    start = prompt(llama, 60)
    requests = [
        EngineRequest((*start, *prompt(llama, 40, seed=seed)), GREEDY, (window(llama, MIDDLE, 30, None, dose),), (60,))
        for seed in range(3)
        for dose in (1.0, 0.0)
    ]
    few, many = run(small, *requests, *requests), run(llama, *requests, *requests)
    assert small.stats.reused_tokens < llama.stats.reused_tokens
    small.close()
    assert all(agree(a, b) for a, b in zip(few, many, strict=True))


# ------------------------------------------------------------ submit_all, call, and reading


def test_requests_queued_together_give_what_they_give_one_by_one(
    engine: Engine, tokenizer: PreTrainedTokenizerBase
) -> None:
    """In the same order, steered and plain, greedy and sampled, with fewer places than requests."""
    requests = [
        EngineRequest(
            prompt(engine, 20 + 9 * n, seed=n),
            Sampling(max_tokens=3 + n, temperature=n % 2, seed=n, top_logprobs=0),
            (window(engine, MIDDLE, 4, None, 0.5 * (n % 3), seed=n),),
        )
        for n in range(7)
    ]
    few = fresh(engine, tokenizer, max_batch=3)
    together = [future.result(timeout=60) for future in few.submit_all(requests)]
    few.close()
    assert max(few.stats.batch_sizes) == 3
    assert all(agree(a, b) for a, b in zip(together, run(engine, *requests), strict=True))
    assert len({tuple(generation.tokens) for generation in together}) == 7


def test_requests_queued_together_share_batches_that_their_order_alone_decides(
    engine: Engine, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Two new engines take the same steps and give the same bits."""
    requests = [EngineRequest(prompt(engine, 30 + n, seed=n), GREEDY) for n in range(5)]
    results = []
    for _ in range(2):
        alone = fresh(engine, tokenizer)
        results.append(([exact(future.result(timeout=60)) for future in alone.submit_all(requests)], alone.stats))
        alone.close()
    assert results[0] == results[1]
    assert results[0][1].batch_sizes == {5: 7}


def test_one_request_that_is_refused_queues_none(llama: Engine) -> None:
    """All are checked before any is run, and no request at all is no wait."""
    good = EngineRequest(prompt(llama, 30), GREEDY)
    with pytest.raises(ValueError, match="prompt of 0 tokens"):
        llama.submit_all([good, EngineRequest((), GREEDY)])
    assert llama.submit_all([]) == []
    run(llama, good)
    assert llama.stats.prompt_tokens == 30


def test_an_error_outside_of_any_step_ends_every_request_and_is_told_to_the_next(
    llama: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a thread that is gone: those in the batch, those queued, those handed over, and calls."""
    long = EngineRequest(prompt(llama, 40), Sampling(max_tokens=200, temperature=0.0))
    running = [llama.submit(long) for _ in range(3)]
    reached, broken = threading.Event(), threading.Event()

    def break_down() -> None:
        reached.set()
        broken.wait(60)
        raise KeyError("lost")

    monkeypatch.setattr(llama, "_drop_cancelled", break_down)
    assert reached.wait(60)
    running += llama.submit_all([long, long])
    call = llama.call(lambda: None)
    broken.set()
    for future in [*running, call]:
        with pytest.raises(RuntimeError, match="the engine's thread ended on KeyError: 'lost'; load the model again"):
            future.result(timeout=60)
    with pytest.raises(RuntimeError, match="the engine's thread ended on KeyError"):
        llama.submit(long)
    llama.close()


def test_a_call_that_ends_the_thread_is_answered_too(llama: Engine) -> None:
    """What is no ordinary error ends the thread: the call gets it, and whoever comes next is told."""

    def leave() -> None:
        raise SystemExit("gone")

    with pytest.raises(SystemExit, match="gone"):
        llama.call(leave).result(timeout=60)
    with pytest.raises(RuntimeError, match="the engine's thread ended on SystemExit: gone"):
        llama.submit(EngineRequest(prompt(llama, 4), GREEDY)).result(timeout=60)
    llama.close()


def test_a_call_runs_between_two_steps_of_the_thread_that_owns_the_model(llama: Engine) -> None:
    """It does not wait for who is generating, and leaves no trace in what is generated, though it uses the model."""
    ids = prompt(llama, 40)
    endless = Sampling(max_tokens=150, temperature=0.0, top_logprobs=0)
    running = llama.submit(EngineRequest(ids, endless))

    def read() -> tuple[str, int, torch.Tensor]:
        outputs = llama.model.read(torch.tensor([ids])).outputs
        return threading.current_thread().name, llama.stats.decode_steps, outputs[-1]

    (name, first, one), (_, second, two) = (llama.call(read).result(timeout=60) for _ in range(2))
    assert name == "steering-engine" != threading.current_thread().name
    assert first <= second < 149
    assert not running.done()
    assert torch.equal(one, two)
    alone = run(llama, EngineRequest(ids, endless))[0]
    assert agree(running.result(timeout=60), alone)


def test_a_call_that_fails_tells_its_caller_and_no_other(llama: Engine) -> None:
    """The exception is the caller's, the engine goes on; and once it is closed, no call is taken."""
    running = llama.submit(EngineRequest(prompt(llama, 40), GREEDY))
    failing = llama.call(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(timeout=60)
    assert llama.call(lambda: "here").result(timeout=60) == "here"
    assert running.result(timeout=60).generated_tokens == 8
    assert run(llama, EngineRequest(prompt(llama, 30), GREEDY))[0].generated_tokens == 8
    llama.close()
    with pytest.raises(RuntimeError, match="closed"):
        llama.call(lambda: None)


def test_reading_on_from_an_arena_is_reading_everything_at_once(engine: Engine) -> None:
    """Rows with pasts of unequal length, one of them longer than the arena was, read two stretches as the plain model does."""
    pasts, stretches = (5, 30, 17, 250), (20, 7)
    rows = [prompt(engine, past + sum(stretches), seed=n) for n, past in enumerate(pasts)]
    arena = engine.model.new_arena(len(rows))
    for row, (ids, past) in enumerate(zip(rows, pasts, strict=True)):
        single = engine.model.new_arena(1)
        single.past = (0,)
        engine.model.read(torch.tensor([ids[:past]]), single)
        arena.load(row, 0, single.view(0, 0, past))
    starts = pasts
    for width in stretches:
        arena.past = starts
        stretch = torch.tensor([ids[start : start + width] for ids, start in zip(rows, starts, strict=True)])
        reading = engine.model.read(stretch, arena, logits=True)
        assert reading.logits is not None
        for row, (ids, start) in enumerate(zip(rows, starts, strict=True)):
            outputs, logits = plain_reading(engine.model.hf, ids)
            for layer, output in enumerate(outputs):
                expected = output[start : start + width]
                torch.testing.assert_close(reading.outputs[layer][row], expected, rtol=1e-3, atol=2e-3)
            torch.testing.assert_close(reading.logits[row], logits[start : start + width], rtol=1e-3, atol=2e-3)
        starts = tuple(start + width for start in starts)


def test_reading_afresh_pads_on_the_right_without_harm(engine: Engine) -> None:
    """Rows of unequal length read together are what each is alone, where it has tokens; logits are there if asked for."""
    lengths = (40, 3, 22)
    rows = [prompt(engine, length, seed=n) for n, length in enumerate(lengths)]
    reading = engine.model.read(torch.tensor([[*ids, *[0] * (40 - len(ids))] for ids in rows]))
    assert reading.logits is None
    assert len(reading.outputs) == engine.model.n_layers
    for row, ids in enumerate(rows):
        for layer, output in enumerate(plain_reading(engine.model.hf, ids)[0]):
            torch.testing.assert_close(reading.outputs[layer][row, : len(ids)], output, rtol=1e-3, atol=2e-3)


UNCLOSED = """
import time
import torch
from self_steering.steering.engine.threads import OwningThread

matrix = torch.randn(400, 400)
thread = OwningThread(lambda: [matrix @ matrix for _ in iter(lambda: thread.take(lambda rows: None, idle=False), False)],
                      "engine", lambda rows, error: None)
thread.put([1])
time.sleep(0.2)
"""


def test_a_process_that_never_closes_its_engine_ends_cleanly():
    """As after Ctrl-C: a thread that is still in torch when the interpreter goes would abort the process."""
    done = subprocess.run([sys.executable, "-c", UNCLOSED], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603  our own
    assert (done.returncode, done.stderr) == (0, "")
