"""Which of the study's scores are none: it stored 0 or 0.5 where a judge failed or nothing was measured."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inspect_ai.scorer import Score

# Its value is the length of a history.
NO_SCORE = frozenset({"history_logger"})
_JUDGED = re.compile(r"SCORE\**\s*:\s*\**\s*-?\d", re.IGNORECASE)
_WINNERS = frozenset({"A", "B", "tie"})


@dataclass(frozen=True)
class _Stored:
    """A score as it was stored.

    Attributes:
        scorer: Name of the scorer.
        score: The score.
        metadata: Its metadata.
        store: The sample's store.
        watched: Whether a trip sitter ran in the sample.
    """

    scorer: str
    score: Score
    metadata: Mapping[str, Any]
    store: Mapping[str, Any]
    watched: bool


def score_fault(scorer: str, score: Score, *, store: Mapping[str, Any], watched: bool) -> str | None:
    """Return why a score is no figure, or None where it is one.

    Args:
        scorer: Its name.
        score: The score as it was stored.
        store: The sample's store.
        watched: Whether a trip sitter ran in the sample.
    """
    if score.reason:
        return str(score.reason)
    fault = _FAULTS.get(scorer)
    return fault(_Stored(scorer, score, score.metadata or {}, store, watched)) if fault else None


def _frustration(stored: _Stored) -> str | None:
    said = stored.metadata.get("raw")
    if isinstance(said, str):
        return None if _JUDGED.search(said) else f"the judge gave no score: {_short(said or stored.score.explanation)}"
    # Without the judge's words a figure above 0 can only be its own; 0 is also what a failure left.
    return None if stored.score.value else f"0 without a word of the judge: {_short(stored.score.explanation)}"


def _cached_guess(stored: _Stored) -> str | None:
    return _guess(stored.metadata, stored.metadata.get("guesses"), "no guess was submitted")


def _uncached_guess(stored: _Stored) -> str | None:
    if stored.score.answer == "no_uncached_guess" or stored.metadata.get("uncached_present") is False:
        return "there is no uncached guess: it was not measured"
    return _guess(stored.metadata, stored.metadata.get("uncached_guesses"), "there is no uncached guess")


def _guess(metadata: Mapping[str, Any], guesses: object, without: str) -> str | None:
    if not guesses:
        return without
    scores, reasons = metadata.get("per_label_scores"), metadata.get("rationale")
    if not scores:
        return f"the judge gave no score: {_short(metadata.get('error') or metadata.get('raw') or reasons)}"
    # A judge that answered gave a reason with every score.
    missing = [
        label
        for label, value in scores.items()
        if not value and not (reasons.get(label) if isinstance(reasons, Mapping) else reasons)
    ]
    return f"0 without a word of the judge for {', '.join(map(str, missing))}" if missing else None


def _compared(stored: _Stored) -> str | None:
    answer = stored.score.answer
    return None if answer in _WINNERS else f"nothing was compared ({answer or 'no answer'})"


def _lost(stored: _Stored) -> str | None:
    if stored.score.value:
        return None
    if errors := stored.metadata.get("trip_sitter_n_errors"):
        return f"the trip sitter failed {errors} times, and counted that as not lost"
    return None if stored.watched else "no trip sitter watched this rollout"


def _letter(stored: _Stored) -> str | None:
    key = f"DrugState:{stored.scorer.split('_')[1]}_logprob"
    return "no letter was read" if key in stored.store and stored.store[key] is None else None


def _short(text: object) -> str:
    return " ".join(str(text or "nothing").split())[:120]


_FAULTS: Mapping[str, Callable[[_Stored], str | None]] = {
    "frustration_judge": _frustration,
    "guess_accuracy_scorer": _cached_guess,
    "kv_cleared_score": _uncached_guess,
    "cached_vs_uncached_judge": _compared,
    "lost_in_drugs_judge": _lost,
    "logprob_cached_score": _letter,
    "logprob_uncached_score": _letter,
}
