"""Preference: the design, what is read, and that a liking for labels, places, letters or the latter is none."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inspect_ai import eval  # noqa: A004  Inspect's name for it
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import get_model

from self_steering.analysis.introspection.preference import (
    agreement,
    choices,
    measures_by_model,
    strengths,
    transitivity,
    worths,
)
from self_steering.analysis.introspection.preference import preference as figure
from self_steering.analysis.tables import read_tables
from self_steering.evals.preference import make_pairs, preference
from self_steering.scorers.preference import preference_value
from self_steering.solvers.preference import (
    FIRST,
    OTHER_FIRST,
    SECOND,
    STATE_FIRST,
    PreferenceTrial,
    preference_questions,
    preference_script,
)
from self_steering.solvers.prompts.preference import EXTRA_POINTS, RATINGS
from self_steering.solvers.readings import UNCACHED, Reading
from self_steering.solvers.segments import StretchState
from tests.support.planted_model import Liking, save_planted_library, save_planted_model
from tests.support.simulated_readouts import simulated_preferences, tables_of
from tests.support.stretches import DEFAULT_DOSE, Tiny, make_tiny, reading, readouts, values_of

pytestmark = pytest.mark.slow


def trials_of(**changes) -> list[PreferenceTrial]:
    return [PreferenceTrial.model_validate(sample.metadata) for sample in preference(**changes).dataset]


# ---------------------------------------------------------------- design


@pytest.mark.parametrize(("count", "opponents"), [(10, 4), (10, 9), (10, 8), (9, 8), (9, 2), (2, 1), (3, 2), (40, 6)])
def test_every_state_meets_as_many_others_and_no_pair_comes_twice(count: int, opponents: int):
    """It comes first as often as second, to within one."""
    names = [f"s{number}" for number in range(count)]
    pairs = list(make_pairs(names, opponents, seed=3))
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == count * opponents // 2
    assert set(Counter(name for pair in pairs for name in pair).values()) == {opponents}
    first = Counter(pair[0] for pair in pairs)
    assert max(first[name] for name in names) - min(first[name] for name in names) <= 1


def test_against_nothing_each_state_stands_once():
    """Then the other label has nothing behind it, in every arm."""
    trials = trials_of(vectors="calm,anxious", opponents=0, arm="all")
    assert {(trial.vector, trial.other) for trial in trials} == {("calm", ""), ("anxious", "")}
    for trial in trials:
        assert trial.treatments((0.5, 0.5))[1].unit_strength == 0


def test_a_random_direction_is_the_same_whatever_a_state_is_set_against():
    """So that a preference among random directions could be found too; each state has another."""
    seeds: dict[str, set[int]] = {}
    for trial in trials_of(vectors="core", opponents=9, arm="random"):
        for name, seed in zip((trial.vector, trial.other), trial.random_seeds, strict=True):
            seeds.setdefault(name, set()).add(seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set().union(*seeds.values())) == 10


def test_the_text_does_not_tell_which_state_is_behind_a_label():
    """Swapping the states changes no message and no question."""
    trial = trials_of(vectors="calm,anxious", opponents=1, arm="real", asked="all")[0]
    swapped = trial.model_copy(update={"vector": trial.other, "other": trial.vector})
    for one, other in ((trial, swapped),):
        assert [m.model_dump(exclude={"id"}) for m in preference_script(one)] == [
            m.model_dump(exclude={"id"}) for m in preference_script(other)
        ]
        assert preference_questions(one) == preference_questions(other)
    assert len(preference_questions(trial)) == 2 + 2 * len(EXTRA_POINTS) + 2 * len(RATINGS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opponents": 3}, "opponents=3; with 10 states choose 0, 2, 4, 6, 8 or 9"),
        ({"opponents": 10}, "opponents=10; with 10 states choose 0"),
        ({"vectors": "calm"}, "vectors=calm is one state"),
        ({"asked": "liking"}, "asked='liking' is unknown; choose from choice, price, ratings"),
        ({"arm": "other"}, "arm='other' is unknown; choose from real, placebo, random, opposite"),
        ({"scripts": 0}, "scripts=0; choose a whole number"),
    ],
)
def test_a_bad_argument_is_named_with_the_valid_choices(arguments: dict, message: str):
    """Before any model is asked anything."""
    with pytest.raises(ValueError, match=message):
        preference(**arguments)


# ---------------------------------------------------------------- scores of readings with a known rule


Rule = Callable[[str, str, str, str], float]


def answered(rule: Rule) -> list[Reading]:
    """Return readings in which the log-odds of the first label over the second follow from a rule.

    The rule is given what is behind the first label and the second (`state`, `other`, or nothing), and which label stands first in
    the question and which last.
    """
    behind = {STATE_FIRST: ("state", "other"), OTHER_FIRST: ("other", "state"), UNCACHED: ("", "")}
    found = []
    for name, (of_first, of_second) in behind.items():
        for stands_first, stands_last in ((FIRST, SECOND), (SECOND, FIRST)):
            odds = rule(of_first, of_second, stands_first, stands_last)
            share = 0.6 / (1 + math.exp(-odds))
            found.append(reading(name, "choice", {FIRST: math.log(share), SECOND: math.log(0.6 - share)}, "choice"))
    return found


@pytest.mark.parametrize(
    "rule",
    [
        lambda *_: 2.0,
        lambda _, __, stands_first, ___: 1.5 if stands_first == FIRST else -1.5,
        lambda _, __, ___, stands_last: 3.0 if stands_last == FIRST else -3.0,
        lambda *_: -1.0,
    ],
    ids=["the first label", "what is named first", "the latter", "the second label"],
)
def test_a_liking_for_a_label_or_a_place_is_no_preference(rule: Rule):
    """It cancels in full."""
    value = preference_value(answered(rule))
    assert value["log_odds"] == pytest.approx(0, abs=1e-12)


def test_a_preference_for_a_state_is_found_whatever_else_is_liked():
    """Its log-odds come out beside a liking for a label and for the latter."""
    value = preference_value(
        answered(lambda of_first, _, __, last: {"state": 0.7, "other": -0.7, "": 0.0}[of_first] + 0.4 + (last == FIRST))
    )
    assert value["log_odds"] == pytest.approx(0.7)
    assert value["prefers"] == 1
    assert value["label_bias"] == pytest.approx(0.9)


def priced(worth: float, effect: float, bias: float) -> list[Reading]:
    sign = {STATE_FIRST: 1, OTHER_FIRST: -1, UNCACHED: 0}
    found = []
    for name, of_name in sign.items():
        for extra in EXTRA_POINTS:
            odds = of_name * worth * effect - effect * extra + bias
            share = 0.5 / (1 + math.exp(-odds))
            found += [
                reading(name, "price", {FIRST: math.log(share), SECOND: math.log(0.5 - share)}, f"{extra:+d}")
            ] * 2
    return found


def test_a_state_is_worth_the_points_at_which_a_model_is_indifferent():
    """Whatever a liking for a label adds; without points that count there is no worth."""
    value = preference_value(priced(worth=6.0, effect=0.25, bias=0.8))
    assert value["worth"] == pytest.approx(6)
    assert [value["points_effect"], value["points_effect_uncached"]] == pytest.approx([-0.25, -0.25])
    assert math.isnan(preference_value(priced(worth=6.0, effect=0.0, bias=0.8))["worth"])


def test_a_digit_that_is_echoed_from_the_scale_is_no_liking():
    """The same digit whatever is asked gives no difference, and an echo; a digit that follows the state gives its difference."""

    def rated(digit_of: Callable[[str, str], int]) -> list[Reading]:
        behind = {STATE_FIRST: ("state", "other"), OTHER_FIRST: ("other", "state"), UNCACHED: ("", "")}
        return [
            reading(name, kind, {str(d): 0.0 if d == digit_of(state, kind) else -40.0 for d in range(1, 10)}, label)
            for name, states in behind.items()
            for kind in RATINGS
            for label, state in zip((FIRST, SECOND), states, strict=True)
        ]

    same = preference_value(rated(lambda *_: 9))
    assert same["liking"] == same["want_again_reversed"] == 0
    assert same["echo"] == pytest.approx(8)
    liked = {"state": 8, "other": 3, "": 5}
    told = preference_value(rated(lambda state, kind: 10 - liked[state] if kind.endswith("reversed") else liked[state]))
    for name in ("liking", "liking_reversed", "want_again", "want_again_renamed"):
        assert told[name] == pytest.approx(5)
    assert told["echo"] == pytest.approx(0)


# ---------------------------------------------------------------- strengths of simulated choices


def test_strengths_lie_inside_their_intervals():
    """In about 95 % of simulated runs, neither far fewer nor all."""
    truth = {f"s{number}": value for number, value in enumerate(np.linspace(-1, 1, 8))}
    inside = []
    for seed in range(12):
        found = strengths(simulated_preferences(truth, sureness=8, seed=seed)).set_index("vector")
        inside += [found["low"][name] <= value <= found["high"][name] for name, value in truth.items()]
    assert 0.9 <= np.mean(inside) <= 0.99


def test_what_a_state_is_worth_comes_with_an_interval_where_points_count():
    """Over the scripts of a state against nothing; where points have no effect there is no worth."""
    rng = np.random.default_rng(0)
    about = {"family": "preference", "source": "self_steering", "model": "m", "framing": "vectors", "arm": "real"}
    rolled, scored, read = [], [], []
    for vector, effect, script in ((v, e, s) for v, e in (("calm", -0.2), ("lsd", 0.0)) for s in range(30)):
        name = f"{vector}-{script}"
        rollout = about | {"rollout": name, "sample": name, "vector": vector, "valence": 0.0}
        rolled.append(rollout)
        read += [rollout | {"reading": STATE_FIRST, "question": "price: +4", "option": o} for o in (vector, "nothing")]
        at_equal = -5 * effect + 0.3 * rng.normal()
        values = {"worth_log_odds": at_equal, "points_effect": effect, "points_effect_uncached": -0.1}
        scored += [
            rollout | {"scorer": "preference_scorer", "score": score, "value": value, "reason": ""}
            for score, value in values.items()
        ]
    found = worths(tables_of(rollouts=rolled, scores=scored, readouts=read)).set_index("vector")
    assert found["low"]["calm"] < 5 < found["high"]["calm"]
    assert found["high"]["calm"] - found["low"]["calm"] < 1.5
    assert math.isnan(found["worth"]["lsd"])


def test_circular_choices_are_told_from_transitive_ones():
    """No trio is circular where choices follow strengths; where they are drawn, about a quarter is."""
    ordered = transitivity(simulated_preferences({f"s{n}": float(n) for n in range(8)}, sureness=500, seed=0)).iloc[0]
    assert (ordered["triads"], ordered["circular"]) == (56, 0)
    assert ordered["p"] < 0.01
    drawn = transitivity(
        simulated_preferences(dict.fromkeys((f"s{n}" for n in range(8)), 0.0), sureness=4, seed=1)
    ).iloc[0]
    assert drawn["circular"] > 5
    assert drawn["p"] > 0.05


# ---------------------------------------------------------------- planted models: one likes a state, the others what is none


def planted_choices(folder: Path, liking: Liking, arm: str) -> EvalLog:
    """Let a planted model choose between three states, each pair in two scripts."""
    model = get_model(f"nnsight/{save_planted_model(folder / 'model', liking)}", memoize=False)
    try:
        library = str(save_planted_library(folder / "library", model))
        task = preference(vectors="anxious,calm,proud", opponents=2, scripts=2, arm=arm, library=library)
        (log,) = eval(task, model=model, display="none", log_dir=str(folder), log_realtime=False, score_display=False)
    finally:
        model.api.close()
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def test_a_state_that_is_liked_is_found_where_it_is_given(tmp_path: Path):
    """Beyond the others in the real arm, and nothing under placebo; the text alone is answered alike, whatever was given."""
    log = planted_choices(tmp_path, "state calm", "real,placebo")
    tables = read_tables(log.location)
    found = strengths(tables).set_index(["arm", "vector"])
    assert found["low"]["real", "calm"] > 0.5
    assert (found["high"]["real"].drop("calm") < 0).all()
    assert (found.loc["placebo", ["strength", "low", "high"]] == 0).all(axis=None)
    assert "real: 3 of 3 states have a strength whose 95 % interval leaves out zero" in figure(tables).finding
    of_text: dict[str, set[float]] = {}
    for sample in log.samples:
        script = str(sample.id).rpartition("-")[0]
        of_text.setdefault(script, set()).add(values_of(sample)["label_bias"])
    assert len(of_text) == 6
    assert all(len(biases) == 1 for biases in of_text.values())


@pytest.mark.parametrize("liking", ["label", "letter", "first", "second", "latter"])
def test_a_model_that_likes_no_state_has_no_preference(tmp_path: Path, liking: Liking):
    """Some labels, one wherever there is residue, that of the first stretch with residue, or the second, or what is named last."""
    log = planted_choices(tmp_path, liking, "real")
    apart = []
    for sample in log.samples:
        assert abs(values_of(sample)["log_odds"]) < 1e-5
        assert values_of(sample)["prefers"] == 0.5
        read = [one for one in sample.store_as(StretchState).readings if one.name != UNCACHED]
        apart += [abs(one.logprobs[FIRST] - one.logprobs[SECOND]) for one in read]
    assert min(apart) > 0.1
    tables = read_tables(log.location)
    assert (strengths(tables)["strength"] == 0).all()
    assert transitivity(tables)["circular"].tolist() == [0]
    assert "real: 0 of 3 states have a strength" in figure(tables).finding


# ---------------------------------------------------------------- the real task on a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny model whose template knows tools, and its library."""
    return make_tiny(tmp_path_factory.mktemp("preference"))


