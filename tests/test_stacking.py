"""Pairs of consecutive takes, their two tests, and the heat map."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from scipy.stats import binomtest

from self_steering.analysis.drawing.style import PAPER
from self_steering.analysis.freeplay.stacking import ALL_MODELS, AT_LEAST, stacking
from self_steering.analysis.freeplay.stacking_figures import LEVEL, stacking_of_vectors
from self_steering.vectors.catalogue import catalogue
from tests.support.drawn_figures import check, draw, tick_labels
from tests.support.hand_made_freeplay import failed, joined, only, outside, rollout, tables, take
from tests.support.shared import published_freeplay, published_only
from tests.support.simulated_tables import simulated_freeplay

PLAYED = {"small": ("calm", "proud", "calm"), "large": ("calm", "amused", "calm")}
LIKED = {"creative": 40.0, "focused": 30.0, "curious": 25.0, "caffeine": 10.0}


def pairs(made, **options):
    """How often each pair was seen, all of them tested."""
    found = stacking(made, at_least=1, resamples=20, **options)
    return {(row["first"], row["second"]): row["pairs"] for row in found.to_dict("records")}


# ---------------------------------------------------------------- what is a pair


def test_pairs_are_of_consecutive_takes_in_call_order_within_a_rollout():
    """A vector after itself is a pair; the last of one rollout and the first of the next are none."""
    made = tables(rollout("calm", "proud", "proud", "calm"), rollout("calm", "proud"))
    assert pairs(made) == {("calm", "proud"): 2, ("proud", "proud"): 1, ("proud", "calm"): 1}


def test_failed_calls_are_links_of_the_chain_and_names_outside_the_library_break_it():
    """The task's own calls are no takes."""
    made = tables(
        rollout("calm", failed("proud"), "amused"),
        rollout("calm", outside("pride"), "amused"),
        rollout("calm", take("proud", scripted=True), "calm"),
    )
    assert pairs(made) == {("calm", "proud"): 1, ("proud", "amused"): 1, ("calm", "calm"): 1}


def test_models_and_framings_are_pooled_and_arms_and_sources_are_not():
    """As published; the arms have their own rows."""
    found = stacking(
        tables(
            rollout("calm", "proud"),
            rollout("calm", "proud", model="large", framing="aids"),
            rollout("calm", "proud", arm="placebo"),
            rollout("calm", "proud", source="study"),
        ),
        at_least=1,
        resamples=20,
    )
    seen = Counter({(row["source"], row["arm"]): row["pairs"] for row in found.to_dict("records")})
    assert seen == {("self_steering", "real"): 2, ("self_steering", "placebo"): 1, ("study", "real"): 1}


def test_each_of_several_models_has_a_heat_map_of_its_own_too():
    """Of its own takes, tested and corrected as if the other had not been read; one model alone is not shown twice."""
    small, large = ([rollout(*names, model=model) for _ in range(4)] for model, names in PLAYED.items())
    figure = draw(stacking_of_vectors, tables(*small, *large))
    check(figure)
    assert len(figure.pictures) == 3
    own = figure.table[figure.table["model"] == "large"].drop(columns="model").reset_index(drop=True)
    alone = stacking(tables(*large)).drop(columns="model")
    pd.testing.assert_frame_equal(own, alone, check_like=True)
    assert len(draw(stacking_of_vectors, tables(*large)).pictures) == 1


def test_lift_and_binomial_test_are_as_published():
    """P(B|A) over B's share of all second places, one-sided, corrected over the pairs that were seen often enough."""
    made = tables(
        *[rollout("calm", "proud") for _ in range(4)],
        *[rollout("calm", "amused") for _ in range(3)],
        *[rollout("amused", "proud", "proud") for _ in range(2)],
    )
    found = stacking(made)
    assert {(row["first"], row["second"]) for row in found.to_dict("records")} == {
        ("calm", "proud"),
        ("calm", "amused"),
    }
    proud, amused = only(found, second="proud"), only(found, second="amused")
    assert (proud["pairs"], proud["of_first"], proud["all_pairs"]) == (4, 7, 11)
    assert proud["lift"] == pytest.approx((4 / 7) / (8 / 11))
    assert proud["p_binomial"] == pytest.approx(binomtest(4, 7, 8 / 11, alternative="greater").pvalue)
    assert amused["p_binomial"] == pytest.approx(binomtest(3, 7, 3 / 11, alternative="greater").pvalue)
    assert amused["q_binomial"] == pytest.approx(min(1, 2 * amused["p_binomial"]))
    assert list(found["lift"]) == sorted(found["lift"], reverse=True)
    assert AT_LEAST == 3


# ---------------------------------------------------------------- the order-permutation test


def test_shuffling_gives_the_number_of_pairs_that_a_rollouts_takes_explain():
    """Of three takes in random order, two of them calm, calm follows calm in 2 of 3 orders; breaks stay where they are."""
    made = tables(*[rollout("calm", "calm", "proud") for _ in range(30)])
    twice = only(stacking(made, at_least=1, seed=1, resamples=2000), first="calm", second="calm")
    assert twice["expected"] == pytest.approx(30 * 2 / 3, abs=0.3)
    assert twice["order_lift"] == pytest.approx(30 / twice["expected"])
    assert twice["p_order"] == pytest.approx((2 / 3) ** 30, abs=0.01)
    broken = tables(*[rollout("calm", outside("pride"), "proud", "amused") for _ in range(30)])
    after = only(stacking(broken, at_least=1, seed=1, resamples=2000), first="proud", second="amused")
    assert after["expected"] == pytest.approx(30 / 6, abs=0.3)


