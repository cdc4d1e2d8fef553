"""Signal detection: d', AUROC, exact bounds and cluster intervals, against other computations and planted data."""

import math
import random
from itertools import product
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pytest
from inspect_ai.scorer import SampleScore, Score
from scipy.stats import mannwhitneyu

from self_steering.analysis.report.summary import detectability, false_alarms
from self_steering.analysis.statistics.resampling import tails
from self_steering.analysis.statistics.signal_detection import auroc, corrected_d_prime, d_prime, exact_upper_bound
from tests.support.summaries import flat

NORMAL = NormalDist()


class Trials(NamedTuple):
    """Values and clusters of trials."""

    values: np.ndarray
    clusters: list[str]


def found_by(statistic, signal: Trials, noise: Trials) -> tuple[float, tuple[float, float] | None]:
    found = statistic(signal.values, noise.values, signal.clusters, noise.clusters)
    return found.value, None if found.low is None else (found.low, found.high)


def trials(values: list[float], clusters: list[str] | None = None) -> Trials:
    return Trials(np.array(values), clusters or [f"c{index}" for index in range(len(values))])


def planted(mean: float, count: int, seed: int, clusters: int = 20) -> Trials:
    rng = random.Random(seed)
    return Trials(
        np.array([rng.gauss(mean, 1) for _ in range(count)]), [f"c{index % clusters}" for index in range(count)]
    )


@pytest.mark.parametrize(
    ("hits", "injected", "alarms", "clean"), [(7, 10, 2, 20), (10, 10, 0, 10), (0, 5, 5, 5), (3, 6, 4, 8)]
)
def test_d_prime_is_the_difference_of_the_corrected_z_scores(hits: int, injected: int, alarms: int, clean: int):
    """Half a yes and one trial are added to both sides, so that rates of none and all are finite."""
    expected = NORMAL.inv_cdf((hits + 0.5) / (injected + 1)) - NORMAL.inv_cdf((alarms + 0.5) / (clean + 1))
    assert float(corrected_d_prime(hits, injected, alarms, clean)) == pytest.approx(expected)


@pytest.mark.parametrize("distance", [0.0, 0.7, 2.0])
def test_planted_gaussians_give_their_distance_back(distance: float):
    """Two unit Gaussians around the criterion have d' of their distance and an AUROC of Phi(distance / sqrt 2)."""
    signal, noise = planted(distance / 2, 3000, 1), planted(-distance / 2, 3000, 2)
    found, (low, high) = found_by(d_prime, signal, noise)
    assert found == pytest.approx(distance, abs=0.1)
    assert low < found < high
    area, bounds = found_by(auroc, signal, noise)
    assert area == pytest.approx(NORMAL.cdf(distance / math.sqrt(2)), abs=0.025)
    assert bounds[0] < area < bounds[1]


def test_auroc_counts_the_pairs():
    """It is the share of pairs in which the signal is larger, ties half, as Mann and Whitney's U says."""
    rng = random.Random(3)
    signal = [round(rng.gauss(0.5, 1), 1) for _ in range(37)]
    noise = [round(rng.gauss(0, 1), 1) for _ in range(23)]
    pairs = [1 if a > b else 0.5 if a == b else 0 for a, b in product(signal, noise)]
    assert 0.5 in pairs
    found, _ = found_by(auroc, trials(signal), trials(noise))
    assert found == pytest.approx(sum(pairs) / len(pairs))
    assert found == pytest.approx(mannwhitneyu(signal, noise).statistic / len(pairs))


@pytest.mark.parametrize("statistic", [auroc, d_prime])
def test_intervals_are_those_of_resampled_clusters(statistic):
    """They agree with a plain bootstrap that draws whole clusters, with their signal and their noise trials."""
    rng = random.Random(4)
    data = {f"c{index}": ([], []) for index in range(12)}
    for signal, noise in data.values():
        own = rng.gauss(0.6, 0.8)
        signal += [own + rng.gauss(0, 0.5) for _ in range(5)]
        noise += [rng.gauss(0, 1) for _ in range(3)]

    def of(names: list[str]) -> tuple[Trials, Trials]:
        sides = [[(value, name) for name in names for value in data[name][side]] for side in (0, 1)]
        return tuple(trials([value for value, _ in side], [name for _, name in side]) for side in sides)

    value, (low, high) = found_by(statistic, *of(list(data)))
    plain = []
    for _ in range(300):
        signal, noise = of(rng.choices(list(data), k=12))
        # One cluster each, so that the statistic is computed and no interval is.
        plain.append(
            found_by(statistic, trials(list(signal.values), ["x"] * 60), trials(list(noise.values), ["x"] * 36))[0]
        )
    cuts = np.quantile(plain, tails(12))
    assert (low, high) == pytest.approx(tuple(cuts), abs=0.2 * np.ptp(cuts))
    assert low < value < high


def claims_too_much(statistic, truth: float, draw, seed: int, clusters: int) -> bool:
    """Whether an interval begins above the truth, for trials of which most draws have none out of line."""
    rng = random.Random(seed)
    signal, noise = ([draw(rng, side) for _ in range(clusters)] for side in (1, 0))
    names = [f"c{index}" for index in range(clusters)]
    _, bounds = found_by(statistic, trials(signal, names), trials(noise, names))
    return bounds is not None and bounds[0] > truth


