"""Which vector did the answers name? Accuracy that a liking for some options cannot feign.

Raw: the option with the largest share. Attractor-corrected: the option whose log share lies highest above its own mean over
the trials of the same arm in which another vector was applied; an option that is liked whatever was applied gains nothing.
Moved: the same of the log share's change from the uncached to the cached reading, which takes out what the question alone
makes of its options as well.
"""

# ruff: noqa: PLC0415  numpy takes long to import, and Inspect imports this whatever it runs

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 1000
# Between two permutations every question is offered this many swaps.
_SWAP_ROUNDS = 3


@dataclass(frozen=True)
class Answered:
    """One question and how the answer was spread over its options.

    Attributes:
        arm: Its arm.
        true: The option that is scored as the true one.
        applied: What was applied.
        shares: Each option's share of the letters' probability, cached reading.
        base: The same, uncached reading.
    """

    arm: str
    true: str
    applied: str
    shares: Mapping[str, float]
    base: Mapping[str, float]

    @property
    def raw(self) -> str:
        """The option with the largest share."""
        return max(self.shares, key=lambda option: self.shares[option])

    @property
    def logs(self) -> dict[str, float]:
        """Each option's log share, cached."""
        return {option: _log(share) for option, share in self.shares.items()}

    @property
    def moves(self) -> dict[str, float]:
        """By how much each option's log share changes from the uncached to the cached reading."""
        return {option: _log(share) - _log(self.base[option]) for option, share in self.shares.items()}


@dataclass(frozen=True)
class Identification:
    """How well the answers of one arm name what they are scored against.

    Attributes:
        n: Number of questions.
        accuracy: Share of questions whose largest option is the true one.
        n_corrected: Questions all of whose options could be corrected.
        accuracy_corrected: Share of them whose attractor-corrected answer is the true one; None if there is none.
        n_moved: Questions at least one of whose options moved, and all of whose moves could be corrected.
        accuracy_moved: Share of them in which the true option moved up most, corrected; None if there is none.
        balanced_accuracy: Mean over true options of their corrected accuracy; None if there is none.
        information: Mutual information of true option and corrected answer in bits, less its mean under permutation of the
            true options among questions that show them; None if there is none.
        information_p: Share of permutations with at least as much information.
    """

    n: int
    accuracy: float
    n_corrected: int
    accuracy_corrected: float | None
    n_moved: int
    accuracy_moved: float | None
    balanced_accuracy: float | None
    information: float | None
    information_p: float | None


def corrected_answers(answered: Sequence[Answered]) -> list[str | None]:
    """Return the attractor-corrected answer of each question of one arm; None where an option has no other trial."""
    return _above_others(answered, [question.logs for question in answered])


def corrected_accuracy(answered: Sequence[Answered]) -> float:
    """Return the share of one arm's questions whose corrected answer is the true one; NaN where none can be corrected."""
    found = [found == q.true for q, found in zip(answered, corrected_answers(answered), strict=True) if found]
    return fmean(found) if found else math.nan


def moved_answers(answered: Sequence[Answered]) -> list[str | None]:
    """Return the option of each question of one arm that moved up most, beyond how it moves under other vectors.

    None where nothing moved, as under placebo, or where an option has no other trial.
    """
    moves = [question.moves for question in answered]
    found = _above_others(answered, moves)
    return [option if any(move.values()) else None for option, move in zip(found, moves, strict=True)]


def _above_others(answered: Sequence[Answered], values: Sequence[Mapping[str, float]]) -> list[str | None]:
    """Return the option of each question whose value lies highest above its mean over trials of other vectors."""
    seen: dict[str, list[tuple[int, str, float]]] = {}
    for place, (question, of_question) in enumerate(zip(answered, values, strict=True)):
        for option, value in of_question.items():
            seen.setdefault(option, []).append((place, question.applied, value))
    answers: list[str | None] = []
    for place, of_question in enumerate(values):
        above: dict[str, float] = {}
        for option, own in of_question.items():
            # The question itself is none of the trials that its option is measured against.
            others = [value for at, applied, value in seen[option] if applied != option and at != place]
            if others:
                above[option] = own - fmean(others)
        answers.append(max(above, key=above.__getitem__) if len(above) == len(of_question) else None)
    return answers


def _log(share: float) -> float:
    return math.log(max(share, 1e-300))


def identify(answered: Sequence[Answered], seed: int = 0) -> Identification:
    """Measure the answers of one arm.

    Args:
        answered: All questions of the arm.
        seed: Of the permutations.
    """
    corrected = [(q, found) for q, found in zip(answered, corrected_answers(answered), strict=True) if found]
    moved = [(q, found) for q, found in zip(answered, moved_answers(answered), strict=True) if found]
    hits: dict[str, list[bool]] = {}
    for question, found in corrected:
        hits.setdefault(question.true, []).append(found == question.true)
    information, p = _information(corrected, seed) if corrected else (None, None)
    return Identification(
        n=len(answered),
        accuracy=fmean(q.raw == q.true for q in answered),
        n_corrected=len(corrected),
        accuracy_corrected=fmean(found == q.true for q, found in corrected) if corrected else None,
        n_moved=len(moved),
        accuracy_moved=fmean(found == q.true for q, found in moved) if moved else None,
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


def _information(pairs: Sequence[tuple[Answered, str]], seed: int) -> tuple[float, float]:
    """Return mutual information above its mean under permutation, in bits, and its permutation p.

    An answer is always one of the options shown, and so is the true one: that alone makes them dependent. So two questions
    swap their true options only where each shows the other's.
    """
    import numpy as np

    number = {name: place for place, name in enumerate(sorted({name for q, _ in pairs for name in q.shares}))}
    truths = np.array([number[question.true] for question, _ in pairs])
    answers = np.array([number[found] for _, found in pairs])
    shown = np.zeros((len(pairs), len(number)), dtype=bool)
    for row, (question, _) in enumerate(pairs):
        shown[row, [number[name] for name in question.shares]] = True
    observed = _bits(truths, answers)
    rng = np.random.default_rng(seed)
    permuted = []
    for _ in range(PERMUTATIONS):
        for _ in range(_SWAP_ROUNDS):
            first, second = np.array_split(rng.permutation(len(pairs))[: len(pairs) // 2 * 2], 2)
            may = shown[first, truths[second]] & shown[second, truths[first]]
            first, second = first[may], second[may]
            truths[first], truths[second] = truths[second], truths[first]
        permuted.append(_bits(truths, answers))
    above = sum(value >= observed - 1e-12 for value in permuted)
    return observed - fmean(permuted), float((1 + above) / (PERMUTATIONS + 1))


def _bits(truths: "np.ndarray", answers: "np.ndarray") -> float:
    import numpy as np

    table = np.zeros((truths.max() + 1, answers.max() + 1))
    np.add.at(table, (truths, answers), 1 / len(truths))
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    filled = table > 0
    return float((table[filled] * np.log2(table[filled] / expected[filled])).sum())


def answered_of(trial: Mapping[str, object], score: Mapping[str, object]) -> Answered:
    """Return a question from its sample's metadata and its score's."""
    shares: Mapping[str, Mapping[str, float]] = score["shares"]  # type: ignore[assignment]  # written by our scorer
    return Answered(
        str(trial["arm"]), str(trial["vector"]), str(trial["applied"]), shares["cached"], shares["uncached"]
    )