def test_an_order_that_rollouts_keep_is_found_and_one_that_they_do_not_is_not():
    """A then B always, against A and B always together in either order: only the first is stacking."""
    others = ("proud", "amused", "honest", "curious")
    rng = np.random.default_rng(3)
    ordered, mixed = [], []
    for _ in range(40):
        rest = [str(name) for name in rng.permutation(others)[:2]]
        ordered.append(rollout(*rest[:1], "calm", "focused", *rest[1:]))
        mixed.append(rollout(*[str(name) for name in rng.permutation([*rest, "calm", "focused"])]))
    found = only(stacking(tables(*ordered)), first="calm", second="focused")
    assert max(found["q_order"], found["q_binomial"]) < LEVEL
    assert stacking(tables(*mixed))["q_order"].min() > LEVEL


@pytest.mark.slow
def test_rollouts_with_favourites_are_found_to_stack_by_the_published_test_and_not_by_the_stricter_one():
    """Each takes two vectors of its own over and over in random order: no order, though its pairs are frequent."""
    names, runs, published, stricter = ("calm", "proud", "amused", "honest", "curious", "focused"), 30, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        favourites = [rng.choice(names, 2, replace=False) for _ in range(30)]
        made = tables(*[rollout(*map(str, rng.choice(own, 5))) for own in favourites])
        found = stacking(made, seed=seed, resamples=1000)
        published += (found["q_binomial"] < LEVEL).any()
        stricter += (found["q_order"] < LEVEL).any()
    assert published > runs / 2
    assert stricter <= runs / 10


def test_the_correction_counts_all_pairs_that_the_takes_could_have_shown():
    """Calm and proud in three rollouts could be seen in either order, whatever order was seen."""
    found = stacking(tables(*[rollout("calm", "proud") for _ in range(3)]), resamples=50)
    assert only(found, first="calm")["order_tests"] == 2
    again = stacking(tables(*[rollout("calm", "calm") for _ in range(3)]), resamples=50)
    assert (only(again, first="calm")["order_tests"], only(again, first="calm")["p_order"]) == (1, 1)


# ---------------------------------------------------------------- the figure


@pytest.mark.slow
def test_the_heat_map_has_a_cell_for_every_tested_pair_of_forty_names():
    """All forty fit with their labels, and the table is that of the pairs."""
    made = simulated_freeplay(
        framings=("drugs", "aids", "vectors"), rollouts=80, distinct=6, redosing={"real": 0.3}, seed=1
    )
    figure = draw(stacking_of_vectors, made)
    check(figure)
    (picture,) = figure.pictures
    assert sorted(tick_labels(picture.figure, "y")) == sorted(catalogue())
    cells = [patch for patch in picture.figure.axes[0].patches if isinstance(patch, Rectangle)]
    coloured = [patch for patch in cells if patch.get_alpha() < 1]
    assert len(coloured) == len(figure.table)
    names = tick_labels(picture.figure, "y")
    drawn = {(names[round(patch.get_y() + 0.46)], names[round(patch.get_x() + 0.46)]) for patch in coloured}
    assert drawn == set(zip(figure.table["first"], figure.table["second"], strict=True))
    assert f"of {len(figure.table)} tested pairs" in picture.label


def test_marks_stand_on_the_significant_pairs_only():
    """Rings for the binomial test and dots for the order-permutation test, on their own cells."""
    always = tables(*[rollout("golden_gate", "goblins", model="large") for _ in range(15)])
    always = replace(always, takes=always.takes.assign(rollout="large " + always.takes["rollout"]))
    made = joined(simulated_freeplay(redosing={"real": 0.2}, preferences=LIKED, seed=7), always)
    figure = draw(stacking_of_vectors, made)
    check(figure)
    table = figure.table[figure.table["model"] == ALL_MODELS].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, stacking(made))
    picture = figure.pictures[0]
    axes = picture.figure.axes[0]
    names = tick_labels(picture.figure, "y")
    marks = {"binomial": set(), "order": set()}
    for line in axes.lines:
        (x,), (y,) = line.get_data()
        marks["binomial" if line.get_markerfacecolor() == PAPER else "order"].add((names[y], names[x]))
    for test, found in marks.items():
        significant = table[table[f"q_{test}"] < LEVEL]
        # Some pairs are significant before the correction only.
        assert 0 < len(significant) < (table[f"p_{test}"] < LEVEL).sum()
        assert found == set(zip(significant["first"], significant["second"], strict=True))


@published_only
def test_the_published_placebo_log_has_the_pairs_that_its_calls_have():
    """Counted by hand from the study's log: focused follows creative 28 times in 46."""
    made = published_freeplay()
    row = only(stacking(made, resamples=500), first="creative", second="focused")
    assert (row["pairs"], row["of_first"]) == (28, 46)
    check(draw(stacking_of_vectors, made))


def test_a_name_that_was_refused_for_its_spelling_is_a_link_of_the_chain():
    """Case, spaces and hyphens make no other vector, as the study counted; a word that spells none breaks the chain."""
    spelt = [rollout("calm", outside(name), "proud") for name in ("ego-death", "Ego Death", "EGO_DEATH")]
    found = stacking(tables(*spelt, rollout("calm", outside("ego"), "proud")), resamples=20)
    pairs = {(row["first"], row["second"]): row["pairs"] for row in found.to_dict("records")}
    assert pairs == {("calm", "ego_death"): 3, ("ego_death", "proud"): 3}
