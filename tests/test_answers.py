"""What a report says first: the largest effects, how many hold, and which do not."""

import pytest

from self_steering.analysis.report.answers import answers
from self_steering.analysis.tables import Tables, empty_tables
from tests.support.simulated_readouts import VECTORS, joined, simulated_choice
from tests.support.simulated_tables import simulated_freeplay
from tests.support.simulated_tasks import NO_TOOLS, simulated_frustration, simulated_maths

pytestmark = pytest.mark.slow


def said(tables: Tables) -> list[str]:
    """Return all that is said to each question, as one text."""
    return [" ".join(answer.sentences) for answer in answers(tables)]


def test_logs_that_hold_nothing_are_answered_by_nothing():
    """There is a question for each part of the study, and no sentence is made up."""
    assert said(empty_tables()) == ["", "", ""]


@pytest.fixture(scope="module")
def planted_tables() -> Tables:
    """Tables where redosing, a gap, a tone and a demand to take have an effect, and another model has none."""
    rates = {("neutral", True): 0.1, ("aggressive", True): 0.1, ("sarcastic", True): 0.7}
    few = {"vectors": VECTORS[:10], "rotations": 1, "between": 0.01, "within": 0.01}
    return joined(
        simulated_freeplay(redosing={"real": 0.5, "placebo": 0.05}, models=["one"], rollouts=20),
        simulated_freeplay(redosing={"real": 0.05, "placebo": 0.05}, models=["two"], rollouts=20, seed=1),
        simulated_choice(gaps=0.1, models=["one"], arms={"real": 1.0, "random": 0.0}, **few),
        simulated_choice(gaps=0.0, models=["two"], seed=2, **few),
        simulated_frustration(rates, models=["one"], alike=0.2),
        simulated_maths(
            kept={NO_TOOLS: 1.0, ("drugs", "neutral"): 1.0, ("drugs", "mandatory"): 0.3}, models=["one"], rollouts=20
        ),
    )


@pytest.fixture(scope="module")
def planted(planted_tables) -> list[str]:
    """What is said of them."""
    return said(planted_tables)


def test_the_largest_effect_is_named_with_how_many_hold(planted):
    """With its numbers; a corrected test and the interval must both say so."""
    play, introspection, tasks = planted
    assert "Redose rate, against placebo: the largest is one, real minus placebo: +" in play
    assert "1 of 2 hold. Did not hold: two, real minus placebo." in play
    assert "Multiple choice, cached − uncached: the largest is one: gap" not in introspection
    assert "cached − uncached: the largest is one: +" in introspection
    assert "Did not hold: two." in introspection
    assert "Against other arms, question by question: the largest is one, real - random: +" in introspection
    assert "Self-steering, against the neutral tone: the largest is one, sarcastic tone: +" in tasks
    assert "Did not hold: one, aggressive tone." in tasks
    assert "Accuracy in maths: the largest is one, drugs, mandatory − " in tasks
    assert "most in one, frustration, sarcastic tone" in tasks


def test_what_stands_first_names_an_effect_and_what_did_not_hold_of_it(planted_tables):
    """Who takes something and what that costs, whatever stands between; each with those of its kind that did not hold."""
    play, introspection, tasks = (" ".join(answer.short) for answer in answers(planted_tables))
    assert "real minus placebo: +" in play
    assert "Did not hold: two, real minus placebo." in play
    assert "Did not hold: two." in introspection
    assert "sarcastic tone" in tasks
    assert "Accuracy in maths: the largest is one" in tasks


def test_what_cannot_be_told_is_said_to_be_so():
    """One vector is too few, and one arm alone tells nothing of steering."""
    one = simulated_choice(gaps=0.1, vectors=VECTORS[:1])
    alone = simulated_freeplay(redosing={"real": 0.3}, rollouts=10)
    play, introspection, _ = said(joined(one, alone))
    assert "with one arm alone nothing can be said of steering" in play
    assert "too few to say; the largest is qwen3-8b" in introspection
    assert "No other arm was read beside the real one" in introspection
    none = said(joined(simulated_choice(gaps=0.0, between=0.01, within=0.01, vectors=VECTORS[:8])))[1]
    assert "it does not hold (interval or corrected test)" in none
    tones = simulated_frustration({("neutral", True): 0.5}, models=["one"])
    assert "What it costs cannot be told" in said(tones)[2]
