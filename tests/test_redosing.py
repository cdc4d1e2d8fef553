"""Redose rates, redose doses, the trip sitter's rollouts, and their figure."""

import pandas as pd
import pytest

from self_steering.analysis.freeplay.course import course, course_of_free_play
from self_steering.analysis.freeplay.redosing import (
    AFTER_SITTER,
    AGAIN,
    ASKED,
    CHANGE,
    EARLY,
    EFFECTIVE,
    EVERY,
    FIRST,
    LATE,
    NOMINAL,
    OF_VECTOR,
    RATE,
    REDOSERS,
    REPEATS,
    TOUCHED,
    UNTOUCHED,
    redosing,
)
from self_steering.analysis.freeplay.redosing_figures import redosing_in_free_play
from self_steering.analysis.tables import empty_tables
from tests.support.drawn_figures import bars, check, draw, tick_labels
from tests.support.hand_made_freeplay import failed, only, outside, rollout, tables, take
from tests.support.shared import published_freeplay, published_only
from tests.support.simulated_tables import simulated_freeplay

pytestmark = pytest.mark.slow


def pooled(found, measure, rollouts=EVERY, **values):
    """The row of a measure that is no difference, framings pooled."""
    return only(found, framing="all", against="", measure=measure, rollouts=rollouts, **values)


# ---------------------------------------------------------------- what is counted


def test_the_redose_rate_is_the_share_of_taken_vectors_that_the_same_rollout_takes_again():
    """Once or more often makes no difference to it, and another rollout's take is no redose."""
    found = redosing(tables(rollout("calm", "proud", "calm", "calm"), rollout("calm", "amused"), rollout()))
    rate, repeats, redosers = (pooled(found, measure) for measure in (RATE, REPEATS, REDOSERS))
    assert (rate["value"], rate["n"], rate["clusters"]) == (1 / 4, 4, 2)
    assert (repeats["value"], repeats["n"]) == (2 / 6, 6)
    assert (redosers["value"], redosers["n"], redosers["method"]) == (1 / 3, 3, "Wilson")


def test_repeats_are_told_apart_by_the_half_of_the_rollout_that_they_stand_in():
    """The take in the middle is early; a failed call has no place in it."""
    found = redosing(tables(rollout("calm", "calm", failed("calm"), "proud", "calm", "proud"), rollout("amused")))
    early, late = pooled(found, EARLY), pooled(found, LATE)
    assert (early["value"], early["n"]) == (1 / 4, 4)
    assert (late["value"], late["n"], late["clusters"]) == (1.0, 2, 1)


def test_going_back_to_what_was_liked_is_found_beside_placebo_under_labels_that_tell_nothing():
    """The report says it of opaque labels, which are a group of their own."""
    liked = [rollout("calm", "proud", "calm", "calm", labels="opaque") for _ in range(8)]
    alike = [rollout("calm", "proud", "amused", "guilty", labels="opaque", arm="placebo") for _ in range(8)]
    made = tables(*liked, *alike, rollout("calm", "proud"))
    row = only(redosing(made), measure=LATE, against="placebo", rollouts=EVERY)
    assert (row["labels"], row["value"], row["low"] > 0.5, row["p"] < 0.01) == ("opaque", 1.0, True, True)
    assert set(redosing(made)["labels"]) == {"opaque", ""}
    assert "under opaque labels" in redosing_in_free_play(made).finding
    assert "opaque" not in redosing_in_free_play(tables(rollout("calm", "calm"))).finding


def test_only_calls_that_succeeded_are_taken():
    """Failed and scripted calls and names outside the library redose nothing; the rate with failed calls has its own row."""
    found = redosing(
        tables(
            rollout("calm", failed("calm")),
            rollout(take("calm", scripted=True), "calm"),
            rollout(outside("calmness"), outside("calmness"), "proud"),
        )
    )
    assert pooled(found, RATE)["value"] == 0
    assert pooled(found, RATE)["n"] == 3
    # calm asked for twice in the first, calmness twice in the third.
    assert pooled(found, ASKED)["value"] == 2 / 4


