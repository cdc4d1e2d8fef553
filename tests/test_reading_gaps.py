"""Gaps between cached and uncached readings: the numbers, on simulated tables whose truth is known and on a log of our own."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inspect_ai.log import read_eval_log
from scipy.stats import norm

from self_steering.analysis.introspection.arms import (
    arm_comparisons,
    arm_effect,
    direction_gaps,
    primary_effects,
    scored_table,
)
from self_steering.analysis.introspection.gaps import (
    SHARE,
    TOP_20,
    at_doses,
    attractors,
    cached_ratings,
    calibrated_doses,
    condition_gaps,
    correlations,
    experiment_pairs,
    gap_table,
    model_pairs,
    primer_effects,
    rating_table,
    reading_pairs,
    vector_gaps,
    without_gap,
)
from self_steering.analysis.introspection.segments import (
    accuracy,
    detection_conditions,
    order_accuracy,
    score_table,
    share,
)
from self_steering.analysis.tables import Tables, empty_tables, read_tables
from tests.support.shared import PUBLISHED, published_only
from tests.support.simulated_readouts import (
    MASS,
    VECTORS,
    joined,
    renamed,
    simulated_choice,
    simulated_comparison,
    simulated_detection,
    simulated_localisation,
    simulated_ratings,
)
from tests.test_introspection_table import hand_made_task, run_offline

pytestmark = pytest.mark.slow

FEW = VECTORS[:8]
# A gap of its own for every vector, so that a mix-up shows.
OWN = {name: 0.02 * place - 0.04 for place, name in enumerate(FEW)}


def few(**changes) -> Tables:
    """Return a small simulated experiment."""
    return simulated_choice(**{"gaps": OWN, "vectors": FEW, "questions": 2, "options": 4, "uncached": 0.25, **changes})


def only(frame: pd.DataFrame, **values: object) -> pd.Series:
    """Return the one row that has these values."""
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


# ---------------------------------------------------------------- one row a rollout


def test_a_rollouts_gap_is_what_the_true_option_gains():
    """Cached, uncached, their gap and the letters' mass come out of the read-outs, for each vector its own."""
    found = gap_table(few())
    assert len(found) == 2 * len(FEW)
    assert found["gap"].to_numpy() == pytest.approx(found["vector"].map(OWN).to_numpy())
    assert found["cached"].to_numpy() == pytest.approx(0.25 + found["vector"].map(OWN).to_numpy())
    assert found[["uncached", "letter_mass"]].to_numpy() == pytest.approx(np.tile([0.25, MASS], (len(found), 1)))
    assert set(found["measure"]) == {SHARE}
    assert set(found["options"]) == {4.0}


def test_a_cached_reading_is_compared_with_the_uncached_one_of_its_rotation():
    """Rotations differ in what is read without a window, and directions are read in one rotation each."""
    tables = few(vectors=FEW[:1], questions=1, gaps=0.1, arms={"random": 1.0}, directions=3)
    readouts = tables.readouts.copy()
    turned = readouts["rotation"] == 2
    readouts.loc[turned & readouts["is_true"], "share"] += 0.2
    pairs = reading_pairs(replace(tables, readouts=readouts)).sort_values("direction")
    assert list(pairs["rotation"]) == [0, 2, 0]
    assert list(pairs["uncached"]) == pytest.approx([0.25, 0.45, 0.25])
    assert list(pairs["gap"]) == pytest.approx([0.1, 0.09, 0.08])
    row = gap_table(replace(tables, readouts=readouts)).iloc[0]
    # Two directions in the first rotation, one in the second; without a window each rotation counts once.
    assert [row["gap"], row["cached"], row["uncached"]] == pytest.approx([0.09, (0.35 + 0.54 + 0.33) / 3, 0.35])


