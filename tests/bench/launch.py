"""Tokens a second where little is computed: what a step takes before any arithmetic, which on accelerators is most of it.

The models are as deep as real ones and have as many tokens, and are narrow. Tokens are drawn as each model's own settings say.
"""

from collections.abc import Mapping
from typing import NamedTuple

from self_steering.steering.engine.sampling import Sampling
from self_steering.vectors.making.layers import default_band
from tests.bench.contest import BAND, OURS, PLAIN, Contest, Speeds
from tests.support.models import bundled_tokenizer, tiny_model

WAYS = (PLAIN, OURS, BAND)
PROMPT = 16
NEW: Mapping[int, int] = {1: 16, 8: 8, 32: 8}  # by rows


class Shape(NamedTuple):
    """A family's depth, vocabulary and settings of `generate`."""

    architecture: str
    layers: int
    vocabulary: int
    sampling: Sampling


SHAPES: Mapping[str, Shape] = {
    "Qwen3, 36 layers": Shape("qwen3", 36, 151_936, Sampling(1, temperature=0.6, top_p=0.95, top_k=20)),
    "Gemma 3, 48 layers": Shape("gemma3", 48, 262_208, Sampling(1, temperature=1.0, top_p=0.95, top_k=64)),
    "Llama 3.1, 32 layers": Shape("llama", 32, 128_256, Sampling(1, temperature=0.6, top_p=0.9)),
}


def measure(shape: Shape, rounds: int, new: Mapping[int, int] = NEW) -> Speeds:
    """Measure one family in interleaved rounds after one that warms up."""
    model = tiny_model(shape.architecture, shape.vocabulary, num_hidden_layers=shape.layers)
    band = tuple(default_band(shape.layers))
    contest = Contest(model, bundled_tokenizer(), band, prompt=PROMPT, new=new, sampling=shape.sampling)
    try:
        return contest.measure(WAYS, rounds)
    finally:
        contest.close()
