"""Intervals, tests and power of the introspection statistics, against scipy and against simulated data."""

import gc
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy import stats

from self_steering.analysis.introspection.arms import Scored, arm_effect, primary_effects, rank_among_random

VECTORS = ("calm", "proud", "soma", "honest", "lsd", "spice", "curious", "focused")


def scored(arm: str, vector: str, gap: float, question: int = 0, wording: int = 0, **more) -> Scored:
    """Return a sample; its question is told by its options' names."""
    trial = {"arm": arm, "vector": vector, "applied": vector, "wording": wording, "options": [vector, str(question)]}
    return Scored(trial, {"gap": gap}, more)


def arms(values: dict[str, np.ndarray]) -> list[Scored]:
    """Return samples of gaps [vectors, questions] by arm, the same questions in all."""
    return [
        scored(arm, VECTORS[row], float(gap), column, wording=column % 2)
        for arm, gaps in values.items()
        for (row, column), gap in np.ndenumerate(gaps)
    ]


def normal(seed: int, vectors: int = 8, questions: int = 3, *, mean: float = 0, between: float = 1) -> np.ndarray:
    """Return gaps [vectors, questions] that vary between vectors, and half as much within."""
    rng = np.random.default_rng(seed)
    return mean + between * rng.normal(size=(vectors, 1)) + 0.5 * rng.normal(size=(vectors, questions))


# ---------------------------------------------------------------- against scipy


def test_an_arms_mean_is_over_samples_and_its_interval_over_vectors():
    """With as many samples a vector, the interval and the test are those of the vectors' means."""
    gaps = {"calm": [0.1, 0.5], "proud": [0.5, 0.5], "soma": [0.0, -0.2]}
    samples = [scored("real", vector, gap, n) for vector, of in gaps.items() for n, gap in enumerate(of)]
    means = [np.mean(of) for of in gaps.values()]
    effect = arm_effect(samples, "real", "gap")
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert (effect.n, effect.by_vector.clusters) == (6, 3)
    assert effect.mean == pytest.approx((0.3 + 0.5 - 0.1) / 3)
    assert (effect.by_vector.low, effect.by_vector.high) == pytest.approx((low, high))
    assert effect.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)


def test_a_second_interval_is_over_the_wordings_means():
    """The wordings' means and number make it."""
    gaps = normal(0, questions=6)
    effect = arm_effect(arms({"real": gaps}), "real", "gap")
    means = [gaps[:, wording::2].mean() for wording in (0, 1)]
    assert effect.by_wording.clusters == 2
    assert (effect.by_wording.low, effect.by_wording.high) == pytest.approx(
        stats.t.interval(0.95, 1, np.mean(means), stats.sem(means))
    )


def test_any_score_can_be_averaged_and_one_that_is_nowhere_is_none():
    """Samples without it do not count."""
    samples = [scored("real", "calm", 0.1), scored("real", "proud", 0.3)]
    assert arm_effect(samples, "real", "gap_near") is None
    assert arm_effect(samples, "placebo", "gap") is None
    with_near = Scored(samples[0].trial, {"gap": 0.1, "gap_near": 0.7}, {})
    assert arm_effect([with_near, samples[1]], "real", "gap_near").n == 1


def test_arms_are_compared_question_by_question():
    """The test is the paired t-test over vectors, whatever the order of samples."""
    real, random, other = (normal(seed) for seed in range(3))
    samples = arms({"real": real, "random": random, "other": other})
    found = {effect.name: effect for effect in primary_effects(samples[::-1])}
    assert list(found) == ["real", "real - random", "real - other"]
    for name, gaps in (("random", random), ("other", other)):
        effect = found[f"real - {name}"]
        expected = stats.ttest_rel(real.mean(1), gaps.mean(1))
        assert (effect.n, effect.mean) == (24, pytest.approx((real - gaps).mean()))
        assert effect.p == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert (effect.by_vector.low, effect.by_vector.high) == pytest.approx((interval.low, interval.high))


def test_questions_without_a_partner_are_left_out_of_a_comparison():
    """A pair needs both arms, the same options and the same wording."""
    samples = [
        scored("real", "calm", 0.5, 0), scored("other", "calm", 0.1, 0), scored("real", "calm", 0.9, 1),
        scored("real", "proud", 0.3, 0, wording=1), scored("other", "proud", 0.9, 0, wording=2),
        scored("real", "soma", 0.3, 0), scored("other", "soma", 0.2, 0),
    ]  # fmt: skip
    effect = {effect.name: effect for effect in primary_effects(samples)}["real - other"]
    assert (effect.n, effect.mean) == (2, pytest.approx((0.4 + 0.1) / 2))


def test_a_question_that_was_asked_twice_is_compared_with_its_mean():
    """Neither of the two is lost."""
    samples = [scored("real", v, 0.5) for v in ("calm", "calm", "proud")]
    samples += [scored("other", v, gap) for v, gap in (("calm", 0.0), ("calm", 0.2), ("proud", 0.3))]
    effect = {effect.name: effect for effect in primary_effects(samples)}["real - other"]
    assert effect.mean == pytest.approx((0.4 + 0.4 + 0.2) / 3)


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p by its definition."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, so_far = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = so_far
    return adjusted


