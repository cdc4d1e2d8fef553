"""Signs in one text that whoever wrote it is lost, each with a threshold and where it comes from.

The thresholds were set on sound text (the 1,230 shipped stories, 800 turns of the published study's transcripts, 300 pieces of
Python, 870 of technical documentation) and on broken text (SmolLM2-135M-Instruct under eight vectors at doses 3 to 6). They leave
room beyond what sound text showed, at the price of some broken text: invented words in short lines read like another language,
and rules do not find them. A page of nothing but links, or a table of bare codes, can look broken.
"""

import re
from statistics import median

from self_steering.solvers.lost_prompts import CANNOT_FUNCTION
from self_steering.vectors.coherence import (
    MAX_REPEATED_TRIGRAMS,
    MIN_DISTINCT,
    RUN,
    repeated_trigrams,
    runs_of,
    words_of,
)

# Different words in the typical run of 50. Stories have 33 and more, worked maths 22, code 20; broken text 1 to 17.
LONG_RUN, LONG_RUN_DISTINCT = 50, 18
# Words in a row with no mark and no line end between them. The longest in sound text: 42, where formulas stand around it.
WORDS_WITHOUT_A_MARK = 50
# One piece of text back to back, with a letter in it: no sound text had one.
REPEATS, REPEATED_LENGTH, LONGEST_PIECE = 8, 80, 60
# Share of words and numbers of one or two characters among at least 30. The most in sound text: 0.59, in worked maths.
SHORT_AMONG, SHORT_SHARE = 30, 0.75
# Less than this share with a letter is a table of numbers.
LETTERED_SHARE = 0.3

_PIECE = re.compile(rf"(.{{1,{LONGEST_PIECE}}}?)\1{{{REPEATS - 1},}}", re.DOTALL)
_MARK = re.compile(r"[^\w\s'’-]|[-'’]{2,}|\n")
_WITH_LETTER = re.compile(r"[^\W\d_]")
_LATIN_WORD = re.compile(r"\b[A-Za-z0-9]+\b")
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|`[^`]*`")
_CANNOT_FUNCTION = re.compile("|".join(f"(?:{pattern})" for pattern in CANNOT_FUNCTION), re.IGNORECASE | re.MULTILINE)
_CALL_TAG = re.compile(r"</?tool_call>|<function=[\w.-]*>?|<\|python_tag\|>")
_CALL_JSON = re.compile(r"\{\s*\"name\"\s*:\s*\"[^\"]*\"\s*,?\s*\"(?:arguments|parameters)\"")


def looping(text: str) -> str | None:
    """Return how a text goes round in circles, in words; None where it does not.

    Two measures are those of the published rule of coherence. Text that is shorter than 20 words can only loop letter by letter.
    Numbers are no words here: tables of them repeat themselves.
    """
    if piece := _repeated_piece(text):
        return f"{piece[:40]!r} is repeated back to back"
    words = [word for word in words_of(text) if not word.isdigit()]
    if len(words) < RUN:
        return None
    if (share := repeated_trigrams(words)) > MAX_REPEATED_TRIGRAMS:
        return f"{share:.0%} of its three-word phrases are repeats"
    if (fewest := min(len(set(run)) for run in runs_of(words))) < MIN_DISTINCT:
        return f"{fewest} different words in {RUN}"
    long_runs = [words[start : start + LONG_RUN] for start in range(len(words) - LONG_RUN + 1)]
    if long_runs and (typical := median(len(set(run)) for run in long_runs)) < LONG_RUN_DISTINCT:
        return f"{typical:g} different words in {LONG_RUN}"
    return None


def gibberish(text: str) -> str | None:
    """Return why a text is gibberish, in words; None where it is not, as far as rules can tell."""
    longest = max(len(words_of(part)) for part in _MARK.split(text))
    if longest >= WORDS_WITHOUT_A_MARK:
        return f"{longest} words without a mark or a line end"
    words = _LATIN_WORD.findall(text)
    lettered = sum(not word.isdigit() for word in words)
    short = sum(len(word) <= 2 for word in words)
    if len(words) >= SHORT_AMONG and lettered >= LETTERED_SHARE * len(words) and short >= SHORT_SHARE * len(words):
        return f"{short} of {len(words)} words and numbers have one or two characters"
    return None


def broken_call(text: str) -> str | None:
    """Return what in a text was meant as a tool call, though none was read from it; None where nothing was.

    To speak of a tool, or to write its name, is no call.
    """
    match = _CALL_TAG.search(text) or _CALL_JSON.search(text)
    return f"{match[0][:40]!r} begins no call that can be read" if match else None


def cannot_function(text: str) -> str | None:
    """Return the words in which a text says that its writer cannot function; None where there are none outside quotation marks."""
    match = _CANNOT_FUNCTION.search(_QUOTED.sub(" ", text))
    return f"it says {match[0]!r}" if match else None


def _repeated_piece(text: str) -> str | None:
    for match in _PIECE.finditer(text):
        # Rules, dots and zeros are no speech.
        if len(match[0]) >= REPEATED_LENGTH and _WITH_LETTER.search(match[1]):
            return match[1]
    return None
