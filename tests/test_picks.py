"""What counts as a pick, picks by model and arm, their tests against placebo, and their figure."""

import numpy as np
import pandas as pd
import pytest

from self_steering.analysis.freeplay.picks import AGREEMENT, DISTANCE, calls, outside_library, pick_tests, picks
from self_steering.analysis.freeplay.picks_figures import MOST, calls_by_framing, most_picked_vectors
from self_steering.analysis.statistics.estimates import StatisticsError
from self_steering.analysis.statistics.resampling import ratio_difference, ratios, shares
from tests.support.drawn_figures import bars, check, draw, tick_labels
from tests.support.hand_made_freeplay import failed, only, outside, rollout, tables, take
from tests.support.shared import published_freeplay, published_only
from tests.support.simulated_tables import simulated_freeplay

LIKED = {"creative": 60.0, "focused": 30.0, "curious": 15.0}

# ---------------------------------------------------------------- what is counted


def test_every_call_of_the_models_own_for_a_vector_of_the_library_is_a_pick():
    """Failed calls count and are told; the task's own calls and names outside the library do not."""
    made = tables(
        rollout("calm", "calm", failed("calm"), outside("calmness"), take("focused", scripted=True)),
        rollout("proud", outside("calmness")),
        rollout(),
    )
    found = picks(made)
    calm, proud = (only(found, framing="all", vector=name) for name in ("calm", "proud"))
    assert set(found["vector"]) == {"calm", "proud"}
    assert (calm["picks"], calm["failed"], calm["rollouts_picking"]) == (3, 1, 1)
    assert (calm["n"], calm["clusters"], calm["rollouts"]) == (4, 2, 3)
    assert (calm["share"], proud["share"]) == (0.75, 0.25)
    assert (calm["category"], calm["valence"]) == ("emotion", 1)
    assert outside_library(made) == 2


def test_picks_are_given_for_framings_together_and_apart_but_never_over_models_arms_or_sources():
    """Every cell's picks are its own."""
    found = picks(
        tables(
            rollout("calm", "calm"),
            rollout("proud", framing="aids"),
            rollout("calm", arm="placebo"),
            rollout("proud", model="large"),
            rollout("proud", source="study"),
            rollout("proud", visibility="private"),
        )
    )
    cells = found[["source", "model", "visibility", "arm"]].drop_duplicates()
    of_real = found[(found["model"] == "small") & (found["arm"] == "real") & (found["source"] == "self_steering")]
    of_real = of_real[of_real["visibility"] == ""]
    assert len(cells) == 5
    assert only(of_real, framing="all", vector="calm")["share"] == pytest.approx(2 / 3)
    assert only(of_real, framing="drugs", vector="calm")["share"] == 1
    assert only(of_real, framing="aids", vector="calm")["picks"] == 0
    # The placebo arm has a row for what the model picked in another arm only.
    assert (
        only(found, model="small", source="self_steering", arm="placebo", framing="all", vector="proud")["picks"] == 0
    )


# ---------------------------------------------------------------- intervals and tests


def test_intervals_of_shares_hold_the_true_share_when_rollouts_have_tastes_of_their_own():
    """At 95 %, over simulated runs in which a rollout redoses as its own nature has it; intervals over takes would not."""
    truth, held, naive = 0.25, 0, 0
    rng = np.random.default_rng(1)
    runs = 400
    for seed in range(runs):
        takes = 1 + rng.poisson(4, 40)
        again = rng.binomial(takes, rng.beta(0.5, 1.5, 40))
        (found,) = shares(again[:, None], takes, seed=seed, resamples=500)
        held += found.low <= truth <= found.high
        spread = 1.96 * np.sqrt(found.value * (1 - found.value) / takes.sum())
        naive += abs(found.value - truth) <= spread
    assert 0.90 <= held / runs <= 0.98
    assert naive / runs < 0.85


def test_a_difference_is_that_of_the_arms_ratios_and_shuffling_keeps_to_framings():
    """A framing that is high in both arms makes no difference between them."""
    frame = pd.DataFrame(
        {
            "rollout": range(24),
            "arm": ["real"] * 8 + ["placebo"] * 4 + ["real"] * 4 + ["placebo"] * 8,
            "framing": ["drugs"] * 12 + ["aids"] * 12,
            "numerator": [3] * 12 + [0] * 12,
            "denominator": [3] * 24,
        }
    )
    estimate, test = ratio_difference(frame, "real", "placebo")
    assert estimate.value == pytest.approx(2 / 3 - 1 / 3)
    assert (estimate.n, estimate.clusters) == (72, 24)
    assert test.p == 1
    with pytest.raises(StatisticsError, match="no rollout of arm 'random'"):
        ratio_difference(frame, "random", "placebo")


def test_a_share_that_is_zero_in_every_rollout_has_wilsons_interval_over_the_rollouts():
    """Never seen in twenty rollouts is not known to be never, however many takes they have; a mean has no interval then."""
    (share,) = shares(np.zeros((20, 1)), np.full(20, 10))
    (mean,) = ratios(np.full((20, 1), 30), np.full(20, 10))
    assert (share.value, share.low) == (0, 0)
    assert 0.1 < share.high < 0.2
    assert (mean.value, mean.low, mean.high) == (3, None, None)


