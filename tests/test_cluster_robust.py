"""Shares and means whose rows hang together: intervals that hold the truth as often as they say."""

import numpy as np
import pytest

from self_steering.analysis.statistics.estimates import StatisticsError
from self_steering.analysis.statistics.intervals import clustered_mean, proportion, robust_share


def _clustered_hits(rng, share, clusters, each, alike):
    """Return hits with this intraclass correlation, and their clusters."""
    chance = rng.beta(*(np.array([share, 1 - share]) * (1 - alike) / alike), size=clusters)
    return (rng.random((clusters, each)) < chance[:, None]).ravel(), np.repeat(np.arange(clusters), each)


@pytest.mark.parametrize(("share", "clusters", "each"), [(0.1, 25, 6), (0.68, 25, 3), (0.4, 8, 9)])
def test_the_interval_of_a_share_holds_the_truth_where_rows_of_a_cluster_are_alike(share, clusters, each):
    """Of rollouts that repeat a problem, about 95 of 100 intervals hold the true rate; Wilson's alone would not."""
    rng = np.random.default_rng(0)
    held = plain = 0
    for _ in range(600):
        hits, of = _clustered_hits(rng, share, clusters, each, alike=0.5)
        found, naive = robust_share(hits, of), proportion(int(hits.sum()), len(hits))
        held += found.low <= share <= found.high
        plain += naive.low <= share <= naive.high
    assert held / 600 > 0.92
    assert plain / 600 < 0.9


def test_the_interval_of_a_mean_holds_the_truth_where_rows_of_a_cluster_are_alike():
    """Clusters of unequal size, half of the variance between them: about 95 of 100 intervals hold the true mean."""
    rng = np.random.default_rng(1)
    of = np.repeat(np.arange(20), rng.integers(1, 6, size=20))
    held = 0
    for _ in range(600):
        found = clustered_mean(3 + rng.normal(size=20)[of] + rng.normal(size=len(of)), of)
        held += found.low <= 3 <= found.high
    assert 0.92 < held / 600 < 0.98


def test_a_share_counts_rows_and_not_clusters_alike():
    """The estimate is the plain share, also where clusters differ in size."""
    assert robust_share([1, 1, 1, 0], ["a", "a", "a", "b"]).value == 0.75
    assert clustered_mean([1, 1, 1, 0], ["a", "a", "a", "b"]).value == 0.75


def test_rows_that_are_their_own_clusters_get_wilsons_interval():
    """Where nothing is repeated, the interval is the plain one, and says so."""
    assert robust_share([1, 0, 0, 0, 1], range(5)) == proportion(2, 5)


@pytest.mark.parametrize("hit", [0, 1])
def test_where_all_rows_agree_a_cluster_counts_as_one_row(hit):
    """0 of 75 is not known better than 0 of the 25 problems that the 75 are."""
    found, least = robust_share([hit] * 75, list(range(25)) * 3), proportion(25 * hit, 25)
    assert (found.low, found.high) == pytest.approx((least.low, least.high))
    assert (found.n, found.clusters) == (75, 25)


def test_rows_that_only_repeat_each_other_are_worth_their_clusters():
    """Where the rows of a cluster are all the same, repeating them narrows nothing."""
    hits = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1]
    once, thrice = robust_share(hits, range(10)), robust_share(hits * 3, list(range(10)) * 3)
    assert thrice.low <= once.low < once.high <= thrice.high


def test_one_cluster_has_no_interval():
    """What is known from a single problem says nothing of others."""
    assert robust_share([1, 0], ["a", "a"]).low is None
    assert clustered_mean([1, 0], ["a", "a"]).high is None


@pytest.mark.parametrize("hits", [[0.5, 1], [np.nan, 1], [], [2, 0]])
def test_what_is_no_hit_or_miss_is_refused(hits):
    """Missing values and counts are errors, never hits."""
    with pytest.raises(StatisticsError):
        robust_share(hits, ["a"] * len(hits))


def test_intervals_end_at_the_edges_and_are_never_without_a_width():
    """A measured 0 holds a published 0, and clusters that all agree give no interval of a mean."""
    for found in (proportion(0, 50), robust_share([0] * 6, list("aabbcc"))):
        assert found.low == 0.0 < found.high
    assert proportion(50, 50).high == 1.0
    agreed = clustered_mean([0.1 + 0.2, 0.3, 0.3], list("abc"))
    assert (agreed.low, agreed.high) == (None, None)
