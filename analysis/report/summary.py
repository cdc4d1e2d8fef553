"""What a log's samples say, score by score and cell by cell, with intervals; `SUMMARIES` says which score is summarised how.

A log itself carries only a few headline metrics. All else is worked out here from the scores of its samples, so that logs of
any age, and the shards of one eval together, are summarised alike.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from inspect_ai.log import EvalSample
from inspect_ai.scorer import SampleScore, value_to_float

from self_steering.analysis.statistics.estimates import Estimate
from self_steering.analysis.statistics.intervals import clustered_mean as clustered_estimate
from self_steering.analysis.statistics.intervals import robust_share
from self_steering.analysis.statistics.signal_detection import auroc, d_prime, exact_upper_bound
from self_steering.analysis.tasks.accuracy import paired_difference, problem_share
from self_steering.scorers.ctf import flag_headline
from self_steering.scorers.identification import Answered, answered_of, identify
from self_steering.scorers.impairment import MEASURES, PHASES
from self_steering.scorers.metrics import CELL, NO_TOOLS, VARYING, clustered_mean
from self_steering.scorers.relief import CALLED, CHANNELS

NOT_INJECTED = "placebo"
WITHOUT_SITTER = "without_sitter"
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """One number of one cell.

    Attributes:
        value: The number.
        interval: Its 95 % interval; None where the data give none.
        second: A second interval, by other clusters; None likewise.
        second_by: What these other clusters are; empty where there is no second interval.
    """

    value: float
    interval: Bounds | None = None
    second: Bounds | None = None
    second_by: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the summary.

    Attributes:
        scorer: Name of the scorer.
        score: Name of the score.
        cell: Which samples, or which measure of them.
        figure: The number.
        scored: Samples that have this score.
        samples: Samples that the scorer saw.
    """

    scorer: str
    score: str
    cell: str
    figure: Figure
    scored: int
    samples: int


Summary = Callable[[Sequence[SampleScore]], Mapping[str, Figure]]


def summarise(samples: Sequence[EvalSample]) -> list[Row]:
    """Return every score that our scorers gave, summarised as `SUMMARIES` says; a score that no sample has is left out."""
    seen = dict.fromkeys(name for sample in samples for name in sample.scores or {})
    return [row for scorer in seen if scorer in SUMMARIES for row in _rows(scorer, samples)]


def _rows(scorer: str, samples: Sequence[EvalSample]) -> Iterator[Row]:
    scores = [
        SampleScore(score=sample.scores[scorer], sample_id=sample.id, sample_metadata=sample.metadata)
        for sample in samples
        if sample.error is None and sample.scores and scorer in sample.scores
    ]
    for key, summaries in SUMMARIES[scorer].items():
        known = [one for score in scores if (one := _only(score, key)) is not None]
        if known:
            for summary in summaries:
                for cell, figure in summary(known).items():
                    yield Row(scorer, key or scorer, cell, _within(figure, key, cell), len(known), len(scores))


def _within(figure: Figure, key: str, cell: str) -> Figure:
    """Return a figure whose intervals end where the score's mean cannot lie beyond; a difference of cells is left as it is."""
    if key not in RANGES or cell.endswith(f" - {NO_TOOLS}"):
        return figure
    interval, second = (
        bounds and (max(RANGES[key][0], bounds[0]), min(RANGES[key][1], bounds[1]))
        for bounds in (figure.interval, figure.second)
    )
    return replace(figure, interval=interval, second=second)


def _only(score: SampleScore, key: str) -> SampleScore | None:
    """Return a score with one of its numbers as its value; None where it has none."""
    value = score.score.value
    found = value.get(key) if isinstance(value, Mapping) else value if not key else None
    number = math.nan if found is None else value_to_float()(found)
    if math.isnan(number):
        return None
    return score.model_copy(update={"score": score.score.model_copy(update={"value": number})})


def by_key(group: str, *, within: str | None = None, cluster: str = "vector", second: str = "") -> Summary:
    """Return the mean for each value of a metadata key.

    Args:
        group: Metadata key to group by.
        within: Another key to group by first; the cells then read `WITHIN/VALUE`.
        cluster: Metadata key of the clusters.
        second: Metadata key of other clusters, for a second interval.
    """

    def summary(scores: Sequence[SampleScore]) -> dict[str, Figure]:
        groups: dict[str, list[SampleScore]] = defaultdict(list)
        for score in scores:
            groups["/".join(_about(score, key) for key in (within, group) if key)].append(score)
        return {name: _mean(of, cluster, second) for name, of in groups.items()}

    return summary