@pytest.mark.parametrize("clusters", [4, 10])
@pytest.mark.parametrize("statistic", [auroc, d_prime])
def test_what_no_trial_contradicts_has_an_interval_all_the_same(statistic, clusters: int):
    """It is wide for few clusters, narrower for more, and holds a truth under which nearly all draws look perfect."""
    signal, noise = trials([2.0] * clusters), trials([-2.0] * clusters)
    value, (low, high) = found_by(statistic, signal, noise)
    assert low < value <= high
    swapped, (below, above) = found_by(statistic, noise, signal)
    assert below <= swapped < above
    _, (wider, _) = found_by(statistic, trials([2.0] * (clusters - 1)), trials([-2.0] * (clusters - 1)))
    assert wider < low
    apart = 3.0  # the distance of two normal distributions; answers are yes above the middle between them
    truth = NORMAL.cdf(apart / math.sqrt(2)) if statistic is auroc else apart
    too_much = sum(
        claims_too_much(statistic, truth, lambda rng, side: rng.gauss((side - 0.5) * apart, 1), seed, clusters)
        for seed in range(200)
    )
    assert too_much <= 10  # of 200, where one in forty may


@pytest.mark.parametrize("value", [2.0, -2.0])
def test_alike_answers_to_both_are_no_evidence_of_no_difference(value: float):
    """Yes to everything, or no, leaves d' open on both sides; values that are all tied say nothing of the area."""
    found, (low, high) = found_by(d_prime, trials([value] * 10), trials([value] * 10))
    assert found == 0
    assert low == pytest.approx(-high)
    assert high > 0.3
    assert found_by(auroc, trials([value] * 10), trials([value] * 10)) == (0.5, None)


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 10), (7, 40), (39, 40)])
def test_the_exact_bound_leaves_five_percent_below(count: int, of: int):
    """At the bound, so few or fewer yes answers have a chance of exactly 5 %; all of all has bound 1."""
    bound = exact_upper_bound(count, of)
    below = sum(math.comb(of, k) * bound**k * (1 - bound) ** (of - k) for k in range(count + 1))
    assert below == pytest.approx(0.05)
    assert exact_upper_bound(of, of) == 1


PROMPTS = {"calm": "first", "goblins": "second", "honest": "first", "lsd": "first"}


def scores(**by_condition: dict[str, float]) -> list[SampleScore]:
    """Return one score a vector and condition; `__` in a condition's name stands for @."""
    return [
        SampleScore(
            score=Score(value=value),
            sample_metadata={"condition": name.replace("__", "@"), "vector": vector, "prompt": PROMPTS[vector]},
        )
        for name, values in by_condition.items()
        for vector, value in values.items()
    ]


def test_the_metric_names_every_condition():
    """Injected conditions are set against no injection, and a real one against the random one of the same dose."""
    found = flat(
        detectability(
            scores(
                real__1={"calm": 2.0, "goblins": 3.0},
                placebo={"calm": -1.0, "goblins": 1.0},
                random__1={"calm": 1.0, "goblins": 4.0},
                random__2={"calm": -2.0, "goblins": -3.0},
            )
        )
    )
    ends = ("_lower", "_upper", "_lower_by_prompt", "_upper_by_prompt")
    named = {name for name in found if not name.endswith(ends)}
    pairs = set(product(("real@1", "random@1", "random@2"), ("d_prime", "auroc")))
    assert named == {"/".join(pair) for pair in pairs} | {"real@1/auroc_over_random"}
    assert set(found) == {f"{name}{end}" for name in named for end in ("", *ends)}
    assert found["real@1/auroc"] == 1
    assert found["random@1/auroc"] == 0.875
    assert found["real@1/auroc_over_random"] == 0.5
    assert found["random@2/auroc"] == 0


def test_intervals_by_prompt_have_prompts_as_clusters():
    """Where all trials share a prompt there is none; with vectors split over prompts it differs from that by vector."""
    real, placebo = (
        {"calm": 0.1, "goblins": 2.0, "honest": 0.4, "lsd": -1.0},
        {"calm": 0.0, "goblins": -1.0, "honest": 0.5, "lsd": 0.2},
    )
    found = flat(detectability(scores(real__1=real, placebo=placebo)))
    by_vector = found["real@1/auroc_lower"], found["real@1/auroc_upper"]
    by_prompt = found["real@1/auroc_lower_by_prompt"], found["real@1/auroc_upper_by_prompt"]
    assert by_vector != by_prompt
    # Two prompts: resamples are the one, the other, or both.
    assert by_prompt == (pytest.approx(3 / 9), 1.0)
    alone = flat(detectability(scores(real__1={"calm": 1.0, "lsd": 2.0}, placebo={"calm": 0.0, "lsd": 1.0})))
    assert "real@1/auroc_lower" in alone
    assert "real@1/auroc_lower_by_prompt" not in alone


def test_without_trials_without_injection_there_is_no_d_prime():
    """As while a run has not come to them yet: nothing is reported, and nothing fails."""
    some = scores(real__1={"calm": 2.0})
    assert detectability(some) == {}
    assert false_alarms(some) == {}


def test_false_alarms_are_counted_among_trials_without_injection_only():
    """A log-odds above zero is a yes; exactly zero is none."""
    found = flat(
        false_alarms(
            scores(
                real__1={"calm": 5.0, "goblins": 5.0},
                placebo={"calm": 0.2, "goblins": 0.0, "honest": -3.0, "lsd": -1.0},
            )
        )
    )
    assert found == {
        "false_positive_rate": 0.25,
        "false_positive_rate_upper_95": exact_upper_bound(1, 4),
        "false_positives": 1,
        "no_injection_trials": 4,
    }