def test_the_gaps_are_those_that_the_log_and_its_table_have(tmp_path: Path):
    """From a log of our own: the scorer's gap in every rollout, the arms' means and the comparisons of `self-steering table`."""
    log = run_offline(hand_made_task(), tmp_path)
    tables, samples = read_tables(tmp_path), scored_table(read_eval_log(log.location))
    found = gap_table(tables)
    for sample, row in ((s, only(found, sample=s.id)) for s in log.samples):
        value = sample.scores["introspection_scorer"].value
        names = ("gap", "cached", "uncached", "letter_mass")
        assert list(row[list(names)]) == pytest.approx([value[name] for name in names], abs=1e-12)
    means = condition_gaps(found)
    for arm in ("real", "random", "other"):
        row, effect = only(means, arm=arm), arm_effect(samples, arm)
        assert row["gap"] == pytest.approx(effect["difference"], abs=1e-12)
        assert (row["n"], row["vectors"]) == (effect["pairs"], effect["vectors"])
    # In the real arm alone vectors differ; where none does the report gives no interval.
    row, effect = only(means, arm="real"), arm_effect(samples, "real")
    ends = ["low", "high", "low_by_problem", "high_by_problem"]
    assert list(row[[f"gap_{end}" for end in ends]]) == pytest.approx(
        [effect[f"difference_{end}"] for end in ends], abs=1e-12
    )
    comparisons = arm_comparisons(tables).to_dict("records")
    for row, effect in zip(comparisons, primary_effects(samples), strict=True):
        assert row["comparison"] == effect.pop("comparison")
        assert [row[name] for name in effect] == pytest.approx(list(effect.values()))


def test_rollouts_without_a_pair_of_readings_are_counted_by_reason():
    """They are in no table of gaps; the scorer's reason is given where there is one."""
    tables = few()
    first, second, third = tables.rollouts["rollout"][:3]
    kept = tables.readouts[~tables.readouts["rollout"].isin([first, second])]
    kept = kept[(kept["rollout"] != third) | (kept["reading"] == "cached")]
    scores = tables.scores.copy()
    scores.loc[scores["rollout"] == first, ["value", "reason"]] = [math.nan, "no_response"]
    lacking = replace(tables, readouts=kept, scores=scores)
    assert without_gap(lacking, "introspection") == {"a reading is missing": 2, "no_response": 1}
    assert len(gap_table(lacking)) == len(tables.rollouts) - 3
    assert without_gap(tables, "introspection") == {}


def test_the_studys_readings_are_a_measure_of_their_own():
    """One model in the logs of both is in two rows, and neither mean is touched by the other."""
    both = joined(few(gaps=0.1, within=1e-9, models=["qwen"]), few(gaps=0.3, models=["qwen"], source="study"))
    found = condition_gaps(gap_table(both))
    assert dict(zip(found["measure"], found["gap"], strict=True)) == pytest.approx({SHARE: 0.1, TOP_20: 0.3})
    assert list(found["n"]) == [16, 16]
    assert found["gap_low_by_problem"].notna().tolist() == [True, False]  # the study's rollouts share no problem


@published_only
def test_the_studys_logs_give_the_gaps_that_their_scores_say():
    """Mean cached less mean uncached score of each multiple-choice log, at its dose, under its primer."""
    found = condition_gaps(gap_table(read_tables(*sorted(PUBLISHED.glob("*calib*.eval")))))
    assert len(found) == 2
    for path in PUBLISHED.glob("*calib*.eval"):
        log = read_eval_log(str(path))
        values = {
            name: np.mean([sample.scores[f"logprob_{name}_score"].value for sample in log.samples])
            for name in ("cached", "uncached")
        }
        row = only(found, model=log.eval.model.partition("/")[2])
        assert row["gap"] == pytest.approx(values["cached"] - values["uncached"], abs=1e-12)
        assert (row["doses"], row["n"], row["options"]) == (f"{log.eval.task_args['dose']:g}", len(log.samples), 10)
        assert row["primer"] == ("introspection" if log.eval.task_args["introspection_primer"] else "none")


