"""Which vector the answers name, over planted answers: attractors, true effects, and neither."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from inspect_ai.scorer import SampleScore, Score

from self_steering.analysis.report.summary import identification
from self_steering.evals.introspection import make_trials
from self_steering.scorers.identification import (
    Answered,
    corrected_answers,
    identify,
)
from self_steering.vectors.catalogue import catalogue
from tests.support.summaries import flat

NAMES = ("calm", "proud", "soma", "honest", "lsd", "spice")
CHANCE = 1 / len(NAMES)


def answered(
    true: str,
    shares: Mapping[str, float],
    applied: str | None = None,
    arm: str = "real",
    base: Mapping[str, float] | None = None,
) -> Answered:
    return Answered(arm, true, applied or true, dict(shares), dict(base or shares))


def planted(
    repetitions: int,
    *,
    seed: int = 0,
    effect: float = 0.0,
    liked: Mapping[str, float] | None = None,
    noise: float = 1.0,
) -> list[Answered]:
    """Return questions over all names: log shares of chance, a liking for some options, and what the true one gains."""
    rng = np.random.default_rng(seed)
    made = []
    for true in NAMES * repetitions:
        weights = {
            name: math.exp(noise * rng.normal() + (liked or {}).get(name, 0) + effect * (name == true))
            for name in NAMES
        }
        made.append(answered(true, {name: weight / sum(weights.values()) for name, weight in weights.items()}))
    return made


def shares_of(logits: Mapping[str, float]) -> dict[str, float]:
    weights = {name: math.exp(value) for name, value in logits.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def moved(repetitions: int, effect: float, liked: Mapping[str, float] | None = None) -> list[Answered]:
    """Return questions with likings of their own, many times the effect, that are there uncached as well."""
    rng = np.random.default_rng(0)
    made = []
    for true in NAMES * repetitions:
        base = {name: 3 * rng.normal() for name in NAMES}
        gained = {name: effect * (name == true) + (liked or {}).get(name, 0) + 0.1 * rng.normal() for name in NAMES}
        cached = {name: base[name] + gained[name] for name in NAMES}
        made.append(answered(true, shares_of(cached), base=shares_of(base)))
    return made


def within(share: float, expected: float, n: int) -> bool:
    """Whether a share of n is within four standard deviations of what is expected."""
    return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_an_option_that_is_always_preferred_has_its_base_rate_raw_and_chance_corrected():
    """The attractor is right where it happens to be the true one, and corrected it is no better than any option."""
    questions = planted(100, liked={"calm": 20.0})
    found = identify(questions)
    assert found.accuracy == CHANCE
    assert {question.raw for question in questions} == {"calm"}
    assert within(found.accuracy_corrected, CHANCE, found.n)
    said = [name for name in corrected_answers(questions) if name == "calm"]
    assert within(len(said) / found.n, CHANCE, found.n)


def test_an_effect_is_found_under_an_attractor():
    """Raw, only the attractor's own questions are right; corrected, all are."""
    found = identify(planted(10, effect=3.0, liked={"calm": 20.0}, noise=0.1))
    assert found.accuracy == pytest.approx(CHANCE)
    assert (found.accuracy_corrected, found.balanced_accuracy) == (1, 1)


def test_corrected_answers_by_hand():
    """Each option is measured against its mean log share in the other questions in which another vector was applied."""
    questions = [
        answered("calm", {"calm": 0.6, "proud": 0.4}),
        answered("proud", {"calm": 0.5, "proud": 0.5}),
        answered("soma", {"calm": 0.8, "proud": 0.2}),
    ]
    # First: calm log 0.6 - (log 0.5 + log 0.8) / 2 < 0 < proud log 0.4 - log 0.2. Second: calm log 0.5 - log 0.8 < 0 <
    # proud log 0.5 - (log 0.4 + log 0.2) / 2. Third: calm log 0.8 - log 0.5 > 0 > proud log 0.2 - log 0.4.
    assert corrected_answers(questions) == ["proud", "proud", "calm"]


def test_the_trials_left_out_are_those_in_which_the_option_was_applied():
    """In the other arm that is not the option that is scored as true."""
    questions = [
        answered("calm", {"calm": 0.6, "proud": 0.4}, applied="proud"),
        answered("calm", {"calm": 0.2, "proud": 0.8}, applied="proud"),
    ]
    # Every share of proud was measured under proud: nothing to compare it with.
    assert corrected_answers(questions) == [None, None]


def test_nothing_that_cannot_be_corrected_has_a_number():
    """One vector has no trials of another one; the raw accuracy is there all the same."""
    found = identify([answered("calm", {"calm": 0.6, "proud": 0.4}), answered("calm", {"calm": 0.3, "proud": 0.7})])
    assert (found.n, found.accuracy, found.n_corrected) == (2, 0.5, 0)
    assert (found.accuracy_corrected, found.balanced_accuracy, found.information, found.information_p) == (None,) * 4


