"""How one row's next token is chosen, and what is reported about it."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from self_steering.steering.engine.sampling import Sampling, choose, set_logprobs, token_logprob

LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.1, 0.9, -3.0, 1.6, 0.0])
PROBABILITIES = LOGITS.double().softmax(-1)
# 99.9th percentile of chi-square with 7 degrees of freedom.
CHI_SQUARE_7 = 24.32


def draws(
    sampling: Sampling, count: int, allowed: torch.Tensor | None = None, logits: torch.Tensor = LOGITS, **more
) -> list[int]:
    """Return the tokens of as many steps of a row, all with the same logits."""
    masks = {} if allowed is None else dict.fromkeys(range(count), allowed)
    return choose(logits.expand(count, -1), [sampling] * count, range(count), masks, **more)


def test_temperature_zero_takes_the_most_likely_token():
    """Greedy choice is the argmax, of equal ones the first."""
    assert draws(Sampling(1, temperature=0), 2) == [int(LOGITS.argmax())] * 2
    logits = torch.zeros(1000)
    logits[[700, 300, 900]] = 1.0
    assert draws(Sampling(1, temperature=0), 1, logits=logits) == [300]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_frequencies_follow_the_tempered_distribution(temperature):
    """Four thousand seeded draws fit softmax(logits / temperature) by a chi-square test."""
    count = 4000
    expected = (LOGITS.double() / temperature).softmax(-1) * count
    seen = Counter(draws(Sampling(1, temperature=temperature, seed=7), count))
    statistic = sum((seen[token] - float(e)) ** 2 / float(e) for token, e in enumerate(expected))
    assert statistic < CHI_SQUARE_7


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others():
    """A row's tokens are a function of its logits and its seed."""
    assert draws(Sampling(1, seed=3), 50) == draws(Sampling(1, seed=3), 50)
    assert draws(Sampling(1, seed=3), 50) != draws(Sampling(1, seed=4), 50)


SETTINGS = [
    Sampling(1, temperature=0),
    Sampling(1, temperature=0.9),
    Sampling(1, temperature=0.6, top_p=0.95, top_k=20),
    Sampling(1, temperature=0.9, top_p=0.95),
    Sampling(1, temperature=2.0, top_p=0.2),
    Sampling(1, temperature=1.3, min_p=0.1),
    Sampling(1, temperature=0.7, top_k=300, min_p=0.02),
    Sampling(1, top_p=0.5, min_p=0.05, repetition_penalty=1.3),
]


def plainly(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return the probability of each token as it is defined: the whole vocabulary sorted, and cut in order."""
    scaled = logits.double() / sampling.temperature
    order = scaled.sort(descending=True, stable=True).indices
    kept = torch.ones(len(logits), dtype=torch.bool)
    if sampling.top_k:
        kept &= scaled >= scaled[order[min(sampling.top_k, len(logits)) - 1]]
    mass = scaled.masked_fill(~kept, -torch.inf).softmax(-1)
    before = mass[order].cumsum(-1) - mass[order]
    kept[order[1:]] &= before[1:] < sampling.top_p
    kept &= mass >= sampling.min_p * mass.max()
    return scaled.masked_fill(~kept, -torch.inf).softmax(-1)


@pytest.mark.parametrize("sampling", SETTINGS[1:7], ids=str)
@pytest.mark.parametrize(
    ("size", "spread", "dtype"),
    [(100, 1.0, torch.float32), (1000, 3.0, torch.bfloat16), (2560, 0.3, torch.float32)],
    ids=["small", "ties", "flat"],
)
def test_draws_have_the_distribution_of_a_plain_reference(
    sampling: Sampling, size: int, spread: float, dtype: torch.dtype
):
    """Nothing that it leaves out ever comes up, and the rest as often as it says, where logits are equal too."""
    logits = (spread * torch.randn(size, generator=torch.Generator().manual_seed(size))).to(dtype).float()
    expected, count = plainly(logits, sampling), 2000
    seen = torch.bincount(torch.tensor(draws(sampling, count, logits=logits)), minlength=size).double()
    assert seen[expected == 0].sum() == 0
    # In bins of some hundred draws: chi-square with so many degrees of freedom is nearly normal.
    order = expected.argsort(descending=True)
    bins = (expected[order].cumsum(-1) * 30).long().clamp(max=29)
    found, wanted = (torch.zeros(30).double().index_add(0, bins, x[order]) for x in (seen, expected * count))
    some = wanted > 5
    statistic = float(((found - wanted)[some].square() / wanted[some]).sum())
    freedom = int(some.sum()) - 1
    assert statistic < freedom + 4.5 * math.sqrt(2 * max(freedom, 1)) + 4


def test_a_row_draws_the_same_whoever_shares_the_batch():
    """Other rows' settings, masks and logits, be they no numbers, change nothing; nor does the order of the rows."""
    generator = torch.Generator().manual_seed(3)
    rows = [replace(sampling, seed=seed) for seed in range(6) for sampling in SETTINGS]
    logits = 2 * torch.randn(len(rows), 1000, generator=generator)
    steps = [row % 5 for row in range(len(rows))]
    masks = {row: torch.rand(1000, generator=generator) < 0.1 for row in range(0, len(rows), 7)}
    before = [[1, 2, 900]] * len(rows)
    spoilt = logits.clone()
    spoilt[5, 17] = torch.nan
    together = choose(spoilt, rows, steps, masks, before)
    alone = [
        choose(logits[i : i + 1], [rows[i]], [steps[i]], {0: masks[i]} if i in masks else {}, [before[i]])[0]
        for i in range(len(rows))
    ]
    assert together == [None if i == 5 else token for i, token in enumerate(alone)]
    back = choose(logits.flip(0), rows[::-1], steps[::-1], {len(rows) - 1 - i: m for i, m in masks.items()}, before)
    assert back[::-1] == alone


@pytest.mark.parametrize("sampling", [Sampling(1), *SETTINGS[1:7]], ids=str)
def test_rounding_does_not_move_a_draw(sampling: Sampling):
    """Logits that differ by what batching makes of them give the same tokens."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1000, generator=generator).expand(300, -1)
    shifted = logits + 1e-7 * torch.randn(300, 1000, generator=generator)
    ours, other = (choose(x, [sampling] * 300, range(300)) for x in (logits, shifted))
    assert sum(a != b for a, b in zip(ours, other, strict=True)) <= 1


def test_top_k_draws_from_the_k_most_likely_tokens_and_all_of_them():
    """With top_k=3 exactly the three most likely tokens ever come up."""
    assert set(draws(Sampling(1, top_k=3), 300)) == set(LOGITS.topk(3).indices.tolist())


def test_top_k_beyond_the_vocabulary_is_the_whole_vocabulary():
    """A top_k larger than the vocabulary draws the same tokens as no top_k at all."""
    assert draws(Sampling(1, top_k=100), 100) == draws(Sampling(1), 100)


def test_top_p_draws_from_the_shortest_run_whose_mass_reaches_it():
    """The token that crosses the nucleus mass belongs to the nucleus, the next one does not."""
    ordered = PROBABILITIES.sort(descending=True)
    for size in (1, 2, 4):
        short_of = float(ordered.values[:size].sum()) - 0.01
        assert set(draws(Sampling(1, top_p=short_of), 400)) == set(ordered.indices[:size].tolist())


def test_the_nucleus_is_taken_of_what_top_k_leaves():
    """With top_k=2 the nucleus is a share of the two tokens' mass, not of the whole distribution's."""
    first, second = LOGITS.topk(2).indices.tolist()
    share = float(PROBABILITIES[first] / (PROBABILITIES[first] + PROBABILITIES[second]))
    assert set(draws(Sampling(1, top_k=2, top_p=share + 0.01), 200)) == {first, second}
    assert set(draws(Sampling(1, top_k=2, top_p=share - 0.01), 200)) == {first}


@pytest.mark.parametrize("penalty", [1.5, 0.8])
def test_the_repetition_penalty_is_transformers_own(penalty: float):
    """Draws follow the distribution that transformers' processor makes of the same logits, tokens met several times once."""
    before = [1, 5, 5, 6, 2]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([before]), LOGITS[None].clone())[0]
    ours = draws(Sampling(1, repetition_penalty=penalty), 300, before=[before] * 300)
    assert ours == draws(Sampling(1), 300, logits=expected)
    greedy = Sampling(1, temperature=0, repetition_penalty=100.0)
    assert draws(greedy, 1, before=[[int(LOGITS.argmax())]]) == [int(LOGITS.topk(2).indices[1])]


