"""Intervals, tests and power of the introspection statistics, against scipy and against simulated data."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from self_steering.analysis.introspection.arms import arm_effect, primary_effects, rank_among_random
from self_steering.analysis.statistics.tests import holm

VECTORS = ("calm", "proud", "soma", "honest", "lsd", "spice", "curious", "focused")


def asked(*rows: tuple[str, str, float, int, int]) -> pd.DataFrame:
    """Return a table of (arm, vector, gap, question, wording)."""
    frame = pd.DataFrame(rows, columns=["arm", "vector", "gap", "question", "problem"])
    return frame.astype({"question": str, "problem": str})


def arms(**values: np.ndarray) -> pd.DataFrame:
    """Return gaps [vectors, questions] by arm as a table, the same questions in all."""
    return asked(
        *(
            (arm, VECTORS[row], float(gap), column, column % 2)
            for arm, gaps in values.items()
            for (row, column), gap in np.ndenumerate(gaps)
        )
    )


def normal(seed: int, vectors: int = 8, questions: int = 3, *, mean: float = 0, between: float = 1) -> np.ndarray:
    """Return gaps [vectors, questions] that vary between vectors, and half as much within."""
    rng = np.random.default_rng(seed)
    return mean + between * rng.normal(size=(vectors, 1)) + 0.5 * rng.normal(size=(vectors, questions))


def by_name(frame: pd.DataFrame) -> dict[str, dict]:
    return {row["comparison"]: row for row in primary_effects(frame)}


def test_an_arms_mean_is_over_samples_and_its_intervals_over_vectors_and_over_wordings():
    """With as many samples each, the intervals and the test are those of the means of vectors, and of wordings."""
    gaps = normal(0, questions=6)
    found = arm_effect(arms(real=gaps), "real")
    for means, by in ((gaps.mean(1), ""), ([gaps[:, wording::2].mean() for wording in (0, 1)], "_by_problem")):
        expected = stats.t.interval(0.95, len(means) - 1, np.mean(means), stats.sem(means))
        assert (found[f"difference_low{by}"], found[f"difference_high{by}"]) == pytest.approx(expected)
    assert (found["pairs"], found["vectors"], found["difference"]) == (48, 8, pytest.approx(gaps.mean()))
    assert found["p"] == pytest.approx(stats.ttest_1samp(gaps.mean(1), 0).pvalue)


def test_any_number_can_be_averaged_and_one_that_is_nowhere_is_none():
    """Samples without it do not count."""
    frame = arms(real=normal(0)).assign(gap_near=[0.7, *[np.nan] * 23])
    assert arm_effect(frame, "real", "gap_near")["pairs"] == 1
    assert arm_effect(frame, "real", "gap_far") is None
    assert arm_effect(frame, "placebo") is None


def test_arms_are_compared_question_by_question():
    """The test is the paired t-test over vectors, whatever the order of samples; Holm's correction is over all of them."""
    real, random, other = (normal(seed) for seed in range(3))
    found = by_name(arms(real=real, random=random, other=other)[::-1])
    assert list(found) == ["real", "real - random", "real - other"]
    for name, gaps in (("random", random), ("other", other)):
        row, expected = found[f"real - {name}"], stats.ttest_rel(real.mean(1), gaps.mean(1))
        assert (row["pairs"], row["difference"]) == (24, pytest.approx((real - gaps).mean()))
        assert row["p"] == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert [row["p_holm"] for row in found.values()] == holm([row["p"] for row in found.values()])
    assert by_name(arms(placebo=real, other=other)) == {}


def test_a_pair_needs_both_arms_and_the_same_question():
    """The same options and the same wording; one that was asked twice is compared with its mean."""
    frame = asked(
        *(("real", "calm", 0.5, 0, 0), ("other", "calm", 0.0, 0, 0), ("other", "calm", 0.2, 0, 0)),
        *(("real", "calm", 0.9, 1, 0), ("real", "proud", 0.3, 0, 1), ("other", "proud", 0.9, 0, 2)),
        *(("real", "soma", 0.3, 0, 0), ("other", "soma", 0.2, 0, 0)),
    )
    row = by_name(frame)["real - other"]
    assert (row["pairs"], row["difference"]) == (2, pytest.approx((0.4 + 0.1) / 2))


def test_one_vector_has_neither_interval_nor_test():
    """However many samples there are, one vector tells nothing of how vectors vary."""
    (row,) = primary_effects(asked(*(("real", "calm", gap, n, 0) for n, gap in enumerate((0.1, 0.2, 0.4)))))
    assert row["difference"] == pytest.approx(0.7 / 3)
    assert (row["difference_low"], row["p"], row["p_holm"], row["detectable"]) == (None,) * 4


@pytest.mark.parametrize("rounding", [0.0, 1e-14])
def test_gaps_that_do_not_vary_are_not_tested(rounding: float):
    """A placebo's zeros have no p, nor have values that differ by rounding alone; and they leave the others' correction alone."""
    still = np.full((8, 3), 0.25)
    still[::2] += rounding
    found = by_name(arms(real=normal(0), other=normal(0) - still))
    assert (found["real - other"]["p"], found["real - other"]["p_holm"]) == (None, None)
    assert found["real"]["p_holm"] == pytest.approx(found["real"]["p"])


def test_the_detectable_effect_is_found_with_the_power_it_claims():
    """At the mean that a typical log of the design calls detectable about four tests in five find it; without one, one in 20."""
    null = [arm_effect(arms(real=normal(seed)), "real") for seed in range(120)]
    assert np.mean([row["p"] < 0.05 for row in null]) == pytest.approx(0.05, abs=0.045)
    # The spread, and so the figure, varies from log to log; its root mean square is that of the true spread.
    at = math.sqrt(np.mean([row["detectable"] ** 2 for row in null]))
    there = [arm_effect(arms(real=normal(seed + 10_000, mean=at)), "real") for seed in range(120)]
    assert np.mean([row["p"] < 0.05 for row in there]) == pytest.approx(0.8, abs=0.09)


def test_the_real_gap_is_ranked_among_the_directions_means():
    """One that is as large counts as above; above all of 24 p is 1 in 25; without both arms there is no rank."""
    frame = asked(("real", "calm", 0.25, 0, 0), ("real", "proud", 0.5, 0, 0), ("other", "calm", 5.0, 0, 0))
    rank = rank_among_random(frame, pd.Series([0.0, 0.375, 0.5, 0.25]))
    assert list(rank.values()) == [4, 2, 3 / 5]
    assert rank_among_random(frame, pd.Series([0.1] * 24))["random_p"] == 1 / 25
    assert rank_among_random(frame, pd.Series(dtype=float))["random_p"] is None
    assert rank_among_random(frame[2:], pd.Series([0.1]))["random_p"] is None
