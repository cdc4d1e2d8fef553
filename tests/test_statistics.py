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

from self_steering.analysis.statistics import (
    Estimate,
    StatisticsError,
    Test,
    auroc,
    benjamini_hochberg,
    binomial_above,
    bootstrap,
    clustered_mean,
    correlation,
    d_prime,
    holm,
    in_words,
    permutation,
    proportion,
    sign_flip,
    test_in_words,
)
from tests.support.simulated_tables import simulated_freeplay

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


def crossed(seed: int, vectors: int = 12, problems: int = 12) -> pd.DataFrame:
    """Return one value, 0 on average, for each pair of a vector and a problem; problems differ most."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(vectors, 1)) + 2 * rng.normal(size=problems) + 0.5 * rng.normal(size=(vectors, problems))
    names = product((f"v{number}" for number in range(vectors)), (f"p{number}" for number in range(problems)))
    return pd.DataFrame(names, columns=["vector", "problem"]).assign(value=values.ravel())


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
    frame = pd.DataFrame({"vector": ["a", "a"], "problem": ["p", "q"], "value": [1.0, 2.0]})
    for cluster in ("vector", ["vector", "problem"], ["problem", "vector"]):
        found = bootstrap(frame, mean_value, cluster)
        assert (found.value, found.low, found.high, found.clusters) == (1.5, None, None, 1)
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


def test_the_interval_of_a_share_covers_it_on_average_also_where_it_is_rare():
    """Exactly, over all counts and a grid of true shares; the textbook interval fails the same check."""
    n, truths = 40, np.linspace(0.02, 0.98, 49)
    wilson = [(proportion(k, n).low, proportion(k, n).high) for k in range(n + 1)]
    halves = [1.96 * math.sqrt(k / n * (1 - k / n) / n) for k in range(n + 1)]
    wald = [(k / n - half, k / n + half) for k, half in enumerate(halves)]

    def coverage(intervals: list[tuple[float, float]]) -> float:
        inside = np.array([[low <= truth <= high for low, high in intervals] for truth in truths])
        return float((inside * stats.binom.pmf(np.arange(n + 1), n, truths[:, None])).sum(axis=1).mean())

    assert coverage(wilson) == pytest.approx(0.95, abs=0.01)
    assert coverage(wald) < 0.94


# ---------------------------------------------------------------- bootstrap


def test_bootstrap_intervals_cover_a_redose_rate_though_rollouts_differ_in_it():
    """95 % over rollouts; resampling every row alone, or Wilson's interval, fails the same check."""
    covered = {"rollout": 0, "row": 0, "wilson": 0}
    for seed in range(SIMULATIONS):
        tables = simulated_freeplay(redosing={"real": 0.3}, redose_spread=0.6, distinct=6, rollouts=40, seed=seed)
        frame = retaken(tables)
        frame = frame.assign(row=range(len(frame)))[["rollout", "row", "again"]]
        for cluster in ("rollout", "row") if seed < NAIVE else ("rollout",):
            found = bootstrap(frame, lambda of: of["again"].to_numpy().mean(), cluster, resamples=80)
            covered[cluster] += covers(found, 0.3)
        covered["wilson"] += covers(proportion(int(frame["again"].sum()), len(frame)), 0.3)
    # 80 resamples and 40 rollouts cost the interval a point or two.
    assert near(covered["rollout"] / SIMULATIONS, 0.95, SIMULATIONS, slack=0.02)
    assert not near(covered["row"] / NAIVE, 0.95, NAIVE, slack=0.02)
    assert not near(covered["wilson"] / SIMULATIONS, 0.95, SIMULATIONS, slack=0.02)


