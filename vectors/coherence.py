"""Whether a text holds together, by the published rule: words enough, not the same ones over and over."""

import re

MIN_WORDS = 4
MAX_REPEATED_TRIGRAMS = 0.5
RUN, MIN_DISTINCT = 20, 5
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def coherent(text: str) -> bool:
    """Tell whether a text has 4 words, at most half of its trigrams repeated, and 5 distinct words in each run of 20.

    The rule is that of "Machinic Psychopharmacology" (UK AISI, 2026). It tells loops and silence, not word salad.
    """
    words = _WORD.findall(text.lower())
    if len(words) < MIN_WORDS:
        return False
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    if 1 - len(set(trigrams)) / len(trigrams) > MAX_REPEATED_TRIGRAMS:
        return False
    runs = [words[start : start + RUN] for start in range(len(words) - RUN + 1)]
    return all(len(set(run)) >= MIN_DISTINCT for run in runs)
