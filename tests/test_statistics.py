"""Intervals, tests and corrections, against enumeration, against definitions, and against simulated data with known answers."""

import gc
import math
from collections.abc import Callable, Iterator
from itertools import permutations, product
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from self_steering.analysis.drawing.words import in_words, test_in_words
from self_steering.analysis.statistics.estimates import Estimate, StatisticsError, Test
from self_steering.analysis.statistics.intervals import clustered_mean, proportion
from self_steering.analysis.statistics.resampling import correlation, percentiles, times_drawn
from self_steering.analysis.statistics.signal_detection import auroc, d_prime
from self_steering.analysis.statistics.tests import (
    benjamini_hochberg,
    binomial_above,
    holm,
    permutation,
    rate_differences,
    sign_flip,
)

SIMULATIONS = 80
NAIVE = 30  # how many of them a wrong method gets, which fails by far


@pytest.fixture(autouse=True, scope="module")
def frozen_garbage() -> Iterator[None]:
    """Keep what there is out of garbage collection: statsmodels collects it all in each of its corrections."""
    gc.freeze()
    yield
    gc.unfreeze()


def grouped(seed: int, clusters: int = 20, size: int = 6, *, mean: float = 0.0, between: float = 1.0) -> pd.DataFrame:
    """Return values that differ between clusters, and half as much within."""
    rng = np.random.default_rng(seed)
    values = mean + between * rng.normal(size=(clusters, 1)) + 0.5 * rng.normal(size=(clusters, size))
    names = [f"c{number}" for number in range(clusters) for _ in range(size)]
    return pd.DataFrame({"cluster": names, "row": range(clusters * size), "value": values.ravel()})


def retaken(tables) -> pd.DataFrame:
    """Return a row for each vector that a rollout took: whether it was taken again there."""
    takes = tables.takes.groupby(["arm", "rollout", "name"], sort=False).size()
    return (takes > 1).rename("again").reset_index()


def mean_value(frame: pd.DataFrame) -> float:
    return frame["value"].to_numpy().mean()


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def near(rate: float, nominal: float, simulations: int, *, slack: float = 0.0) -> bool:
    """Whether a rate is within three standard errors of the simulation, and `slack`, of the nominal one."""
    return abs(rate - nominal) <= 3 * math.sqrt(nominal * (1 - nominal) / simulations) + slack


# ---------------------------------------------------------------- means over clusters


def test_a_mean_over_clusters_of_one_size_has_the_t_interval_of_their_means():
    """Whatever the rows within a cluster do."""
    rows = {"a": [0.1, 0.2, 0.6], "b": [0.5, 0.5, 0.5], "c": [0.0, -0.2, 0.4]}
    found = clustered_mean([v for of in rows.values() for v in of], [name for name, of in rows.items() for _ in of])
    means = [np.mean(of) for of in rows.values()]
    assert found.value == pytest.approx(np.mean(means))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, np.mean(means), stats.sem(means)))
    assert (found.n, found.clusters) == (9, 3)


def test_the_interval_of_a_mean_covers_it_under_clustering_and_one_over_rows_does_not():
    """95 % over clusters; an interval that takes each row for a cluster fails the same check."""
    frames = [grouped(seed, mean=0.3) for seed in range(500)]
    over = {
        column: np.mean([covers(clustered_mean(frame["value"], frame[column]), 0.3) for frame in frames])
        for column in ("cluster", "row")
    }
    assert near(over["cluster"], 0.95, 500)
    assert not near(over["row"], 0.95, 500)


