"""The introspection score of hand-made readings: shares, gaps, receipts, and what is left unscored."""

import asyncio
import math

import pytest
from inspect_ai.model import ModelName
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import mean_shares
from self_steering.scorers.introspection import introspection_scorer, reading_gaps, receipt_faults
from self_steering.solvers.introspection import IntrospectionState, Trial
from self_steering.solvers.readings import Cost, Reading


def receipt(**changes) -> dict:
    clean = {"planned": 5, "steered": 5, "strength": 0.9, "projection_before": 2.0, "projection_after": 5.0}
    return {**clean, "expected_shift": 3.0, **changes}


def reading(
    name: str,
    logprobs: dict[str, float],
    shift: int = 0,
    receipts: list[dict] | None = None,
    *,
    windows: int | None = None,
    direction: int | None = None,
) -> Reading:
    """Return a reading with a clean receipt, if it is a cached one, or with other receipts than planned."""
    planned = int(name == "cached") if windows is None else windows
    return Reading(
        name=name,
        shift=shift,
        direction=direction,
        logprobs=logprobs,
        strengths=[0.9] * planned,
        receipts=[receipt()] * planned if receipts is None else receipts,
        cost=Cost(computed_tokens=1, prompt_tokens=3),
    )


def lettered(weights: list[float], names: list[str], shift: int, known: dict[str, float] | None = None) -> dict:
    """Return log-probabilities of a model that likes letters by `weights`, and options by `known`."""
    order = names[shift:] + names[:shift]
    total = {name: weight * (known or {}).get(name, 1) for name, weight in zip(order, weights, strict=True)}
    return {name: math.log(value / sum(total.values()) / 2) for name, value in total.items()}


NAMES = ["calm", "proud", "soma"]
LETTER_BIAS = [50.0, 5.0, 1.0]


def test_a_liking_for_a_letter_is_no_recognition():
    """Over all rotations every option has exactly its chance share, however strong the bias, so the gap is zero."""
    shares = mean_shares([reading("cached", lettered(LETTER_BIAS, NAMES, s), s) for s in range(3)])
    assert shares == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


def test_recognition_shows_through_a_liking_for_letters():
    """An option that gains weight gains share, on top of the bias."""
    known = {"proud": 4.0}
    shares = mean_shares([reading("cached", lettered(LETTER_BIAS, NAMES, s, known), s) for s in range(3)])
    assert shares["proud"] > 1 / 3 > max(shares["calm"], shares["soma"])
    assert sum(shares.values()) == pytest.approx(1)


def test_shares_of_tiny_probabilities_do_not_vanish():
    """Letters that the model all but rules out still have shares that sum to one."""
    shares = mean_shares([reading("cached", {"calm": -2000.0, "proud": -2000.0 + math.log(3)})])
    assert shares == pytest.approx({"calm": 0.25, "proud": 0.75})


def test_rotations_count_alike_whatever_mass_the_letters_had():
    """A rotation in which letters had little mass weighs as much as another."""
    strong = reading("cached", {"calm": math.log(0.9), "proud": math.log(0.1)})
    weak = reading("cached", {"calm": math.log(1e-9), "proud": math.log(9e-9)}, 1)
    assert mean_shares([strong, weak]) == pytest.approx({"calm": 0.5, "proud": 0.5})


EVEN = {"calm": -1.0, "proud": -1.0}


def test_clean_receipts_have_no_faults():
    """Also with a negative strength, and with none in the placebo arm."""
    assert receipt_faults([reading("cached", EVEN), reading("uncached", EVEN)], 0.9) == []
    inverted = receipt(strength=-0.9, projection_after=-1.0, expected_shift=-3.0)
    assert receipt_faults([reading("cached", EVEN, receipts=[inverted])], -0.9) == []
    placebo = receipt(strength=0.0, projection_after=2.0, expected_shift=0.0)
    assert receipt_faults([reading("cached", EVEN, receipts=[placebo])], 0.0) == []


@pytest.mark.parametrize(
    ("receipts", "fault"),
    [
        ([], "1 windows planned, 0 realised, expected 1"),
        ([receipt(), receipt()], "1 windows planned, 2 realised, expected 1"),
        ([receipt(steered=4)], "window 0: 5 positions planned, 4 steered"),
        (
            [receipt(planned=0, steered=0, projection_before=None, projection_after=None)],
            "window 0: 0 positions planned, 0 st",
        ),
        ([receipt(strength=0.8)], "window 0: strength 0.8, expected 0.9"),
        ([receipt(strength=0.0)], "window 0: strength 0.0, expected 0.9"),
        ([receipt(strength=math.nan)], "window 0: strength nan, expected 0.9"),
        ([receipt(projection_after=5.1)], "window 0: projection moved by 3.1000, expected 3.0000"),
        ([receipt(projection_after=2.0)], "window 0: projection moved by 0.0000, expected 3.0000"),
        ([receipt(projection_after=-1.0)], "window 0: projection moved by -3.0000, expected 3.0000"),
        ([receipt(projection_after=math.nan)], "window 0: projection moved by nan, expected 3.0000"),
    ],
)
def test_a_sabotaged_receipt_is_reported(receipts: list[dict], fault: str):
    """Whatever the engine did otherwise than planned is put into words, with the reading and the rotation."""
    (found,) = receipt_faults([reading("cached", EVEN, 3, receipts), reading("uncached", EVEN)], 0.9)
    assert found.removeprefix("cached reading, rotation 3")[2:].startswith(fault)