def test_what_differs_is_never_averaged_together():
    """Models, primers, arms, framings and numbers of options: a row each, with its own mean."""
    tables = joined(
        few(gaps=0.1, models=["a", "b"], primers=["none", "lorem"], arms={"real": 1, "other": 0.5}),
        renamed(few(gaps=0.2, models=["a"]), "-framed", framing="drugs"),
        renamed(few(gaps=0.3, models=["a"], options=3), "-three"),
    )
    found = condition_gaps(gap_table(tables))
    assert len(found) == 2 * 2 * 2 + 1 + 1
    assert only(found, model="a", primer="lorem", arm="other")["gap"] == pytest.approx(0.05)
    assert only(found, framing="drugs")["gap"] == pytest.approx(0.2)
    assert only(found, options=3)["gap"] == pytest.approx(0.3)


def test_ratings_have_both_readings_and_a_zero_of_the_study_counts():
    """The study rates from 0 to 1, and 0 is one of its ratings; an uncached rating that was not made leaves its rollout out."""
    study = simulated_ratings(source="study", vectors=FEW, gaps=-0.5, noise=0.0)
    scores = study.scores.copy()
    first = scores["rollout"] == study.rollouts["rollout"][0]
    scores.loc[first & (scores["scorer"] == "kv_cleared_score"), ["value", "reason"]] = [
        math.nan,
        "it was not measured",
    ]
    found = rating_table(joined(replace(study, scores=scores), simulated_ratings(vectors=FEW, gaps=2.0, noise=0.0)))
    means = condition_gaps(found)
    assert only(means, source="study")[["n", "cached", "gap"]].tolist() == pytest.approx([31, 0.0, -0.5])
    assert only(means, source="self_steering")[["n", "cached", "gap"]].tolist() == pytest.approx([32, 7.5, 2.0])
    assert without_gap(replace(study, scores=scores), "free_text") == {"it was not measured": 1}


# ---------------------------------------------------------------- means, intervals and tests


def test_intervals_cover_the_truth_and_tests_keep_their_level_under_clustering():
    """Vectors differ more than questions: in 120 simulated logs 95 % of intervals hold the mean over all vectors."""
    frame = gap_table(few(vectors=VECTORS[:10], questions=4, gaps=0.0))
    rng = np.random.default_rng(1)
    covered = rejected = 0
    for _ in range(120):
        between = dict(zip(VECTORS[:10], rng.normal(size=10), strict=True))
        gaps = frame.assign(gap=frame["vector"].map(between) + 0.3 * rng.normal(size=len(frame)))
        row = condition_gaps(gaps).iloc[0]
        covered += row["gap_low"] <= 0 <= row["gap_high"]
        rejected += row["p"] <= 0.05
    assert 107 <= covered <= 119
    assert 1 <= rejected <= 13


def test_no_test_is_made_where_nothing_differs_or_there_is_one_vector():
    """Placebo is the same to the bit, and one vector is one cluster: both rows say so, and neither counts in the correction."""
    found = condition_gaps(gap_table(few(arms={"real": 1.0, "placebo": 0.0})))
    placebo, real = only(found, arm="placebo"), only(found, arm="real")
    assert math.isnan(placebo["p"])
    assert placebo["test"] == "no difference anywhere"
    assert real["p"] == real["p_adjusted"] < 1
    one = condition_gaps(gap_table(few(vectors=FEW[:1]))).iloc[0]
    assert math.isnan(one["gap_low"])
    assert one["test"] == "no test with one vector"


def test_conditions_are_corrected_among_each_other():
    """Four conditions of one arm are one family by Benjamini and Hochberg, each choice of doses for itself."""
    found = condition_gaps(gap_table(few(models=["a", "b"], primers={"none": 1, "lorem": 0.0}, within=0.05, gaps=0.04)))
    assert len(found) == 4
    ordered = found.sort_values("p")
    worst = (ordered["p"] * 4 / np.arange(1, 5))[::-1].cummin()[::-1]
    assert ordered["p_adjusted"].tolist() == pytest.approx(worst.clip(upper=1).tolist())
    assert (found["p_adjusted"] > found["p"]).any()


