"""Windows at the edges, under preemption, and over blocks that other requests left behind."""

from collections.abc import Iterator

import pytest

from self_steering.steering.engine.sampling import Sampling
from tests.support.parity import ALL, MIDDLE, ONE, mixed, prompt, window
from tests.vllm.pairs import TOLERANCE, Pair, greedy, open_pair, readout_difference, same_receipts

GREEDY = Sampling(max_tokens=1, temperature=0.0, top_logprobs=2)


def test_windows_at_the_edges_equal_plain_hooks_and_the_other_engine(pair: Pair):
    """At position 0, at the last one, in decoding alone, over chunk borders, of strength zero, two that cancel, all operations."""
    ids = prompt(pair.engine, 150)
    cases = [
        [window(pair.engine, MIDDLE, 0, 1, 1.0)],
        [window(pair.engine, ALL, 149, 150, 1.0)],
        [window(pair.engine, ONE, 150, None, 1.0)],
        [window(pair.engine, MIDDLE, 153, 156, -1.0)],
        [window(pair.engine, MIDDLE, 60, 131, 1.0), window(pair.engine, ONE, 63, 64, 2.0, seed=2)],
        [window(pair.engine, MIDDLE, 0, None, 0.0)],
        [window(pair.engine, MIDDLE, 10, 90, 0.7), window(pair.engine, MIDDLE, 10, 90, -0.7)],
        [window(pair.engine, MIDDLE, 500, None, 1.0)],
        [],
        mixed(pair.engine, 20),
        [window(pair.engine, ALL, 60, None, 0.0, operation="clamp", target=9.0)],
    ]
    requests = [greedy(ids, *windows, tokens=8) for windows in cases]
    found, expected = pair.run(*requests), pair.twins(*requests)
    assert max(map(pair.hooked, requests, found)) < TOLERANCE
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert max(map(readout_difference, (g.readout for g in found), (g.readout for g in expected))) < TOLERANCE
    same_receipts(found, expected)
    assert [[r.steered for r in one.receipts] for one in found] == [
        [1], [1], [7], [3], [71, 1], [157], [80, 80], [0], [], [137, 133, 14, 22, 127, 125, 123, 121], [97]
    ]  # fmt: skip


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A cache that has room for fewer tokens than the tests' requests need."""
    folder = tmp_path_factory.mktemp("crowded")
    with open_pair(folder, "llama", max_num_batched_tokens=64, max_model_len=256, num_gpu_blocks_override=13) as opened:
        yield opened


@pytest.mark.parametrize("shared", [False, True], ids=["prompts of their own", "one prompt"])
def test_a_preempted_request_is_steered_where_it_was(crowded: Pair, monkeypatch: pytest.MonkeyPatch, shared: bool):
    """Requests that lose their place and are computed again, in part from the cache, equal plain hooks token by token."""
    scheduler = crowded.scheduler()
    preempt, preempted = scheduler._preempt_request, []

    def noted(request, *args, **kwargs):
        preempted.append(request.request_id)
        return preempt(request, *args, **kwargs)

    monkeypatch.setattr(scheduler, "_preempt_request", noted)
    prompts = [prompt(crowded.engine, 70 + (0 if shared else 5 * row), seed=0 if shared else row) for row in range(4)]
    windows = [
        [window(crowded.engine, MIDDLE, 20, None, 1.0)],
        [window(crowded.engine, ALL, 90, 110, -1.0, seed=2), window(crowded.engine, ONE, 60, 95, 1.0, seed=3)],
        [],
        [window(crowded.engine, MIDDLE, 0, 100, 0.5, seed=4)],
    ]
    requests = [greedy(ids, *of_row, tokens=100) for ids, of_row in zip(prompts, windows, strict=True)]
    found = crowded.run(*requests)
    assert preempted
    assert max(map(crowded.hooked, requests, found)) < TOLERANCE
    assert [[r.steered for r in one.receipts] for one in found] == [
        [len(prompts[0]) + 79], [20, 35], [], [100]
    ]  # fmt: skip
    expected = crowded.twins(*requests)
    assert max(map(readout_difference, (g.readout for g in found), (g.readout for g in expected))) < TOLERANCE
    same_receipts(found, expected)