def test_one_rollout_gives_no_interval_and_none_gives_no_number():
    """What cannot be told is None or NaN, never a number."""
    (one,) = shares([[1.0]], [4.0])
    (none,) = shares(np.zeros((2, 1)), np.zeros(2))
    assert (one.value, one.low, one.high) == (0.25, None, None)
    assert np.isnan(none.value)
    assert (none.n, none.clusters) == (0, 0)
    with pytest.raises(StatisticsError, match="shape"):
        ratios(np.zeros(2), np.zeros(2))
    with pytest.raises(StatisticsError, match="missing or negative"):
        ratios([[np.nan]], [1])


def test_tastes_that_steering_changes_are_told_from_those_that_it_does_not():
    """The distance from placebo is tested over whole rollouts; the correlation of equal tastes is high."""
    same = pick_tests(simulated_freeplay(preferences=LIKED, seed=1))
    changed = pick_tests(
        simulated_freeplay(preferences={"real": {"anxious": 60.0, "spice": 40.0}, "placebo": LIKED}, seed=1)
    )
    assert only(same, measure=DISTANCE)["p"] > 0.05
    assert only(changed, measure=DISTANCE)["p"] < 0.01
    assert only(changed, measure=DISTANCE)["value"] > only(same, measure=DISTANCE)["value"]
    assert only(same, measure=AGREEMENT)["value"] > only(changed, measure=AGREEMENT)["value"]
    assert only(same, measure=DISTANCE)["test"] == "permutation over 120 rollouts within framing"


def test_arms_are_compared_over_framings_that_both_have():
    """A framing of one arm only is in no test, and no framing in common is no test."""
    shared = tables(*[rollout("calm", "proud", "amused", arm=arm) for arm in ("real", "placebo") for _ in range(3)])
    more = tables(
        *[rollout("calm", "proud", "amused", arm=arm) for arm in ("real", "placebo") for _ in range(3)],
        *[rollout("anxious", framing="aids") for _ in range(5)],
    )
    apart = tables(rollout("calm"), rollout("proud", framing="aids", arm="placebo"))
    for made in (shared, more):
        assert only(pick_tests(made), measure=DISTANCE)["value"] == 0
    assert pick_tests(apart).empty


# ---------------------------------------------------------------- the figure


def test_the_picture_shows_the_tables_most_picked_vectors_from_zero():
    """Bars are the table's shares, most picked first, both arms; every word is to be read."""
    made = simulated_freeplay(
        preferences=LIKED,
        models=("org/a-model-with-a-name-that-never-seems-to-end", "small"),
        rollouts=5,
        distinct=8,
        seed=3,
    )
    figure = draw(most_picked_vectors, made)
    check(figure)
    pd.testing.assert_frame_equal(figure.table, picks(made))
    assert len(figure.pictures) == 2
    pooled = figure.table[(figure.table["framing"] == "all") & (figure.table["model"] == "small")]
    drawn = figure.pictures[[picture.label.startswith("small") for picture in figure.pictures].index(True)]
    order = tick_labels(drawn.figure, "y")
    real = pooled[pooled["arm"] == "real"].set_index("vector")["share"]
    assert order[0] == "creative"
    assert len(order) == MOST
    assert list(real[order]) == sorted(real, reverse=True)[:MOST]
    shares_drawn = sorted(bar.get_width() for bar in bars(drawn.figure))
    assert shares_drawn == pytest.approx(sorted(pooled[pooled["vector"].isin(order)]["share"]))
    assert all(bar.get_x() == 0 for bar in bars(drawn.figure))
    assert drawn.figure.axes[0].get_xlim()[0] == 0
    assert f"creative {100 * real['creative']:.1f}% real" in drawn.label


@published_only
def test_the_published_placebo_log_has_the_counts_that_its_calls_have():
    """Counted by hand from the study's log: 241 calls, 10 of them for names outside the library."""
    made = published_freeplay()
    found = picks(made)
    pooled = found[found["framing"] == "all"].sort_values("picks", ascending=False)
    assert list(pooled["vector"][:4]) == ["creative", "focused", "amused", "curious"]
    assert list(pooled["picks"][:4]) == [57, 48, 29, 22]
    assert (pooled["picks"].sum(), outside_library(made)) == (231, 10)
    check(draw(most_picked_vectors, made))


def test_calls_are_counted_by_framing_with_the_names_that_nobody_offered():
    """In every experiment: what was taken, what failed, and which unknown names were asked for, the most frequent first."""
    made = tables(
        rollout("calm", failed("calm"), outside("joy"), outside("joy"), outside("fun")),
        rollout(take("calm", scripted=True), "proud", framing="aids", family="frustration"),
    )
    found = calls(made).set_index("framing")
    assert found.loc["drugs", ["calls", "taken", "failed", "unknown name", "unknown_names"]].tolist() == [
        5,
        1,
        1,
        3,
        "joy 2, fun 1",
    ]
    assert found.loc["aids", ["family", "calls", "taken"]].tolist() == ["frustration", 1, 1]
    figure = draw(calls_by_framing, made)
    check(figure)
    assert "3 asked for a name that was not on offer, most often in free play, drugs (3 of 5)" in figure.finding
