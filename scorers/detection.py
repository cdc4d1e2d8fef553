"""Scores of the detection experiment, from the read-outs that the solver left."""

# ruff: noqa: PLC0415  scipy takes a second to import, and Inspect imports this whatever it runs

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer
from inspect_ai.solver import TaskState
from numpy.typing import ArrayLike, NDArray

from self_steering.scorers.answers import (
    answer_mass,
    chosen_readings,
    costs,
    expected_value,
    mean_log_odds,
    mean_shares,
    reading_faults,
)
from self_steering.scorers.metrics import clustered_mean, prompt_interval
from self_steering.solvers.detection import ALWAYS_NO, ALWAYS_YES, CACHED, DETECTION, STRENGTH, DetectionTrial
from self_steering.solvers.segments import UNCACHED, Reading, StretchState

_RESAMPLES = 2000
_NO_INJECTION = "placebo"
Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Trials:
    """Trials of one condition.

    Attributes:
        values: The decision variable of each trial, [trials]; above zero is a yes.
        clusters: The cluster of each trial.
    """

    values: Floats
    clusters: list[str]


def d_prime(hits: ArrayLike, injected: ArrayLike, false_alarms: ArrayLike, clean: ArrayLike) -> Floats:
    """Return z(hit rate) - z(false-alarm rate), with the log-linear correction (Hautus 1995).

    One half is added to both counts and one to both numbers of trials, always, so that rates of 0 and 1 stay finite.

    Args:
        hits: Yes answers among the injected trials.
        injected: Number of injected trials.
        false_alarms: Yes answers among the trials without injection.
        clean: Number of trials without injection.
    """
    hit_rate = (np.asarray(hits) + 0.5) / (np.asarray(injected) + 1.0)
    alarm_rate = (np.asarray(false_alarms) + 0.5) / (np.asarray(clean) + 1.0)
    from scipy.special import ndtri

    return np.asarray(ndtri(hit_rate) - ndtri(alarm_rate))


def exact_upper_bound(count: int, trials: int) -> float:
    """Return the one-sided exact (Clopper-Pearson) 95 % upper bound of a rate: 0 of 300 shows 1 %."""
    from scipy.stats import binomtest

    return float(binomtest(count, trials, alternative="less").proportion_ci(0.95, method="exact").high)


def d_prime_with_interval(signal: Trials, noise: Trials) -> tuple[float, Interval | None]:
    """Return d' of yes answers, and its 95 % bootstrap interval over clusters."""
    index = _cluster_index(signal, noise)
    counts = [
        _per_cluster(part, values, index)
        for part, values in (
            (signal, signal.values > 0),
            (signal, np.ones_like(signal.values)),
            (noise, noise.values > 0),
            (noise, np.ones_like(noise.values)),
        )
    ]
    resampled = d_prime(*(_weights(len(index)) @ count for count in counts))
    return float(d_prime(*(count.sum() for count in counts))), _interval(resampled, len(index))


def auroc_with_interval(signal: Trials, noise: Trials) -> tuple[float, Interval | None]:
    """Return the area under the ROC curve (Mann-Whitney, ties count half), and its bootstrap interval over clusters."""
    index = _cluster_index(signal, noise)
    wins = (signal.values[:, None] > noise.values) + 0.5 * (signal.values[:, None] == noise.values)
    ours, theirs = (_membership(part, index) for part in (signal, noise))
    won = ours.T @ wins @ theirs
    pairs = np.outer(ours.sum(axis=0), theirs.sum(axis=0))
    weights = _weights(len(index))
    with np.errstate(invalid="ignore"):  # a resample may leave one side empty; it is left out below
        resampled = _quadratic(weights, won) / _quadratic(weights, pairs)
    return float(won.sum() / pairs.sum()), _interval(resampled, len(index))


@metric
def detectability() -> Metric:
    """Give d' and AUROC of every injected condition against no injection, with cluster bootstrap intervals.

    The value is the log-odds of yes, so that above zero is P(yes) > 0.5. Reported as `CONDITION/d_prime`, `CONDITION/auroc`, and,
    where a real and a random arm of the same dose are there, `real@DOSE/auroc_over_random`; each with `_lower` and
    `_upper` clustered by vector, and `_lower_by_prompt` and `_upper_by_prompt`, where there is more than one of these. d' has
    the log-linear correction.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        by_vector, by_prompt = (_detectability(trials_by_condition(scores, key)) for key in ("vector", "prompt"))
        bounds = {name: value for name, value in by_prompt.items() if name.endswith(("_lower", "_upper"))}
        return by_vector | {f"{name}_by_prompt": value for name, value in bounds.items()}

    return compute


@metric
def false_alarms() -> Metric:
    """Yes answers among the trials without injection: rate, count, number of trials, and the exact 95 % upper bound."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        clean = trials_by_condition(scores, "condition").get(_NO_INJECTION)
        if clean is None:
            return {}
        count, trials = int((clean.values > 0).sum()), len(clean.values)
        return {
            "false_positive_rate": count / trials,
            "false_positive_rate_upper_95": exact_upper_bound(count, trials),
            "false_positives": count,
            "no_injection_trials": trials,
        }

    return compute


