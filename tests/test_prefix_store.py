"""The store of past keys and values: what it finds, what it must never find, and what it forgets."""

import numpy as np
import pytest
import torch

from self_steering.steering.engine.kv_cache import KeyValues
from self_steering.steering.engine.prefix_store import PrefixStore, Segment

PLENTY = 1 << 20
# Keys and values of one layer, one head, one number a token: eight bytes a token in float32.
BYTES_A_TOKEN = 8


def segment(ids: str, steering: str = "", *, canonical: bool = True, logits: torch.Tensor | None = None) -> Segment:
    """Return a segment whose tokens are letters and whose keys tell which (token, steering) they are of."""
    steered = steering or "0" * len(ids)
    keys = torch.tensor([[[ord(i) * 10.0 + int(s)] for i, s in zip(ids, steered, strict=True)]])
    return Segment(letters(ids), digits(steered), KeyValues([keys], [-keys]), canonical, logits=logits)


def letters(ids: str) -> np.ndarray:
    return np.array([ord(i) for i in ids], np.int64)


def digits(steering: str) -> np.ndarray:
    return np.array([int(s) for s in steering], np.int64)


def add_path(store: PrefixStore, *segments: Segment) -> Segment:
    node = store.root
    for each in segments:
        node = store.add(node, each)
    return node


def longest(store: PrefixStore, ids: str, steering: str = "") -> int:
    """Return how many tokens the store knows, having checked that the keys it gives are theirs."""
    steered = steering or "0" * len(ids)
    path = store.find_longest(letters(ids), digits(steered))
    found = [k for part, n in path for k in part.block.slice(n).keys[0].flatten().tolist()]
    assert found == [ord(i) * 10.0 + int(s) for i, s in zip(ids, steered, strict=True)][: len(found)]
    return len(found)


def test_the_longest_known_prefix_is_found_across_segments_and_into_one():
    """Lookup goes through whole segments and ends inside the one where the tokens part."""
    store = PrefixStore(PLENTY)
    add_path(store, segment("abcd"), segment("efgh"), segment("ijkl"))
    assert longest(store, "abcdefghijklmn") == 12
    assert longest(store, "abcdefgX") == 7
    assert longest(store, "abX") == 2
    assert longest(store, "Xbcd") == 0
    assert longest(store, "abc") == 3


def test_the_branch_that_goes_furthest_is_taken():
    """Of several segments below one, the one with most tokens in common is reused."""
    store = PrefixStore(PLENTY)
    trunk = add_path(store, segment("abcd"))
    store.add(trunk, segment("efXX"))
    store.add(trunk, segment("efgh"))
    assert longest(store, "abcdefghi") == 8
    assert longest(store, "abcdefXXi") == 8


def test_nothing_is_found_beyond_the_first_token_that_was_steered_otherwise():
    """The same tokens under another steering share only what lies before the difference, in both lookups."""
    store = PrefixStore(PLENTY)
    add_path(store, segment("abcd", "0011"), segment("efgh", "1111"))
    assert longest(store, "abcdefgh", "00111111") == 8
    assert longest(store, "abcdefgh", "00112222") == 4
    assert longest(store, "abcdefgh", "00222222") == 2
    assert longest(store, "abcdefgh", "00000000") == 2
    assert longest(store, "abcdefgh", "11111111") == 0
    for steering, found in (("00111111", 2), ("00112222", 1), ("00000000", 0)):
        assert len(store.find_canonical(letters("abcdefgh"), digits(steering), [4, 8])) == found


def test_equal_tokens_after_differently_steered_ones_are_not_shared():
    """A segment is reached through its whole past only: unsteered tokens after a window do not match a clean past."""
    store = PrefixStore(PLENTY)
    add_path(store, segment("abcd", "1111"), segment("efgh", "0000"))
    assert longest(store, "abcdefgh", "00000000") == 0
    assert longest(store, "efgh", "0000") == 0


def test_canonical_lookup_takes_whole_chunks_at_the_same_boundaries_only():
    """A chunk that ends elsewhere, or only agrees in part, is not what a fresh computation would have made."""
    store = PrefixStore(PLENTY)
    add_path(store, segment("abcd"), segment("efgh"))
    ids, steering = letters("abcdefgh"), digits("00000000")
    assert [n for _, n in store.find_canonical(ids, steering, [4, 8])] == [4, 4]
    assert store.find_canonical(ids, steering, [8]) == []
    assert store.find_canonical(ids, steering, [2, 8]) == []
    assert [n for _, n in store.find_canonical(letters("abcdefXX"), steering, [4, 8])] == [4]


