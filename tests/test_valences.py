"""The valence of picks, its test against placebo, and its figure."""

import pandas as pd
import pytest

from self_steering.analysis.freeplay.picks import MEAN, MEAN_OF_ROLLOUTS, SHARES, uniform_valence, valences
from self_steering.analysis.freeplay.picks_figures import valence_of_picks
from self_steering.analysis.tables import empty_tables
from self_steering.vectors.catalogue import catalogue
from tests.support.drawn_figures import bars, check, draw, tick_labels
from tests.support.hand_made_freeplay import failed, only, outside, rollout, tables, take
from tests.support.shared import published_freeplay, published_only
from tests.support.simulated_tables import simulated_freeplay

NEGATIVE = {name: 12.0 for name, entry in catalogue().items() if entry.valence < 0}
POSITIVE = {name: 12.0 for name, entry in catalogue().items() if entry.valence > 0}


def pooled(found, measure, **values):
    """The row of a measure that is no difference, framings pooled."""
    return only(found, framing="all", against="", measure=measure, **values)


# ---------------------------------------------------------------- what is counted


def test_shares_and_mean_are_over_all_picks_and_the_stricter_mean_over_rollouts():
    """Calm is positive, anxious negative, defiant neutral."""
    found = valences(tables(rollout("calm", "calm", "calm", "defiant"), rollout("anxious"), rollout()))
    assert [pooled(found, SHARES[valence])["value"] for valence in (-1, 0, 1)] == [0.2, 0.2, 0.6]
    assert (pooled(found, MEAN)["value"], pooled(found, MEAN)["n"], pooled(found, MEAN)["clusters"]) == (0.4, 5, 2)
    assert pooled(found, MEAN_OF_ROLLOUTS)["value"] == pytest.approx((0.75 - 1) / 2)


def test_failed_calls_are_picks_here_too_and_what_has_no_valence_is_left_out():
    """Scripted calls, names outside the library and vectors that the catalogue does not know change nothing."""
    found = valences(
        tables(rollout("calm", failed("anxious"), outside("sadness"), "zest", take("anxious", scripted=True)))
    )
    assert (pooled(found, MEAN)["value"], pooled(found, MEAN)["n"]) == (0, 2)


def test_models_and_arms_are_told_apart_and_framings_given_too():
    """Nothing is pooled that differs, but framings, which are given apart as well."""
    found = valences(
        tables(
            rollout("calm"),
            rollout("anxious", framing="aids"),
            rollout("anxious", arm="placebo"),
            rollout("calm", model="large"),
        )
    )
    assert pooled(found, MEAN, model="small", arm="real")["value"] == 0
    assert only(found, model="small", arm="real", framing="aids", measure=MEAN)["value"] == -1
    assert pooled(found, MEAN, model="small", arm="placebo")["value"] == -1
    assert pooled(found, MEAN, model="large")["value"] == 1


def test_a_uniform_picker_has_the_catalogues_valences():
    """16 positive, 9 neutral, 15 negative of 40: mean +0.03."""
    assert uniform_valence() == {SHARES[-1]: 15 / 40, SHARES[0]: 9 / 40, SHARES[1]: 16 / 40, MEAN: pytest.approx(0.025)}


def test_without_picks_there_is_no_valence_and_no_figure():
    """Nothing is made up."""
    for made in (empty_tables(), tables(rollout()), tables(rollout("zest"))):
        assert valences(made).empty
        assert draw(valence_of_picks, made) is None


# ---------------------------------------------------------------- known truth


def test_a_uniform_pickers_mean_valence_is_found_and_equal_arms_do_not_differ():
    """Both arms pick at random: +0.03 is in the interval, and the tests find nothing."""
    found = valences(simulated_freeplay(framings=("drugs", "aids"), redosing={"real": 0.1, "placebo": 0.1}, seed=2))
    for arm in ("real", "placebo"):
        row = pooled(found, MEAN, arm=arm)
        assert row["low"] <= 0.025 <= row["high"]
    assert (found[found["against"] == "placebo"]["p"] > 0.05).all()


def test_steering_that_turns_picks_negative_is_found():
    """The mean falls, the negative share rises, and shuffled arms do so in no run of a hundred."""
    found = valences(simulated_freeplay(preferences={"real": NEGATIVE, "placebo": POSITIVE}, rollouts=30, seed=3))
    mean, share = (only(found, against="placebo", measure=measure) for measure in (MEAN, SHARES[-1]))
    assert mean["high"] < 0 < share["low"]
    assert max(mean["p"], share["p"]) < 0.01
    assert mean["value"] == pytest.approx(
        pooled(found, MEAN, arm="real")["value"] - pooled(found, MEAN, arm="placebo")["value"]
    )
    assert mean["test"] == "permutation over 60 rollouts within framing"
    assert mean["p_adjusted"] >= mean["p"]


# ---------------------------------------------------------------- the figure


def test_the_figure_stacks_the_tables_shares_to_the_whole_and_shows_the_uniform_picker():
    """Each row's parts begin where the last ended, from 0 to 1; every word can be read."""
    made = simulated_freeplay(
        models=("org/a-model-with-a-name-that-never-seems-to-end", "small"), rollouts=4, preferences=POSITIVE, seed=4
    )
    figure = draw(valence_of_picks, made)
    check(figure)
    pd.testing.assert_frame_equal(figure.table, valences(made))
    (picture,) = figure.pictures
    parts = pd.DataFrame([(bar.get_y(), bar.get_x(), bar.get_width()) for bar in bars(picture.figure)])
    table = figure.table[(figure.table["framing"] == "all") & (figure.table["against"] == "")]
    wanted = [*table[table["measure"].isin(SHARES.values())]["value"], *list(uniform_valence().values())[:3]]
    assert sorted(parts[2]) == pytest.approx(sorted(wanted))
    for _, row in parts.sort_values([1, 2]).groupby(0):
        assert row[1].iloc[0] == 0
        assert list(row[1])[1:] == pytest.approx(list(row[2].cumsum())[:-1])
        assert row[2].sum() == pytest.approx(1)
    assert picture.figure.axes[0].get_xlim() == (0, 1)
    assert picture.figure.axes[1].get_xlim() == (-1, 1)
    assert tick_labels(picture.figure, "y")[-1] == "uniform picker"
    assert "small, placebo: " in picture.label
    assert "exact permutation over 8 rollouts" in figure.finding


@published_only
def test_the_published_placebo_log_is_read():
    """Of 231 picks of the study's log, those of negative vectors were counted by hand: 18."""
    made = published_freeplay()
    assert pooled(valences(made), SHARES[-1])["value"] == pytest.approx(18 / 231)
    check(draw(valence_of_picks, made))