def test_rollouts_that_the_trip_sitter_touched_are_left_out_of_the_second_reading():
    """Those where it did not run stay; how many of the repeats came after it is told."""
    found = redosing(
        tables(
            rollout("calm", "calm", take("calm", after_sitter=True), sitter_clears=1),
            rollout("calm", "proud", sitter_clears=0),
            rollout("calm", "calm", sitter_clears=float("nan")),
        )
    )
    assert pooled(found, RATE)["value"] == 2 / 4
    assert (pooled(found, RATE, UNTOUCHED)["value"], pooled(found, RATE, UNTOUCHED)["n"]) == (1 / 3, 3)
    assert pooled(found, REDOSERS, UNTOUCHED)["n"] == 2
    assert pooled(found, AFTER_SITTER)["value"] == 1 / 3


def test_doses_of_redoses_are_against_the_take_of_the_same_vector_before():
    """First takes, repeats and changes, each in nominal dose and in what was really added."""
    found = redosing(
        tables(
            rollout(take("calm", 1.0), take("proud", 3.0, strength=9.0), take("calm", 1.5), take("calm", 2.5)),
            rollout(take("calm", 2.0), take("calm", float("nan"), strength=float("nan"))),
        )
    )
    nominal = {measure: pooled(found, measure, scale=NOMINAL) for measure in (FIRST, AGAIN, CHANGE)}
    effective = {measure: pooled(found, measure, scale=EFFECTIVE) for measure in (FIRST, AGAIN, CHANGE)}
    assert {measure: (row["value"], row["n"]) for measure, row in nominal.items()} == {
        FIRST: (2.0, 3),
        AGAIN: (2.0, 2),
        CHANGE: (0.75, 2),
    }
    assert {measure: row["value"] for measure, row in effective.items()} == {
        FIRST: pytest.approx((0.5 + 9 + 1) / 3),
        AGAIN: 1.0,
        CHANGE: 0.375,
    }


def test_logs_without_free_play_or_without_takes_have_no_rate_and_no_figure():
    """Nothing is made up."""
    assert redosing(empty_tables()).empty
    assert draw(redosing_in_free_play, empty_tables()) is None
    untaken = redosing(tables(rollout(), rollout(outside("calmness"))))
    assert RATE not in set(untaken["measure"])
    assert pooled(untaken, REDOSERS)["value"] == 0
    assert draw(redosing_in_free_play, tables(rollout())) is None


# ---------------------------------------------------------------- known truth


def test_simulated_redosing_is_found_with_its_difference_from_placebo():
    """25 % against 5 % is inside the intervals, and shuffling arms over rollouts tells it from chance."""
    found = redosing(simulated_freeplay(redosing={"real": 0.25, "placebo": 0.05}, redose_dose=1.5, seed=4))
    for arm, truth in (("real", 0.25), ("placebo", 0.05)):
        row = pooled(found, RATE, arm=arm)
        assert row["low"] <= truth <= row["high"]
        assert pooled(found, CHANGE, arm=arm, scale=NOMINAL)["value"] == pytest.approx(0.5)
    difference = only(found, against="placebo", rollouts=EVERY)
    assert difference["low"] <= 0.20 <= difference["high"]
    assert difference["value"] == pytest.approx(
        pooled(found, RATE, arm="real")["value"] - pooled(found, RATE, arm="placebo")["value"]
    )
    assert difference["p"] < 0.01
    assert difference["test"] == "permutation over 120 rollouts within framing"
    # Placebo adds nothing, whatever dose is named.
    assert pooled(found, AGAIN, arm="placebo", scale=EFFECTIVE)["value"] == 0


# ---------------------------------------------------------------- the figure


