"""Maths and capture-the-flag: accuracy by cell, what the tools change, self-steer rates, and how accuracy goes with takes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from inspect_ai.log import read_eval_log_sample_summaries

from self_steering.analysis.statistics.intervals import proportion
from self_steering.analysis.tables import empty_tables, read_tables
from self_steering.analysis.tasks.accuracy import accuracy, effects, impairment, self_steering
from self_steering.analysis.tasks.accuracy_figures import (
    accuracy_with_and_without_takes,
    ctf_against_no_tools,
    ctf_self_steer_rates,
    ctf_success_by_cell,
    maths_accuracy_by_cell,
    maths_against_no_tools,
    maths_self_steer_rates,
)
from tests.support.drawn_figures import bars, check, draw, tick_labels
from tests.support.shared import PUBLISHED, published_only
from tests.support.simulated_tasks import NO_TOOLS, simulated_maths

pytestmark = pytest.mark.slow

CELLS = [
    NO_TOOLS,
    *((framing, intent) for framing in ("drugs", "aids", "vectors") for intent in ("neutral", "helpful", "mandatory")),
]
FORCED = ("drugs", "mandatory")
_REPLICATES = [f"replicate-{number:03d}" for number in range(60)]  # as models, which are never pooled
FIGURES = [
    maths_accuracy_by_cell,
    maths_against_no_tools,
    maths_self_steer_rates,
    ctf_success_by_cell,
    ctf_against_no_tools,
    ctf_self_steer_rates,
    accuracy_with_and_without_takes,
]


def _cell(table, cell, **more):
    """Return the only row of a cell."""
    framing, intent = cell
    wanted = {"framing": framing, "intent": intent, **more}
    (row,) = [row for row in table.to_dict("records") if all(row[name] == value for name, value in wanted.items())]
    return row


def test_accuracy_is_found_over_all_and_over_attempted_problems():
    """Of answers right with chance 0.8, a tenth not submitted and a twentieth unreadable, both true accuracies are found."""
    tables = simulated_maths(accuracy=0.8, unsubmitted=0.1, unparsed=0.05, rollouts=1000)
    row = _cell(accuracy(tables, "maths"), NO_TOOLS, over="all")
    assert row["low"] < 0.8 * 0.95 * 0.9 < row["high"]
    row = _cell(accuracy(tables, "maths"), NO_TOOLS, over="attempted")
    assert row["low"] < 0.8 * 0.95 < row["high"]


def test_what_became_of_every_problem_is_counted_apart():
    """Right, wrong, unreadable, unsubmitted and ungraded answers sum to all; ungraded ones are in no accuracy."""
    tables = simulated_maths(unsubmitted=0.2, unparsed=0.1, ungraded=0.1, rollouts=40)
    asked = tables.problems
    over_all, attempted = (_cell(accuracy(tables, "maths"), NO_TOOLS, over=over) for over in ("all", "attempted"))
    for row in (over_all, attempted):
        assert (
            row["given"]
            == len(asked)
            == sum(row[name] for name in ("right", "wrong", "unparsed", "unsubmitted", "ungraded"))
        )
        assert row["unsubmitted"] == (~asked["attempted"]).sum() > 0
        assert row["ungraded"] == asked["correct"].isna().sum() > 0
        assert row["unparsed"] == ((asked["parsed"] == False) & asked["correct"].notna()).sum() > 0  # noqa: E712  may be missing
    assert over_all["value"] == pytest.approx(over_all["right"] / (over_all["given"] - over_all["ungraded"]))
    assert attempted["value"] == pytest.approx(
        over_all["right"] / (asked["attempted"] & asked["correct"].notna()).sum()
    )


def test_accuracys_interval_by_rollout_knows_that_whole_rollouts_go_wrong():
    """Where a fifth of the rollouts is lost as a whole, about 95 of 100 intervals by rollout hold the truth, and are wider."""
    found = accuracy(simulated_maths(accuracy=0.9, lost=0.2, rollouts=30, models=_REPLICATES), "maths").query(
        "over == 'all'"
    )
    held = found["low_by_rollout"].lt(0.9 * 0.8) & found["high_by_rollout"].gt(0.9 * 0.8)
    assert held.mean() > 0.9
    assert (
        found["high_by_rollout"] - found["low_by_rollout"] > found["high_by_problem"] - found["low_by_problem"]
    ).all()
    assert (found["low"] == found["low_by_rollout"]).all()


def test_the_tools_effect_is_found_paired_by_problem():
    """A cell that keeps half of an accuracy of 0.8 is 40 points below no tools, and one that keeps all of it is not."""
    tables = simulated_maths(kept={NO_TOOLS: 1.0, FORCED: 0.5, ("drugs", "neutral"): 1.0}, hardness=0.3, rollouts=60)
    found = effects(tables, "maths")
    forced = _cell(found, FORCED, over="all", against="no tools")
    assert forced["low"] < -0.4 < forced["high"] < 0
    assert forced["p_adjusted"] < 0.01
    assert (forced["n"], forced["groups"], forced["rollouts"]) == (300, 60, 120)
    free = _cell(found, ("drugs", "neutral"), over="all", against="no tools")
    assert free["low"] < 0 < free["high"]
    against_neutral = _cell(found, FORCED, over="all", against="neutral")
    assert against_neutral["low"] < -0.4 < against_neutral["high"] < 0
    assert len(found) == 2 * 3


def test_without_an_effect_few_tests_find_one():
    """Rollouts that go wrong as a whole and problems of unequal hardness make about 1 in 20 tests significant."""
    cells = {NO_TOOLS: 1.0, FORCED: 1.0}
    tables = simulated_maths(kept=cells, lost=0.3, hardness=0.5, rollouts=8, each=3, models=_REPLICATES)
    found = effects(tables, "maths").query("over == 'all'")
    assert (found["p"] <= 0.05).mean() < 0.11
    assert (found["low"].le(0) & found["high"].ge(0)).mean() > 0.89


def test_a_single_group_is_not_tested():
    """Where all problems hang together there is an estimate, and neither p nor an interval by rollout."""
    tables = simulated_maths(kept={NO_TOOLS: 1.0, FORCED: 0.2}, rollouts=10, pool=6)
    row = _cell(effects(tables, "maths"), FORCED, over="all")
    assert row["value"] < 0
    assert row["groups"] == 1
    assert pd.isna(row["p"])
    assert pd.isna(row["low_by_rollout"])


def test_what_nobody_solves_is_not_known_to_make_no_difference():
    """0 of 6 against 0 of 6: the interval is that of two shares, not one without a width; intents are pooled over framings too."""
    cells = dict.fromkeys([NO_TOOLS, FORCED, ("drugs", "neutral"), ("aids", "mandatory"), ("aids", "neutral")], 1.0)
    found = effects(simulated_maths(accuracy=0.0, kept=cells, rollouts=6, each=1), "maths").query("over == 'all'")
    assert (found["value"] == 0).all()
    for row in found.to_dict("records"):
        assert row["low"] < -0.3
        assert row["high"] > 0.3
    assert set(found["framing"]) == {"all", "drugs", "aids"}
    assert _cell(found, ("all", "mandatory"), against="neutral")["n"] == 6


def test_nobody_takes_anything_unless_it_is_mandatory():
    """As published: 0 of 100 rollouts, with Wilson's interval, and all that must; the cell without tools has no rate."""
    tables = simulated_maths(kept=dict.fromkeys(CELLS, 1.0), takes={FORCED: 1.0}, rollouts=100)
    rates = self_steering(tables, "maths")
    assert len(rates) == 9
    free = _cell(rates, ("vectors", "neutral"))
    expected = proportion(0, 100)
    assert (free["value"], free["low"], free["high"], free["method"]) == (0, expected.low, expected.high, "Wilson")
    assert _cell(rates, FORCED)["value"] == 1
    figure = draw(maths_self_steer_rates, tables)
    assert "0 of 600 rollouts (0.0%)" in figure.finding


