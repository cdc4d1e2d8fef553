"""Runs and models side by side, and measured effects beside published ones: numbers with known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from self_steering.analysis.drawing.style import page_style
from self_steering.analysis.report.comparisons import (
    beside_published,
    compare_models,
    compare_runs,
    published_figures,
    with_intervals,
)
from self_steering.analysis.report.figures import REPORT_FIGURES
from self_steering.analysis.report.headline import headline_effects, headline_table
from self_steering.analysis.report.report_page import methods, undescribed
from self_steering.analysis.statistics.estimates import Estimate
from self_steering.analysis.statistics.intervals import clustered_mean, difference, proportion, ratio
from tests.support.simulated_readouts import joined, simulated_choice, simulated_ratings
from tests.support.simulated_tables import simulated_freeplay
from tests.support.simulated_tasks import NO_TOOLS, simulated_frustration, simulated_maths

pytestmark = pytest.mark.slow

FEW = ("calm", "anxious", "focused", "lsd")


def measured(model: str, seed: int = 0):
    """Return simulated tables of every experiment that has a headline effect."""
    rates = {("neutral", True): 0.1, ("aggressive", True): 0.1, ("sarcastic", True): 0.6}
    return joined(
        simulated_choice(models=[model], primers=("none", "introspection"), vectors=FEW, rotations=1, seed=seed),
        simulated_ratings(model=model, vectors=FEW, seed=seed),
        simulated_freeplay(models=[model], rollouts=8, seed=seed),
        simulated_maths(
            models=[model],
            kept={NO_TOOLS: 1.0, ("drugs", "neutral"): 1.0, ("drugs", "helpful"): 1.0, ("drugs", "mandatory"): 0.6},
            rollouts=10,
            seed=seed,
        ),
        simulated_frustration(rates, models=[model], problems=8, seed=seed),
    )


@pytest.fixture(scope="module")
def eight():
    """The tables of one of the study's models."""
    return measured("Qwen3-8B")


@pytest.fixture(scope="module")
def headlines(eight):
    """Their headline effects."""
    return headline_effects(eight)


def test_a_difference_of_two_shares_has_newcombes_interval():
    """56 of 70 against 48 of 80: Newcombe (1998) gives 0.2, from 0.0524 to 0.3339 by his method 10."""
    found = difference(proportion(48, 80), proportion(56, 70))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert (found.n, found.clusters, found.method) == (150, 150, "MOVER of Wilson")