def test_two_way_intervals_cover_a_mean_over_vectors_and_problems_and_one_way_intervals_do_not():
    """Both columns' clusters differ: an interval over one of them leaves the other out, and fails the same check."""
    frames = [crossed(seed) for seed in range(SIMULATIONS)]
    both = [covers(bootstrap(frame, mean_value, ["vector", "problem"], resamples=80), 0.0) for frame in frames]
    vector = [covers(bootstrap(frame, mean_value, "vector", resamples=80), 0.0) for frame in frames[:NAIVE]]
    # It errs on the wide side.
    assert near(np.mean(both), 0.95, SIMULATIONS, slack=0.02)
    assert not near(np.mean(vector), 0.95, NAIVE, slack=0.02)


def test_a_bootstrap_interval_is_as_wide_as_drawing_clusters_makes_it():
    """For a mean of equal clusters as wide as the t-interval; two ways, the variance over all draws is known exactly as well."""
    frame = crossed(0, vectors=10, problems=14)
    table = frame["value"].to_numpy().reshape(10, 14)

    def moments(count: int) -> np.ndarray:
        """Second moments of how often each cluster is drawn."""
        return np.eye(count) - 1 / count + 1

    second = np.einsum("ij,ik,jl,kl->", table, moments(10), moments(14), table) / table.size**2
    two_way = math.sqrt(second - table.mean() ** 2)
    t_interval = clustered_mean(frame["value"], frame["vector"])
    by_vector = bootstrap(frame, mean_value, "vector", seed=1)
    by_both = bootstrap(frame, mean_value, ["vector", "problem"], seed=1)
    assert by_vector.value == by_both.value == pytest.approx(table.mean())
    assert by_vector.high - by_vector.low == pytest.approx(t_interval.high - t_interval.low, rel=0.08)
    expected = 2 * stats.t.ppf(0.975, 9) * math.sqrt(10 / 9) * two_way
    assert by_both.high - by_both.low == pytest.approx(expected, rel=0.08)
    assert expected > 1.2 * (t_interval.high - t_interval.low)


def test_a_cluster_that_is_drawn_twice_is_two_clusters_each_with_its_rows_in_order():
    """Every resample has as many clusters as the data, in whole runs of rows, and of two crossed columns as many of each."""
    frame = pd.DataFrame({"rollout": list("aabbbcdd"), "order": [0, 1, 0, 1, 2, 0, 0, 1]})
    seen = []

    def statistic(of: pd.DataFrame) -> float:
        seen.append(of)
        return float(of["rollout"].nunique())

    found = bootstrap(frame, statistic, "rollout", resamples=50)
    assert (found.value, found.low, found.high) == (4, 4, 4)
    for of in seen[1:]:
        assert list(of.index) == list(range(len(of)))
        for _, run in of.groupby((of["rollout"] != of["rollout"].shift()).cumsum()):
            assert list(run["order"]) == list(range(len(run)))
        assert of["rollout"].nunique() == (of["rollout"] != of["rollout"].shift()).sum() == 4
    assert len({len(of) for of in seen}) > 1

    both = crossed(0, vectors=3, problems=4)
    for column, count in (("vector", 3), ("problem", 4)):
        found = bootstrap(both, lambda of, c=column: of[c].nunique(), ["vector", "problem"], resamples=50)
        assert (found.low, found.high) == (count, count)
    pairs = bootstrap(
        both, lambda of: len(of[["vector", "problem"]].drop_duplicates()), ["vector", "problem"], resamples=50
    )
    assert (pairs.low, pairs.high) == (12, 12)