def test_canonical_lookup_ignores_segments_that_are_not_canonical():
    """What decoding left behind serves the longest prefix, and no read-out."""
    store = PrefixStore(PLENTY)
    add_path(store, segment("abcd"), segment("efgh", canonical=False))
    assert [n for _, n in store.find_canonical(letters("abcdefgh"), digits("00000000"), [4, 8])] == [4]
    assert longest(store, "abcdefgh") == 8


def test_an_equal_segment_is_stored_once_and_gains_logits():
    """Adding what is there already gives the stored one back, with the logits that it lacked."""
    store = PrefixStore(PLENTY)
    first = store.add(store.root, segment("abcd"))
    before = store.nbytes
    assert store.add(store.root, segment("abcd", logits=torch.ones(3))) is first
    assert first.logits is not None
    assert store.nbytes == before + 12
    assert store.add(store.root, segment("abcd", canonical=False)) is not first


def test_the_least_recently_used_leaf_is_forgotten_first():
    """Over budget, the store drops what was neither added nor looked up for longest."""
    store = PrefixStore(12 * BYTES_A_TOKEN)
    for ids in ("abcd", "efgh", "ijkl"):
        store.add(store.root, segment(ids))
    assert longest(store, "abcd") == 4
    store.add(store.root, segment("mnop"))
    assert store.nbytes == 12 * BYTES_A_TOKEN
    assert {ids: longest(store, ids) for ids in ("abcd", "efgh", "ijkl", "mnop")} == {
        "abcd": 4,
        "efgh": 0,
        "ijkl": 4,
        "mnop": 4,
    }


def test_a_segment_outlives_what_hangs_below_it():
    """A prefix is dropped only after everything that was computed on top of it."""
    store = PrefixStore(12 * BYTES_A_TOKEN)
    add_path(store, segment("abcd"), segment("efgh"))
    store.add(store.root, segment("ijkl"))
    store.add(store.root, segment("mnop"))
    assert longest(store, "abcdefgh") == 4
    assert longest(store, "ijkl") == 4


def test_a_segment_below_a_forgotten_one_is_neither_found_nor_counted():
    """A request may go on after its prefix was evicted: what it adds then cannot be reached, and takes no budget."""
    store = PrefixStore(4 * BYTES_A_TOKEN)
    parent = store.add(store.root, segment("abcd"))
    store.add(store.root, segment("ijkl"))
    store.add(parent, segment("efgh"))
    assert longest(store, "abcdefgh") == 0
    assert longest(store, "efgh") == 0
    assert longest(store, "ijkl") == 4, "what can be found must not make room for what cannot"
    assert store.nbytes == 4 * BYTES_A_TOKEN


def test_clearing_forgets_everything():
    """After `clear` nothing is found and nothing is counted."""
    store = PrefixStore(PLENTY)
    add_path(store, segment("abcd"), segment("efgh"))
    store.clear()
    assert longest(store, "abcdefgh") == 0
    assert store.nbytes == 0


@pytest.mark.parametrize("budget", [0, 40 * BYTES_A_TOKEN, PLENTY])
def test_random_use_finds_only_right_keys_within_the_budget(budget):
    """Whatever is added in whatever order, lookups give each token its own keys, and memory stays within bounds."""
    rng = np.random.default_rng(1)
    store = PrefixStore(budget)
    reused = 0
    for _ in range(300):
        ids = "".join(rng.choice(list("ab"), 12))
        steering = "".join(rng.choice(list("01"), 2, p=[0.8, 0.2]).repeat(6))
        reused += longest(store, ids, steering)
        # As the engine does: what is found in whole segments stays, the rest becomes a segment below.
        path = store.find_longest(letters(ids), digits(steering))
        whole = [(part, n) for part, n in path if n == len(part)]
        node, start = (whole[-1][0], sum(n for _, n in whole)) if whole else (store.root, 0)
        if start < len(ids):
            stop = int(rng.integers(start, len(ids))) + 1
            store.add(node, segment(ids[start:stop], steering[start:stop], canonical=bool(rng.integers(2))))
        # The newest path alone may exceed the budget, by no more than one conversation.
        assert store.nbytes <= max(budget, len(ids) * BYTES_A_TOKEN)
    # With no budget at all the newest segment still stays, so that a conversation can go on.
    assert reused > 0