def test_one_cluster_has_no_interval():
    """However many rows there are, one cluster tells nothing of how clusters vary."""
    one = clustered_mean([1.0, 2.0], ["a", "a"])
    assert (one.value, one.low, one.high, one.clusters) == (1.5, None, None, 1)
    alone = d_prime([1.0, 2.0], [0.0, -1.0], ["a", "a"], ["a", "a"])
    assert (alone.low, alone.high, alone.clusters) == (None, None, 1)


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize(
    ("successes", "n", "published"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_a_share_has_wilsons_interval(successes: int, n: int, published: tuple[float, float]):
    """By his formula, and as Newcombe (1998) printed it for four shares."""
    found = proportion(successes, n)
    z, share = NormalDist().inv_cdf(0.975), successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(published, abs=5e-5)
    assert (found.value, found.n, found.clusters) == (share, n, n)


# ---------------------------------------------------------------- resampled clusters


def test_resampled_means_of_clusters_have_the_t_intervals_width():
    """Percentiles are taken further out for few clusters; undefined resamples are told, and many of them leave no interval."""
    values = grouped(0, clusters=8, size=1)["value"].to_numpy()
    drawn = times_drawn(8, 20_000, np.random.default_rng(0)) @ values / 8
    low, high, note = percentiles(drawn, 8)
    wide = clustered_mean(values, range(8))
    assert (high - low, note) == (pytest.approx(wide.high - wide.low, rel=0.08), "")
    drawn[:1000] = np.nan
    assert percentiles(drawn, 8)[2] == " (5.0% of resamples undefined)"
    drawn[:3000] = np.nan
    assert percentiles(drawn, 8)[:2] == (None, None)


# ---------------------------------------------------------------- permutation


OURS = np.array([1, 1, 1, 0, 0], dtype=bool)
SUMS, SIZES = np.array([3.0, 3.0, 5.0, 0.5, 1.0]), np.array([2, 1, 3, 1, 2])
MODELS = pd.Series(["m"] * 5 + ["n"] * 4 + ["only one"], name="model")
MORE = np.array([*OURS, 1, 1, 0, 0, 1], dtype=bool)
MORE_SUMS, MORE_SIZES = np.array([*SUMS, 4.0, 12.0, 5.0, 2.0, 1.0]), np.array([*SIZES, 1, 2, 1, 1, 1])


def enumerated(ours: np.ndarray, statistic, strata: pd.Series | None) -> float:
    """Return the exact two-sided p: every order of the labels within every stratum, equal orders many times over."""
    groups = [np.arange(len(ours))] if strata is None else [np.flatnonzero(strata == one) for one in strata.unique()]
    null = []
    for orders in product(*(permutations(ours[group]) for group in groups)):
        way = ours.copy()
        for group, order in zip(groups, orders, strict=True):
            way[group] = order
        null.append(float(statistic(way[None])[0]))
    null, value = np.array(null), float(statistic(ours[None])[0])
    return min(1.0, 2 * min(np.mean(null <= value + 1e-9), np.mean(null >= value - 1e-9)))


@pytest.mark.parametrize(
    ("ours", "sums", "sizes", "strata"),
    [(OURS, SUMS, SIZES, None), (OURS, -SUMS, SIZES, None), (MORE, MORE_SUMS, MORE_SIZES, MODELS)],
)
def test_a_permutation_test_of_few_rollouts_is_exact(ours, sums, sizes, strata):
    """As going through all orders by brute force, ties and rollouts of unequal size included."""
    statistic = rate_differences(sums, sizes)
    found = permutation(ours, statistic, unit="rollout", strata=strata)
    assert found.p == pytest.approx(enumerated(ours, statistic, strata))
    assert found.statistic == pytest.approx(
        sums[ours].sum() / sizes[ours].sum() - sums[~ours].sum() / sizes[~ours].sum()
    )
    where = "" if strata is None else " within model"
    assert (found.clusters, found.method) == (len(ours), f"exact permutation over {len(ours)} rollouts{where}")


def test_a_permutation_test_of_many_rollouts_draws_from_all_orders():
    """With fewer draws than there are orders its p is fixed by the seed, and never zero; what is clear is below one in 1,000."""
    statistic = rate_differences(SUMS, SIZES)
    some = [permutation(OURS, statistic, unit="rollout", seed=seed, resamples=9) for seed in (0, 0, 1, 2)]
    assert some[0] == some[1]
    assert len({test.p for test in some}) > 1
    assert all(test.p >= 0.2 and test.method == "permutation over 5 rollouts" for test in some)
    clear = permutation(np.arange(80) < 40, rate_differences(np.arange(80) < 35, np.ones(80)), unit="rollout")
    assert clear.p < 0.001


def test_permuting_whole_rollouts_keeps_the_level_and_permuting_takes_does_not():
    """Without any difference between the arms, 10 % of tests find one at the 10 % level, though rollouts differ."""
    wrong = {"rollout": 0, "take": 0}
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        takes, ours = 1 + rng.poisson(4, 40), np.arange(40) < 20
        again = rng.binomial(takes, rng.beta(0.2, 0.6, 40))
        hits = np.concatenate([np.arange(of) < k for of, k in zip(takes, again, strict=True)])
        rollouts, one_each = rate_differences(again, takes), rate_differences(hits, np.ones(len(hits)))
        wrong["rollout"] += permutation(ours, rollouts, unit="rollout", seed=seed, resamples=199).p <= 0.1
        wrong["take"] += permutation(np.repeat(ours, takes), one_each, unit="take", seed=seed, resamples=199).p <= 0.1
    assert near(wrong["rollout"] / SIMULATIONS, 0.1, SIMULATIONS)
    assert not near(wrong["take"] / SIMULATIONS, 0.1, SIMULATIONS)


def test_shuffles_without_a_value_count_as_extreme():
    """So that they can only make the p larger."""
    plain = rate_differences(SUMS, SIZES)
    holes = permutation(OURS, lambda ways: np.where(ways[:, -1], np.nan, plain(ways)), unit="rollout")
    assert holes.p > permutation(OURS, plain, unit="rollout").p
    assert holes.method.endswith("60.0% of shuffles undefined")


# ---------------------------------------------------------------- sign flips


@pytest.mark.parametrize(
    "values", [[0.4, 0.1, 0.3, -0.1, 0.2, 0.2], [1.0, 1.0, -2.0, 0.0], [3e-15] * 7, [0.1, 0.2, 0.3]]
)
def test_flips_of_few_clusters_are_exact(values: list[float]):
    """As going through all signs by brute force, two rows a cluster; what is rounding alone shows nothing."""
    found = sign_flip([v * d for v in values for d in (0.5, 1.5)], [i for i in range(len(values)) for _ in (0, 1)])
    null = np.array([np.mean(np.multiply(signs, values)) for signs in product((1, -1), repeat=len(values))])
    exact = np.mean(np.abs(null) >= abs(np.mean(values)) - 1e-9)
    assert found.p == pytest.approx(exact)
    assert found.statistic == pytest.approx(np.mean(values))
    assert (found.n, found.clusters) == (2 * len(values), len(values))
    assert found.method.startswith("exact")


def test_flipping_whole_clusters_keeps_the_level_and_flipping_rows_does_not():
    """Without any effect, 5 % of tests find one, though a cluster's rows are alike."""
    frames = [grouped(seed, clusters=9, size=4) for seed in range(300)]
    wrong = {
        column: np.mean([sign_flip(frame["value"], frame[column], resamples=600).p <= 0.05 for frame in frames])
        for column in ("cluster", "row")
    }
    assert near(wrong["cluster"], 0.05, 300)
    assert not near(wrong["row"], 0.05, 300)


def test_one_cluster_can_show_nothing():
    """Its sign alone is as likely as the other."""
    assert sign_flip([5.0, 6.0], ["a", "a"]).p == 1


# ---------------------------------------------------------------- correlation


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_a_correlation_of_few_pairs_has_an_exact_p(kind: str):
    """As going through all pairings; the coefficient is scipy's, ties in ranks included."""
    x, y = [1.0, 2.0, 2.0, 5.0, 3.0, 9.0], [0.0, 1.5, 1.0, 2.0, 2.0, 2.5]
    plain = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[kind]
    estimate, test = correlation(x, y, kind)
    null = np.array([plain(x, order).statistic for order in permutations(y)])
    value = plain(x, y).statistic
    assert estimate.value == test.statistic == pytest.approx(value)
    assert test.p == pytest.approx(2 * min(np.mean(null >= value - 1e-9), np.mean(null <= value + 1e-9)))
    assert (estimate.n, test.clusters) == (6, 6)
    assert estimate.low < value < estimate.high


def pairs(seed: int, n: int, rho: float, *, heavy: bool = False) -> np.ndarray:
    """Return normal pairs, [2, n]; heavy ones are of a t distribution with four degrees of freedom."""
    rng = np.random.default_rng(seed)
    normal = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=n).T
    return normal / np.sqrt(rng.chisquare(4, size=n) / 4) if heavy else normal


def test_the_interval_of_a_correlation_covers_it():
    """95 %; between normal variables the rank correlation is 6/pi asin(rho / 2). Fisher's interval fails where tails are heavy."""
    covered = {"pearson": 0, "heavy": 0, "fisher": 0, "spearman": 0}
    for seed in range(SIMULATIONS):
        normal, heavy = pairs(seed, 20, 0.6), pairs(seed, 20, 0.6, heavy=True)
        covered["pearson"] += covers(correlation(*normal, "pearson")[0], 0.6)
        covered["heavy"] += covers(correlation(*heavy, "pearson")[0], 0.6)
        covered["fisher"] += abs(math.atanh(np.corrcoef(heavy)[0, 1]) - math.atanh(0.6)) < 1.96 / math.sqrt(17)
        covered["spearman"] += covers(correlation(*normal, "spearman")[0], 6 / math.pi * math.asin(0.3))
    for kind, count in covered.items():
        assert near(count / SIMULATIONS, 0.95, SIMULATIONS) == (kind != "fisher"), kind


def test_a_perfect_correlation_and_three_pairs_have_no_interval():
    """Resampled pairs would all give the same, or often none."""
    for x, y in (([1, 2, 3, 4], [2, 4, 6, 8]), ([1, 2, 3], [1, 3, 2])):
        estimate, test = correlation(x, y, "spearman")
        assert (estimate.low, estimate.high) == (None, None)
        assert 0 < test.p <= 1


# ---------------------------------------------------------------- counts and corrections


@pytest.mark.parametrize(("successes", "n", "p"), [(3, 10, 0.1), (0, 5, 0.2), (7, 7, 0.5)])
def test_a_binomial_test_is_the_upper_tail(successes: int, n: int, p: float):
    """The chance of as many or more."""
    tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(successes, n + 1))
    found = binomial_above(successes, n, p)
    assert (found.p, found.statistic, found.n) == (pytest.approx(tail), successes / n, n)


