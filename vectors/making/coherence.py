"""Whether a text holds together, by the published rule: words enough, not the same ones over and over."""

import re
from collections.abc import Sequence

MIN_WORDS = 4
MAX_REPEATED_TRIGRAMS = 0.5
RUN, MIN_DISTINCT = 20, 5
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def repeated_trigrams(words: Sequence[str]) -> float:
    """Return the share of the trigrams of at least three words that came before."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams)


def runs_of(words: Sequence[str]) -> list[Sequence[str]]:
    """Return every run of 20 neighbouring words; none where there are fewer."""
    return [words[start : start + RUN] for start in range(len(words) - RUN + 1)]


def coherent(text: str) -> bool:
    """Tell whether a text has 4 words, at most half of its trigrams repeated, and 5 distinct words in each run of 20.

    The rule is that of "Machinic Psychopharmacology" (UK AISI, 2026). It tells loops and silence, not word salad.
    """
    words = words_of(text)
    if len(words) < MIN_WORDS or repeated_trigrams(words) > MAX_REPEATED_TRIGRAMS:
        return False
    return all(len(set(run)) >= MIN_DISTINCT for run in runs_of(words))
