"""vLLM's prefix cache under steering: what is shared, what never is, and that a mistake would be noticed."""

import pytest

from self_steering.steering.engine.additions import SteeringFault
from self_steering.steering.on_vllm import block_keys
from tests.support.parity import MIDDLE, prompt, window
from tests.vllm.pairs import BLOCK, TOLERANCE, Pair, greedy, readout_difference, same_receipts

LENGTH = 10 * BLOCK + 7


@pytest.mark.parametrize("steered_first", [True, False])
def test_steered_and_clean_requests_do_not_touch_each_other(pair: Pair, steered_first: bool):
    """One after the other, the same tokens: each is what it is alone, and the second reuses none of the first's window."""
    ids = prompt(pair.engine, LENGTH, seed=10 + steered_first)
    steered, clean = greedy(ids, window(pair.engine, MIDDLE, 0, 40, 1.0), tokens=4), greedy(ids, tokens=4)
    order = [steered, clean] if steered_first else [clean, steered]
    first, second = (pair.run(one)[0] for one in order)
    assert second.reused_tokens == 0
    expected = pair.twins(*order)
    for one, other, request in zip((first, second), expected, order, strict=True):
        assert readout_difference(one.readout, other.readout) < TOLERANCE
        assert pair.hooked(request, one) < TOLERANCE
    same_receipts((first, second), expected)
    again = [pair.run(one)[0] for one in order]
    assert all(one.reused_tokens == LENGTH - 7 for one in again)
    assert [
        readout_difference(one.readout, other.readout) < TOLERANCE for one, other in zip(again, expected, strict=True)
    ]
    same_receipts(again, expected)


def test_what_stands_before_a_window_is_shared(pair: Pair):
    """Blocks before the first steered one come from a clean request; receipts tell steered positions that were reused."""
    ids = prompt(pair.engine, LENGTH, seed=20)
    pair.run(greedy(ids))
    windows = [window(pair.engine, MIDDLE, 5 * BLOCK + 3, None, 1.0)]
    (found,) = pair.run(greedy(ids, *windows))
    assert found.reused_tokens == 5 * BLOCK
    assert [r.reused for r in found.receipts] == [0]
    # The conversation goes on, and another window opens behind it.
    longer = (*ids, *prompt(pair.engine, 40, seed=21))
    later = [*windows, window(pair.engine, MIDDLE, LENGTH + 1, None, -1.0, seed=2)]
    (more,) = pair.run(greedy(longer, *later))
    assert more.reused_tokens == 10 * BLOCK
    assert [r.reused for r in more.receipts] == [5 * BLOCK - 3, 0]
    (expected,) = pair.twins(greedy(longer, *later))
    assert readout_difference(more.readout, expected.readout) < TOLERANCE
    same_receipts([more], [expected])


def test_other_strengths_directions_operations_and_places_share_nothing_steered(pair: Pair):
    """Each of them, and another order, is computed anew from the first steered block on."""
    ids = prompt(pair.engine, LENGTH, seed=30)
    start = 2 * BLOCK
    first = window(pair.engine, MIDDLE, start, start + 5, 1.0)
    pair.run(greedy(ids, first))
    others = [
        window(pair.engine, MIDDLE, start, start + 5, 1.5),
        window(pair.engine, MIDDLE, start, start + 5, 1.0, seed=2),
        window(pair.engine, MIDDLE, start + 1, start + 5, 1.0),
        window(pair.engine, MIDDLE, start, start + 6, 1.0),
        window(pair.engine, MIDDLE, start, start + 5, 0.0),
        window(pair.engine, MIDDLE, start, start + 5, 1.0, operation="gain"),
    ]
    clamp, ablate = (
        window(pair.engine, MIDDLE, start, start + 5, 1.0, operation=one, target=2.0) for one in ("clamp", "ablate")
    )
    for other in (*([one] for one in others), [clamp], [ablate], [first, clamp], [clamp, first]):
        (found,) = pair.run(greedy(ids, *other))
        assert found.reused_tokens == start
        assert readout_difference(found.readout, pair.twins(greedy(ids, *other))[0].readout) < TOLERANCE


def test_contaminated_blocks_would_be_a_fault_not_a_result(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    """Were vLLM not told about steering, a request that is given another's keys and values gets an error in place of a text."""
    monkeypatch.setattr(block_keys, "spans_of", lambda _: [])
    ids = prompt(pair.engine, LENGTH, seed=40)
    pair.run(greedy(ids, window(pair.engine, MIDDLE, 0, 40, 1.0)))
    with pytest.raises(SteeringFault, match="40 of 320 tokens in the cache were computed under other steering"):
        pair.run(greedy(ids))


def test_where_blocks_cannot_be_told_apart_whole_plans_are(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    """With a cache salt in the place of block keys nothing is shared between plans, and each finds its own again."""
    monkeypatch.setattr(block_keys, "spans_of", lambda _: [])
    monkeypatch.setattr(pair.engine, "_keyed", False)
    ids = prompt(pair.engine, LENGTH, seed=50)
    steered, clean = greedy(ids, window(pair.engine, MIDDLE, 5 * BLOCK, None, 1.0)), greedy(ids)
    found = [pair.run(one)[0] for one in (steered, clean, steered, clean)]
    assert [one.reused_tokens for one in found] == [0, 0, 320, 320]
    expected = pair.twins(steered, clean, steered, clean)
    assert max(map(readout_difference, (g.readout for g in found), (g.readout for g in expected))) < TOLERANCE


def test_the_check_at_load_notices_keys_that_have_no_effect(monkeypatch: pytest.MonkeyPatch):
    """It hashes with vLLM's own hasher, so that it is vLLM that must have taken the keys."""
    assert block_keys.install_block_keys()
    monkeypatch.setattr(block_keys, "steering_within", lambda *_: ())
    assert not block_keys.install_block_keys()
