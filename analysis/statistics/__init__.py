"""Estimates with intervals, tests and corrections: all that the report prints comes from here.

Every estimate carries its number of rows and of clusters, its 95 % interval and the name of its method, and every test the name of
the test; `in_words` and `test_in_words` say them. Missing values are errors, never skipped.
"""

from self_steering.analysis.statistics.estimates import (
    Estimate,
    StatisticsError,
    Test,
    in_words,
    p_in_words,
    test_in_words,
)
from self_steering.analysis.statistics.intervals import clustered_mean, proportion
from self_steering.analysis.statistics.resampling import bootstrap, correlation
from self_steering.analysis.statistics.signal_detection import auroc, d_prime
from self_steering.analysis.statistics.tests import benjamini_hochberg, binomial_above, holm, permutation, sign_flip

__all__ = [
    "Estimate",
    "StatisticsError",
    "Test",
    "auroc",
    "benjamini_hochberg",
    "binomial_above",
    "bootstrap",
    "clustered_mean",
    "correlation",
    "d_prime",
    "holm",
    "in_words",
    "p_in_words",
    "permutation",
    "proportion",
    "sign_flip",
    "test_in_words",
]