@pytest.mark.parametrize("cut", [{"min_p": 0.3}, {"min_p": 0.05, "top_k": 4, "top_p": 0.9}, {"min_p": 1.0}])
def test_min_p_is_transformers_own_after_the_other_cuts(cut: dict):
    """The tokens that ever come up are those that transformers' warpers leave, in its order."""
    scores = LOGITS[None].clone()
    if "top_k" in cut:
        scores = TopPLogitsWarper(cut["top_p"])(None, TopKLogitsWarper(cut["top_k"])(None, scores))
    left = MinPLogitsWarper(cut["min_p"])(None, scores)[0]
    assert set(draws(Sampling(1, **cut), 600)) == set(left.isfinite().nonzero().flatten().tolist())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; expected at least 1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"seed": -3}, "seed is -3"),
        ({"stop": ("x", "")}, r"stop_seqs is \['x', ''\]"),
        ({"top_logprobs": -1}, "top_logprobs is -1"),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(values: dict, says: str):
    """Each by its name, with what is expected."""
    with pytest.raises(ValueError, match=says):
        Sampling(**{"max_tokens": 1, **values})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_token_that_is_not_allowed_is_never_chosen(temperature):
    """The grammar's mask rules whatever the temperature."""
    allowed = torch.zeros(len(LOGITS), dtype=torch.bool)
    allowed[[2, 5]] = True
    chosen = set(draws(Sampling(1, temperature=temperature), 300, allowed))
    assert chosen == ({2} if temperature == 0 else {2, 5})


def test_reported_logprobs_are_the_models_own_and_ordered():
    """The chosen token's log-probability is over the full vocabulary at temperature 1, whether or not it is in the top."""
    report = token_logprob(LOGITS, token=5, top=3)
    assert report.token == 5
    assert report.logprob == pytest.approx(math.log(float(PROBABILITIES[5])), abs=1e-12)
    assert [token for token, _ in report.top] == LOGITS.topk(3).indices.tolist()
    assert [value for _, value in report.top] == pytest.approx(PROBABILITIES.topk(3).values.log().tolist(), abs=1e-12)
    assert token_logprob(LOGITS, token=5, top=0).top == ()


def test_a_set_has_the_sum_of_its_tokens_probabilities():
    """Reading out disjoint sets that cover the vocabulary gives probabilities that sum to one."""
    sets = {"even": (0, 2, 4, 6), "odd": (1, 3, 5, 7)}
    found = {name: math.exp(value) for name, value in set_logprobs(LOGITS, sets).items()}
    assert found["even"] == pytest.approx(float(PROBABILITIES[[0, 2, 4, 6]].sum()), abs=1e-12)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