def test_the_figure_shows_the_tables_rates_from_zero_and_the_changes_of_dose():
    """Bars are the pooled rates, of all rollouts; every word can be read."""
    made = simulated_freeplay(
        models=("org/a-model-with-a-name-that-never-seems-to-end", "small"), rollouts=4, sitter=0.3, seed=5
    )
    figure = draw(redosing_in_free_play, made)
    check(figure)
    pd.testing.assert_frame_equal(figure.table, redosing(made))
    rates, doses, *_ = figure.pictures
    shown = figure.table[(figure.table["framing"] == "all") & (figure.table["against"] == "")]
    shown = shown[(shown["rollouts"] == EVERY) & shown["measure"].isin([RATE, REDOSERS])]
    assert sorted(bar.get_width() for bar in bars(rates.figure)) == pytest.approx(sorted(shown["value"]))
    assert all(bar.get_x() == 0 for bar in bars(rates.figure))
    assert all(axes.get_xlim()[0] == 0 for axes in rates.figure.axes)
    assert {"small\nreal", "small\nplacebo"} <= set(tick_labels(rates.figure, "y"))
    assert [axes.get_title("left") for axes in doses.figure.axes] == [NOMINAL, EFFECTIVE]
    for value in shown[shown["model"] == "small"]["value"]:
        assert f"{100 * value:.1f}%" in rates.label
    assert "without the rollouts that the trip sitter touched" in figure.finding


@published_only
def test_the_published_placebo_log_redoses_as_its_calls_do():
    """Counted by hand from the study's log: 226 vectors taken, 5 of them again."""
    made = published_freeplay()
    found = redosing(made)
    assert pooled(found, RATE)["value"] == pytest.approx(5 / 226)
    assert pooled(found, ASKED)["value"] == pytest.approx(5 / 236)
    assert pooled(found, REDOSERS)["value"] == pytest.approx(4 / 60)
    check(draw(redosing_in_free_play, made))


def test_every_vector_has_a_redose_rate_and_the_sitters_rollouts_one_of_their_own():
    """Of the rollouts that took it; those that the trip sitter touched are a choice of rollouts by themselves."""
    made = tables(
        rollout("calm", "calm", "proud", sitter_clears=1), rollout("calm", sitter_clears=0), rollout("proud", "proud")
    )
    found = redosing(made)
    rates = found[(found["measure"] == OF_VECTOR) & (found["rollouts"] == EVERY)].set_index("vector")
    assert rates["value"].to_dict() == {"calm": 1 / 2, "proud": 1 / 2}
    assert rates["n"].to_dict() == {"calm": 2, "proud": 2}
    assert pooled(found, RATE, TOUCHED)["value"] == 1 / 2


def test_takes_stand_in_their_turn_with_the_dose_taken_so_far():
    """By category; the dose is that of all takes up to the turn, over the rollouts that last so long."""
    made = tables(
        rollout(take("calm", 1.0, turn=1), take("lsd", -2.0, turn=3), turns=5),
        rollout(take("calm", 3.0, turn=1), failed("proud") | {"turn": 2}, turns=2),
    )
    found = course(made)
    taken = found[found["category"] != ""].set_index(["turn", "category"])["share"].to_dict()
    assert taken == {(1, "emotion"): pytest.approx(2 / 3), (3, "recreational"): pytest.approx(1 / 3)}
    so_far = found[found["category"] == ""].set_index("turn")["cumulative_dose"].to_dict()
    assert so_far == {0: 0.0, 1: 2.0}  # from turn 2 on there is one rollout, which says nothing of others
    figure = draw(course_of_free_play, made)
    check(figure)
    assert "half of 3 takes are made by turn 1, most of them emotion" in figure.finding


def test_a_panel_or_row_in_which_nothing_is_drawn_says_why():
    """One rollout has no mean dose; a redose whose dose is not known has none to show beside another model's."""
    unknown = [take("calm", float("nan"), turn=0), take("calm", float("nan"), turn=1)]
    known = [take("calm", 1.0, turn=0), take("calm", 2.0, turn=1)]
    (picture,) = draw(course_of_free_play, tables(rollout(*known, turns=2))).pictures
    takes, dose = picture.figure.axes
    assert takes.patches
    assert not any(len(line.get_xdata()) for line in dose.lines)
    assert dose.texts
    made = tables(rollout(*known), rollout(*unknown, model="large"))
    doses = draw(redosing_in_free_play, made).pictures[1].figure
    for axes in doses.axes:
        drawn = {round(y) for line in axes.lines if line.get_marker() != "None" for y in line.get_ydata()}
        said = {round(note.xy[1]) for note in axes.texts if note.get_text()}
        assert drawn | said == {0, 1}
        assert len(drawn) == len(said) == 1
