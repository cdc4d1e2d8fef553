"""Choosing every row's next token at once, on the model's device: seeded by the row alone, blind to whoever shares the batch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch.nn.functional import pad, threshold
from transformers import PreTrainedTokenizerBase

# Tokens that are looked at together. Whatever is wanted of the vocabulary is first asked of its blocks, of which there are fewer.
_BLOCK = 128
_FIRST_BLOCKS = 128  # so many are summed up at first; more where one beyond them could win
_AT_ONCE = 1 << 18  # elements that fit a core's own cache
_BELOW_ONE = 1 - 2.0**-24  # the largest number in float32 that is less
_SPARE = 12  # how many tokens more than `top_k` are found, as some may be as likely as the last


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
    samplings: Sequence[Sampling],
    steps: Sequence[int],
    allowed: Mapping[int, torch.Tensor] = MappingProxyType({}),
    before: Sequence[Sequence[int]] = (),
) -> list[int | None]:
    """Return the next token of each row, None where a logit is not a number.

    Drawn is by Gumbel's trick: the largest of log-probability plus noise is a draw from the softmax. Unlike a walk along cumulative
    sums, where any rounding before a token moves its edges, that changes only where the two largest are nearly equal. Noise is
    drawn for a block of tokens by the block's mass, and then within it, so that a draw takes a thousand numbers, not one a token.

    Args:
        logits: Tensor [rows, vocabulary], float32, on the model's device.
        samplings: How each row chooses.
        steps: How many tokens each row has chosen: seed and step alone decide its noise, whoever shares the batch.
        allowed: For rows that follow a grammar, by their place, a boolean [vocabulary]: the tokens that it admits.
        before: The tokens of prompt and text so far of each row; needed where there is a repetition penalty.
    """
    logits, size = _changed(logits, samplings, allowed, before), logits.shape[1]
    if rest := -logits.shape[1] % _BLOCK:
        logits = pad(logits, (0, rest), value=-torch.inf)
    blocks = logits.reshape(len(logits), -1, _BLOCK)
    maxima = blocks.amax(-1)
    first = maxima.argmax(-1, keepdim=True)
    tokens = (first * _BLOCK + _of(blocks, first).argmax(-1))[:, 0]
    drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature]
    few = [row for row in drawn if 0 < samplings[row].top_k < size]
    most = [row for row in drawn if row not in few]
    for rows, draw in ((few, _among_few), (most, _among_all)):
        if rows:
            at = slice(None) if len(rows) == len(logits) else torch.tensor(rows, device=logits.device)
            numbers = [np.random.default_rng((samplings[row].seed, steps[row])) for row in rows]
            tokens[at] = draw(blocks[at], maxima[at], [samplings[row] for row in rows], numbers)
    return [None if token < 0 else token for token in tokens.masked_fill(maxima.amax(-1).isnan(), -1).tolist()]


def _changed(
    logits: torch.Tensor,
    samplings: Sequence[Sampling],
    allowed: Mapping[int, torch.Tensor],
    before: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Return the logits with penalties applied and tokens masked that a grammar does not admit."""
    penalised = [row for row, sampling in enumerate(samplings) if sampling.repetition_penalty != 1.0]
    if penalised or allowed:
        logits = logits.clone()
    for row in penalised:
        at = torch.tensor(sorted(set(before[row])), dtype=torch.long, device=logits.device)
        found, penalty = logits[row, at], samplings[row].repetition_penalty
        logits[row, at] = torch.where(found < 0, found * penalty, found / penalty)
    for row, mask in allowed.items():
        logits[row].masked_fill_(~mask.to(logits.device), -torch.inf)
    return logits


