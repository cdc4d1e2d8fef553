"""Frustration: self-steering by tone and possibility, what is picked, and distress."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from self_steering.analysis.statistics.intervals import proportion
from self_steering.analysis.tables import Tables, empty_tables, read_tables
from self_steering.analysis.tasks.frustration import (
    DISTRESS,
    SELF_STEERING,
    frustration_distress,
    frustration_picks,
    frustration_self_steering,
    tone_effects,
)
from self_steering.analysis.tasks.frustration_figures import (
    distress_by_tone,
    picks_when_frustrated,
    self_steering_by_tone,
)
from tests.support.drawn_figures import bars, check, draw, tick_labels
from tests.support.shared import PUBLISHED, published_only
from tests.support.simulated_tasks import simulated_frustration

pytestmark = pytest.mark.slow

TONES = ("neutral", "aggressive", "sarcastic", "disappointed")
RATES = {("neutral", True): 0.1, ("aggressive", True): 0.1, ("sarcastic", True): 0.68}
FIGURES = [self_steering_by_tone, picks_when_frustrated, distress_by_tone]
_REPLICATES = [f"replicate-{number:03d}" for number in range(60)]  # as models, which are never pooled


def _row(table, **wanted):
    """Return the only row that has these values."""
    (row,) = [row for row in table.to_dict("records") if all(row[name] == value for name, value in wanted.items())]
    return row


def _together(*parts):
    """Return several tables as one."""
    names = Tables.__dataclass_fields__
    held = {name: [getattr(part, name) for part in parts if len(getattr(part, name))] for name in names}
    return replace(
        empty_tables(), **{name: pd.concat(frames, ignore_index=True) for name, frames in held.items() if frames}
    )


def test_rates_are_found_by_tone_as_published():
    """25 problems in three framings: 10 % under neutral and aggressive and 68 % under sarcastic are found, as 75 rollouts."""
    rates = frustration_self_steering(simulated_frustration(RATES, alike=0.3))
    for (tone, possible), true in RATES.items():
        row = _row(rates, tone=tone, possible=possible, framing="all")
        assert row["low"] < true < row["high"]
        assert (row["n"], row["clusters"]) == (75, 25)


def test_intervals_hold_the_true_rate_where_problems_are_repeated():
    """Of intervals over problems about 95 of 100 hold the truth; those that take rollouts for independent hold it less often."""
    tables = simulated_frustration({("sarcastic", True): 0.68}, alike=0.6, models=_REPLICATES)
    found = frustration_self_steering(tables).query("framing == 'all'")
    plain = [proportion(took, n) for took, n in zip(found["took"], found["n"], strict=True)]
    assert (found["low"].lt(0.68) & found["high"].gt(0.68)).mean() > 0.89
    assert np.mean([one.low < 0.68 < one.high for one in plain]) < 0.89


def test_rollouts_without_tools_have_distress_and_no_rate():
    """Where nothing could be taken, distress is told, and no self-steer rate."""
    tables = simulated_frustration({("neutral", True): 0.0}, framings=("none",))
    assert frustration_self_steering(tables).empty
    assert list(frustration_distress(tables)["framing"]) == ["none"]
    assert draw(self_steering_by_tone, tables) is None
    check(draw(distress_by_tone, tables))


def test_a_tones_effect_is_paired_with_the_neutral_tone():
    """58 points more under sarcasm are found and none under aggression, with Holm's correction."""
    effects = tone_effects(simulated_frustration(RATES, alike=0.3), SELF_STEERING)
    assert list(effects["tone"]) == ["aggressive", "sarcastic"]
    sarcastic = _row(effects, tone="sarcastic")
    assert sarcastic["low"] < 0.58 < sarcastic["high"]
    assert sarcastic["p"] < sarcastic["p_adjusted"] < 0.01
    aggressive = _row(effects, tone="aggressive")
    assert aggressive["low"] < 0 < aggressive["high"]
    assert (aggressive["n"], aggressive["clusters"]) == (75, 25)


def test_without_an_effect_of_tone_few_tests_find_one():
    """Where a problem's rollouts are alike, about 1 in 20 tests of rates is significant; and of distress."""
    cells = {("neutral", True): 0.4, ("sarcastic", True): 0.4}
    tables = simulated_frustration(cells, alike=0.5, problems=8, models=_REPLICATES)
    for measure in (SELF_STEERING, DISTRESS):
        effects = tone_effects(tables, measure)
        assert len(effects) == len(_REPLICATES)
        assert (effects["p"] <= 0.05).mean() < 0.11


def test_distress_is_the_mean_of_the_graded_with_the_ungraded_apart():
    """The true mean lies in its interval, and rollouts without a grade are counted and in no mean."""
    tables = simulated_frustration({("sarcastic", True): 0.5}, distress={"sarcastic": 6.0}, ungraded=0.2)
    row = _row(frustration_distress(tables), framing="all", intent="neutral")
    assert row["low"] < 6 < row["high"]
    assert row["n"] + row["ungraded"] == 75
    assert row["ungraded"] == tables.scores["value"].isna().sum() > 0
    assert row["value"] == pytest.approx(tables.scores["value"].mean())