def holm_by_hand(ps: list[float]) -> list[float]:
    """The r-th smallest of m times m - r + 1, none below one before it."""
    m, ranked = len(ps), sorted(ps)
    steps = [(m - rank) * p for rank, p in enumerate(ranked)]
    return [min(1, max(steps[: ranked.index(p) + ranked.count(p)])) for p in ps]


def benjamini_hochberg_by_hand(ps: list[float]) -> list[float]:
    """The smallest level q at which the largest r with p_(r) <= q r / m takes it in: the least of p_(s) m / s over s >= r."""
    m, ranked = len(ps), sorted(ps)
    return [min(1, *(m * ranked[s] / (s + 1) for s in range(ranked.index(p), m))) for p in ps]


@pytest.mark.parametrize(
    ("correct", "by_hand"), [(holm, holm_by_hand), (benjamini_hochberg, benjamini_hochberg_by_hand)]
)
def test_corrections_follow_their_definitions(correct, by_hand):
    """With ties, and in any order; a missing p stays missing and does not count."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 12):
        ps = (rng.random(size) ** 3).round(2).tolist()
        assert correct(ps) == pytest.approx(by_hand(ps))
        assert correct([None, *ps, None]) == [None, *correct(ps), None]
    assert correct([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        {holm: [0.03, 0.06, 0.06, 0.02], benjamini_hochberg: [0.02, 0.04, 0.04, 0.02]}[correct]
    )
    assert correct([]) == []
    assert correct([None]) == [None]


# ---------------------------------------------------------------- words


def test_an_estimate_says_its_numbers_and_its_method():
    """With a true minus sign, in per cent with two decimals fewer, and where there is no interval, that."""
    assert in_words(Estimate(0.25, 0.2, 0.31, 240, 40, "Wilson")) == "0.25 [0.20, 0.31] (n 240, 40 clusters, Wilson)"
    percent = in_words(Estimate(-0.252, -0.31, 0.1, 3, 1, "t"), percent=True)
    assert percent == "−25% [−31%, 10%] (n 3, 1 cluster, t)"
    assert in_words(Estimate(0.2525, 0, 1, 3, 2, "t"), percent=True, decimals=3).startswith("25.2% [0.0%, 100.0%]")
    assert in_words(Estimate(1.5, None, None, 3, 1, "t"), decimals=1) == "1.5 [no interval] (n 3, 1 cluster, t)"


@pytest.mark.parametrize(
    ("p", "words"), [(0.012, "p 0.012"), (0.3456, "p 0.35"), (0.0002, "p < 0.001"), (1.0, "p 1.00"), (0.001, "p 0.001")]
)
def test_a_test_says_its_p_and_its_name(p: float, words: str):
    """Never zero, and in as many digits as matter."""
    assert (
        test_in_words(Test(0.1, p, 900, 240, "permutation over 240 rollouts"))
        == f"{words} (permutation over 240 rollouts)"
    )


# ---------------------------------------------------------------- errors


HOLES = pd.DataFrame({"rollout": ["a", None], "value": [1.0, 2.0], "dose": [1.0, math.nan], "arm": ["real", "placebo"]})
MIXED = pd.DataFrame({"rollout": ["a", "a", "b"], "arm": ["real", "placebo", "real"], "value": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: clustered_mean(HOLES["dose"], ["a", "b"]), "column 'dose' has 1 of 2 values that are NaN"),
        (lambda: clustered_mean([1.0, math.inf], ["a", "b"]), "values has 1 of 2"),
        (lambda: clustered_mean([1.0, 2.0], HOLES["rollout"]), "column 'rollout' has 1 of 2 values missing"),
        (lambda: clustered_mean([1.0], ["a", "b"]), "2 values for 1 rows"),
        (lambda: clustered_mean([], []), "at least one"),
        (lambda: clustered_mean(["x"], ["a"]), "must be numbers"),
        (lambda: proportion(0, 0), "n is 0"),
        (lambda: proportion(3, 2), "3 successes in 2 trials"),
        (lambda: proportion(-1, 2), "successes is -1"),
        (lambda: proportion(0.5, 2), "whole number"),
        (
            lambda: permutation([True, True], rate_differences([1, 2], [1, 1]), unit="rollout"),
            "all rollouts have one label;",
        ),
        (
            lambda: permutation(MORE[4:6], rate_differences([1, 2], [1, 1]), unit="rollout", strata=MODELS[4:6]),
            "all rollouts have one label within model",
        ),
        (lambda: permutation(OURS, rate_differences(SUMS, [0] * 5), unit="rollout"), "of the data is nan"),
        (lambda: sign_flip([math.nan], ["a"]), "values has 1 of 1"),
        (lambda: correlation([1, 2], [1, 2], "pearson"), "at least 3"),
        (lambda: correlation([1, 2, 3], [1, 2, 3, 4], "pearson"), "x has 3 values and y has 4"),
        (lambda: correlation([1, 1, 1], [1, 2, 3], "pearson"), "all 3 values of x are 1"),
        (lambda: correlation([1, 2, 4], [1, 2, 3], "kendall"), "choose one of pearson, spearman"),
        (lambda: binomial_above(1, 2, 1.5), "p is 1.5"),
        (lambda: binomial_above(1, 0, 0.5), "n is 0"),
        (lambda: holm([0.1, math.nan]), "p-value nan"),
        (lambda: benjamini_hochberg([1.1]), "p-value 1.1"),
        (lambda: d_prime([], [1.0], [], ["a"]), "signal has shape"),
        (lambda: auroc([1.0], [1.0], ["a"], [None]), "noise_clusters has 1 of 1"),
    ],
)
def test_what_cannot_be_computed_is_said(call: Callable[[], object], says: str):
    """One line, with the column or value and what to do about it."""
    with pytest.raises(StatisticsError) as error:
        call()
    assert says in str(error.value)
    assert "\n" not in str(error.value)
