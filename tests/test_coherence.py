"""The published rule of coherence, at its exact boundaries."""

import itertools

import pytest

from self_steering.vectors.making.coherence import coherent

LETTERS = "abcd"


def four_words_without_loop(count: int) -> str:
    """Return `count` words, four distinct ones, whose trigrams hardly repeat."""
    # Grown word by word, so that each new trigram is one that was not there.
    words, seen = ["a", "b"], set()
    while len(words) < count:
        new = next(w for w in (*LETTERS[len(words) % 4 :], *LETTERS) if (words[-2], words[-1], w) not in seen)
        seen.add((words[-2], words[-1], new))
        words.append(new)
    assert set(words) == set(LETTERS)
    assert len(set(itertools.pairwise(words))) > 10
    return " ".join(words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("... !! --", False),
        ("one two three", False),
        ("one two three four", True),
        ("it's don't won't", False),  # an apostrophe does not part a word
        ("well-known ferry boats", True),  # a hyphen does
        ("你好 世界 再见 朋友", True),
    ],
)
def test_a_text_needs_four_words(text: str, expected: bool):
    """Words of any script; marks are none."""
    assert coherent(text) is expected


def test_at_most_half_of_the_trigrams_may_be_repeats():
    """Eight words in a loop of three have three distinct trigrams of six; the ninth word tips the scale."""
    assert coherent("a b c a b c a b")
    assert not coherent("a b c a b c a b c")
    assert not coherent("A b, c! a B c? A b c")
    assert coherent("no no no no")
    assert not coherent("no no no no no")


def test_twenty_words_in_a_row_need_five_distinct_ones():
    """Four are too few in twenty words, and enough in nineteen, which hold no such run."""
    assert coherent(four_words_without_loop(19))
    assert not coherent(four_words_without_loop(20))
    assert coherent(four_words_without_loop(19) + " e")


def test_every_run_counts():
    """A sound beginning, or a sound end, does not excuse a poor run."""
    sound, poor = " ".join(f"w{n}" for n in range(40)), four_words_without_loop(20)
    assert coherent(sound)
    assert not coherent(f"{sound} {poor}")
    assert not coherent(f"{poor} {sound}")
    assert coherent(f"{sound} {four_words_without_loop(19)}")
