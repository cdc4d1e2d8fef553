"""The problems of the published study's rollouts: which they are, and what became of them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from inspect_ai.log import EvalSample

from self_steering.analysis.tables.log_rows import Row
from self_steering.steering.take_calls import number

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
                "attempted": attempted,
                "correct": correct,
                "parsed": _is_number(answer) if attempted else pd.NA,
                "answer": "" if answer is None else str(answer),
                "truth": str(problem.get("answer", result.get("ground_truth", ""))),
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
            "attempted": submitted,
            "correct": bool(correct),
            "parsed": pd.NA,
            "answer": score.answer if submitted else "",
            "truth": target,
        }
    ]
