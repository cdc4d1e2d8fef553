"""The comparison experiment: its design, what is steered how hard, and how the read-outs are scored."""

import asyncio
import math
from collections import Counter

import pytest
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelName
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState

from self_steering.evals.comparison import comparison, make_trials
from self_steering.scorers.comparison import comparison_scorer, comparison_value
from self_steering.solvers.comparison import (
    FIRST,
    FIRST_HARDER,
    SECOND,
    SECOND_HARDER,
    ComparisonTrial,
    comparison_questions,
    comparison_script,
)
from self_steering.solvers.readings import UNCACHED, Reading
from self_steering.solvers.segments import StretchState
from tests.support.stretches import (
    DEFAULT_DOSE,
    NAMES,
    Tiny,
    make_tiny,
    marked_text,
    pages,
    reading,
    readouts,
    receipt,
    values_of,
)

ARMS = ["real", "placebo", "random"]
WEAKER, STRONGER = 1.0, 2.0


def trials_of(**changes) -> list[ComparisonTrial]:
    arguments = {"vectors": ["calm", "lsd"], "arms": ARMS, "n_per_vector": 15, "doses": (0.5, 1.0), "seed": 0}
    return [trial for trial, _ in make_trials(**{**arguments, **changes})]


# ---------------------------------------------------------------- design