def test_differences_of_means_are_covered_as_often_as_they_should_be():
    """Two runs of 12 clusters each, whose true means differ by 1: about 95 % of 400 intervals hold that."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        first, second = (
            clustered_mean(rng.normal(mean, spread, 12), range(12)) for mean, spread in ((0.0, 1.0), (1.0, 2.0))
        )
        found = difference(first, second)
        held += found.low <= 1.0 <= found.high
    # Three standard errors of a share of 0.95 among 400.
    assert held / 400 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 400))


def test_a_ratio_turned_round_is_its_reciprocal():
    """Interval too; and a third to one is three."""
    few, many = proportion(10, 100), proportion(30, 100)
    one, other = ratio(few, many), ratio(many, few)
    assert one.value == pytest.approx(3.0)
    assert one.low < 3.0 < one.high
    assert (1 / other.high, 1 / other.low) == pytest.approx((one.low, one.high))


def test_what_has_no_interval_gives_none():
    """One cluster, or a share that may be zero, says nothing about how far the two are apart."""
    alone = clustered_mean([0.5, 0.6], ["a", "a"])
    assert difference(alone, proportion(5, 10)).low is None
    assert ratio(replace(proportion(3, 10), low=0.0), proportion(5, 10)).low is None
    assert ratio(proportion(0, 10), proportion(5, 10)) is None


def test_every_published_figure_is_of_an_effect_that_is_measured(headlines):
    """None is left beside nothing by a word that is spelled differently, whatever model was run."""
    assert [figure.words for figure in published_figures() if not any(figure.fits(one) for one in headlines)] == []


def test_a_model_of_the_study_is_set_beside_its_own_figures(headlines):
    """The difference is measured less published; a bound is no figure that an interval could hold."""
    table = beside_published(headlines)
    assert set(table["published for"]) == set(table["measured on"]) == {"Qwen3-8B"}
    assert (table["difference"] - (table["measured"] - table["published"])).abs().max() == pytest.approx(0, abs=1e-12)
    exact = table[table["sense"].isin(["exactly", "about"]) & table["low"].notna()]
    inside = (exact["low"] <= exact["published"]) & (exact["published"] <= exact["high"])
    assert exact["within interval"].astype(bool).tolist() == inside.tolist()
    assert table.loc[table["sense"] == "at most", "within interval"].isna().all()


def test_a_model_that_the_study_did_not_run_is_set_beside_all_of_its_models(headlines):
    """Makers' names and capitals do not matter to whether it is one of the study's."""
    others = beside_published([replace(one, model="Tiny") for one in headlines])
    assert set(others["published for"]) == {"Qwen3-8B", "Qwen3-32B"}
    same = beside_published([replace(one, model="Qwen/qwen3-8b") for one in headlines])
    assert set(same["published for"]) == {"Qwen3-8B"}


def test_a_run_beside_itself_differs_by_nothing(headlines):
    """Every effect is matched with itself and no other, and every interval holds zero."""
    (pair,) = compare_runs({"a": headlines, "b": headlines})
    assert len(pair.table) == len(headlines)
    assert (pair.only_first, pair.only_second) == (0, 0)
    assert (pair.table["difference"] == 0).all()
    known = pair.table.dropna(subset=["low"])
    assert ((known["low"] <= 0) & (known["high"] >= 0)).all()


def test_runs_of_one_model_each_are_compared_across_models():
    """Their redose rates are the two truths that were simulated, 0.05 and 0.6."""
    few, many = (
        headline_effects(simulated_freeplay(redosing={"real": rate}, models=[model], rollouts=60))
        for rate, model in ((0.05, "one"), (0.6, "two"))
    )
    (pair,) = compare_runs({"few": few, "many": many})
    row = pair.table[pair.table["effect"] == "redose rate"].iloc[0]
    assert row["model"] == "one / two"
    assert row["low"] < 0.55 < row["high"]
    assert row["low"] > 0.2


def test_runs_that_share_a_model_are_compared_within_it(headlines):
    """The model that only one of them has is counted, not compared."""
    alone = [replace(one, model="one") for one in headlines]
    both = [*alone, *(replace(one, model="two") for one in headlines)]
    (pair,) = compare_runs({"both": both, "alone": alone})
    assert set(pair.table["model"]) == {"one"}
    assert (pair.only_first, pair.only_second) == (len(headlines), 0)


def test_models_are_compared_in_pairs_within_one_source(headlines):
    """Three models make three pairs; the same name in logs of another source is none of them."""
    ours = [replace(one, model=model) for model in "cab" for one in headlines]
    theirs = [replace(one, source="study") for one in ours if one.model == "a"]
    pairs = compare_models([*ours, *theirs])
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(set(pair.table["source"]) == {"self_steering"} for pair in pairs)


def test_tables_on_the_page_have_intervals_behind_their_figures(headlines):
    """No bound stands alone; what has no interval says so; a column without a word is left out."""
    estimates = Estimate(0.5, 0.25, 0.75, 4, 4, "Wilson"), Estimate(0.5, None, None, 4, 1, "Wilson")
    shown = with_intervals(headline_table([replace(headlines[0], estimate=one, arm="") for one in estimates]))
    assert shown["value"].tolist() == ["0.5 [0.25, 0.75]", "0.5 [no interval]"]
    assert not {"low", "high", "arm"} & set(shown)
    (pair,) = compare_runs({"a": headlines, "b": headlines})
    assert not [name for name in with_intervals(pair.table) if name.endswith(("low", "high"))]
    assert not {"low", "high"} & set(with_intervals(beside_published(headlines)))


def test_every_method_that_a_figure_names_is_described(eight, headlines):
    """The appendix knows the words of each module; a name that nobody described is found."""
    described = 0
    with page_style():
        for section in REPORT_FIGURES:
            for function in section.functions:
                figure = function(eight)
                if figure is not None:
                    assert undescribed(figure.table) == [], figure.key
                    described += any(str(name).endswith(("method", "test")) for name in figure.table)
    assert described > 5
    strange = headline_table([replace(headlines[0], estimate=Estimate(0, 0, 0, 1, 1, "augury"))])
    assert undescribed(strange) == ["augury"]
    assert len({method.name for method in methods()}) == len(methods())
