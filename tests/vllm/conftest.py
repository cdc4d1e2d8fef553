"""Tests of the engine on vLLM: they run in an environment of their own (`make test-vllm`), and are left out elsewhere."""

import importlib.util
from collections.abc import Iterator

import pytest

from tests.vllm.pairs import Pair, open_pair

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A tiny Qwen3 on both engines, its prompts in chunks of at most 64 tokens on vLLM."""
    with open_pair(tmp_path_factory.mktemp("pair"), max_num_batched_tokens=64) as opened:
        yield opened