def test_primary_comparisons_are_corrected_together_by_holms_method():
    """The smallest p is multiplied by how many there are, the next by one less, and none falls below one before it."""
    gaps = {
        "real": normal(0, mean=1.2),
        "random": normal(1, mean=-0.2),
        "other": normal(2, mean=1.0),
        "opposite": normal(3, mean=-2.5),
    }
    effects = primary_effects(arms(gaps))
    p = [effect.p for effect in effects]
    assert len(set(p)) == 4
    assert min(p) < 0.01 < max(p)
    assert [effect.p_holm for effect in effects] == pytest.approx(holm(p))


def test_one_comparison_alone_is_not_corrected():
    """Holm over one is nothing."""
    (effect,) = primary_effects(arms({"real": normal(0), "placebo": normal(1)}))
    assert effect.name == "real"
    assert effect.p_holm == pytest.approx(effect.p)


def test_without_the_real_arm_there_is_nothing_to_compare():
    """No comparison, and no error."""
    assert primary_effects(arms({"placebo": normal(0), "other": normal(1)})) == []


def test_one_vector_has_neither_interval_nor_test():
    """However many samples there are, one vector tells nothing of how vectors vary."""
    (effect,) = primary_effects([scored("real", "calm", gap, n) for n, gap in enumerate((0.1, 0.2, 0.4))])
    assert effect.mean == pytest.approx(0.7 / 3)
    assert (effect.by_vector.low, effect.p, effect.p_holm, effect.detectable) == (None,) * 4


@pytest.mark.parametrize("rounding", [0.0, 1e-14])
def test_gaps_that_do_not_vary_are_not_tested(rounding: float):
    """A placebo's zeros have no p, nor have values that differ by rounding alone; and they leave the others' correction alone."""
    still = np.full((8, 3), 0.25)
    still[::2] += rounding
    effects = {e.name: e for e in primary_effects(arms({"real": normal(0), "other": normal(0) - still}))}
    assert (effects["real - other"].p, effects["real - other"].p_holm) == (None, None)
    assert effects["real"].p_holm == pytest.approx(effects["real"].p)


# ---------------------------------------------------------------- against simulated data


SIMULATIONS = 400


def test_intervals_cover_the_truth_and_tests_keep_their_level_over_clustered_data():
    """Though the samples of a vector are alike: 95 % and 5 %, within three standard errors of the simulation."""
    effects = [arm_effect(arms({"real": normal(seed, mean=0.3)}), "real", "gap") for seed in range(SIMULATIONS)]
    covered = np.mean([e.by_vector.low <= 0.3 <= e.by_vector.high for e in effects])
    null = [arm_effect(arms({"real": normal(seed + 10_000)}), "real", "gap") for seed in range(SIMULATIONS)]
    error = 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)
    assert covered == pytest.approx(0.95, abs=error)
    assert np.mean([e.p < 0.05 for e in null]) == pytest.approx(0.05, abs=error)


@pytest.fixture
def frozen_garbage() -> Iterator[None]:
    """Keep what there is out of garbage collection: statsmodels collects it all in each of its corrections."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_garbage")
def test_no_primary_comparison_is_found_where_there_is_none():
    """Over all four together, something is significant in no more than 5 % of logs."""
    wrong = 0
    for seed in range(200):
        names = ("real", "random", "other", "opposite")
        gaps = {name: normal(4 * seed + number) for number, name in enumerate(names)}
        wrong += any(effect.p_holm < 0.05 for effect in primary_effects(arms(gaps)))
    assert wrong / 200 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("vectors", [4, 8])
def test_the_detectable_effect_is_found_with_the_power_it_claims(vectors: int):
    """At the true mean that a typical log of the design calls detectable, about four tests in five find it."""
    null = [arm_effect(arms({"real": normal(s, vectors)}), "real", "gap") for s in range(SIMULATIONS)]
    # The spread, and so the figure, varies from log to log; its root mean square is that of the true spread.
    at = math.sqrt(np.mean([effect.detectable**2 for effect in null]))
    there = (normal(s + 10_000, vectors, mean=at) for s in range(SIMULATIONS))
    power = np.mean([arm_effect(arms({"real": gaps}), "real", "gap").p < 0.05 for gaps in there])
    assert 0.72 < power < 0.88


# ---------------------------------------------------------------- among random directions


def random_sample(vector: str, gaps: dict[int, float]) -> Scored:
    listed = [{"direction": direction, "shift": 0, "gap": gap} for direction, gap in gaps.items()]
    return scored("random", vector, 0.0, gaps=listed)


def test_the_real_gap_is_ranked_among_the_directions_means():
    """Each direction's gap is averaged over questions first; one that is as large counts as above."""
    samples = [
        scored("real", "calm", 0.25),
        scored("real", "proud", 0.5),
        random_sample("calm", {0: 0.9, 1: 0.25, 2: 0.5, 3: 0.1}),
        random_sample("proud", {0: -0.9, 1: 0.5, 2: 0.5, 3: 0.4}),
        scored("other", "calm", 5.0),
    ]
    rank = rank_among_random(samples)
    assert (rank.directions, rank.above, rank.p) == (4, 2, 3 / 5)


def test_a_real_gap_above_all_directions_has_the_smallest_p_that_they_allow():
    """One over their number and one: 24 directions can show 4 %."""
    samples = [scored("real", "calm", 1.0), random_sample("calm", dict.fromkeys(range(24), 0.5))]
    rank = rank_among_random(samples)
    assert (rank.above, rank.p) == (0, 1 / 25)


def test_without_both_arms_there_is_no_rank():
    """Nothing to rank, or nothing to rank it among."""
    assert rank_among_random([scored("real", "calm", 1.0)]) is None
    assert rank_among_random([random_sample("calm", {0: 0.1})]) is None