def test_no_sentence_comes_in_two_pairs():
    """Each vector and arm gets every pair once, and the same pairs as the others."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for trial in trials_of():
        pairs.setdefault((trial.vector, trial.arm), []).append(trial.sentences)
    (first, *others) = pairs.values()
    assert all(other == first for other in others)
    assert set(Counter(sentence for pair in first for sentence in pair).values()) == {1}
    assert len(first) == 15


def test_a_trial_does_not_depend_on_what_else_is_run():
    """One vector and arm alone get the trials that they get among all; another seed gives other pairs."""
    alone = trials_of(vectors=["lsd"], arms=["random"])
    assert alone == [trial for trial in trials_of() if (trial.vector, trial.arm) == ("lsd", "random")]
    assert trials_of(seed=1)[0].sentences != trials_of()[0].sentences


def test_both_sentences_stand_on_both_letters():
    """The second order swaps the options and the letters that are read, and nothing else."""
    one, other = comparison_questions()
    assert (one.answers, other.answers) == ({FIRST: ["A"], SECOND: ["B"]}, {FIRST: ["B"], SECOND: ["A"]})
    assert one.text.split("\n\n")[0] == other.text.split("\n\n")[0]
    assert [line[3:] for line in one.text.splitlines()[-2:]] == [line[3:] for line in other.text.splitlines()[:-3:-1]]


def test_what_is_read_tells_nothing_of_arm_vector_or_dose():
    """The script depends on the sentences alone."""
    scripts: dict[tuple[str, str], set[str]] = {}
    for trial in trials_of() + trials_of(doses=(1.0, 2.0)):
        text = "\n".join(message.model_dump_json(exclude={"id"}) for message in comparison_script(trial)[0])
        scripts.setdefault(trial.sentences, set()).add(text)
    assert all(len(found) == 1 for found in scripts.values())


# ---------------------------------------------------------------- scores of hand-made readings


def planted(
    harder: float = 0.0, first: float = 0.0, letter_a: float = 0.0, general: float = 0.0, mass: float = 0.6
) -> list[Reading]:
    """Return readings of a model with these likings, in log-odds.

    Args:
        harder: For the sentence that was steered harder.
        first: For the first sentence.
        letter_a: For the letter A.
        general: For the first sentence in steered readings, whichever was steered harder.
        mass: What both letters have together.
    """
    found = []
    for name in (FIRST_HARDER, SECOND_HARDER, UNCACHED):
        steered = 0.0 if name == UNCACHED else general + harder * (1 if name == FIRST_HARDER else -1)
        for letter in (letter_a, -letter_a):
            share = 1 / (1 + math.exp(-(first + letter + steered)))
            found.append(reading(name, "harder", {FIRST: math.log(mass * share), SECOND: math.log(mass * (1 - share))}))
    return found


@pytest.mark.parametrize(
    "likings", [{"first": 2.0}, {"letter_a": -3.0}, {"general": 1.5}, {"first": 1.0, "letter_a": 2.0}]
)
def test_likings_for_a_place_or_a_letter_are_no_comparison(likings: dict[str, float]):
    """They cancel in full, cached and uncached, and also where steering brings them about."""
    value = comparison_value(planted(**likings))
    assert (value["cached"], value["uncached"]) == pytest.approx((0.5, 0.5))
    assert (value["log_odds"], value["right"]) == (0, 0.5)


@pytest.mark.parametrize(("harder", "right"), [(0.3, 1), (-0.3, 0)])
def test_comparison_shows_through_likings(harder: float, right: float):
    """The log-odds come back exactly, whatever the model likes besides."""
    value = comparison_value(planted(harder, first=2.0, letter_a=1.0))
    assert value["log_odds"] == pytest.approx(harder)
    assert value["right"] == right
    assert (value["cached"] > 0.5) == (value["gap"] > 0) == bool(right)
    assert value["letter_mass"] == pytest.approx(0.6)
    assert comparison_value(planted(harder))["cached"] == pytest.approx(1 / (1 + math.exp(-harder)))


def test_a_liking_for_the_first_sentence_is_told():
    """It is what the first sentence gets whichever was steered harder."""
    assert comparison_value(planted(first=2.0))["first_share"] == pytest.approx(1 / (1 + math.exp(-2)))


def scored(readings: list[Reading]):
    trial = trials_of()[0]
    state = TaskState(
        model=ModelName("mockllm/model"), sample_id=1, epoch=1, input="i", messages=[], metadata=trial.model_dump()
    )
    StretchState(store=state.store).readings = readings
    return asyncio.run(comparison_scorer()(state, Target("x")))


def test_a_faulty_receipt_shows_in_the_score():
    """The number is kept, `clean_receipt` is 0, and the explanation names the fault and the reading."""
    readings = planted(0.3)
    faulty = {"strengths": [0.9, 0.45], "receipts": [receipt(), receipt()]}
    readings[2] = readings[2].model_copy(update=faulty)
    score = scored(readings)
    assert score.value["clean_receipt"] == 0
    assert score.answer == "right"
    assert "second harder reading, harder: window 1: strength 0.9, expected 0.45" in score.explanation


def test_a_sample_without_readings_is_unscored():
    """No read-out is no wrong answer."""
    score = scored([])
    assert math.isnan(score.value)
    assert score.reason == "no_response"


# ---------------------------------------------------------------- the real task on a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model and its library."""
    return make_tiny(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def log(tiny: Tiny) -> EvalLog:
    """Both vectors in all arms."""
    doses = {"weaker": WEAKER, "stronger": STRONGER}
    return tiny.run(comparison(vectors="all", n_per_vector=1, **doses, library=str(tiny.library)))


def test_both_assignments_are_read_and_then_none(log: EvalLog):
    """Two orders of the options each: the first sentence steered harder, then the second, then no window."""
    assert len(log.samples) == len(NAMES) * len(ARMS)
    for sample in log.samples:
        factor = 0.0 if sample.metadata["arm"] == "placebo" else DEFAULT_DOSE
        strong, weak = STRONGER * factor, WEAKER * factor
        found = readouts(sample)
        assert [strengths for _, strengths, _ in found] == [[strong, weak]] * 2 + [[weak, strong]] * 2 + [[]] * 2
        assert [text for text, _, _ in found[:2]] * 3 == [text for text, _, _ in found]
        assert values_of(sample)["clean_receipt"] == 1


def test_just_the_two_sentences_are_marked(log: EvalLog):
    """Each is one stretch of its own, and the reply between them is not steered."""
    for sample in log.samples:
        turns = [f"<|im_start|>user\n{sentence}<|im_end|>" for sentence in sample.metadata["sentences"]]
        for name in (FIRST_HARDER, SECOND_HARDER):
            assert [text.strip() for text in marked_text(pages(sample)[f"steering map, {name} reading"])] == turns
        assert marked_text(pages(sample)["steering map, uncached reading"]) == []


def test_a_placebo_tells_nothing_and_every_injection_does(log: EvalLog):
    """Strength zero gives log-odds of zero to the bit and the same shares as without windows; the others do not."""
    for sample in log.samples:
        placebo = sample.metadata["arm"] == "placebo"
        first, second, none = (readouts(sample)[start][2] for start in (0, 2, 4))
        assert (first == none, second == none) == (placebo, placebo)
        assert (values_of(sample)["log_odds"] == 0) == placebo
        assert (values_of(sample)["gap"] == 0) == placebo
        assert (values_of(sample)["right"] == 0.5) == placebo


def test_the_uncached_share_is_one_half_by_design(log: EvalLog):
    """In every sample, although the model likes one of the sentences."""
    for sample in log.samples:
        assert values_of(sample)["uncached"] == pytest.approx(0.5)
        score = sample.scores["comparison_scorer"]
        assert abs(score.metadata["shares"][UNCACHED][FIRST] - 0.5) > 1e-4


def test_scores_can_be_computed_again_from_the_events(log: EvalLog):
    """The log-odds follow from the letters that the log holds, by the sentence that each stands for."""
    for sample in log.samples:
        odds = []
        for text, _, found in readouts(sample):
            first_is_a = text.splitlines()[-2] == "A. the first sentence"
            assert set(found) == {FIRST, SECOND}
            odds.append((found[FIRST] - found[SECOND], first_is_a))
        assert [first_is_a for _, first_is_a in odds] == [True, False] * 3
        expected = sum(value for value, _ in odds[:2]) / 4 - sum(value for value, _ in odds[2:4]) / 4
        assert values_of(sample)["log_odds"] == pytest.approx(expected, abs=1e-12)