def test_a_bootstrap_leaves_the_table_alone_and_its_seed_fixes_it():
    """The same seed gives the same interval, another another."""
    frame = grouped(0)
    before = frame.copy()
    first = bootstrap(frame, mean_value, "cluster", seed=1, resamples=300)
    assert bootstrap(frame, mean_value, "cluster", seed=1, resamples=300) == first
    assert bootstrap(frame, mean_value, "cluster", seed=2, resamples=300) != first
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("empty", ["nan", "infinite", "zero division", "none left"])
def test_resamples_without_a_value_are_left_out_and_said(empty: str):
    """As where a resample holds no row to divide by; the ends are those of the others."""
    frame = pd.DataFrame({"rollout": range(20), "arm": ["real"] * 17 + ["placebo"] * 3, "value": 1.0})

    def statistic(of: pd.DataFrame) -> float:
        left = of.loc[of["arm"] == "placebo", "value"]
        if len(left):
            return len(left) / 3
        return {"nan": math.nan, "infinite": math.inf, "none left": left.mean()}.get(empty) or 1 / len(left)

    found = bootstrap(frame, statistic, "rollout", resamples=800)
    assert found.value == 1
    assert 1 / 3 <= found.low < found.high < 3
    assert "of resamples undefined" in found.method
    said = float(found.method.split("(")[1].split("%")[0])
    assert said == pytest.approx(100 * 0.85**20, abs=2.1)