def _of(blocks: torch.Tensor, which: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Return some blocks of some rows [rows, some, _BLOCK]: those of the numbers `which` [rows, some]; default of all rows."""
    rows = torch.arange(len(blocks), device=blocks.device) if rows is None else rows
    at = rows[:, None] * blocks.shape[1] + which
    return blocks.flatten(0, 1).index_select(0, at.flatten()).reshape(*at.shape, _BLOCK)


def _noise(numbers: Sequence[np.random.Generator], count: int, device: torch.device) -> torch.Tensor:
    """Return Gumbel noise [rows, count], each row's from its own numbers, however many the others need."""
    drawn = torch.from_numpy(np.stack([row.random(count) for row in numbers])).to(device)
    return -drawn.log().neg().log()


def _each(samplings: Sequence[Sampling], name: str, like: torch.Tensor) -> torch.Tensor:
    """Return a setting of each row [rows, 1]."""
    return torch.tensor([[getattr(sampling, name)] for sampling in samplings], dtype=like.dtype, device=like.device)


def _among_few(
    blocks: torch.Tensor, maxima: torch.Tensor, samplings: Sequence[Sampling], numbers: Sequence[np.random.Generator]
) -> torch.Tensor:
    """Draw from the most likely tokens, as many as `top_k` says, and those that are as likely as the last of them."""
    size = maxima.shape[1] * _BLOCK
    k = torch.tensor([[sampling.top_k] for sampling in samplings], device=blocks.device)
    ids, values = _most_likely(blocks, maxima, int(k.max()) + _SPARE)
    least = values.gather(1, k - 1)
    if values.shape[1] < size and ((values[:, -1:] >= least) & (least > -torch.inf)).any():
        ids, values = _most_likely(blocks, maxima, size)  # more may be as likely as the last
    scaled = values.double() / _each(samplings, "temperature", values.double())
    scaled = scaled.masked_fill(values < least, -torch.inf)
    mass = scaled.softmax(-1)
    outside = mass.cumsum(-1) - mass >= _each(samplings, "top_p", mass)
    outside[:, 0] = False
    outside |= mass < _each(samplings, "min_p", mass) * mass[:, :1]
    place = (scaled.masked_fill(outside, -torch.inf) + _noise(numbers, scaled.shape[1], scaled.device)).argmax(-1)
    return ids.gather(1, place[:, None])[:, 0]


def _most_likely(blocks: torch.Tensor, maxima: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and logits of the most likely tokens of each row, of equal ones the first first [rows, count].

    As many blocks as tokens are wanted hold them all: those whose own most likely token is most likely.
    """
    which = maxima.topk(min(count, maxima.shape[1])).indices
    values, place = _of(blocks, which).flatten(1).topk(min(count, maxima.shape[1] * _BLOCK))
    ids, order = (which.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK).sort(-1)
    values, again = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    return ids.gather(1, again), values


def _among_all(
    blocks: torch.Tensor, maxima: torch.Tensor, samplings: Sequence[Sampling], numbers: Sequence[np.random.Generator]
) -> torch.Tensor:
    """Draw from all tokens; one that `top_p` or `min_p` leaves out is drawn again, from those before it in their order.

    Whether a token is left out is told by the mass of those before it, so nothing is sorted. What is drawn in the end has the
    distribution of the tokens that are left.
    """
    logits, heat = blocks.flatten(1), _each(samplings, "temperature", blocks)
    tokens = torch.empty((len(logits), 1), dtype=torch.long, device=logits.device)
    rows, before = list(range(len(logits))), None
    while True:
        noise = _noise([numbers[row] for row in rows], maxima.shape[1] + _BLOCK, logits.device)
        at = torch.tensor(rows, device=logits.device)
        tokens[at] = found = _drawn(blocks, at, maxima[at], heat[at], noise.float(), before)
        out = _left_out(logits, maxima, samplings, heat, rows, found)
        if not out:
            return tokens[:, 0]
        rows, before = [rows[place] for place in out], found[out]


def _drawn(
    blocks: torch.Tensor,
    rows: torch.Tensor,
    maxima: torch.Tensor,
    heat: torch.Tensor,
    noise: torch.Tensor,
    before: torch.Tensor | None,
    count: int = _FIRST_BLOCKS,
) -> torch.Tensor:
    """Return a token of each row [rows, 1], drawn from the softmax of its logits over `heat`.

    A block's mass is at most that of as many tokens as its most likely one. So only those blocks are summed up, `count` at first,
    that could still win with their noise.

    Args:
        blocks: Logits of all rows [all rows, blocks, _BLOCK].
        rows: The rows that are asked for.
        maxima: Their blocks' largest logits [rows, blocks].
        heat: Their temperatures [rows, 1].
        noise: Of blocks, and of tokens within one [rows, blocks + _BLOCK].
        before: If given, only tokens are drawn that come before these in the order of likelihood [rows, 1].
        count: How many blocks are summed up.
    """
    of_blocks, of_tokens = noise[:, :-_BLOCK], noise[:, -_BLOCK:]
    limit = None
    if before is not None:
        limit = blocks[rows, before[:, 0] // _BLOCK, before[:, 0] % _BLOCK][:, None]
        maxima = maxima.masked_fill(maxima < limit, -torch.inf)
    bound, which = (maxima / heat + math.log(_BLOCK) + of_blocks).topk(min(count + 1, maxima.shape[1]))
    which = which[:, :count]
    values = _of(blocks, which, rows)
    if before is not None and limit is not None:
        ids = which[..., None] * _BLOCK + torch.arange(_BLOCK, device=blocks.device)
        values = values.masked_fill(
            (values < limit[..., None]) | ((values == limit[..., None]) & (ids >= before[..., None])), -torch.inf
        )
    values = values / heat[..., None]
    best, place = (values.logsumexp(-1) + of_blocks.gather(1, which)).max(-1, keepdim=True)
    token = (_of(values, place)[:, 0] + of_tokens).argmax(-1, keepdim=True)
    tokens = which.gather(1, place) * _BLOCK + token
    if count < maxima.shape[1]:
        missed = (best < bound[:, -1:])[:, 0].nonzero()[:, 0]
        if len(missed):
            again = None if before is None else before[missed]
            tokens[missed] = _drawn(blocks, rows[missed], maxima[missed], heat[missed], noise[missed], again, 4 * count)
    return tokens


def _left_out(
    logits: torch.Tensor,
    maxima: torch.Tensor,
    samplings: Sequence[Sampling],
    heat: torch.Tensor,
    rows: Sequence[int],
    found: torch.Tensor,
) -> list[int]:
    """Return those of the rows, by their places in `rows`, whose tokens `found` [rows, 1] are left out by `top_p` or `min_p`."""
    if not any(samplings[row].top_p < 1 or samplings[row].min_p for row in rows):
        return []
    at = torch.tensor(rows, device=logits.device)
    own = logits[at, found[:, 0]][:, None]
    likeness = ((own - maxima[at].amax(-1, keepdim=True)) / heat[at]).exp()[:, 0].tolist()
    out = [place for place, row in enumerate(rows) if likeness[place] < samplings[row].min_p]
    asked = [place for place, row in enumerate(rows) if samplings[row].top_p < 1 and place not in out]
    of_asked = torch.tensor(asked, dtype=torch.long, device=logits.device)
    tokens, heat = found[of_asked], heat[at[of_asked]]
    top_p = torch.tensor([samplings[rows[place]].top_p for place in asked], device=logits.device)
    # On the CPU fresh memory for many rows costs more than the arithmetic does.
    size = len(rows) if logits.device.type != "cpu" else max(1, _AT_ONCE // logits.shape[1])
    for part in (slice(start, start + size) for start in range(0, len(asked), size)):
        some = [rows[place] for place in asked[part]]
        together = some[-1] - some[0] == len(some) - 1
        of_rows = logits[some[0] : some[-1] + 1] if together else logits[some]
        beyond = _share_before(of_rows, tokens[part], heat[part], top_p[part]) >= top_p[part]
        out += [place for place, is_out in zip(asked[part], beyond.tolist(), strict=True) if is_out]
    return out


def _share_before(logits: torch.Tensor, tokens: torch.Tensor, heat: torch.Tensor, enough: torch.Tensor) -> torch.Tensor:
    """Return the share of the tokens before one in the order of likelihood [rows]; what is below `enough` may be too much.

    Args:
        logits: Tensor [rows, vocabulary].
        tokens: The token [rows, 1].
        heat: The temperature [rows, 1].
        enough: What it is compared with [rows].
    """
    shares = (logits / heat).softmax(-1)
    own = shares.gather(1, tokens)
    shares.div_(own)  # the token's own is 1 now
    before = threshold(shares, _BELOW_ONE, 0.0).sum(-1) - 1  # of equal ones all
    if (before * own[:, 0] >= enough).any():
        first = (shares == 1) & (torch.arange(logits.shape[1], device=logits.device) < tokens)
        before = threshold(shares, 1.0, 0.0).sum(-1) + first.sum(-1)
    return before * own[:, 0]


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