def test_challenges_that_are_repeated_are_clusters():
    """25 rollouts over 8 challenges: success is known as well as 8 of them allow, and rates are clustered likewise."""
    cells = dict.fromkeys([NO_TOOLS, FORCED], 0.7)
    tables = simulated_maths(family="ctf", kept=cells, takes={FORCED: 0.5}, hardness=0.6, each=1, rollouts=25, pool=8)
    tables = replace(tables, rollouts=tables.rollouts.assign(problem=tables.problems["problem"].to_numpy()))
    row = _cell(accuracy(tables, "ctf"), FORCED, over="all")
    assert (row["n"], row["clusters"], row["rollouts"]) == (25, 8, 25)
    assert (row["low"], row["high"]) == (row["low_by_problem"], row["high_by_problem"])
    assert _cell(self_steering(tables, "ctf"), FORCED)["clusters"] == 8
    assert _cell(effects(tables, "ctf"), FORCED, over="all")["n"] == 8


def test_challenges_without_a_result_count_nowhere_and_are_told():
    """A rollout without a result is in no rate, and the figure says how many there are."""
    tables = simulated_maths(family="ctf", each=1, rollouts=10)
    figure = draw(ctf_success_by_cell, replace(tables, problems=tables.problems[:7]))
    assert figure.table["given"].eq(7).all()
    assert "3 rollouts have no result" in figure.reading


