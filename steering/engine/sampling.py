"""Choosing the next token of one row: seeded by the row alone, blind to whoever shares the batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sampling:
    """How a row's tokens are chosen.

    Attributes:
        max_tokens: Most tokens to generate.
        temperature: 0 takes the most likely token.
        top_p: Nucleus mass, 1.0 for all.
        top_k: Number of most likely tokens to draw from, 0 for all.
        seed: Seed of the row's own stream of random numbers.
        stop: Strings that end the text; they are not part of it.
        top_logprobs: How many of the most likely tokens to report at each position; None reports no logprobs at all.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of a chosen token under the model's own distribution (temperature 1, nothing masked).

    Attributes:
        token: The token.
        logprob: Its natural log-probability over the full vocabulary.
        top: The most likely tokens with theirs, most likely first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def choose(
    logits: torch.Tensor, sampling: Sampling, rng: np.random.Generator, allowed: torch.Tensor | None = None
) -> int:
    """Return the next token.

    Args:
        logits: Tensor [vocabulary], float32, on the CPU.
        sampling: How to choose.
        rng: The row's stream; one number a token of the vocabulary is drawn from it for each sampled token.
        allowed: Boolean [vocabulary]: the tokens that a grammar admits.

    Raises:
        ValueError: A logit is not a number.
    """
    if logits.isnan().any():
        raise ValueError("the model's logits are not numbers; load it with dtype=float32, or use a smaller dose")
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits.double() / sampling.temperature
    scaled = _top_p(_top_k(scaled, sampling.top_k), sampling.top_p)
    # Gumbel-max: the largest of logit plus noise is a draw from the softmax. Unlike a walk along cumulative sums, where any
    # rounding before a token moves its edges, it changes only where the two largest are nearly equal.
    noise = -torch.from_numpy(rng.random(len(logits))).log().neg().log()
    return int((scaled + noise).argmax())


def _top_k(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Return `logits` with all but the `k` largest masked; 0 masks none."""
    if not 0 < k < len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[-1], -torch.inf)


def _top_p(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Return `logits` with all but the nucleus masked: the most likely tokens whose mass first reaches `p`."""
    if p >= 1.0:
        return logits
    ordered, tokens = logits.sort(descending=True, stable=True)
    mass = ordered.softmax(-1)
    before = mass.cumsum(-1) - mass
    outside = before >= p
    outside[0] = False
    return logits.masked_fill(torch.zeros_like(outside).scatter(0, tokens, outside), -torch.inf)


def token_logprob(logits: torch.Tensor, token: int, top: int) -> TokenLogprob:
    """Return the log-probability of `token` and of the `top` most likely ones, over the full vocabulary."""
    logprobs = logits.double().log_softmax(-1)
    best = logprobs.topk(top) if top else None
    pairs = () if best is None else tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return TokenLogprob(token, float(logprobs[token]), pairs)


def set_logprobs(logits: torch.Tensor, sets: dict[str, tuple[int, ...]]) -> dict[str, float]:
    """Return, for each named set of tokens, the log of their total probability over the full vocabulary."""
    logprobs = logits.double().log_softmax(-1)
    return {name: float(logprobs[list(tokens)].logsumexp(-1)) for name, tokens in sets.items()}


def text_until(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text of `tokens` before the first of the `stop` strings, and whether there is one."""
    text = str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    found = [position for position in map(text.find, stop) if position >= 0]
    return (text[: min(found)], True) if found else (text, False)
