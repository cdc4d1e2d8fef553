"""Scores of the maths experiment: what became of each problem, by cell, and against the cell without tools."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from self_steering.analysis.statistics.estimates import Estimate
from self_steering.analysis.statistics.intervals import robust_mean, robust_share
from self_steering.scorers.metrics import about_cell, by_cell, no_session, session_record
from self_steering.solvers.maths import MathsState, ProblemRecord, Status

NO_TOOLS = "none"
_SHARES: Mapping[str, tuple[Status, bool]] = {
    # What counts as a hit, and whether only problems that were attempted are counted.
    "accuracy": ("right", False),
    "accuracy_attempted": ("right", True),
    "unparsed": ("unparsed", False),
    "unsubmitted": ("unsubmitted", False),
}


@dataclass(frozen=True)
class _Row:
    """One problem of one rollout."""

    cell: str
    problem: str
    cluster: str
    rollout: str
    status: str


# Unreduced, as the mean over epochs would lose each rollout's problems: clusters take care of epochs.
@metric(scores="unreduced")
def by_problem(share: str) -> Metric:
    """Share of problems in each cell, with a 95 % interval clustered by template, and one by rollout.

    Reported as `CELL`, `CELL_lower`, `CELL_upper`, `CELL_lower_by_rollout` and `CELL_upper_by_rollout`, where a cell is
    `FRAMING/ARM/INTENT`, or `none`; where there is but one cluster of several problems, or no two of these differ, there is no
    interval.

    Args:
        share: Which: accuracy, accuracy_attempted, unparsed, unsubmitted.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        result: dict[str, float] = {}
        for cell, rows in _cells(scores, share).items():
            hits = _hits(rows, share)
            result |= _reported(cell, robust_share(hits, [row.cluster for row in rows]))
            result |= _reported(cell, robust_share(hits, [row.rollout for row in rows]), "_by_rollout")
        return result

    return compute


@metric(scores="unreduced")
def against_no_tools(share: str) -> Metric:
    """Each cell's share minus that without tools, paired by problem.

    With a 95 % interval clustered by template, and one by rollout. Each problem that both cells have counts once, by its own share
    in each. Reported as `CELL`, and its intervals as in `by_problem`; nothing is reported without a cell `none`.

    Args:
        share: Which: accuracy, accuracy_attempted, unparsed, unsubmitted.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        cells = _cells(scores, share)
        plain = _by_problem(cells.pop(NO_TOOLS, []), share)
        result: dict[str, float] = {}
        for cell, rows in cells.items():
            own = _by_problem(rows, share)
            both = [problem for problem in own if problem in plain]
            if not both:
                continue
            differences = [own[problem] - plain[problem] for problem in both]
            of = {row.problem: row for row in rows}
            result |= _reported(cell, robust_mean(differences, [of[problem].cluster for problem in both]))
            by_rollout = robust_mean(differences, [of[problem].rollout for problem in both])
            result |= _reported(cell, by_rollout, "_by_rollout")
        return result

    return compute


_METRICS: dict[str, list[Metric]] = {share: [by_problem(share), against_no_tools(share)] for share in _SHARES}


@scorer(metrics={**_METRICS, "self_steer": [by_cell()]})
def maths_scorer() -> Scorer:
    """Count what became of the problems of a rollout.

    - `accuracy`: right, of all problems that the rollout had; `accuracy_attempted`: right, of those with an answer submitted.
    - `unparsed`: submitted, but not read as a number (`maths_records.read_answer`); `unsubmitted`: no answer submitted. Both of all
      problems, and neither is told as wrong.
    - `self_steer`: 1 where a take call succeeded; NaN where there was nothing to take.

    What is undefined (a share of no attempts) is NaN. The metrics count problems, not rollouts, so that each weighs the same.
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


def _cells(scores: Sequence[SampleScore], share: str) -> dict[str, list[_Row]]:
    """Return the problems that count in a share, by cell."""
    _, attempted = _SHARES[share]
    cells: dict[str, list[_Row]] = defaultdict(list)
    for row in _rows(scores):
        if not attempted or row.status != "unsubmitted":
            cells[row.cell].append(row)
    return dict(cells)


def _rows(scores: Sequence[SampleScore]) -> Iterator[_Row]:
    for score in scores:
        about = score.score.metadata or {}
        for problem in about.get("problems", []):
            yield _Row(
                cell=about["maths_cell"],
                problem=problem["problem"],
                cluster=problem["cluster"],
                # Epochs of one sample have the same problems.
                rollout=str(score.sample_id),
                status=problem["status"],
            )


def _hits(rows: Sequence[_Row], share: str) -> list[int]:
    hit, _ = _SHARES[share]
    return [int(row.status == hit) for row in rows]


def _by_problem(rows: Sequence[_Row], share: str) -> dict[str, float]:
    hits: dict[str, list[int]] = defaultdict(list)
    for row, hit in zip(rows, _hits(rows, share), strict=True):
        hits[row.problem].append(hit)
    return {problem: fmean(found) for problem, found in hits.items()}


def _reported(name: str, found: Estimate, suffix: str = "") -> dict[str, float]:
    result = {name: found.value}
    # An interval without a width, where no two values differ, would look like certainty.
    if found.low is not None and found.high is not None and found.low < found.high:
        result |= {f"{name}_lower{suffix}": found.low, f"{name}_upper{suffix}": found.high}
    return result


def _explain(problems: Sequence[ProblemRecord], ended: str) -> str:
    lines = ["| problem | right answer | submitted | |", "| --- | --- | --- | --- |"]
    for problem in problems:
        became = problem.status if problem.shown else "not shown"
        submitted = "" if problem.submitted is None else problem.submitted.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {problem.question} | {problem.target} | {submitted} | {became} |")
    return "\n".join([*lines, "", f"Ended by: {ended or 'nothing, it was cut off'}."])