def test_balanced_accuracy_weighs_every_vector_alike():
    """However often it was asked: calm always right, proud and soma never are one third, not three fifths."""
    liked = {"calm": 0.9, "proud": 0.05, "soma": 0.05}
    questions = [answered("calm", liked)] * 3 + [answered("proud", {"calm": 0.1, "proud": 0.2, "soma": 0.7})]
    questions += [answered("soma", {"calm": 0.3, "proud": 0.6, "soma": 0.1})]
    assert corrected_answers(questions) == ["calm", "calm", "calm", "soma", "proud"]
    found = identify(questions)
    assert found.accuracy_corrected == pytest.approx(3 / 5)
    assert found.balanced_accuracy == pytest.approx(1 / 3)


# ---------------------------------------------------------------- mutual information


def guesses(seed: int, names: Sequence[str], options: int, repetitions: int, effect: float = 0.0) -> list[Answered]:
    """Return the design's own questions, answered by chance, the true option gaining `effect`."""
    rng = np.random.default_rng(seed)
    trials = make_trials(
        vectors=names, arms=["real"], names=names, n_per_vector=repetitions, primer="none", options=options, dose=1.0,
        framing="vectors", seed=seed,
    )  # fmt: skip
    made = []
    for trial, _ in trials:
        weights = {name: math.exp(rng.normal() + effect * (name == trial.vector)) for name in trial.options}
        made.append(answered(trial.vector, {n: w / sum(weights.values()) for n, w in weights.items()}))
    return made


@pytest.mark.parametrize("options", [8, 4])
def test_independent_answers_carry_no_information(options: int):
    """Also where each question shows some of the options only, which alone ties answers to what was asked."""
    names = list(catalogue())[:8]
    found = [identify(guesses(seed, names, options, 6)) for seed in range(8)]
    information = np.array([one.information for one in found])
    assert abs(information.mean()) < 0.1
    # Of 8 tests at 5 %, three or more would come once in 170 times.
    assert sum(one.information_p < 0.05 for one in found) < 3


@pytest.mark.parametrize("options", [8, 4])
def test_dependent_answers_carry_information(options: int):
    """More, the more they depend, with a small p."""
    names = list(catalogue())[:8]
    some, much = (identify(guesses(0, names, options, 6, effect)) for effect in (1.5, 6.0))
    assert 0.3 < some.information < much.information
    assert max(some.information_p, much.information_p) < 0.01


def test_information_is_in_bits_above_that_of_permuted_answers():
    """Six options that are all named right, in many questions, are log2 6 bits."""
    found = identify(planted(100, effect=50.0))
    assert found.accuracy_corrected == 1
    assert found.information == pytest.approx(math.log2(6), abs=0.04)
    assert found.information_p == pytest.approx(1 / 1001)


# ---------------------------------------------------------------- the metric


def as_score(question: Answered) -> SampleScore:
    metadata = {"arm": question.arm, "vector": question.true, "applied": question.applied}
    return SampleScore(
        score=Score(value=0.0, metadata={"shares": {"cached": dict(question.shares), "uncached": dict(question.base)}}),
        sample_metadata=metadata,
    )


def test_the_metric_measures_each_arm_on_its_own():
    """Every figure of an arm under its name, those of another arm without influence, and none that could not be had."""
    real = moved(3, effect=2.0)
    other = [answered("calm", {"calm": 0.9, "proud": 0.1}, arm="placebo")]
    result = flat(identification([as_score(question) for question in [*other, *real]]))
    expected = {f"real/{name}": value for name, value in vars(identify(real)).items()}
    counts = {"placebo/n": 1, "placebo/n_corrected": 0, "placebo/n_moved": 0, "placebo/accuracy": 1}
    assert result == pytest.approx({**expected, **counts})


def test_an_effect_far_below_what_a_question_makes_of_its_options_shows_in_their_moves():
    """Corrected answers drown in the question's own likings; its change from uncached to cached has none of them."""
    found = identify(moved(30, effect=0.5))
    assert found.accuracy_corrected < 0.5
    assert (found.n_moved, found.accuracy_moved) == (found.n, pytest.approx(1, abs=0.03))


def test_an_option_that_any_vector_moves_is_no_recognition():
    """It moves under other vectors too, and that is taken off."""
    found = identify(moved(100, effect=0, liked={"calm": 5.0}))
    assert within(found.accuracy_moved, CHANCE, found.n)


def test_where_nothing_moves_there_is_no_answer():
    """Under placebo both readings are the same, and the first option is not taken for an answer."""
    found = identify(planted(10))
    assert (found.n_moved, found.accuracy_moved) == (0, None)
