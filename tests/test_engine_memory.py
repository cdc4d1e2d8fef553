"""Where memory runs out, cached prompts go first, then the batch shrinks, and the results stay what they were."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.memory import DEFAULT_SIZES, OutOfMemory, bytes_a_token, default_sizes, fitting_sizes
from self_steering.steering.engine.requests import EngineRequest, Generation
from self_steering.steering.engine.sampling import Sampling
from tests.support.models import ARCHITECTURES, make_engine, shared_model
from tests.support.parity import MIDDLE, prompt, window

SAMPLED = Sampling(max_tokens=6, temperature=1.0, seed=3, top_logprobs=0)
PATIENCE = 120
ON_CPU = "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
ERRORS = {
    "accelerator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError(ON_CPU),
}


@pytest.fixture
def whole(tokenizer: PreTrainedTokenizerBase) -> Iterator[Engine]:
    """An engine over one architecture: what is promised here has nothing to do with it."""
    made = make_engine(shared_model("qwen3", len(tokenizer)), tokenizer)
    yield made
    made.close()


@contextmanager
def short_of_memory(
    engine: Engine, when: Callable[[int, int], bool], error: Exception
) -> Iterator[list[tuple[int, int]]]:
    """Let the model run out of memory in its fourth layer on steps of (rows, tokens) that `when` picks; give those it picked."""
    failed: list[tuple[int, int]] = []

    def fail(module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: object) -> None:
        rows, tokens = args[0].shape[:2]
        if when(rows, tokens):
            failed.append((rows, tokens))
            raise error

    # Late in the step: by then the keys and values of the layers before it are written.
    hook = engine.model.hf.get_decoder().layers[3].register_forward_pre_hook(fail, with_kwargs=True)
    try:
        yield failed
    finally:
        hook.remove()


def requests(engine: Engine, count: int = 6) -> list[EngineRequest]:
    """Return requests of different lengths, steered over the prompt's end and what is generated, one of them not at all."""
    made = []
    for number in range(count):
        ids = prompt(engine, 40 + 13 * number)
        windows = (window(engine, MIDDLE, 20 + number, None, 0.5 + number / 4),) if number else ()
        made.append(EngineRequest(ids, SAMPLED, windows, cuts=(30,)))
    return made


def answers(engine: Engine, wanted: list[EngineRequest]) -> list[Generation]:
    """Submit together and wait for all."""
    return [future.result(timeout=PATIENCE) for future in engine.submit_all(wanted)]


def assert_same(found: list[Generation], expected: list[Generation]) -> None:
    """Compare what was generated and what the receipts say of it."""
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens
        assert [e.logprob for e in one.logprobs] == pytest.approx([e.logprob for e in other.logprobs], abs=3e-4)
        planned = [(r.start, r.stop, r.planned, r.steered) for r in other.receipts]
        assert [(r.start, r.stop, r.planned, r.steered) for r in one.receipts] == planned
        for receipt, same in zip(one.receipts, other.receipts, strict=True):
            assert receipt.steered == receipt.planned > 0
            assert receipt.projection_after == pytest.approx(same.projection_after, abs=1e-3)


@pytest.mark.parametrize(("architecture", "kind"), [("gemma3", "accelerator"), ("llama", "cpu")])
def test_a_batch_that_does_not_fit_shrinks_and_goes_on_with_the_same_results(
    tokenizer: PreTrainedTokenizerBase, architecture: str, kind: str
):
    """With room for two rows only, eight rows that are steered differently come out as they do with room for all."""
    engine = make_engine(shared_model(architecture, len(tokenizer)), tokenizer)
    expected = answers(engine, requests(engine, 8))
    other = make_engine(engine.model.hf, tokenizer)
    with short_of_memory(other, lambda rows, _: rows > 2, ERRORS[kind]) as failed:
        found = answers(other, requests(other, 8))
    other.close()
    engine.close()
    assert failed, "memory never ran out"
    assert max(other.stats.batch_sizes) == 2
    assert other.stats.out_of_memory == len(failed)
    assert_same(found, expected)


def test_cached_prompts_go_before_the_batch_shrinks(whole: Engine, tokenizer: PreTrainedTokenizerBase):
    """Where dropping the cached prompts is enough, all rows go on decoding together, with the same results."""
    expected = answers(whole, requests(whole))
    other = make_engine(whole.model.hf, tokenizer)
    answers(other, requests(other, 2))
    held = other.store.nbytes
    with short_of_memory(other, lambda rows, _: rows > 2 and other.store.nbytes > 0, ERRORS["cpu"]) as failed:
        found = answers(other, requests(other))
    assert len(failed) == 1
    assert max(other.stats.batch_sizes) == 6
    assert other.store.budget < held * 6
    answers(other, requests(other))
    other.close()
    assert 0 < other.store.nbytes <= other.store.budget
    assert_same(found, expected)


