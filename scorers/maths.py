"""Scores of the maths experiment: what became of each problem."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.metrics import NO_TOOLS, about_cell, cell_means, headline, no_session, session_record
from self_steering.solvers.maths import MathsState, ProblemRecord


def maths_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the share of problems solved without tools, and with them in the most important arm of the run."""
    accuracy = cell_means(scores, "accuracy", "accuracy")
    plain = {name: value for name, value in accuracy.items() if name == "accuracy_without_tools"}
    others = {name: value for name, value in accuracy.items() if name not in plain}
    return dict(islice(others.items(), 2 - len(plain))) | plain


@scorer(metrics=[headline(maths_headline)])
def maths_scorer() -> Scorer:
    """Count what became of the problems of a rollout.

    - `accuracy`: right, of all problems that the rollout had; `accuracy_attempted`: right, of those with an answer submitted.
    - `unparsed`: submitted, but not read as a number (`solvers.maths.read_answer`); `unsubmitted`: no answer submitted. Both of all
      problems, and neither is told as wrong.
    - `self_steer`: 1 where a take call succeeded; NaN where there was nothing to take.

    What is undefined (a share of no attempts) is NaN. Tables count problems, not rollouts, so that each weighs the same.
    """

    async def score(state: TaskState, target: Target) -> Score:
        record = session_record(state)
        problems = state.store_as(MathsState).problems
        if record is None or not problems:
            return no_session()
        tools = record.condition["framing"] != NO_TOOLS
        became = Counter(problem.status for problem in problems)
        attempted = len(problems) - became["unsubmitted"]
        return Score(
            value={
                "accuracy": became["right"] / len(problems),
                "accuracy_attempted": became["right"] / attempted if attempted else math.nan,
                "unparsed": became["unparsed"] / len(problems),
                "unsubmitted": became["unsubmitted"] / len(problems),
                "self_steer": float(any(take.ok for take in record.takes)) if tools else math.nan,
            },
            answer=", ".join(problem.submitted or "–" for problem in problems),
            explanation=_explain(problems, record.ended),
            metadata={
                **about_cell(state, record),
                "maths_cell": state.metadata["cell"],
                "problems": [
                    problem.model_dump(include={"problem", "cluster", "submitted", "status"}) for problem in problems
                ],
            },
        )

    return score


def _explain(problems: Sequence[ProblemRecord], ended: str) -> str:
    lines = ["| problem | right answer | submitted | |", "| --- | --- | --- | --- |"]
    for problem in problems:
        became = problem.status if problem.shown else "not shown"
        submitted = "" if problem.submitted is None else problem.submitted.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {problem.question} | {problem.target} | {submitted} | {became} |")
    return "\n".join([*lines, "", f"Ended by: {ended or 'nothing, it was cut off'}."])