def test_a_window_in_an_uncached_reading_is_reported():
    """The uncached reading must have none, planned or realised."""
    for planned, realised in ((0, 1), (1, 0), (1, 1)):
        found = reading("uncached", EVEN, 1, [receipt()] * realised, windows=planned)
        assert receipt_faults([found], 0.9) == [
            f"uncached reading, rotation 1: {planned} windows planned, {realised} realised, expected none"
        ]


def test_a_cached_reading_without_a_window_is_reported():
    """Nothing planned and nothing done is not clean where something had to be applied."""
    (fault,) = receipt_faults([reading("cached", EVEN, windows=0)], 0.9)
    assert fault == "cached reading, rotation 0: 0 windows planned, 0 realised, expected 1"


def test_a_fault_of_a_random_direction_says_which():
    """Several windows are each checked, and the direction is named."""
    found = reading("cached", EVEN, 2, [receipt(), receipt(steered=4)], windows=2, direction=5)
    assert receipt_faults([found], 0.9) == [
        "cached reading, rotation 2, random direction 5, window 1: 5 positions planned, 4 steered"
    ]


def test_a_gap_is_taken_against_the_uncached_reading_of_the_same_rotation():
    """Several cached readings of one rotation share its uncached one, and other rotations' do not matter."""
    cached = [
        reading("cached", {"calm": math.log(p), "proud": math.log(1 - p)}, s) for p, s in ((0.9, 0), (0.6, 1), (0.7, 0))
    ]
    uncached = [
        reading("uncached", {"calm": math.log(p), "proud": math.log(1 - p)}, s) for p, s in ((0.2, 1), (0.5, 0))
    ]
    gaps = reading_gaps(cached, uncached)
    assert [gap["calm"] for gap in gaps] == pytest.approx([0.4, 0.4, 0.2])
    assert [gap["proud"] for gap in gaps] == pytest.approx([-0.4, -0.4, -0.2])


def trial_state(readings: list[Reading] | None, options: tuple[str, ...] = ("calm", "proud")) -> TaskState:
    """Return the state that a solver leaves with `readings`, None for one that left nothing at all."""
    trial = Trial(
        vector="calm", arm="real", applied="calm", options=list(options), dose=1.5, primer="none", framing="aids"
    )
    state = TaskState(
        model=ModelName("mockllm/model"), sample_id=1, epoch=1, input="i", messages=[], metadata=trial.model_dump()
    )
    if readings is not None:
        result = IntrospectionState(store=state.store)
        result.readings, result.strength = readings, 0.9
    return state


@pytest.mark.parametrize("readings", [None, []])
def test_a_sample_without_readings_is_unscored(readings: list[Reading] | None):
    """No read-out is no wrong answer: the score is missing, with its reason."""
    score = asyncio.run(introspection_scorer()(trial_state(readings), Target("calm")))
    assert math.isnan(score.value)
    assert score.reason == "no_response"


def test_a_score_with_a_faulty_receipt_says_so():
    """The number is kept, `clean_receipt` is 0, and the explanation names the fault."""
    readings = [reading("cached", EVEN, receipts=[receipt(steered=4)]), reading("uncached", EVEN)]
    score = asyncio.run(introspection_scorer()(trial_state(readings), Target("calm")))
    assert score.value["clean_receipt"] == 0
    assert score.value["cached"] == 0.5
    assert "5 positions planned, 4 steered" in score.explanation


def score_of(options: tuple[str, ...], cached: list[float], uncached: list[float]):
    """Return the score of one cached and one uncached reading, given the options' shares."""
    readings = [
        reading(name, dict(zip(options, map(math.log, shares), strict=True)))
        for name, shares in (("cached", cached), ("uncached", uncached))
    ]
    return asyncio.run(introspection_scorer()(trial_state(readings, options), Target("calm")))


def test_preferences_over_near_and_far_distractors_are_told_apart():
    """Proud is an emotion as calm is, soma is none: each gap is that of calm's share among the two."""
    value = score_of(("calm", "proud", "soma"), [0.4, 0.1, 0.5], [0.2, 0.6, 0.2]).value
    assert value["gap_near"] == pytest.approx(4 / 5 - 1 / 4)
    assert value["gap_far"] == pytest.approx(4 / 9 - 1 / 2)


def test_a_score_that_the_options_do_not_allow_is_no_number():
    """It is neither zero nor left out, so that Inspect counts it as unscored."""
    value = score_of(("calm", "proud"), [0.4, 0.6], [0.5, 0.5]).value
    assert math.isnan(value["gap_far"])
    assert math.isnan(value["none_gap"])


def test_that_nothing_was_given_is_neither_near_nor_far():
    """The option has a gap of its own, and no part in the distractors'."""
    value = score_of(("calm", "none", "proud"), [0.2, 0.7, 0.1], [0.2, 0.6, 0.2]).value
    assert value["none_gap"] == pytest.approx(0.1)
    assert value["gap_near"] == pytest.approx(2 / 3 - 1 / 2)
    assert math.isnan(value["gap_far"])


def test_the_answer_is_the_option_with_the_largest_share_whatever_gained_most():
    """Top-1 is of the cached reading; its fellow is of the uncached one."""
    score = score_of(("calm", "proud"), [0.6, 0.4], [0.1, 0.9])
    assert score.answer == "calm"
    assert (score.value["top1_cached"], score.value["top1_uncached"]) == (1, 0)


def test_costs_are_summed_over_all_readings():
    """What was computed, and what computing every reading alone would take."""
    value = score_of(("calm", "proud"), [0.5, 0.5], [0.5, 0.5]).value
    assert (value["computed_tokens"], value["prompt_tokens"]) == (2, 6)