def _mean(scores: Sequence[SampleScore], cluster: str, second: str) -> Figure:
    values = [score.score.as_float() for score in scores]
    mean = clustered_estimate(values, [_about(score, cluster) for score in scores])
    other = clustered_estimate(values, [_about(score, second) for score in scores]) if second else None
    return Figure(mean.value, _bounds(mean), _bounds(other), second if _bounds(other) else "")


def overall(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return the mean of all samples, as `mean`."""
    return {"mean": Figure(fmean(score.score.as_float() for score in scores))}


def total(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return the sum over all samples, as `total`."""
    return {"total": Figure(sum(score.score.as_float() for score in scores))}


def largest_by_arm(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return the largest number in each arm, as `ARM/most`."""
    found: dict[str, float] = defaultdict(lambda: -math.inf)
    for score in scores:
        name = f"{_about(score, 'arm')}/most"
        found[name] = max(found[name], score.score.as_float())
    return {name: Figure(value) for name, value in found.items()}


def by_cell(weight: str = "", *, share: bool = False) -> Summary:
    """Return the mean in each cell, clustered by problem, or by sample where there are no problems.

    A cell is a framing and an arm, and of intent, visibility, tone and possible those that vary. Where no two values differ there
    is no interval. Where the trip sitter cleared effects in some rollouts, the mean without these is `CELL/without_sitter`.

    Args:
        weight: Name of the weight by which a rollout counts, so that a mean of shares becomes the share of all together;
            default that all count alike.
        share: Whether it is of rollouts, each 1 or 0: then the interval is the report's, also where no two differ.
    """

    def summary(scores: Sequence[SampleScore]) -> dict[str, Figure]:
        cells = [_noted(score)["cell"] for score in scores]
        varied = [name for name in VARYING if len({str(cell.get(name)) for cell in cells}) > 1]
        groups: dict[str, list[SampleScore]] = defaultdict(list)
        for score, cell in zip(scores, cells, strict=True):
            groups["/".join(str(cell[name]) for name in (*CELL, *varied) if name in cell)].append(score)
        found = {}
        for name, members in groups.items():
            untouched = [score for score in members if not _noted(score)["touched_by_sitter"]]
            found[name] = _weighted(members, weight, share=share)
            if len(untouched) < len(members):
                found[f"{name}/{WITHOUT_SITTER}"] = _weighted(untouched, weight, share=share)
        return {name: figure for name, figure in found.items() if figure is not None}

    return summary


def _weighted(scores: Sequence[SampleScore], weight: str, *, share: bool) -> Figure | None:
    weights = np.array([_noted(score)["weights"][weight] if weight else 1.0 for score in scores])
    if not weights.sum():
        return None
    values = np.array([score.score.as_float() for score in scores])
    clusters = [_noted(score)["cluster"] for score in scores]
    if share:
        rate = robust_share(values, clusters)
        return Figure(rate.value, _bounds(rate))
    mean = clustered_mean(values, clusters, weights)
    differ = np.ptp(values[weights > 0]) > 0
    return Figure(
        mean.value, (mean.low, mean.high) if differ and mean.low is not None and mean.high is not None else None
    )


def pick_shares(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return each vector's share of what was taken after a rejection, as `CELL/VECTOR`; a cell is a framing and an arm."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for score in scores:
        noted = _noted(score)
        counts["/".join(noted["cell"][name] for name in CELL)].update(noted["picks_after_rejection"])
    return {
        f"{cell}/{name}": Figure(count / of_cell.total())
        for cell, of_cell in counts.items()
        for name, count in of_cell.most_common()
    }


# What counts as a hit, and whether only problems that were attempted are counted.
_PROBLEMS: Mapping[str, tuple[str, bool]] = {
    "accuracy": ("right", False),
    "accuracy_attempted": ("right", True),
    "unparsed": ("unparsed", False),
    "unsubmitted": ("unsubmitted", False),
}


def by_problem(share: str) -> Summary:
    """Return the share of problems in each cell, clustered by template, and a second time by rollout.

    A cell is `FRAMING/ARM/INTENT`, or `none`.

    Args:
        share: Which: accuracy, accuracy_attempted, unparsed, unsubmitted.
    """

    def summary(scores: Sequence[SampleScore]) -> dict[str, Figure]:
        return {cell: _twice(*problem_share(rows)) for cell, rows in _problems(scores, share).items()}

    return summary


def against_no_tools(share: str) -> Summary:
    """Return each cell's share of problems minus that without tools, paired by problem, as `CELL - none`.

    Each problem that both cells have counts once, by its own share in each.

    Args:
        share: Which: accuracy, accuracy_attempted, unparsed, unsubmitted.
    """

    def summary(scores: Sequence[SampleScore]) -> dict[str, Figure]:
        cells = _problems(scores, share)
        plain = cells.pop(NO_TOOLS, None)
        paired = {} if plain is None else {cell: paired_difference(rows, plain) for cell, rows in cells.items()}
        return {f"{cell} - {NO_TOOLS}": _twice(*of[:2]) for cell, of in paired.items() if of is not None}

    return summary


def _problems(scores: Sequence[SampleScore], share: str) -> dict[str, pd.DataFrame]:
    """Return the problems that count in a share, by cell, as `tasks.accuracy` takes them."""
    hit, attempted = _PROBLEMS[share]
    rows = [
        {
            "cell": noted["maths_cell"],
            "problem": one["problem"],
            "cluster": one["cluster"],
            "sample": str(score.sample_id),  # epochs of one sample have the same problems
            "hit": one["status"] == hit,
        }
        for score in scores
        for noted in [_noted(score)]
        for one in noted["problems"]
        if not attempted or one["status"] != "unsubmitted"
    ]
    return {str(cell): part for cell, part in pd.DataFrame(rows).groupby("cell", sort=False)} if rows else {}


def _twice(by_problem: Estimate, by_rollout: Estimate) -> Figure:
    second = _bounds(by_rollout)
    return Figure(by_problem.value, _bounds(by_problem), second, "rollout" if second else "")


def detectability(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return d' and AUROC of every condition that injects or tampers against neither, with cluster bootstrap intervals.

    The value is the log-odds of yes, so that above zero is P(yes) > 0.5. Cells are `CONDITION/d_prime`, `CONDITION/auroc`, and for
    the real arm `real@DOSE/auroc_over_random` and `real@DOSE/auroc_over_tampered` where there is a random arm of the same dose and
    an arm that tampers with the text; clustered by vector, and a second time by prompt.
    """
    trials = _by_condition(scores)
    noise = trials.get(NOT_INJECTED)
    found: dict[str, Figure] = {}
    for name, signal in trials.items():
        if name == NOT_INJECTED:
            continue
        if noise:
            found[f"{name}/d_prime"] = _told_apart(d_prime, signal, noise)
            found[f"{name}/auroc"] = _told_apart(auroc, signal, noise)
        if name.startswith("real@"):
            others = {"random": trials.get(name.replace("real@", "random@")), "tampered": trials.get("tampered")}
            found |= {
                f"{name}/auroc_over_{arm}": _told_apart(auroc, signal, other) for arm, other in others.items() if other
            }
    return found


def false_alarms(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return the yes answers among the trials without injection: rate, exact 95 % upper bound, count, and number of trials."""
    clean = _by_condition(scores).get(NOT_INJECTED)
    if not clean:
        return {}
    count = sum(score.score.as_float() > 0 for score in clean)
    return {
        "false_positive_rate": Figure(count / len(clean)),
        "false_positive_rate_upper_95": Figure(exact_upper_bound(count, len(clean))),
        "false_positives": Figure(count),
        "no_injection_trials": Figure(len(clean)),
    }


def _by_condition(scores: Sequence[SampleScore]) -> dict[str, list[SampleScore]]:
    found: dict[str, list[SampleScore]] = {}
    for score in scores:
        found.setdefault(_about(score, "condition"), []).append(score)
    return found


def _told_apart(
    measure: Callable[..., Estimate], signal: Sequence[SampleScore], noise: Sequence[SampleScore]
) -> Figure:
    values = [[score.score.as_float() for score in part] for part in (signal, noise)]
    first, second = (
        measure(*values, *([_about(score, cluster) for score in part] for part in (signal, noise)))
        for cluster in ("vector", "prompt")
    )
    return Figure(first.value, _bounds(first), _bounds(second), "prompt" if _bounds(second) else "")


def identification(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return accuracy (raw, corrected, moved, balanced) and mutual information, as `ARM/accuracy` and so on."""
    by_arm: dict[str, list[Answered]] = {}
    for score in scores:
        answered = answered_of(score.sample_metadata or {}, _noted(score))
        by_arm.setdefault(answered.arm, []).append(answered)
    return {
        f"{arm}/{name}": Figure(float(value))
        for arm, answered in by_arm.items()
        for name, value in vars(identify(answered)).items()
        if value is not None
    }


def flags(scores: Sequence[SampleScore]) -> dict[str, Figure]:
    """Return what the log's headline says of flags."""
    return {name: Figure(value) for name, value in flag_headline(scores).items() if not math.isnan(value)}


def _about(score: SampleScore, key: str) -> str:
    return str((score.sample_metadata or {})[key])


def _noted(score: SampleScore) -> Mapping[str, Any]:
    return score.score.metadata or {}


def _bounds(estimate: Estimate | None) -> Bounds | None:
    return None if estimate is None or estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


_ARM, _PROMPT = by_key("arm"), by_key("arm", second="prompt")
_WORDING = by_key("arm", second="wording")
_CONDITION, _CONDITION_PROMPT = by_key("condition"), by_key("condition", second="prompt")
_CATEGORY, _VALENCE = by_key("category", within="arm"), by_key("valence", within="arm")
_CELLS, _SHARES = by_cell(), by_cell(share=True)

# Between what a score's mean lies, whatever the samples are: a t-interval knows nothing of it.
_OF_ROLLOUTS = (
    "redose_rate",
    "redoses_after_sitter",
    "negative_share",
    "negative_share_by_name",
    "readable",
    "withheld",
    "right",
)
_OF_READINGS = (
    "answer_mass",
    "digit_mass",
    "letter_mass",
    "top1_cached",
    "top1_uncached",
    "clean_receipt",
    "first_share",
)
_OF_ANSWERS = (
    "says_yes",
    "controls_right",
    "acted",
    "on_target",
    *(f"account_{one}" for one in ("precision", "recall", "exact", "any")),
)
_OF_TOKENS = ("conversation_share", "generated_share")
_OF_TURNS = tuple(f"{measure}_{phase}" for measure in MEASURES for phase in PHASES)
_COUNTS = (
    *(
        "looked_like_a_call",
        "takes",
        "failed_takes",
        "picks",
        "vectors",
        "redoses",
        "clears",
        "turns",
        "takes_after_rejection",
    ),
    *(
        "tool_turns",
        "exposure",
        "steered_positions",
        "effects",
        "exposure_outside_thoughts",
        "positions_outside_thoughts",
    ),
    *("imposed", "account_said", "reads", "error", "sitter_checks", "sitter_unknown"),
)
RANGES: Mapping[str, Bounds] = {
    **dict.fromkeys((*_OF_ROLLOUTS, *_OF_READINGS, *_OF_ANSWERS, *_OF_TOKENS, *_OF_TURNS), (0.0, 1.0)),
    **dict.fromkeys(_COUNTS, (0.0, math.inf)),
    **dict.fromkeys(("mean_valence", "mean_valence_by_name", "sensitivity"), (-1.0, 1.0)),
}

# For each scorer and each of its scores (empty: its only one) how it is summarised, in the order in which rows are shown.
SUMMARIES: Mapping[str, Mapping[str, Sequence[Summary]]] = {
    "introspection_scorer": {
        "cached": [_WORDING],
        "uncached": [_WORDING],
        "gap": [_WORDING, _CATEGORY, _VALENCE],
        "gap_near": [_WORDING],
        "gap_far": [_WORDING],
        "none_gap": [_WORDING],
        "top1_cached": [_WORDING, identification],
        "top1_uncached": [_WORDING],
        "letter_mass": [_WORDING],
        "clean_receipt": [_WORDING, overall],
        "computed_tokens": [total],
        "prompt_tokens": [total],
    },
    "description_scorer": {
        "cached": [_PROMPT],
        "uncached": [_PROMPT],
        "gap": [_PROMPT, _CATEGORY, _VALENCE],
        **{f"over_distractor_{name}": [_PROMPT] for name in ("cached", "uncached", "gap")},
        **{name: [_PROMPT] for name in ("own_take", "submitted", "active", "same_form", "same_text")},
        "clean_receipt": [_PROMPT, overall],
    },
    "graded": {"": [overall, _PROMPT]},
    "detection_scorer": {
        "log_odds": [_CONDITION_PROMPT, detectability, false_alarms],
        **{name: [_CONDITION_PROMPT] for name in ("says_yes", "shift", "control_shift")},
        "control_shift_no": [_CONDITION],
        "control_shift_yes": [_CONDITION],
        **{name: [_CONDITION_PROMPT] for name in ("beyond_line", "net_shift")},
        "line_slope": [_CONDITION],
        "controls_right": [_CONDITION],
        "answer_mass": [_CONDITION],
        "strength": [_CONDITION_PROMPT],
        "strength_shift": [_CONDITION_PROMPT],
        "strength_sampled": [_CONDITION],
        "digit_mass": [_CONDITION],
        "clean_receipt": [_CONDITION, overall],
    },
    "localisation_scorer": {
        "cached": [_PROMPT],
        "uncached": [_ARM],
        "gap": [_PROMPT, _CATEGORY],
        "top1_cached": [_PROMPT],
        "top1_uncached": [_ARM],
        "letter_mass": [_ARM],
        "clean_receipt": [_ARM, overall],
    },
    "comparison_scorer": {
        "cached": [_PROMPT],
        "uncached": [_ARM],
        "gap": [_PROMPT, _CATEGORY],
        "log_odds": [_PROMPT],
        "right": [_PROMPT],
        "first_share": [_ARM],
        "letter_mass": [_ARM],
        "clean_receipt": [_ARM, overall],
    },
    "preference_scorer": {
        **{name: [_ARM] for name in ("label_bias", "worth_log_odds", "points_effect", "points_effect_uncached")},
        **{name: [_ARM] for name in ("liking_level", "liking_level_uncached", "echo", "answer_mass", "digit_mass")},
        "clean_receipt": [_ARM, overall],
    },
    "relief_scorer": {
        **{f"{channel}_effect": [_CONDITION_PROMPT] for channel in ("state", "text", "both")},
        "interaction": [_CONDITION_PROMPT],
        **{f"log_odds_{channel}": [_CONDITION] for channel in CHANNELS},
        **{f"relief_{channel}": [_CONDITION] for channel in CHANNELS},
        **{f"acted_{called}_{channel}": [_CONDITION] for called in CALLED for channel in CHANNELS},
        "answer_mass": [_CONDITION],
        "clean_receipt": [_CONDITION, overall],
    },
    "maths_scorer": {
        **{share: [by_problem(share), against_no_tools(share)] for share in _PROBLEMS},
        "self_steer": [_SHARES],
    },
    "frustration_scorer": {
        **{name: [_SHARES] for name in ("self_steer", "self_steer_after_rejection")},
        "takes": [_CELLS],
        "takes_after_rejection": [_CELLS, pick_shares],
        "first_right": [_SHARES],
        "right": [by_cell("readable")],
        **{name: [by_cell("answers")] for name in ("readable", "tool_turns", "withheld")},
    },
    "distress": {"": [_CELLS]},
    "flag_scorer": {"": [flags]},
    "self_steer_scorer": {
        "took": [_SHARES],
        **{name: [_CELLS] for name in ("looked_like_a_call", "takes", "failed_takes", "picks", "vectors")},
        "redose_rate": [by_cell("vectors")],
        "redoses": [_CELLS],
        "redoses_after_sitter": [by_cell("redoses")],
        **{name: [by_cell("picks")] for name in ("negative_share", "mean_valence")},
        **{name: [by_cell("picks")] for name in ("negative_share_by_name", "mean_valence_by_name")},
        **{name: [by_cell("takes")] for name in ("dose", "strength")},
        **{name: [by_cell("redoses")] for name in ("redose_dose", "redose_strength")},
        **{name: [_CELLS] for name in ("clears", "turns")},
        **{name: [_SHARES] for name in ("ended_itself", "opted_in")},
    },
    "exposure_scorer": {
        **{name: [_CELLS] for name in ("exposure", "steered_positions", "effects")},
        **{name: [_CELLS] for name in ("exposure_outside_thoughts", "positions_outside_thoughts")},
        "conversation_share": [by_cell("conversation_tokens")],
        "generated_share": [by_cell("generated_tokens")],
    },
    "imposed_scorer": {
        "imposed": [_ARM, largest_by_arm],
        "steered_positions": [_ARM],
        "planned": [largest_by_arm],
        "max_imposed": [overall],
    },
    "imposed_account_scorer": {f"account_{name}": [_ARM] for name in ("precision", "recall", "exact", "said", "any")},
    "self_account_scorer": {
        "account_precision": [by_cell("said")],
        "account_recall": [by_cell("taken")],
        "account_exact": [_SHARES],
        "account_said": [_CELLS],
    },
    "gauge_scorer": {
        "reads": [_CELLS],
        "read": [_SHARES],
        "acted": [by_cell("reads")],
        **{name: [_CELLS] for name in ("error", "on_target", "level")},
        "sensitivity": [_CELLS],
        "followed": [by_cell("asking")],
        "right_move": [_CELLS],
    },
    "impairment_scorer": {
        f"{measure}_{phase}": [by_cell(f"{measure}_{phase}")] for measure in MEASURES for phase in PHASES
    },
    "sitter_scorer": {
        **{f"sitter_{name}": [_CELLS] for name in ("checks", "unknown")},
        **{f"sitter_{name}": [_SHARES] for name in ("lost", "cleared", "ended")},
    },
}