def test_a_primers_effect_is_paired_by_vector():
    """Vectors that lie far apart cancel, so that a small constant effect is found; its doses are no clusters."""
    more = {name: gap + 0.01 for name, gap in OWN.items()}
    doses = (1.0, 2.0)
    tables = joined(few(doses=doses), few(gaps=more, doses=doses, primers=["introspection"]))
    (row,) = primer_effects(gap_table(tables)).to_dict("records")
    assert (row["primer"], row["vectors"], row["n"]) == ("introspection", 8, 16)
    assert row["gap"] == pytest.approx(0.01)
    assert math.isnan(row["gap_low"])  # all vectors agree, which an interval without a width would take for certainty
    assert row["p"] == pytest.approx(2 / 2**8)
    assert primer_effects(gap_table(few())).empty


def test_a_vectors_interval_is_over_its_wordings():
    """Rollouts of one wording are averaged first; a vector that was asked in one wording only has no interval."""
    frame = gap_table(few(questions=8, within=0.03))
    row = only(vector_gaps(frame), vector=FEW[3])
    means = frame[frame["vector"] == FEW[3]].groupby("problem")["gap"].mean()
    assert (row["n"], row["problems"]) == (8, 4)
    assert row["gap"] == pytest.approx(means.mean())
    assert row["gap_high"] - row["gap"] == pytest.approx(3.182446 * means.std() / 2)
    assert vector_gaps(gap_table(few(questions=1)))["gap_low"].isna().all()
    study = vector_gaps(gap_table(few(questions=5, source="study", within=0.03)))
    assert set(study["problems"]) == {5}  # without names of problems each rollout is its own cluster


# ---------------------------------------------------------------- doses


def test_all_each_and_the_calibrated_dose_are_told_apart():
    """Identification peaks at dose 2 for vectors that gain; those that never do take the dose next to the others' mean."""
    tables = few(doses={1.0: 0.5, 2.0: 1.0, 4.0: 0.25})
    frame = gap_table(tables)
    found = calibrated_doses(frame).set_index("vector")
    gaining = [name for name, gap in OWN.items() if gap > 0]
    assert found["peaked"].to_dict() == {name: name in gaining for name in FEW}
    assert set(found["dose"]) == {2.0}
    rows = condition_gaps(frame).set_index("doses")
    mean = np.mean(list(OWN.values()))
    assert rows["gap"].to_dict() == pytest.approx(
        {"all": mean * 1.75 / 3, "calibrated": mean, "1": mean / 2, "2": mean, "4": mean / 4}
    )
    assert rows["n"].to_dict() == {"all": 48, "calibrated": 16, "1": 16, "2": 16, "4": 16}
    assert condition_gaps(gap_table(few()))["doses"].tolist() == ["1"]


def test_every_vector_has_a_calibrated_dose_of_its_own_which_its_other_arms_follow():
    """Half of the vectors peak at dose 1, the others at dose 3, whatever peaks in another arm."""
    low = few(vectors=FEW[:4], gaps=0.1, doses={1.0: 1, 3.0: 0.5})
    high = few(vectors=FEW[4:], gaps=0.1, doses={1.0: 0.5, 3.0: 1})
    other = renamed(few(gaps=0.3, doses={1.0: 2, 3.0: 1}, arms={"other": 1.0}), "-other")
    chosen = at_doses(pd.concat([gap_table(low), gap_table(high), gap_table(other)]), "calibrated")
    of_arms = {arm: set(zip(part["vector"], part["dose"], strict=True)) for arm, part in chosen.groupby("arm")}
    expected = {(vector, 1.0 if vector in FEW[:4] else 3.0) for vector in FEW}
    assert of_arms == {"real": expected, "other": expected}


# ---------------------------------------------------------------- arms


