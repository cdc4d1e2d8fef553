"""Which vector did the answers name? Accuracy that a liking for some options cannot feign.

Raw: the option with the largest share. Attractor-corrected: the option whose log share lies highest above its own mean over
the trials of the same arm in which another vector was applied; an option that is liked whatever was applied gains nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from inspect_ai.scorer import Metric, SampleScore, metric

PERMUTATIONS = 1000


@dataclass(frozen=True)
class Answered:
    """One question and how the answer was spread over its options.

    Attributes:
        arm: Its arm.
        true: The option that is scored as the true one.
        applied: What was applied.
        shares: Each option's share of the letters' probability, cached reading.
    """

    arm: str
    true: str
    applied: str
    shares: Mapping[str, float]

    @property
    def raw(self) -> str:
        """The option with the largest share."""
        return max(self.shares, key=lambda option: self.shares[option])


@dataclass(frozen=True)
class Identification:
    """How well the answers of one arm name what they are scored against.

    Attributes:
        n: Number of questions.
        accuracy: Share of questions whose largest option is the true one.
        n_corrected: Questions all of whose options could be corrected.
        accuracy_corrected: Share of them whose attractor-corrected answer is the true one; None if there is none.
        balanced_accuracy: Mean over true options of their corrected accuracy; None if there is none.
        information: Mutual information of true option and corrected answer in bits, less its mean under permutation; None
            if there is none.
        information_p: Share of permutations with at least as much information.
    """

    n: int
    accuracy: float
    n_corrected: int
    accuracy_corrected: float | None
    balanced_accuracy: float | None
    information: float | None
    information_p: float | None


def corrected_answers(answered: Sequence[Answered]) -> list[str | None]:
    """Return the attractor-corrected answer of each question of one arm; None where an option has no other trial."""
    seen: dict[str, list[tuple[str, float]]] = {}
    for question in answered:
        for option, share in question.shares.items():
            seen.setdefault(option, []).append((question.applied, math.log(max(share, 1e-300))))
    answers: list[str | None] = []
    for question in answered:
        above: dict[str, float] | None = {}
        for option, share in question.shares.items():
            others = [value for applied, value in seen[option] if applied != option]
            # The question itself is none of the trials that its option is measured against.
            own = math.log(max(share, 1e-300))
            if question.applied != option:
                others.remove(own)
            if not others:
                above = None
                break
            above[option] = own - fmean(others)
        answers.append(None if above is None else max(above, key=above.__getitem__))
    return answers


def identify(answered: Sequence[Answered], seed: int = 0) -> Identification:
    """Measure the answers of one arm.

    Args:
        answered: All questions of the arm.
        seed: Of the permutations.
    """
    corrected = [(q.true, found) for q, found in zip(answered, corrected_answers(answered), strict=True) if found]
    hits: dict[str, list[bool]] = {}
    for true, found in corrected:
        hits.setdefault(true, []).append(found == true)
    information, p = _information(corrected, seed) if corrected else (None, None)
    return Identification(
        n=len(answered),
        accuracy=fmean(q.raw == q.true for q in answered),
        n_corrected=len(corrected),
        accuracy_corrected=fmean(found == true for true, found in corrected) if corrected else None,
        balanced_accuracy=fmean(fmean(of) for of in hits.values()) if hits else None,
        information=information,
        information_p=p,
    )


def confusion(answered: Sequence[Answered]) -> dict[str, dict[str, int]]:
    """Return how often each corrected answer was given to each true option."""
    counts: dict[str, dict[str, int]] = {}
    for question, found in zip(answered, corrected_answers(answered), strict=True):
        if found is not None:
            row = counts.setdefault(question.true, {})
            row[found] = row.get(found, 0) + 1
    return counts


def _information(pairs: Sequence[tuple[str, str]], seed: int) -> tuple[float, float]:
    """Return mutual information above its mean under permutation, in bits, and its permutation p."""
    truths = np.unique([true for true, _ in pairs], return_inverse=True)[1]
    answers = np.unique([found for _, found in pairs], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    observed = _bits(truths, answers)
    shuffled = np.array([_bits(truths, rng.permutation(answers)) for _ in range(PERMUTATIONS)])
    return observed - float(shuffled.mean()), float((1 + (shuffled >= observed - 1e-12).sum()) / (PERMUTATIONS + 1))


def _bits(truths: np.ndarray, answers: np.ndarray) -> float:
    table = np.zeros((truths.max() + 1, answers.max() + 1))
    np.add.at(table, (truths, answers), 1 / len(truths))
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    filled = table > 0
    return float((table[filled] * np.log2(table[filled] / expected[filled])).sum())


@metric
def identification() -> Metric:
    """Accuracy raw and attractor-corrected, balanced accuracy and mutual information, by arm: `ARM/accuracy` and so on."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        by_arm: dict[str, list[Answered]] = {}
        for score in scores:
            answered = answered_of(score.sample_metadata or {}, score.score.metadata or {})
            by_arm.setdefault(answered.arm, []).append(answered)
        return {
            f"{arm}/{name}": float(value)
            for arm, answered in by_arm.items()
            for name, value in vars(identify(answered)).items()
            if value is not None
        }

    return compute


def answered_of(trial: Mapping[str, object], score: Mapping[str, object]) -> Answered:
    """Return a question from its sample's metadata and its score's."""
    shares: Mapping[str, Mapping[str, float]] = score["shares"]  # type: ignore[assignment]  # written by our scorer
    return Answered(str(trial["arm"]), str(trial["vector"]), str(trial["applied"]), shares["cached"])