@pytest.fixture(scope="module")
def log(tiny: Tiny) -> EvalLog:
    """The two states against each other, as they are and at strength zero, all asked."""
    return tiny.run(preference(vectors="all", opponents=1, arm="real,placebo", asked="all", library=str(tiny.library)))


def test_under_placebo_there_is_no_preference_and_the_states_swap_labels(log: EvalLog):
    """Strength zero gives exactly none; both assignments are read over the same text, with each strength on each label once."""
    for sample in log.samples:
        value = values_of(sample)
        exactly_none = all(value[name] == 0 for name in ("log_odds", "worth_log_odds", "liking", "want_again"))
        assert exactly_none == (sample.metadata["arm"] == "placebo")
        assert value["clean_receipt"] == 1
        strengths_of = Counter(tuple(steered) for _, steered, _ in readouts(sample))
        both = (DEFAULT_DOSE * (sample.metadata["arm"] == "real"),) * 2
        asked = 2 + 2 * len(EXTRA_POINTS) + 2 * len(RATINGS)
        assert strengths_of == {both: 2 * asked, (): asked}


def test_scores_follow_from_the_tables(log: EvalLog, tmp_path: Path):
    """The log-odds of the score are those that the report takes its strengths from."""
    tables = read_tables(log.location)
    found = choices(tables).set_index("sample")["log_odds"]
    for sample in log.samples:
        assert found[sample.id] == pytest.approx(values_of(sample)["log_odds"])
    drawn = figure(tables)
    assert len(drawn.pictures) == 2
    assert isinstance(agreement(measures_by_model(tables, strengths(tables))), pd.DataFrame)
