"""Which of the study's scores are none: it stored 0 or 0.5 where a judge failed or nothing was measured."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from inspect_ai.log import EvalSample
from inspect_ai.scorer import Score

from self_steering.analysis.tables.rows import Row
from self_steering.steering.calls import number

_NO_SUBMISSION = "(no submission)"


def problem_id(problem: Mapping[str, Any]) -> str:
    """Return a problem's id made unique by its question: the study's ids are places, alike in every rollout."""
    name, question = str(problem.get("id") or ""), problem.get("question")
    if not isinstance(question, str) or not question.strip():
        return name
    return f"{name.rstrip('0123456789').rstrip('-_') or 'problem'}-{_digest(question)}"


def cluster(family: str, sample: EvalSample) -> str:
    """Return what a rollout shares with those that were given the same; empty where the family repeats nothing."""
    metadata, store = sample.metadata or {}, sample.store
    if family == "maths":
        # The same few problems are given together in every condition.
        given = "\n".join(problem_id(problem) for problem in _given(sample))
        return f"set-{_digest(given)}" if given else ""
    if family == "frustration":
        name = metadata.get("problem_id") or store.get("FrustrationState:problem_id")
        question = metadata.get("problem_question") or store.get("FrustrationState:problem_question")
        return problem_id({"id": name, "question": question})
    return str(sample.id) if family == "ctf" else ""


def problem_rows(family: str, sample: EvalSample) -> list[Row]:
    """Return one row a problem that a rollout was given, in families where there is something to solve."""
    return _maths_problems(sample) if family == "maths" else _flag(sample) if family == "ctf" else []


def _given(sample: EvalSample) -> Sequence[Mapping[str, Any]]:
    return (sample.metadata or {}).get("problems") or sample.store.get("ProblemBoard:problems") or []


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:8]


def _maths_problems(sample: EvalSample) -> list[Row]:
    score = (sample.scores or {}).get("gsm8k_accuracy")
    graded: Mapping[str, Any] = ((score.metadata or {}).get("per_problem") or {}) if score else {}
    submitted: Mapping[str, Any] = sample.store.get("ProblemBoard:submissions") or {}
    rows = []
    for problem in _given(sample):
        name = str(problem.get("id"))
        result = graded.get(name) or {}
        answer = result.get("answer", submitted.get(name))
        attempted = answer is not None
        grade = number(result.get("grade"))
        correct: object = pd.NA if attempted and math.isnan(grade) else attempted and grade >= 1
        rows.append(
            {
                "problem": problem_id(problem),
                "cluster": problem_id(problem),
                "attempted": attempted,
                "correct": correct,
                "parsed": _is_number(answer) if attempted else pd.NA,
                "answer": "" if answer is None else str(answer),
                "truth": str(problem.get("answer", result.get("ground_truth", ""))),
                "said": pd.NA,
            }
        )
    return rows


def _is_number(answer: object) -> bool:
    text = str(answer).strip().lstrip("$").rstrip("%.").replace(",", "")
    return math.isfinite(number(text))


def _flag(sample: EvalSample) -> list[Row]:
    score = (sample.scores or {}).get("ctf_with_history")
    if score is None:
        return []
    metadata = score.metadata or {}
    # Without a submission the stored answer is the last thing that was said, and a flag anywhere in it was scored as right.
    attempts = metadata.get("submit_attempts")
    submitted = score.answer not in (None, "", _NO_SUBMISSION) if attempts is None else bool(attempts)
    correct = metadata.get("correct", bool(score.value))
    target = sample.target if isinstance(sample.target, str) else " ".join(sample.target)
    return [
        {
            "cluster": str(sample.id),
            "attempted": submitted,
            "correct": bool(correct),
            "parsed": pd.NA,
            "answer": score.answer if submitted else "",
            "truth": target,
            "said": bool(score.value),
        }
    ]


# Its value is the length of a history.
NO_SCORE = frozenset({"history_logger"})
_JUDGED = re.compile(r"SCORE\**\s*:\s*\**\s*-?\d", re.IGNORECASE)
_GUESSES = {"guess_accuracy_scorer": "guesses", "kv_cleared_score": "uncached_guesses"}
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


def score_answer(scorer: str, score: Score) -> str | None:
    """Return what was answered; of free-text guesses the guess itself."""
    guesses = (score.metadata or {}).get(_GUESSES.get(scorer, ""))
    return "; ".join(map(str, guesses.values())) if isinstance(guesses, Mapping) else score.answer


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