def test_where_many_resamples_have_no_value_there_is_no_interval():
    """What is left of them would be a choice."""
    frame = pd.DataFrame({"rollout": range(5), "value": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = bootstrap(frame, lambda of: 1.0 if 5.0 in of["value"].to_numpy() else math.nan, "rollout")
    assert (found.value, found.low, found.high) == (1, None, None)
    assert "% of resamples undefined" in found.method


# ---------------------------------------------------------------- permutation


def arms(real: list[list[float]], placebo: list[list[float]], model: str = "m") -> pd.DataFrame:
    """Return the values of rollouts by arm."""
    rows = [
        (model, arm, f"{model}-{arm}-{number}", value)
        for arm, rollouts in (("real", real), ("placebo", placebo))
        for number, values in enumerate(rollouts)
        for value in values
    ]
    return pd.DataFrame(rows, columns=["model", "arm", "rollout", "value"])


def difference(frame: pd.DataFrame) -> float:
    real = frame["arm"].to_numpy() == "real"
    values = frame["value"].to_numpy()
    return values[real].mean() - values[~real].mean()


def enumerated(frame: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], strata: list[str]) -> float:
    """Return the exact two-sided p: every order of the labels within every stratum, equal orders many times over."""
    units = frame.drop_duplicates("rollout")
    parts = [part for _, part in units.groupby(strata)] if strata else [units]
    null = []
    for orders in product(*(permutations(part["arm"]) for part in parts)):
        new = {
            r: arm
            for part, order in zip(parts, orders, strict=True)
            for r, arm in zip(part["rollout"], order, strict=True)
        }
        null.append(statistic(frame.assign(arm=frame["rollout"].map(new))))
    null, value = np.array(null), statistic(frame)
    return min(1.0, 2 * min(np.mean(null <= value + 1e-9), np.mean(null >= value - 1e-9)))


SMALL = arms([[1.0, 2.0], [3.0], [2.5, 0.5, 2.0]], [[0.5], [1.0, 0.0]])
NEGATED = SMALL.assign(value=-SMALL["value"])
STRATIFIED = pd.concat([SMALL, arms([[4.0], [9.0, 3.0]], [[5.0], [2.0]], "n"), arms([[1.0]], [], "only-real")])


@pytest.mark.parametrize(("frame", "strata"), [(SMALL, []), (NEGATED, []), (STRATIFIED, ["model"])])
def test_a_permutation_test_of_few_rollouts_is_exact(frame: pd.DataFrame, strata: list[str]):
    """As going through all orders by brute force, ties in the values and clusters of unequal size included."""
    found = permutation(frame, difference, label="arm", unit="rollout", strata=strata)
    assert found.p == pytest.approx(enumerated(frame, difference, strata))
    assert found.statistic == pytest.approx(difference(frame))
    assert (found.n, found.clusters) == (len(frame), frame["rollout"].nunique())
    assert found.method.startswith("exact permutation over")


@pytest.mark.parametrize(("frame", "strata"), [(SMALL, []), (STRATIFIED, ["model"])])
def test_a_permutation_test_of_many_rollouts_draws_from_all_orders(frame: pd.DataFrame, strata: list[str]):
    """With fewer draws than there are orders its p is near the exact one, fixed by the seed, and never zero."""
    exact = enumerated(frame, difference, strata)
    found = [
        permutation(frame, difference, label="arm", unit="rollout", strata=strata, seed=seed, resamples=9).p
        for seed in range(40)
    ]
    # The data count as one of ten, so that the mean of p is a little above the exact one.
    assert min(found) == pytest.approx(0.2)
    mean = 2 * np.minimum(stats.binom.rvs(9, exact / 2, size=20_000, random_state=0) + 1, 5).mean() / 10
    assert np.mean(found) == pytest.approx(mean, abs=4 * np.std(found) / math.sqrt(40))
    again = [
        permutation(frame, difference, label="arm", unit="rollout", strata=strata, seed=s, resamples=9).p
        for s in (0, 1)
    ]
    assert again == found[:2]


def test_permuting_whole_rollouts_keeps_the_level_and_permuting_rows_does_not():
    """Without any difference between the arms, 10 % of tests find one at the 10 % level, though rollouts differ."""
    wrong = {"rollout": 0, "row": 0}
    for seed in range(SIMULATIONS):
        tables = simulated_freeplay(
            redosing={"real": 0.3, "placebo": 0.3}, redose_spread=0.7, distinct=6, rollouts=20, seed=seed
        )
        frame = retaken(tables).rename(columns={"again": "value"})[["arm", "rollout", "value"]]
        frame = frame.assign(row=range(len(frame)))
        for unit in ("rollout", "row") if seed < NAIVE else ("rollout",):
            found = permutation(frame, difference, label="arm", unit=unit, seed=seed, resamples=79)
            wrong[unit] += found.p <= 0.1
    assert near(wrong["rollout"] / SIMULATIONS, 0.1, SIMULATIONS)
    assert not near(wrong["row"] / NAIVE, 0.1, NAIVE)


def test_a_permutation_test_finds_a_difference_that_is_there():
    """Redosing of 25 % against 5 % in two hundred rollouts an arm, as far out as the shuffles allow."""
    frame = retaken(simulated_freeplay(redose_spread=0.3, rollouts=200)).rename(columns={"again": "value"})
    found = permutation(frame, difference, label="arm", unit="rollout", resamples=400)
    assert found.statistic == pytest.approx(0.2, abs=0.08)
    assert found.p == pytest.approx(2 / 401)


def test_shuffles_without_a_value_count_as_extreme():
    """So that they can only make the p larger."""

    def unless_last(frame: pd.DataFrame) -> float:
        last = frame["arm"].iloc[-1] == "real"
        return math.nan if last else difference(frame)

    plain = permutation(SMALL, difference, label="arm", unit="rollout")
    holes = permutation(SMALL, unless_last, label="arm", unit="rollout")
    assert holes.p > plain.p
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


def test_flips_of_many_clusters_are_drawn_and_the_seed_fixes_them():
    """Near the exact p, which more resamples give."""
    frame = grouped(5, clusters=12, mean=0.5)
    exact = sign_flip(frame["value"], frame["cluster"])
    drawn = [sign_flip(frame["value"], frame["cluster"], seed=seed, resamples=3000) for seed in (0, 0, 1)]
    assert exact.method.startswith("exact")
    assert not drawn[0].method.startswith("exact")
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p / 3000) + 1e-3)


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


def test_the_seed_fixes_a_correlations_p():
    """The same seed, the same p; another, another."""
    x, y = pairs(0, 30, 0.2)
    first = correlation(x, y, "pearson", seed=1)
    assert correlation(x, y, "pearson", seed=1) == first
    assert correlation(x, y, "pearson", seed=2)[1].p != first[1].p
    assert correlation(x, y, "pearson", seed=2)[0].low != first[0].low
    assert first[1].p == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.03)


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


