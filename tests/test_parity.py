"""The engine against plain PyTorch hooks that recompute everything from scratch: same windows, same logits."""

from collections.abc import Sequence

import pytest
from inspect_ai.model import Model

from self_steering.steering.engine.engine import MAX_CHUNK, Engine
from self_steering.steering.engine.requests import EngineRequest, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from tests.support.parity import ALL, MIDDLE, ONE, generate, prompt, reference_logprobs, window


def worst_difference(engine: Engine, ids: Sequence[int], windows: Sequence[TokenWindow], **options) -> float:
    """Return the largest difference in log-probability between the engine and the reference."""
    generation = generate(engine, ids, windows, **options)
    produced = [entry.token for entry in generation.logprobs]
    reference = reference_logprobs(engine.model.hf, [*ids, *produced], windows)
    return max(
        abs(logprob - float(reference[len(ids) - 1 + step, token]))
        for step, entry in enumerate(generation.logprobs)
        for token, logprob in ((entry.token, entry.logprob), *entry.top)
    )


@pytest.mark.parametrize("layers", [ONE, MIDDLE, ALL])
def test_a_window_gives_the_logits_of_plain_hooks(engine: Engine, layers: tuple[int, ...]) -> None:
    """Windows at the start, inside, at the end, into decoding, and over generated tokens alone agree with hooks."""
    for start, stop in ((0, 12), (7, 20), (20, 40), (39, None), (3, None), (40, None)):
        ids = prompt(engine, 40, seed=start)
        assert worst_difference(engine, ids, [window(engine, layers, start, stop, 1.0)], tokens=3) < 3e-4, start


def test_steering_changes_the_logits_at_all(engine: Engine) -> None:
    """The reference steered and the reference unsteered differ far beyond the tolerance of these tests."""
    ids = prompt(engine, 40)
    steered = reference_logprobs(engine.model.hf, ids, [window(engine, MIDDLE, 7, 20, 1.0)])
    plain = reference_logprobs(engine.model.hf, ids, [])
    assert float((steered[-1] - plain[-1]).abs().max()) > 0.05


def test_stacked_overlapping_and_negative_windows_add_up(engine: Engine) -> None:
    """Three windows over different layers, overlapping, one inverted, agree with hooks."""
    ids = prompt(engine, 60)
    windows = [
        window(engine, MIDDLE, 5, 30, 1.0, seed=1),
        window(engine, ALL, 20, None, -0.7, seed=2),
        window(engine, ONE, 10, 25, 2.0, seed=3),
    ]
    assert worst_difference(engine, ids, windows) < 3e-4


def test_windows_reach_across_prefill_chunks(engine: Engine) -> None:
    """A prompt longer than two chunks, cut at messages too, agrees with hooks."""
    ids = prompt(engine, 2 * MAX_CHUNK + 40)
    windows = [window(engine, MIDDLE, 100, MAX_CHUNK + 90, 1.0), window(engine, ONE, MAX_CHUNK - 3, None, 1.0, seed=2)]
    assert worst_difference(engine, ids, windows, cuts=(90, 130, 300)) < 3e-4


def test_windows_reach_from_cached_tokens_into_new_ones(engine: Engine) -> None:
    """A conversation that grows, its earlier part and its own decoded tokens coming from the cache, agrees with hooks."""
    first = prompt(engine, 50)
    windows = [window(engine, MIDDLE, 20, None, 1.0)]
    turn = generate(engine, first, windows, tokens=20)
    longer = [*first, *turn.tokens, *prompt(engine, 15, seed=9)]
    assert worst_difference(engine, longer, windows) < 3e-4
    again = generate(engine, longer, windows)
    assert again.reused_tokens >= 64


def test_ragged_rows_that_decode_together_equal_hooks_each(engine: Engine) -> None:
    """Eight prompts of different lengths, steered differently, placebo and plain among them, share one batch."""
    cases = []
    for row in range(8):
        ids = prompt(engine, 20 + 11 * row, seed=row)
        windows = [] if row % 4 == 0 else [window(engine, ALL[row % 3 :], 5 + row, None, (row % 4 - 1) * 0.8, seed=row)]
        cases.append((ids, windows))
    sampling = Sampling(max_tokens=12, temperature=0.0, top_logprobs=0)
    futures = [engine.submit(EngineRequest(ids, sampling, tuple(windows))) for ids, windows in cases]
    # All of them first: the reference must not run on the model while the engine does.
    generations = [future.result(timeout=120) for future in futures]
    for (ids, windows), generation in zip(cases, generations, strict=True):
        produced = [entry.token for entry in generation.logprobs]
        reference = reference_logprobs(engine.model.hf, [*ids, *produced], windows)
        for step, entry in enumerate(generation.logprobs):
            assert abs(entry.logprob - float(reference[len(ids) - 1 + step, entry.token])) < 3e-4
    assert max(engine.stats.batch_sizes) > 1


def test_the_bundled_model_agrees_with_hooks(bundled_model: Model) -> None:
    """On real weights, a band of nine layers, across a chunk boundary and into decoding."""
    text = "<|im_start|>user\nDescribe the harbour in the morning, slowly and in detail.<|im_end|>\n<|im_start|>assistant\n"
    ids = bundled_model.api.loaded.tokenizer(text)["input_ids"]
    engine = bundled_model.api.engine
    band = window(engine, range(12, 21), 8, None, 1.0)
    assert worst_difference(engine, ids, [band], tokens=8, cuts=(18,)) < 3e-4
