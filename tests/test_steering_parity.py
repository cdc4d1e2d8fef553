"""Parity with plain hooks where it is hardest: the whole vocabulary, warm caches, eager attention, shipped vectors."""

import math
from dataclasses import replace

import pytest
import torch
from inspect_ai.model import Model

from self_steering.steering.engine.engine import MAX_CHUNK
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.requests import EngineRequest, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from self_steering.vectors.card import find_library
from self_steering.vectors.directions import resolve_direction
from self_steering.vectors.library import load_library
from tests.support.models import make_engine, tiny_model
from tests.support.parity import ALL, MIDDLE, ONE, generate, mixed, prompt, reference_logprobs, window

TOLERANCE = 3e-4


def whole_vocabulary_difference(engine, ids, windows, *, tokens=4, **options):
    """Return the largest difference from plain hooks over every token of the vocabulary at every generated position."""
    sampling = Sampling(max_tokens=tokens, temperature=0.0, top_logprobs=engine.model.vocabulary)
    generation = engine.submit(EngineRequest(tuple(ids), sampling, tuple(windows), **options)).result(timeout=120)
    produced = [entry.token for entry in generation.logprobs]
    reference = reference_logprobs(engine.model.hf, [*ids, *produced], windows)
    worst = 0.0
    for step, entry in enumerate(generation.logprobs):
        tokens_of, values = zip(*entry.top, strict=True)
        assert len(set(tokens_of)) == engine.model.vocabulary
        expected = reference[len(ids) - 1 + step, list(tokens_of)]
        worst = max(worst, float((torch.tensor(values, dtype=torch.float64) - expected).abs().max()))
    return worst, generation


def test_every_token_of_the_vocabulary_agrees_and_a_window_may_end_while_decoding(engine):
    """Stacked windows, one of which ends after two generated tokens, agree with hooks over the full vocabulary."""
    ids = prompt(engine, 45)
    windows = [window(engine, MIDDLE, 10, 47, 1.0, seed=1), window(engine, ONE, 30, None, -1.5, seed=2)]
    worst, _ = whole_vocabulary_difference(engine, ids, windows)
    assert worst < TOLERANCE
    shorter = reference_logprobs(engine.model.hf, ids, [window(engine, MIDDLE, 10, 44, 1.0, seed=1), windows[1]])
    exact = reference_logprobs(engine.model.hf, ids, windows)
    assert float((shorter[-1] - exact[-1]).abs().max()) > 100 * TOLERANCE, "one position more or less must show"


def test_all_operations_mixed_agree_with_hooks_in_the_order_called(engine):
    """Clamps, ablations, gains and additions over each other, cold and warm, in prompt and decoding; order matters."""
    ids = prompt(engine, 60)
    windows = mixed(engine, 12)
    for warm in (False, True):
        worst, generation = whole_vocabulary_difference(engine, ids, windows)
        assert worst < TOLERANCE
        assert (generation.reused_tokens == len(ids) - 1) == warm
    reference = reference_logprobs(engine.model.hf, ids, windows)[-1]
    for other in (windows[::-1], [w for w in windows if w.operation == "add"], windows[1:]):
        difference = float((reference_logprobs(engine.model.hf, ids, other)[-1] - reference).abs().max())
        assert difference > 30 * TOLERANCE
        assert whole_vocabulary_difference(engine, ids, other, tokens=1)[0] < TOLERANCE, "keys tell orders apart"


def test_receipts_of_operations_say_target_and_projections(engine):
    """A clamp holds its target at every position, a gain multiplies; at strength zero nothing is touched, by the same way."""
    ids = prompt(engine, 40)
    alone = [
        window(engine, MIDDLE, 5, 18, 1.0, operation="clamp", target=7.0),
        window(engine, MIDDLE, 18, 30, 1.0, seed=5, operation="gain"),
    ]
    generation = generate(engine, ids, alone, tokens=1)
    clamp, gain = generation.receipts
    layer = MIDDLE.index(clamp.monitor_layer)
    assert (clamp.operation, clamp.target) == ("clamp", alone[0].targets[layer])
    assert (gain.operation, gain.target) == ("gain", None)
    assert torch.allclose(torch.from_numpy(generation.traces[0][1]), torch.tensor(clamp.target), atol=1e-4)
    for receipt in (clamp, gain):
        assert receipt.projection_after == pytest.approx(receipt.projection_before + receipt.expected_shift, abs=1e-3)
    assert gain.projection_after == pytest.approx(2 * gain.projection_before, abs=1e-3)
    added = generate(engine, ids, [window(engine, MIDDLE, 5, 30, 1.0)], tokens=1).receipts[0]
    assert {"operation", "target"}.isdisjoint(added.model_dump()), "logs of additions stay as they were"

    ablated = window(engine, MIDDLE, 5, None, 0.0, operation="ablate", target=1.0)
    nothing = [replace(w, strength=0.0) for w in (*alone, ablated)]
    read = [
        engine.submit(
            EngineRequest(tuple(ids), Sampling(max_tokens=1), tuple(of_row), readout={"one": (300,)}, canonical=True)
        ).result(timeout=120)
        for of_row in ([], nothing)
    ]
    assert read[0].readout == read[1].readout, "to the bit"
    assert all(r.steered == r.planned > 0 and r.projection_before == r.projection_after for r in read[1].receipts)