def test_accuracy_with_takes_is_set_beside_accuracy_without():
    """Takes that leave 0.6 of an accuracy of 0.8 are found as 32 points, in the cell that has both, as an association."""
    cells = {NO_TOOLS: 1.0, FORCED: 1.0, ("drugs", "neutral"): 1.0}
    tables = simulated_maths(
        kept=cells, takes={("drugs", "neutral"): 0.4, FORCED: 1.0}, kept_with_takes=0.6, rollouts=150
    )
    found = impairment(tables)
    row = _cell(found, ("drugs", "neutral"))
    assert len(found) == 1
    assert row["low"] < -0.32 < row["high"] < 0
    assert row["p"] < 0.01
    assert row["value"] == pytest.approx(row["with_takes"] - row["without_takes"])
    figure = draw(accuracy_with_and_without_takes, tables)
    assert figure.finding.startswith("An association")


def test_takes_that_change_nothing_are_seldom_found_to():
    """Rollouts that go wrong as a whole make about 1 in 20 tests significant, and about 95 of 100 intervals hold zero."""
    cell = ("drugs", "neutral")
    found = impairment(simulated_maths(kept={cell: 1.0}, takes={cell: 0.4}, lost=0.3, rollouts=12, models=_REPLICATES))
    assert (found["p"].dropna() <= 0.05).mean() < 0.11
    known = found.dropna(subset=["low"])
    assert (known["low"].le(0) & known["high"].ge(0)).mean() > 0.89


@pytest.mark.parametrize("function", FIGURES)
def test_without_such_logs_there_is_no_figure(function):
    """Empty tables have nothing to show."""
    assert draw(function, empty_tables()) is None


@pytest.fixture(scope="module")
def everything():
    """All cells of two experiments and two models, one with a name too long for a figure."""
    kept = {cell: 0.5 if cell[1] == "mandatory" else 1.0 for cell in CELLS}
    takes = {cell: {"mandatory": 0.9, "helpful": 0.3}.get(cell[1], 0.0) for cell in CELLS}
    how = {"kept": kept, "takes": takes, "lost": 0.1, "unsubmitted": 0.1, "unparsed": 0.05, "rollouts": 5}
    maths = simulated_maths(models=("m", "a-model-of-a-name-that-is-longer-than-any-figure-has-room-for"), **how)
    ctf = simulated_maths(family="ctf", each=1, pool=8, **how)
    return replace(
        maths,
        rollouts=pd.concat([maths.rollouts, ctf.rollouts], ignore_index=True),
        problems=pd.concat([maths.problems, ctf.problems], ignore_index=True),
    )


# The figures of capture-the-flag are those of maths in other words: one of them stands for all.
DRAWN = [
    *(maths_accuracy_by_cell, maths_against_no_tools, maths_self_steer_rates),
    *(ctf_success_by_cell, accuracy_with_and_without_takes),
]


@pytest.fixture(scope="module")
def figures(everything):
    """The figures of these, by their functions, drawn once."""
    return {function: draw(function, everything) for function in DRAWN}


@pytest.mark.parametrize("function", DRAWN)
def test_figures_are_legible(function, figures):
    """No words upon words, none outside the figure, and the numbers at the right are apart as well."""
    figure = figures[function]
    check(figure)
    for picture in figure.pictures:
        for axes in picture.figure.axes:
            notes = [text for child in axes.child_axes for text in child.get_yticklabels() if text.get_text()]
            boxes = [text.get_window_extent() for text in notes]
            assert len(boxes) == len(axes.get_yticks())
            assert all(box.x1 <= picture.figure.bbox.x1 for box in boxes)
            assert all(not one.overlaps(other) for one, other in pairwise(boxes))


def test_bars_start_at_zero_and_are_as_long_as_the_table_says(figures):
    """The picture shows the table's accuracies over all problems, in its order, on an axis from 0 to 1."""
    figure = figures[maths_accuracy_by_cell]
    picture = figure.pictures[2]
    table = figure.table.query("model == 'm' and over == 'all'")
    drawn = bars(picture.figure)
    assert [bar.get_x() for bar in drawn] == [0] * 13
    assert [bar.get_width() for bar in drawn] == pytest.approx(list(table["value"]))
    assert picture.figure.axes[0].get_xlim() == (0, 1)
    assert tick_labels(picture.figure, "y")[:3] == ["no tools", "all framings, neutral", "all framings, helpful"]


@published_only
def test_the_studys_accuracy_is_what_its_own_scores_say():
    """The published log without tools: the mean of its rollouts' scores is the accuracy over all problems."""
    (path,) = PUBLISHED.glob("*gsm8k-no-drug*.eval")
    tables = read_tables(path)
    row = _cell(accuracy(tables, "maths"), NO_TOOLS, over="all")
    own = [sample.scores["gsm8k_accuracy"].value for sample in read_eval_log_sample_summaries(str(path))]
    assert row["value"] == pytest.approx(np.mean(own))
    assert (row["right"], row["given"], row["unsubmitted"], row["rollouts"]) == (183, 250, 20, 50)
    assert self_steering(tables, "maths").empty
    check(draw(maths_accuracy_by_cell, tables))