def trials_by_condition(scores: Sequence[SampleScore], cluster: str) -> dict[str, Trials]:
    """Return the trials of each condition, in the order in which conditions first come."""
    found: dict[str, tuple[list[float], list[str]]] = {}
    for score in scores:
        metadata: Mapping[str, object] = score.sample_metadata or {}
        values, clusters = found.setdefault(str(metadata["condition"]), ([], []))
        values.append(score.score.as_float())
        clusters.append(str(metadata[cluster]))
    return {name: Trials(np.array(values), clusters) for name, (values, clusters) in found.items()}


def _detectability(trials: Mapping[str, Trials]) -> dict[str, float]:
    noise = trials.get(_NO_INJECTION)
    result: dict[str, float] = {}
    for name, signal in trials.items():
        if name == _NO_INJECTION:
            continue
        if noise is not None:
            result |= _named(f"{name}/d_prime", d_prime_with_interval(signal, noise))
            result |= _named(f"{name}/auroc", auroc_with_interval(signal, noise))
        random = trials.get(name.replace("real@", "random@"))
        if name.startswith("real@") and random is not None:
            result |= _named(f"{name}/auroc_over_random", auroc_with_interval(signal, random))
    return result


def _named(name: str, result: tuple[float, Interval | None]) -> dict[str, float]:
    value, interval = result
    bounds = {} if interval is None else {f"{name}_lower": interval[0], f"{name}_upper": interval[1]}
    return {name: value, **bounds}


def _cluster_index(*parts: Trials) -> dict[str, int]:
    names = dict.fromkeys(name for part in parts for name in part.clusters)
    return {name: index for index, name in enumerate(names)}


def _membership(part: Trials, index: Mapping[str, int]) -> Floats:
    """Return [trials, clusters], one where a trial is of a cluster."""
    return np.eye(len(index))[[index[name] for name in part.clusters]]


def _per_cluster(part: Trials, values: ArrayLike, index: Mapping[str, int]) -> Floats:
    """Return the sum of `values` over each cluster's trials, [clusters]."""
    return cast(Floats, np.asarray(values, dtype=float) @ _membership(part, index))


def _weights(clusters: int) -> Floats:
    """Return how often each cluster comes in each resample, [resamples, clusters]; always the same ones."""
    rng = np.random.default_rng(0)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=_RESAMPLES).astype(float)


def _quadratic(weights: Floats, matrix: Floats) -> Floats:
    return cast(Floats, ((weights @ matrix) * weights).sum(axis=1))


def _interval(resampled: Floats, clusters: int) -> Interval | None:
    """Return the percentile interval; None where there is but one cluster."""
    if clusters < 2:
        return None
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return float(low), float(high)


_MEAN = clustered_mean("condition")
_INTERVALS = [_MEAN, prompt_interval("condition")]
_DIGIT = re.compile(r"\s*([0-9])[.)]?\s*")