def test_a_question_is_told_by_its_options_as_well():
    """Two questions of one vector and wording are two; the one that an arm was not asked is compared with nothing."""
    tables = few(questions=8, arms={"real": 1.0, "other": 0.5})
    asked = tables.rollouts["sample"].str.fullmatch(r".*-4-other")
    gone = tables.rollouts.loc[asked, "rollout"]
    lacking = replace(tables, readouts=tables.readouts[~tables.readouts["rollout"].isin(gone)])
    assert len(gone) == len(FEW)
    assert arm_comparisons(lacking).set_index("comparison")["pairs"].to_dict() == {"real": 64, "real - other": 56}


def test_the_real_gap_is_ranked_among_random_directions():
    """Directions of one number are others under another seed."""
    arms = {"real": 1.0, "random": 1.05}
    one = few(arms=arms, gaps=0.1, directions=3)  # directions' gaps: 0.105, 0.0945, 0.084
    row = arm_comparisons(one).iloc[0]
    assert (row["random_directions"], row["random_above"], row["random_p"]) == (3, 1, 0.5)
    both = joined(one, renamed(few(arms=arms, gaps=0.1, directions=3, seed=5), "-again"))
    assert arm_comparisons(both).iloc[0][["random_directions", "random_above"]].tolist() == [6, 2]
    assert sorted(direction_gaps(both)["gap"]) == pytest.approx([0.084] * 2 + [0.0945] * 2 + [0.105] * 2)


# ---------------------------------------------------------------- agreement


def test_models_agree_as_far_as_their_gaps_do():
    """The same gaps correlate perfectly, the same upside down the other way; vectors that one model lacks are left out."""
    turned = {name: 0.2 - gap for name, gap in OWN.items()}
    tables = joined(few(models=["a", "b"]), few(models=["c"], gaps=turned, vectors=FEW[:6]))
    pairs = model_pairs(vector_gaps(gap_table(tables)))
    found = correlations(pairs).set_index(["first", "second"])
    assert found["vectors"].to_dict() == {("a", "b"): 8, ("a", "c"): 6, ("b", "c"): 6}
    assert found["pearson"].tolist() == pytest.approx([1, -1, -1])
    assert found["spearman"].tolist() == pytest.approx([1, -1, -1])
    row = only(pairs, first="a", second="c", vector=FEW[5])
    assert [row["x"], row["y"]] == pytest.approx([OWN[FEW[5]], turned[FEW[5]]])


def test_free_text_is_set_against_the_multiple_choice_of_the_same_model_and_primer():
    """Ratings that gain where options gain correlate; those of another primer are no partner."""
    rated = {name: 5 * gap for name, gap in OWN.items()}
    choice = vector_gaps(gap_table(few()))
    ratings = joined(
        simulated_ratings(gaps=rated, vectors=FEW, noise=0.0), simulated_ratings(primer="introspection", vectors=FEW)
    )
    pairs = experiment_pairs(choice, vector_gaps(rating_table(ratings)))
    assert pairs["y"].to_numpy() == pytest.approx(5 * pairs["x"].to_numpy())
    assert len(pairs) == 8
    assert experiment_pairs(choice, vector_gaps(rating_table(empty_tables()))).empty


# ---------------------------------------------------------------- detection, localisation, comparison


def test_detection_finds_the_d_prime_that_was_put_in():
    """The d' and AUROC of normal log-odds, the net shift, false alarms and their bound, at every dose and arm."""
    found = detection_conditions(simulated_detection(shifts={0.5: 0.5, 1.0: 1.5}, random=0.4, trials=20))
    for dose, truth in ((0.5, 0.5), (1.0, 1.5)):
        for arm, by in (("real", truth), ("random", 0.4 * truth)):
            row = only(found, arm=arm, dose=dose)
            assert row["n"] == 800
            assert row["d_prime_low"] <= by <= row["d_prime_high"]
            assert row["auroc_low"] <= norm.cdf(by / math.sqrt(2)) <= row["auroc_high"]
            assert row["net_shift"] == pytest.approx(by, abs=0.04)
            assert row["beyond_line"] == pytest.approx(by, abs=0.04)
            assert row["d_prime_high"] - row["d_prime_low"] < 0.5
        over = only(found, arm="real", dose=dose)["auroc_over_random"]
        assert over == pytest.approx(norm.cdf(0.6 * truth / math.sqrt(2)), abs=0.03)
    clean = only(found, arm="placebo")
    assert (clean["n"], clean["dose"]) == (800, 0.0)
    assert clean["false_positives"] / 800 < clean["bound"] < clean["false_positives"] / 800 + 0.05
    assert clean["false_positives"] == pytest.approx(400, abs=50)


