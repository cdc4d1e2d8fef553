"""Choosing the next token of one row: seeded by the row alone, blind to whoever shares the batch."""

import math
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
        min_p: Least probability of a token to draw from, as a share of the most likely one's; 0 for all.
        repetition_penalty: Divides the logits above 0 of tokens that prompt or text hold already, and multiplies those below;
            1.0 changes none. At temperature 0 too.
        seed: Seed of the row's own stream of random numbers.
        stop: Strings that end the text; they are not part of it.
        top_logprobs: How many of the most likely tokens to report at each position; None reports no logprobs at all.

    Raises:
        ValueError: A value is outside of its range; the message names both.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name, value, valid, expected in (
            ("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, 0 <= self.temperature < math.inf, "a number of at least 0"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "a number above 0, up to 1"),
            ("top_k", self.top_k, self.top_k >= 0, "at least 0"),
            ("min_p", self.min_p, 0 <= self.min_p <= 1, "a number from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty, 0 < self.repetition_penalty < math.inf, "a number above 0"),
            ("seed", self.seed, self.seed >= 0, "at least 0"),
            ("stop_seqs", list(self.stop), all(self.stop), "strings that are not empty"),
            ("top_logprobs", self.top_logprobs, (self.top_logprobs or 0) >= 0, "at least 0"),
        ):
            if not valid:
                raise ValueError(f"{name} is {value!r}; expected {expected}")


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
    logits: torch.Tensor,
    sampling: Sampling,
    rng: np.random.Generator,
    allowed: torch.Tensor | None = None,
    before: Sequence[int] = (),
) -> int:
    """Return the next token.

    Args:
        logits: Tensor [vocabulary], float32, on the CPU.
        sampling: How to choose.
        rng: The row's stream; one number a token of the vocabulary is drawn from it for each sampled token.
        allowed: Boolean [vocabulary]: the tokens that a grammar admits.
        before: The tokens of prompt and text so far.

    Raises:
        ValueError: A logit is not a number.
    """
    if logits.isnan().any():
        raise ValueError("the model's logits are not numbers; load it with dtype=float32, or use a smaller dose")
    if sampling.repetition_penalty != 1.0:
        logits = _penalised(logits, before, sampling.repetition_penalty)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits.double() / sampling.temperature
    scaled = _min_p(_top_p(_top_k(scaled, sampling.top_k), sampling.top_p), sampling.min_p)
    # Gumbel-max: the largest of logit plus noise is a draw from the softmax. Unlike a walk along cumulative sums, where any
    # rounding before a token moves its edges, it changes only where the two largest are nearly equal.
    noise = -torch.from_numpy(rng.random(len(logits))).log().neg().log()
    return int((scaled + noise).argmax())


def _penalised(logits: torch.Tensor, tokens: Sequence[int], penalty: float) -> torch.Tensor:
    """Return `logits` with those of `tokens` divided by `penalty` where they are above 0, else multiplied."""
    at = torch.tensor(sorted(set(tokens)), dtype=torch.long)
    return logits.scatter(0, at, torch.where(logits[at] < 0, logits[at] * penalty, logits[at] / penalty))


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


def _min_p(logits: torch.Tensor, share: float) -> torch.Tensor:
    """Return `logits` with all tokens masked that are less than `share` as likely as the most likely one."""
    if share == 0:
        return logits
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.max(), -torch.inf)


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
