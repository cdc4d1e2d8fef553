"""The problems of our own rollouts, as their solver noted them: which they were, and what became of each."""

from collections.abc import Mapping
from typing import Any

from inspect_ai.log import EvalSample

from self_steering.analysis.tables.log_rows import Row


def own_problem_rows(sample: EvalSample) -> list[Row]:
    """Return one row a problem that a rollout had, also for those that it never came to."""
    return [_row(noted) for noted in sample.store.get("MathsState:problems") or []]


def _row(noted: Mapping[str, Any]) -> Row:
    status, submitted = noted["status"], noted.get("submitted")
    attempted = submitted is not None
    return {
        "problem": noted["problem"],
        "attempted": attempted,
        "correct": status == "right",
        "parsed": status != "unparsed" if attempted else None,
        "answer": submitted or "",
        "truth": str(noted["target"]),
    }