# ---------------------------------------------------------------- detection


def detection_frame(seed: int) -> pd.DataFrame:
    """Return yes-no trials of twelve vectors, with the signal and without it; vectors differ."""
    rng = np.random.default_rng(seed)
    parts = [
        grouped(seed, clusters=12, size=5, mean=0.8).assign(signal=True),
        grouped(seed + 1, clusters=12, size=3, between=0.3).assign(signal=False),
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(value=frame["value"] + 0.2 * rng.normal(size=len(frame)))[["cluster", "signal", "value"]]


def plain_d_prime(frame: pd.DataFrame) -> float:
    rates = [
        ((part > 0).sum() + 0.5) / (len(part) + 1)
        for part in (frame.loc[frame["signal"], "value"], frame.loc[~frame["signal"], "value"])
    ]
    return NormalDist().inv_cdf(rates[0]) - NormalDist().inv_cdf(rates[1])


def plain_auroc(frame: pd.DataFrame) -> float:
    signal, noise = frame.loc[frame["signal"], "value"], frame.loc[~frame["signal"], "value"]
    return float(stats.mannwhitneyu(signal, noise).statistic) / (len(signal) * len(noise))


@pytest.mark.parametrize(("measure", "plain"), [(d_prime, plain_d_prime), (auroc, plain_auroc)])
def test_measures_of_detection_agree_with_the_bootstrap_of_a_table(measure, plain):
    """Value and interval are those of the plain measure over the same clusters, drawn with both of their parts."""
    frame = detection_frame(4)
    signal, noise = frame[frame["signal"]], frame[~frame["signal"]]
    found = measure(signal["value"], noise["value"], signal["cluster"], noise["cluster"])
    table = bootstrap(frame, plain, "cluster", resamples=400)
    assert found.value == pytest.approx(table.value)
    assert (found.low, found.high) == pytest.approx((table.low, table.high), abs=0.15 * (table.high - table.low))
    assert (found.n, found.clusters) == (table.n, table.clusters) == (96, 12)


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


def test_methods_name_what_they_count():
    """The text that stands beside each printed effect."""
    frame = STRATIFIED.assign(problem=["p", "q", "r"] * 5)[: len(STRATIFIED)]
    assert bootstrap(frame, mean_value, "rollout", resamples=9).method == "bootstrap over rollouts"
    two_way = bootstrap(frame, mean_value, ["rollout", "problem"], resamples=9)
    assert (two_way.method.split(" (")[0], two_way.clusters) == ("bootstrap over rollouts and problems", 3)
    found = permutation(frame, difference, label="arm", unit="rollout", strata=["model"])
    assert found.method == "exact permutation over 10 rollouts within model"


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
        (lambda: bootstrap(HOLES[["value", "dose"]], mean_value, "value"), "column 'dose' has 1 of 2 values missing"),
        (
            lambda: bootstrap(HOLES, mean_value, "problem"),
            "no column 'problem' in the table; its columns are rollout, value",
        ),
        (lambda: bootstrap(MIXED[:0], mean_value, "rollout"), "no rows"),
        (lambda: bootstrap(MIXED, mean_value, ["rollout", "arm", "value"]), "name one or two"),
        (lambda: bootstrap(MIXED, mean_value, "rollout", resamples=0), "resamples is 0"),
        (lambda: bootstrap(MIXED, lambda _: math.nan, "rollout"), "of the whole table is nan"),
        (lambda: permutation(MIXED, mean_value, label="arm", unit="rollout"), "rollout 'a' has 2 values of 'arm'"),
        (lambda: permutation(MIXED[2:], mean_value, label="arm", unit="rollout"), "column 'arm' has only one value"),
        (
            lambda: permutation(MIXED[1:], mean_value, label="arm", unit="rollout", strata=["value"]),
            "only one value in any group of value",
        ),
        (lambda: permutation(MIXED, lambda _: math.nan, label="arm", unit="value"), "of the whole table is nan"),
        (lambda: permutation(MIXED, mean_value, label="arm", unit="value", resamples=0), "resamples is 0"),
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


# ---------------------------------------------------------------- the simulation itself


def test_simulated_rollouts_redose_as_often_as_they_are_told_to():
    """On average exactly so, however much rollouts differ; and their spread is the one asked for."""
    tables = simulated_freeplay(redosing={"real": 0.25, "placebo": 0.05}, redose_spread=0.5, rollouts=1500)
    rates = retaken(tables).groupby("arm")["again"].mean()
    assert rates["real"] == pytest.approx(0.25, abs=0.03)
    assert rates["placebo"] == pytest.approx(0.05, abs=0.015)
    first_two = (
        retaken(tables)[lambda of: of["arm"] == "real"].groupby("rollout")["again"].apply(lambda of: of.tolist()[:2])
    )
    twos = np.array([two for two in first_two if len(two) == 2], dtype=float)
    assert np.corrcoef(twos.T)[0, 1] == pytest.approx(0.5, abs=0.12)


def test_simulated_first_takes_follow_the_preferences():
    """Their shares are the weights, however rollouts differ; without preferences valences are as in the catalogue."""
    tables = simulated_freeplay(
        preferences={"real": {"creative": 40.0, "calm": 20.0}},
        taste_spread=0.3,
        rollouts=1500,
        redosing={"real": 0.2, "placebo": 0.2},
    )
    first = tables.takes[tables.takes["order"] == 0]
    shares = first.groupby("arm")["name"].value_counts(normalize=True)
    assert shares["real"]["creative"] == pytest.approx(40 / 98, abs=0.04)
    assert shares["real"]["calm"] == pytest.approx(20 / 98, abs=0.035)
    assert shares["placebo"]["creative"] == pytest.approx(1 / 40, abs=0.015)
    assert tables.takes.loc[tables.takes["arm"] == "placebo", "taken_valence"].mean() == pytest.approx(0.025, abs=0.05)
    with pytest.raises(ValueError, match="no vector 'tea'"):
        simulated_freeplay(preferences={"tea": 2.0})


def test_simulated_tables_are_shaped_as_those_of_logs():
    """One rollout a sample and one row a take, in order, and the sitter's doing where it was asked for."""
    tables = simulated_freeplay(models=("a", "b"), framings=("drugs", "aids"), rollouts=10, sitter=0.5, redose_dose=2.0)
    assert len(tables.logs) == 8
    assert len(tables.rollouts) == tables.rollouts["rollout"].nunique() == 80
    counts = tables.takes.groupby("rollout")["order"].agg(["count", "max"])
    assert (counts["count"] == counts["max"] + 1).all()
    assert (tables.rollouts.set_index("rollout")["takes"] == counts["count"]).all()
    assert 0 < tables.rollouts["sitter_clears"].sum() < 80
    touched = set(tables.rollouts.loc[tables.rollouts["sitter_clears"] == 1, "rollout"])
    assert set(tables.takes.loc[tables.takes["after_sitter"], "rollout"]) < touched
    repeats = tables.takes.duplicated(["rollout", "name"])
    assert set(tables.takes.loc[repeats, "dose"]) == {2.0}
    assert set(tables.takes.loc[~repeats, "dose"]) == {1.0}
    placebo = tables.takes["arm"] == "placebo"
    assert (tables.takes.loc[placebo, "strength"] == 0).all()
    assert (tables.takes.loc[~placebo, "strength"] > 0).all()
    again = simulated_freeplay(models=("a", "b"), framings=("drugs", "aids"), rollouts=10, sitter=0.5, redose_dose=2.0)
    pd.testing.assert_frame_equal(again.takes, tables.takes)