def test_localisation_has_an_accuracy_for_every_place():
    """Right at the first place and nowhere else, in the arm that was told so."""
    found = score_table(
        simulated_localisation(right={"real": [1.0, 0.0, 0.0, 0.0], "random": [0.0] * 4}), "localisation"
    )
    by_place = accuracy(found, "top1_cached", ["place"])
    assert only(by_place, arm="real", place=0)["right"] == 1
    assert by_place["right"].sum() == 1
    assert only(by_place, arm="real", place=0)["right_low"] == pytest.approx(0.9124, abs=1e-4)  # Wilson's, 40 of 40
    overall = accuracy(found, "top1_cached", [])
    assert only(overall, arm="real")[["right", "n", "vectors", "p"]].tolist() == [0.25, 160, 40, 1.0]
    assert only(overall, arm="random")["p"] < 0.001  # never right is less than one in four


def test_a_share_has_an_interval_within_its_range_that_is_never_a_point():
    """One trial a cluster has Wilson's interval; clusters that agree do too; otherwise it is a t-interval kept within 0 and 1."""
    once = share(pd.Series([1.0, 0.0, 0.0, 0.0]), pd.Series(list("abcd")))
    assert (once.method, once.low > 0, once.high < 1) == ("Wilson", True, True)
    agreed = share(pd.Series([0.0] * 6), pd.Series(list("aabbcc")))
    assert (agreed.low, agreed.n, agreed.clusters) == (pytest.approx(0.0), 6, 3)
    assert 0.5 < agreed.high < 0.6
    mixed = share(pd.Series([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), pd.Series(list("aabbcc")))
    assert (mixed.value, mixed.low, mixed.high) == (pytest.approx(1 / 3), 0.0, 1.0)


def test_a_liking_for_the_first_sentence_shows_by_order_and_not_overall():
    """Without any knowledge the first is named throughout: right in one assignment, wrong in the other."""
    tables = simulated_comparison(told={"real": 0.0}, liking=20.0)
    by_order = accuracy(order_accuracy(tables), "right", ["harder"])
    assert only(by_order, harder="first")["right"] == 1
    assert only(by_order, harder="second")["right"] == 0
    overall = accuracy(score_table(tables, "comparison"), "right", [])
    assert only(overall, arm="real")["right_low"] < 0.5 < only(overall, arm="real")["right_high"]


def test_placebos_ratings_are_a_floor_and_words_of_all_descriptions_attractors():
    """The floor needs no uncached reading; a word under many vectors comes before one under a few."""
    tables = simulated_ratings(vectors=FEW, noise=0.0)
    scores = tables.scores[tables.scores["score"] == "cached"].assign(arm="placebo")
    place = scores["vector"].map(list(FEW).index)
    scores["answer"] = ["It is reflective" + " and playful" * (at < 2) for at in place]
    floor = cached_ratings(replace(tables, scores=scores))
    assert floor[["arm", "n", "vectors", "cached"]].to_numpy().tolist() == [["placebo", 32, 8, 5.5]]
    found = attractors(replace(tables, scores=scores))
    assert found[["word", "guesses", "vectors", "all_vectors"]].to_numpy().tolist() == [
        ["reflective", 32, 8, 8],
        ["playful", 8, 2, 8],
    ]