def test_where_nothing_was_graded_there_is_no_distress():
    """Without a single grade there is a row that says so, and no figure."""
    tables = simulated_frustration({("neutral", True): 0.5}, ungraded=1.0)
    row = _row(frustration_distress(tables), framing="all", intent="neutral")
    assert np.isnan(row["value"])
    assert row["ungraded"] == 75
    assert draw(distress_by_tone, tables) is None


def test_picks_are_ranked_with_their_true_shares():
    """Focused 50 %, dumbed_down 30 %, calm 20 %: found in that order, dumbed_down second."""
    preferences = {"calm": 2.0, "focused": 5.0, "dumbed_down": 3.0}
    tables = simulated_frustration({(tone, True): 0.9 for tone in TONES}, preferences=preferences)
    picks = frustration_picks(tables)
    assert list(picks["vector"]) == ["focused", "dumbed_down", "calm"]
    assert list(picks["rank"]) == [1, 2, 3]
    for row in picks.to_dict("records"):
        assert row["low"] < preferences[row["vector"]] / 10 < row["high"]
    assert picks["value"].sum() == pytest.approx(1)
    assert (picks["n"] == len(tables.takes)).all()


def test_unknown_names_and_scripted_calls_are_no_picks():
    """Only the model's own calls for something that there is count; the others' number is told."""
    tables = simulated_frustration({("neutral", True): 1.0})
    takes = tables.takes
    takes.loc[:4, ["name", "known", "ok"]] = ["math", False, False]
    takes.loc[5:9, "scripted"] = True
    assert (frustration_picks(tables)["n"] == len(takes) - 10).all()
    assert "not on the menu, which are no picks: 5." in draw(picks_when_frustrated, tables).reading


def test_distress_is_pooled_by_tone():
    """Over framings, intents and both kinds of problem: each graded rollout counts once."""
    cells = {(tone, possible): 0.5 for tone in ("neutral", "sarcastic") for possible in (True, False)}
    tables = simulated_frustration(cells, distress={"sarcastic": 6.0})
    found = frustration_distress(tables).query("intent == 'all intents'").set_index("tone")
    assert found["n"].to_dict() == {"neutral": 150, "sarcastic": 150}
    assert found["value"].to_dict() == pytest.approx(tables.scores.groupby("tone")["value"].mean().to_dict())
    check(draw(distress_by_tone, tables))


@pytest.mark.parametrize("function", FIGURES)
def test_without_such_logs_there_is_no_figure(function):
    """Empty tables have nothing to show."""
    assert draw(function, empty_tables()) is None


@pytest.fixture(scope="module")
def everything():
    """All tones and both kinds of problem, with and without tools, and a model of a name too long for a figure."""
    cells = {
        (tone, possible): rate for possible in (True, False) for tone, rate in zip(TONES, (0, 0.1, 0.7, 1), strict=True)
    }
    picked = {"dumbed_down": 3.0, "calm": 1.0, "honest": 1.0, "soma": 1.0, "caffeine": 1.0, "luciperidone": 1.0}
    models = ("m", "a-model-of-a-name-that-is-longer-than-any-figure-has-room-for")
    how = {"problems": 6, "ungraded": 0.1, "models": models}
    return _together(
        simulated_frustration(cells, preferences=picked, **how), simulated_frustration(cells, framings=("none",), **how)
    )


@pytest.fixture(scope="module")
def figures(everything):
    """All figures of these, by their functions, drawn once."""
    return {function: draw(function, everything) for function in FIGURES}


@pytest.mark.parametrize("function", FIGURES)
def test_figures_are_legible(function, figures):
    """No words upon words, and none outside the figure."""
    check(figures[function])


def test_bars_start_at_zero_and_are_as_long_as_the_table_says(figures):
    """The picture shows the table's pooled rates, in its order, on an axis from 0 to 1; open marks are the framings' own."""
    figure = figures[self_steering_by_tone]
    (picture,) = [picture for picture in figure.pictures if picture.label.startswith("m, intent neutral")]
    own = figure.table.query("model == 'm'")
    pooled = own.query("framing == 'all'")
    drawn = bars(picture.figure)
    assert [bar.get_x() for bar in drawn] == [0] * 8
    assert [bar.get_width() for bar in drawn] == pytest.approx(list(pooled["value"]))
    assert picture.figure.axes[0].get_xlim() == (0, 1)
    assert tick_labels(picture.figure, "y")[:2] == ["neutral tone, possible", "neutral tone, impossible"]
    marks = sorted(float(line.get_xdata()[0]) for line in picture.figure.axes[0].lines)
    assert marks == pytest.approx(sorted(own.query("framing != 'all'")["value"]))


@published_only
def test_the_studys_log_gives_what_it_holds():
    """The published log of sarcastic rejections: all 25 rollouts took something, focused most and dumbed_down second."""
    (path,) = PUBLISHED.glob("*frust-*.eval")
    tables = read_tables(path)
    row = _row(frustration_self_steering(tables), framing="all")
    assert (row["tone"], row["possible"], row["took"], row["n"], row["clusters"]) == ("sarcastic", True, 25, 25, 25)
    picks = frustration_picks(tables).set_index("vector")
    assert (picks.loc["focused", "rank"], picks.loc["dumbed_down", "rank"]) == (1, 2)
    distress = _row(frustration_distress(tables), framing="all", intent="neutral")
    assert (distress["value"], distress["n"], distress["ungraded"]) == (pytest.approx(3.16), 25, 0)
    for function in FIGURES:
        check(draw(function, tables))