def test_a_readout_from_cached_chunks_agrees_with_hooks(engine):
    """A canonical read-out is right cold, warm to the last token, and where only its first chunks are warm."""
    ids, cuts = prompt(engine, MAX_CHUNK + 60), (40, 90, MAX_CHUNK + 30)
    windows = (window(engine, MIDDLE, 60, MAX_CHUNK + 20, 1.0), window(engine, ALL, 120, 200, -0.5, seed=2))
    sets = {str(token): (token,) for token in range(0, engine.model.vocabulary, 499)}
    sampling = Sampling(max_tokens=1, temperature=0.0)
    longer = (*ids, *prompt(engine, 20, seed=5))
    reused = []
    for tokens in (ids, ids, longer):
        made = EngineRequest(tokens, sampling, windows, (*cuts, len(ids)), sets, canonical=True)
        generation = engine.submit(made).result(timeout=120)
        reference = reference_logprobs(engine.model.hf, tokens, windows)[-1]
        assert max(abs(value - float(reference[int(name)])) for name, value in generation.readout.items()) < TOLERANCE
        reused.append(generation.reused_tokens)
    assert reused == [0, len(ids), len(ids)]


def test_a_readout_sums_the_probabilities_of_its_tokens(engine):
    """A set's read-out is the log of the hooks' total probability over all its tokens."""
    ids, group = prompt(engine, 30), tuple(range(100, 4000))
    windows = (window(engine, MIDDLE, 5, None, 1.0),)
    made = EngineRequest(ids, Sampling(max_tokens=1), windows, readout={"group": group}, canonical=True)
    generation = engine.submit(made).result(timeout=120)
    expected = float(reference_logprobs(engine.model.hf, ids, windows)[-1, list(group)].exp().sum())
    assert math.exp(generation.readout["group"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_eager_attention_agrees_with_hooks_too(architecture, tokenizer):
    """Models that only have eager attention, whose masks are added and not booleans, see no future and no far past."""
    model = tiny_model(architecture, len(tokenizer))
    model.set_attn_implementation("eager")
    engine = make_engine(model, tokenizer)
    worst, _ = whole_vocabulary_difference(engine, prompt(engine, 45), [window(engine, MIDDLE, 10, None, 1.0)])
    engine.close()
    assert worst < TOLERANCE


def test_attention_whose_masks_are_unknown_is_refused(tokenizer):
    """An attention implementation that takes masks of another kind is an error that names the valid ones."""
    model = tiny_model("llama", len(tokenizer))
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match=r"flex_attention.*eager, sdpa"):
        SteeredModel(model, tokenizer)


def test_shipped_vectors_on_the_bundled_model_agree_with_hooks(bundled_model: Model):
    """Two library vectors and a random one, stacked, one inverted, over a long cut prompt and on into decoding."""
    provider = bundled_model.api
    library = load_library(find_library(provider.loaded.fingerprint), provider.loaded.fingerprint)
    calm, anxious, noise = (
        resolve_direction(library, name, seed) for name, seed in (("calm", None), ("anxious", None), ("calm", 3))
    )
    ids = prompt(provider.engine, MAX_CHUNK + 30)
    windows = [
        TokenWindow("calm", calm, 0.6, 50, None),
        TokenWindow("anxious", anxious, -0.6, 120, MAX_CHUNK + 10),
        TokenWindow("noise", noise, 0.6, 20, 90),
    ]
    cold, first = whole_vocabulary_difference(provider.engine, ids, windows, tokens=3, cuts=(60, 150))
    warm, second = whole_vocabulary_difference(provider.engine, ids, windows, tokens=3, cuts=(60, 150))
    assert max(cold, warm) < TOLERANCE
    assert (first.reused_tokens, second.reused_tokens) == (0, len(ids) - 1)
    assert [(r.planned, r.steered) for r in second.receipts] == [(len(ids) - 48,) * 2, (MAX_CHUNK - 110,) * 2, (70, 70)]
    plain = reference_logprobs(provider.engine.model.hf, ids, [])[-1]
    steered = reference_logprobs(provider.engine.model.hf, ids, windows)[-1]
    assert float((plain - steered).abs().max()) > 100 * TOLERANCE
