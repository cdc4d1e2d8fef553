"""The study's published log of free play, where it is at hand."""

from functools import cache
from pathlib import Path

import pytest

from self_steering.analysis.tables import Tables, read_tables

_FOLDER = Path(__file__).parents[2] / "shared" / "published-logs"
_LOG = _FOLDER / "2026-05-08T00-02-07-00-00_fp-placebo-vectors_NQqppqJgZ5QCCj3nViGmxA.eval"


def published_freeplay() -> Tables:
    """The tables of its one free-play log: Qwen3-8B, placebo, 60 rollouts; the test is skipped where it is absent."""
    if not _LOG.exists():
        pytest.skip("the study's logs are not here")
    return _read()


@cache
def _read() -> Tables:
    return read_tables(_LOG)