@scorer(
    metrics={
        "log_odds": [*_INTERVALS, detectability(), false_alarms()],
        "says_yes": _INTERVALS,
        "shift": _INTERVALS,
        "control_shift": _INTERVALS,
        "control_shift_no": [_MEAN],
        "control_shift_yes": [_MEAN],
        "net_shift": _INTERVALS,
        "controls_right": [_MEAN],
        "answer_mass": [_MEAN],
        "strength": _INTERVALS,
        "strength_shift": _INTERVALS,
        "strength_sampled": [_MEAN],
        "digit_mass": [_MEAN],
        "clean_receipt": [_MEAN, mean()],
    }
)
def detection_scorer() -> Scorer:
    """Score the log-odds of yes over no, and how far the injection moved them beyond a general shift.

    `log_odds` is of yes over no, cached, averaged over both orders of the answers; `says_yes` whether it is above zero.
    `shift` is cached minus uncached. `control_shift` is the mean of `control_shift_no` and `control_shift_yes`, the same over
    questions whose answer is always no, or always yes; `net_shift` is `shift` minus `control_shift`. `controls_right` is the share
    of control questions answered rightly, cached. `strength` is the self-report from 0 to 9, cached, as the expected value over
    digits; `strength_sampled` the one that was written, unscored where it is no digit. `answer_mass` and `digit_mass` are what
    all answers together have of the full vocabulary. `clean_receipt` is 1 where exactly the planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(StretchState)
        if not result.readings or result.sampled is None:
            return Score.unscored(reason="no_response", explanation="the solver left no read-outs")
        trial = DetectionTrial.model_validate(state.metadata)
        faults = reading_faults(result.readings)
        value = {**detection_value(result.readings), "strength_sampled": parse_digit(result.sampled)}
        unparsed = math.isnan(value["strength_sampled"])
        return Score(
            value={**value, "clean_receipt": float(not faults)},
            answer="yes" if value["says_yes"] else "no",
            explanation=_explain(trial, value, result, faults),
            metadata={
                "sampled": result.sampled,
                "sampled_unscored": "invalid_response_format" if unparsed else None,
                "digit_shares": {name: mean_shares(_of(result, name, STRENGTH)) for name in (CACHED, UNCACHED)},
                "questions": _questions(result.readings),
                "receipt_faults": faults,
                **costs(result.readings),
            },
        )

    return score


def detection_value(readings: Sequence[Reading]) -> dict[str, float]:
    """Return all numbers that follow from the read-outs."""

    def log_odds(name: str, kind: str) -> float:
        return mean_log_odds(chosen_readings(readings, name, kind), "yes", "no")

    found = log_odds(CACHED, DETECTION)
    moved = {kind: log_odds(CACHED, kind) - log_odds(UNCACHED, kind) for kind in (DETECTION, ALWAYS_NO, ALWAYS_YES)}
    # Both kinds count alike, so that whatever moves all answers towards yes, or away from it, is taken out.
    control = (moved[ALWAYS_NO] + moved[ALWAYS_YES]) / 2
    digits = {name: chosen_readings(readings, name, STRENGTH) for name in (CACHED, UNCACHED)}
    return {
        "log_odds": found,
        "says_yes": float(found > 0),
        "shift": moved[DETECTION],
        "control_shift": control,
        "control_shift_no": moved[ALWAYS_NO],
        "control_shift_yes": moved[ALWAYS_YES],
        "net_shift": moved[DETECTION] - control,
        "controls_right": _controls_right(readings),
        "answer_mass": answer_mass(chosen_readings(readings, CACHED, DETECTION)),
        "strength": expected_value(digits[CACHED]),
        "strength_shift": expected_value(digits[CACHED]) - expected_value(digits[UNCACHED]),
        "digit_mass": answer_mass(digits[CACHED]),
    }


def parse_digit(text: str) -> float:
    """Return the digit that a self-report consists of; NaN, Inspect's mark of the unscored, where it is anything else."""
    match = _DIGIT.fullmatch(text)
    return float(match[1]) if match else math.nan


def _controls_right(readings: Sequence[Reading]) -> float:
    right = []
    for kind, answer, other in ((ALWAYS_NO, "no", "yes"), (ALWAYS_YES, "yes", "no")):
        of_kind = chosen_readings(readings, CACHED, kind)
        items = dict.fromkeys(reading.item for reading in of_kind)
        right += [mean_log_odds([r for r in of_kind if r.item == item], answer, other) > 0 for item in items]
    return sum(right) / len(right)


def _of(result: StretchState, name: str, kind: str) -> list[Reading]:
    return chosen_readings(result.readings, name, kind)


def _questions(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return, for each question with yes or no, its log-odds cached and uncached."""
    rows = []
    for kind in (DETECTION, ALWAYS_NO, ALWAYS_YES):
        found = {name: chosen_readings(readings, name, kind) for name in (CACHED, UNCACHED)}
        for item in dict.fromkeys(reading.item for reading in found[CACHED]):
            log_odds = {
                name: mean_log_odds([r for r in of_name if r.item == item], "yes", "no")
                for name, of_name in found.items()
            }
            rows.append({"kind": kind, "question": item, **log_odds})
    return rows


def _explain(trial: DetectionTrial, value: dict[str, float], result: StretchState, faults: Sequence[str]) -> str:
    applied = {
        "placebo": "nothing was injected (strength zero)",
        "real": f"{trial.vector} was injected at {trial.dose:g} times its default dose",
        "random": f"a random direction of {trial.vector}'s norm was injected at {trial.dose:g} times its default dose",
    }[trial.arm]
    rows = [
        f"| {row['kind']} | {row['question']} | {row[CACHED]:+.3f} | {row[UNCACHED]:+.3f} | {row[CACHED] - row[UNCACHED]:+.3f} |"
        for row in _questions(result.readings)
    ]
    sampled = "no digit, unscored" if math.isnan(value["strength_sampled"]) else f"{value['strength_sampled']:g}"
    lines = [
        f"{trial.arm} arm: {applied}. Log-odds of yes over no, averaged over both orders:",
        "",
        "| kind | question | cached | uncached | shift |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Net shift {value['net_shift']:+.3f}: detection {value['shift']:+.3f}, controls {value['control_shift']:+.3f}.",
        "",
        f"Strength from 0 to 9: expected {value['strength']:.2f}, {value['strength_shift']:+.2f} from uncached.",
        f"Digits together have {value['digit_mass']:.2f} of the full vocabulary.",
        f"Written: {result.sampled!r} ({sampled}).",
        "",
        f"Receipts: {'; '.join(faults) if faults else 'clean'}.",
    ]
    return "\n".join(lines)
