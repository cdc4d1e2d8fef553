"""Clustered means and their intervals, against the formulas."""

import math
from collections.abc import Sequence

import pytest
from inspect_ai.log import EvalSample
from inspect_ai.scorer import SampleScore, Score

from self_steering.analysis.report.summary import RANGES, SUMMARIES, by_key, summarise, total
from self_steering.scorers.metrics import clustered_mean
from tests.support.summaries import flat


def test_a_cluster_of_weight_zero_is_none():
    """It has no say in the mean, nor in the number of clusters."""
    with_it = clustered_mean([1.0, 2.0, 9.0], ["a", "b", "c"], [1, 3, 0])
    assert with_it == clustered_mean([1.0, 2.0], ["a", "b"], [1, 3])
    assert with_it.value == 1.75
    with pytest.raises(ValueError, match="weight above 0"):
        clustered_mean([1.0], ["a"], [0])


def sample(value: float, **metadata) -> SampleScore:
    return SampleScore(score=Score(value=value), sample_metadata=metadata)


def interval(clusters: Sequence[Sequence[float]], quantile: float) -> tuple[float, float]:
    """Return mean ± quantile times the cluster-robust standard error, with the finite-cluster correction."""
    values = [value for cluster in clusters for value in cluster]
    mean = sum(values) / len(values)
    squares = sum(sum(value - mean for value in cluster) ** 2 for cluster in clusters)
    error = math.sqrt(squares * len(clusters) / (len(clusters) - 1)) / len(values)
    return mean - quantile * error, mean + quantile * error


# Student's t at 97.5 % in closed form, for one and for two degrees of freedom.
T_1 = math.tan(math.pi * 0.475)
T_2 = 0.95 / math.sqrt(2 * 0.975 * 0.025)


def test_mean_and_interval_follow_the_clusters():
    """The mean is over samples; the interval's error and degrees of freedom are over clusters, of unequal size here."""
    clusters = {"calm": [0.1, 0.2, 0.15], "proud": [0.5], "honest": [0.3, -0.1]}
    scores = [sample(v, arm="real", vector=name) for name, values in clusters.items() for v in values]
    result = flat(by_key("arm")(scores))
    low, high = interval(list(clusters.values()), T_2)
    assert result == pytest.approx({"real": 1.15 / 6, "real_lower": low, "real_upper": high}, rel=1e-6)
    unclustered = interval([[v] for values in clusters.values() for v in values], T_2)
    assert result["real_lower"] != pytest.approx(unclustered[0], rel=1e-2)


def test_groups_do_not_mix():
    """Each value of the key has its own mean and interval, whatever the order of samples."""
    real = [sample(v, arm="real", vector=n) for n, v in (("calm", 1.0), ("proud", 0.0))]
    placebo = [sample(v, arm="placebo", vector=n) for n, v in (("calm", 0.2), ("proud", 0.4))]
    result = flat(by_key("arm")([real[0], placebo[0], placebo[1], real[1]]))
    low, high = interval([[0.2], [0.4]], T_1)
    assert result["real"] == 0.5
    assert (result["placebo"], result["placebo_lower"], result["placebo_upper"]) == pytest.approx((0.3, low, high))


def test_a_second_key_comes_first_in_the_name():
    """Grouped within another key, names read `WITHIN/VALUE`."""
    scores = [sample(1.0, arm="real", valence=-1, vector="calm"), sample(0.0, arm="random", valence=-1, vector="calm")]
    assert flat(by_key("valence", within="arm")(scores)) == {"real/-1": 1.0, "random/-1": 0.0}


def test_one_cluster_has_no_interval():
    """However many samples there are, one vector tells nothing of how vectors vary."""
    scores = [sample(v, arm="real", vector="calm") for v in (0.1, 0.2, 0.6)]
    assert flat(by_key("arm")(scores)) == {"real": pytest.approx(0.3)}


def test_the_cluster_is_the_one_that_was_asked_for():
    """Another key of the metadata can be the cluster."""
    scores = [sample(v, arm="real", vector="calm", problem=n) for n, v in enumerate((0.0, 1.0))]
    assert flat(by_key("arm", cluster="problem")(scores))["real_lower"] == pytest.approx(interval([[0], [1]], T_1)[0])


def test_a_sample_without_the_key_is_an_error():
    """A misnamed key is not a group of its own."""
    with pytest.raises(KeyError, match="arm"):
        flat(by_key("arm")([sample(1.0, vector="calm")]))


def test_a_second_cluster_has_an_interval_of_its_own():
    """Beside that over the first key, with the key in its name; the mean is there once."""
    values = {("calm", 0): 0.1, ("calm", 1): 0.3, ("proud", 0): 0.2, ("proud", 1): 0.7, ("soma", 2): 0.5}
    scores = [sample(v, arm="real", vector=name, wording=w) for (name, w), v in values.items()]
    result = flat(by_key("arm", second="wording")(scores))
    low, high = interval([[0.1, 0.3], [0.2, 0.7], [0.5]], T_2)
    assert (result["real_lower"], result["real_upper"]) == pytest.approx((low, high))
    low, high = interval([[0.1, 0.2], [0.3, 0.7], [0.5]], T_2)
    assert (result["real_lower_by_wording"], result["real_upper_by_wording"]) == pytest.approx((low, high))
    assert sorted(name for name in result if "_" not in name) == ["real"]


def test_one_second_cluster_has_no_second_interval():
    """A single wording tells nothing of how wordings vary."""
    scores = [sample(v, arm="real", vector=name, wording=0) for name, v in (("calm", 0.1), ("proud", 0.2))]
    assert sorted(flat(by_key("arm", second="wording")(scores))) == ["real", "real_lower", "real_upper"]


def test_a_total_is_the_sum_over_samples():
    """Costs add up."""
    assert total([sample(2.0), sample(0.5)])["total"].value == 2.5


def test_no_interval_leaves_the_range_of_its_score():
    """A share's ends between 0 and 1, though few clusters would let it go beyond; a shift's ends where it likes."""
    values = {"c0": 1.0, "c1": 1.0, "c2": 0.0}
    samples = [
        EvalSample(
            id=name,
            epoch=1,
            input="",
            target="",
            metadata={"condition": "real@1", "vector": name, "prompt": name},
            scores={"detection_scorer": Score(value={"controls_right": value, "shift": value})},
        )
        for name, value in values.items()
    ]
    found = {row.score: row.figure for row in summarise(samples) if row.cell == "real@1"}
    low, high = interval([[1.0], [1.0], [0.0]], T_2)
    assert low < 0
    assert high > 1
    assert found["shift"].interval == found["shift"].second == pytest.approx((low, high))
    assert found["controls_right"].interval == (0.0, 1.0)


def test_every_score_with_a_range_is_summarised():
    """A name that is misspelt would leave its intervals as they are."""
    assert RANGES.keys() <= {key for scores in SUMMARIES.values() for key in scores}
