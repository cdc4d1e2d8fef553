"""What the engine promises beyond right logits: placebo, no bleed, reuse, determinism, seeds, and loud failure."""

from concurrent.futures import CancelledError, Future

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine import Engine, chunk_ends
from self_steering.steering.forward import SteeringFault
from self_steering.steering.row import EngineRequest, Generation, TokenWindow
from self_steering.steering.sampling import Sampling
from tests.models import CONTEXT, make_engine, random_direction, tiny_model
from tests.test_parity import MIDDLE, prompt, window

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
