"""What one introspection log says, with intervals, tests and the power that its design has.

Every question counts alike; intervals and t-tests are cluster-robust: over vectors, and over wordings of the prompt. The primary
comparisons are corrected together by Holm's method.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, cast, get_args

import pandas as pd
from inspect_ai.log import EvalLog, EvalSample
from scipy.stats import t as t_distribution

from self_steering.analysis.introspection.gaps import CONDITION, gap_table, reading_pairs
from self_steering.analysis.statistics.groups import Row, groups
from self_steering.analysis.statistics.tests import holm
from self_steering.analysis.tables import Tables
from self_steering.scorers.identification import Answered, answered_of
from self_steering.scorers.metrics import Mean, clustered_mean
from self_steering.solvers.readings import Arm

# In the order in which arms are shown.
ARMS: tuple[str, ...] = get_args(Arm)
AT_DOSE = [*CONDITION, "dose"]
SCORER = "introspection_scorer"
POWER, ALPHA = 0.8, 0.05
_ROUNDING = 1e-12
# What is compared with what; None compares with no gap at all.
PRIMARY: tuple[tuple[str, str | None], ...] = (
    ("real", None),
    ("real", "random"),
    ("real", "other"),
    ("real", "opposite"),
)


@dataclass(frozen=True)
class Scored:
    """One scored sample.

    Attributes:
        trial: Its metadata.
        value: Its scores by name.
        metadata: The score's metadata.
    """

    trial: Mapping[str, object]
    value: Mapping[str, float]
    metadata: Mapping[str, object]

    @property
    def arm(self) -> str:
        """Its arm."""
        return str(self.trial["arm"])

    @property
    def question(self) -> tuple[str, ...]:
        """What all arms of one question share."""
        options: Sequence[str] = self.trial["options"]  # type: ignore[assignment]  # written by our task
        return (str(self.trial["vector"]), str(self.trial["wording"]), *options)

    @property
    def answered(self) -> Answered:
        """How the answer was spread over the options."""
        return answered_of(self.trial, self.metadata)


@dataclass(frozen=True)
class Effect:
    """A mean, or a mean difference, over questions.

    Attributes:
        name: What is compared.
        n: Samples, or pairs of samples, that went in.
        by_vector: The mean with its 95 % interval, clustered by vector.
        by_wording: The same clustered by the prompt's wording.
        p: Two-sided p of the t-test over vectors, from the same standard error; None with one cluster or no spread.
        detectable: The smallest true mean that this design finds with 80 % power, two-sided at 5 %.
        p_holm: `p` corrected over the primary comparisons.
    """

    name: str
    n: int
    by_vector: Mean
    by_wording: Mean
    p: float | None
    detectable: float | None
    p_holm: float | None = None

    @property
    def mean(self) -> float:
        """The mean."""
        return self.by_vector.value


@dataclass(frozen=True)
class Rank:
    """Where the real arm's mean gap lies among those of random directions.

    Attributes:
        directions: How many random directions there are.
        above: How many of them have a mean gap at least as large.
        p: (above + 1) / (directions + 1).
    """

    directions: int
    above: int
    p: float


def scored_samples(log: EvalLog) -> list[Scored]:
    """Return the scored samples of an introspection log.

    Raises:
        ValueError: The log is not finished, or not of this experiment.
    """
    if log.status != "success" or log.results is None:
        raise ValueError(f"{log.location} is not finished (status {log.status}); finish it with `inspect eval-retry`")
    found = [one for sample in log.samples or [] if (one := _scored(sample)) is not None]
    if not found:
        raise ValueError(f"{log.location} has no scored introspection sample (task {log.eval.task})")
    return found


def _scored(sample: EvalSample) -> Scored | None:
    score = (sample.scores or {}).get(SCORER)
    if score is None or not isinstance(score.value, dict) or "arm" not in sample.metadata:
        return None
    numbers = {name: float(figure) for name, figure in score.value.items() if isinstance(figure, int | float)}
    # A score that is no number could not be given in this sample.
    value = {name: figure for name, figure in numbers.items() if not math.isnan(figure)}
    return Scored(sample.metadata, value, score.metadata or {})


def arm_effect(samples: Sequence[Scored], arm: str, what: str) -> Effect | None:
    """Return the mean of one score in one arm; None if it is nowhere."""
    rows = [(s.trial, s.value[what]) for s in samples if s.arm == arm and what in s.value]
    return _effect(arm, rows) if rows else None


def primary_effects(samples: Sequence[Scored]) -> list[Effect]:
    """Return the primary comparisons that the log's arms allow, corrected by Holm's method."""
    arms = {s.arm for s in samples}
    effects = [
        _difference(samples, first, second)
        for first, second in PRIMARY
        if first in arms and (second is None or second in arms)
    ]
    corrected = holm([effect.p for effect in effects])
    return [replace(effect, p_holm=p) for effect, p in zip(effects, corrected, strict=True)]


def _difference(samples: Sequence[Scored], first: str, second: str | None) -> Effect:
    """Return the gap of one arm less that of another, question by question."""
    base: dict[tuple[str, ...], list[float]] = {}
    for s in samples:
        if s.arm == second:
            # A question can come more than once: over few vectors, or in epochs.
            base.setdefault(s.question, []).append(s.value["gap"])
    rows = [
        (s.trial, s.value["gap"] - (fmean(base[s.question]) if second else 0.0))
        for s in samples
        if s.arm == first and (second is None or s.question in base)
    ]
    return _effect(first if second is None else f"{first} - {second}", rows)


def _effect(name: str, rows: Sequence[tuple[Mapping[str, object], float]]) -> Effect:
    values = [value for _, value in rows]
    by_vector, by_wording = (clustered_mean(values, [trial[key] for trial, _ in rows]) for key in ("vector", "wording"))
    degrees, error = by_vector.clusters - 1, by_vector.error or 0.0
    # Shares are of order one: what varies less varies by rounding alone, and is no ground for a test.
    varies = error > _ROUNDING
    return Effect(
        name=name,
        n=len(rows),
        by_vector=by_vector,
        by_wording=by_wording,
        p=float(2 * t_distribution.sf(abs(by_vector.value / error), degrees)) if varies else None,
        # What a two-sided t-test finds with this power, by the usual sum of quantiles.
        detectable=float(t_distribution.ppf([1 - ALPHA / 2, POWER], degrees).sum() * error) if varies else None,
    )


def rank_among_random(samples: Sequence[Scored]) -> Rank | None:
    """Return where the real mean gap lies among those of the random directions; None without both arms.

    Each direction's gap is averaged over the questions, each asked in one rotation; the real gap over all of them.
    """
    by_direction: dict[int, list[float]] = {}
    for sample in samples:
        if sample.arm == "random":
            gaps: Sequence[Mapping[str, float]] = sample.metadata["gaps"]  # type: ignore[assignment]  # by our scorer
            for gap in gaps:
                by_direction.setdefault(int(gap["direction"]), []).append(gap["gap"])
    real = [sample.value["gap"] for sample in samples if sample.arm == "real"]
    if not real or not by_direction:
        return None
    above = sum(fmean(gaps) >= fmean(real) for gaps in by_direction.values())
    return Rank(len(by_direction), above, (above + 1) / (len(by_direction) + 1))


def arm_comparisons(tables: Tables) -> pd.DataFrame:
    """Return the primary comparisons, one row each, for every condition and dose that has the real arm and another one.

    Args:
        tables: The logs' tables.

    Returns:
        The columns of `CONDITION`, `dose`, `comparison`, `pairs` (of questions that both arms were asked), `vectors`; `difference`
        with `_low` and `_high` (95 % t-interval over vectors), and the same bounds `_by_problem`; `p` of the t-test over vectors;
        `p_holm`, corrected over the condition's comparisons; `detectable`, the smallest difference that is found with 80 % power;
        `random_directions`, `random_above` (how many of them have a mean gap at least as large as the real one), `random_p`.
    """
    gaps = gap_table(tables)
    readings = _numbered_directions(tables).groupby("rollout")
    directions = {rollout: part[["direction", "gap"]].to_dict("records") for rollout, part in readings}
    rows: list[Row] = []
    for key, part in groups(gaps, AT_DOSE):
        if {"real"} < set(part["arm"]):
            scored = [_row_scored(rollout, directions) for rollout in part.to_dict("records")]
            rows += [{**key, **_columns(effect), **_rank(scored)} for effect in primary_effects(scored)]
    return pd.DataFrame(rows)


def direction_gaps(tables: Tables) -> pd.DataFrame:
    """Return the mean gap of every random direction, one row a condition, dose and direction: `gap`, `n` (readings)."""
    readings = _numbered_directions(tables)[["rollout", "direction", "gap"]]
    known = gap_table(tables)[["rollout", *AT_DOSE]]
    of_each = readings.merge(known, on="rollout").groupby([*AT_DOSE, "direction"], dropna=False)["gap"]
    return cast(pd.DataFrame, of_each.agg(gap="mean", n="size").reset_index())


def _numbered_directions(tables: Tables) -> pd.DataFrame:
    """Return the random arm's cached readings (`reading_pairs`), their directions numbered so that each number is one direction."""
    pairs = reading_pairs(tables).merge(tables.rollouts[["rollout", "log"]], on="rollout")
    known = pairs[pairs["direction"].notna()].merge(tables.logs[["log", "seed"]], on="log")
    # Directions of the same number under another seed are others.
    return known.assign(direction=known.groupby(["seed", "direction"], dropna=False).ngroup())


def _row_scored(rollout: Mapping[Any, Any], directions: Mapping[object, list[dict[str, float]]]) -> Scored:
    """Return a row of the gap table as a scored sample."""
    question = {"vector": rollout["vector"], "wording": rollout["problem"], "options": [rollout["question"]]}
    gaps = {"gaps": directions.get(rollout["rollout"], [])}
    return Scored({"arm": rollout["arm"], **question}, {"gap": float(rollout["gap"])}, gaps)


def _rank(scored: list[Scored]) -> Row:
    rank = rank_among_random(scored)
    values = (rank.directions, rank.above, rank.p) if rank else (None, None, None)
    return dict(zip(("random_directions", "random_above", "random_p"), values, strict=True))


def _columns(effect: Effect) -> Row:
    by_vector, by_problem = effect.by_vector, effect.by_wording
    return {
        "comparison": effect.name,
        "pairs": effect.n,
        "vectors": by_vector.clusters,
        "difference": effect.mean,
        "difference_low": by_vector.low,
        "difference_high": by_vector.high,
        "difference_low_by_problem": by_problem.low,
        "difference_high_by_problem": by_problem.high,
        "p": effect.p,
        "p_holm": effect.p_holm,
        "detectable": effect.detectable,
    }