def test_a_long_prompt_that_does_not_fit_beside_others_waits_for_them(
    whole: Engine, tokenizer: PreTrainedTokenizerBase
):
    """Memory that runs out over a prompt shrinks the batch beside it; the prompt is computed after that, and steered as planned."""
    expected = answers(whole, requests(whole))
    other = make_engine(whole.model.hf, tokenizer, cache_budget=0)
    with short_of_memory(other, lambda _, tokens: tokens > 70 and other._max_batch > 2, ERRORS["cpu"]) as failed:
        found = answers(other, requests(other))
    other.close()
    assert failed
    assert_same(found, expected)


def test_a_batch_that_cannot_grow_is_split(whole: Engine, tokenizer: PreTrainedTokenizerBase, monkeypatch):
    """Where room for more keys and values of all rows cannot be had, fewer rows share a smaller batch."""
    expected = answers(whole, requests(whole))
    other = make_engine(whole.model.hf, tokenizer)
    zeros = torch.Tensor.new_zeros
    refused: list[int] = []

    def limited(tensor: torch.Tensor, *size: int) -> torch.Tensor:
        if len(size) == 4 and size[0] > 3:
            refused.append(size[0])
            raise ERRORS["accelerator"]
        return zeros(tensor, *size)

    monkeypatch.setattr(torch.Tensor, "new_zeros", limited)
    found = answers(other, requests(other))
    other.close()
    assert refused
    assert max(other.stats.batch_sizes) <= 3
    assert_same(found, expected)


def test_a_single_row_that_does_not_fit_says_so_and_the_engine_goes_on(whole: Engine):
    """A conversation too large even alone fails with what can be done; requests after it are answered."""
    (long,), (short,) = [EngineRequest(prompt(whole, n), SAMPLED) for n in (200,)], [requests(whole, 1)[0]]
    with short_of_memory(whole, lambda _, tokens: tokens > 100, ERRORS["cpu"]):
        first, second = whole.submit_all([long, short])
        with pytest.raises(OutOfMemory, match=r"conversation of 200 tokens.*can't allocate memory.*dtype=bfloat16"):
            first.result(timeout=PATIENCE)
        assert second.result(timeout=PATIENCE).generated_tokens > 0


def test_other_errors_do_not_pass_for_a_lack_of_memory(whole: Engine):
    """An error that is not about memory reaches the caller as it is, and nothing is run again."""
    with short_of_memory(whole, lambda *_: True, RuntimeError("weights are damaged")) as failed:
        (future,) = whole.submit_all(requests(whole, 1))
        with pytest.raises(RuntimeError, match="weights are damaged"):
            future.result(timeout=PATIENCE)
    assert len(failed) == 1
    assert whole.stats.out_of_memory == 0


def test_a_row_that_waits_for_a_place_can_be_cancelled(whole: Engine):
    """Cancelled while memory has no place for it, a row goes without a trace, and the others finish."""
    begun = threading.Event()

    def when(rows: int, tokens: int) -> bool:
        if rows == 1 and tokens == 1:
            begun.set()
        return rows > 1

    wanted = requests(whole, 4)
    with short_of_memory(whole, when, ERRORS["cpu"]):
        futures = whole.submit_all(wanted)
        assert begun.wait(PATIENCE)
        futures[3].cancel()
        assert all(future.result(timeout=PATIENCE).generated_tokens for future in futures[:3])
    assert not whole.call(whole._rows).result(timeout=PATIENCE)


# ---------------------------------------------------------------- how much is used by default


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tokens_keys_and_values_are_counted_as_transformers_keeps_them(
    architecture: str, tokenizer: PreTrainedTokenizerBase
):
    """Of every layer, in the model's own type."""
    model = shared_model(architecture, len(tokenizer))
    with torch.no_grad():
        cache = model(torch.tensor([[1, 2, 3, 4, 5]]), use_cache=True).past_key_values
    kept = sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
    assert bytes_a_token(model) == kept / 5


@pytest.mark.parametrize("gib", [0.01, 3, 17, 60, 141, 1000])
@pytest.mark.parametrize("token", [2_000, 147_456, 1_000_000])
@pytest.mark.parametrize("context", [512, 40_960])
def test_what_is_used_by_default_fits_into_what_is_free(gib: float, token: int, context: int):
    """Whole conversations decode together beside what is kept, a row at least; a little more memory changes no batch."""
    free = int(gib * 2**30)
    rows, kept = fitting_sizes(free, token, context)
    assert 1 <= rows <= 64
    assert rows & (rows - 1) == 0
    assert rows == 1 or rows * token * min(context, 8192) + kept < free
    assert fitting_sizes(2 * free, token, context)[0] in {rows, 2 * rows}


def test_on_a_cpu_the_defaults_are_fixed(tokenizer: PreTrainedTokenizerBase):
    """How much memory is free changes nothing there, and nothing is asked of the model's shape."""
    assert default_sizes(shared_model("llama", len(tokenizer)), 8192) == DEFAULT_SIZES
