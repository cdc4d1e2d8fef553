"""What lies beside the repo where it is at hand: real tokenizers, and a few of the study's published logs.

Tests that need them are skipped elsewhere, with the reason.
"""

from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from self_steering.analysis.tables import Tables, read_tables

_SHARED = Path(__file__).resolve().parents[3] / "shared"
_TOKENIZERS = _SHARED / "tokenizers"
PUBLISHED = _SHARED / "published-logs"
published_only = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the study's published logs are not here")


def real_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return a popular model's own tokenizer with its template: qwen3, llama3 or gemma3; else the test is skipped."""
    folder = _TOKENIZERS / name
    if not folder.is_dir():
        pytest.skip(f"the real tokenizer of {name} is not here")
    return AutoTokenizer.from_pretrained(folder)


@cache
def published_freeplay() -> Tables:
    """Return the tables of the published log of free play: Qwen3-8B, placebo, 60 rollouts. For tests that are `published_only`."""
    (path,) = PUBLISHED.glob("*fp-placebo-vectors*.eval")
    return read_tables(path)
