"""The introspection result of one log as text: arms, comparisons, identification, power, cost."""

from collections import Counter
from collections.abc import Sequence

from inspect_ai.log import EvalLog

from self_steering.analysis.drawing.words import text_table
from self_steering.analysis.introspection.arms import (
    ARMS,
    Effect,
    Scored,
    arm_effect,
    primary_effects,
    rank_among_random,
    scored_samples,
)
from self_steering.scorers.identification import confusion, corrected_answers, identify
from self_steering.scorers.metrics import Mean

_SHOWN_ANSWERS = 3


def introspection_tables(log: EvalLog) -> dict[str, list[dict[str, str]]]:
    """Return what an introspection log says as tables of text: `arms`, `comparisons`, `identification`, `confusion`.

    Raises:
        ValueError: The log is not finished, or not of this experiment.
    """
    samples = scored_samples(log)
    arms = [arm for arm in ARMS if any(s.arm == arm for s in samples)]
    return {
        "arms": [_arm_row(samples, arm) for arm in arms],
        "comparisons": [_effect_row(effect) for effect in primary_effects(samples)],
        "identification": [_identification_row(samples, arm) for arm in arms],
        "confusion": [
            {"arm": arm, "true": true, "answered": said, "questions": str(count)}
            for arm in arms
            for true, row in sorted(confusion([s.answered for s in samples if s.arm == arm]).items())
            for said, count in sorted(row.items())
        ],
    }


def introspection_table(log: EvalLog) -> str:
    """Return what an introspection log says, to be read.

    Raises:
        ValueError: The log is not finished, or not of this experiment.
    """
    samples, tables = scored_samples(log), introspection_tables(log)
    options = len(samples[0].answered.shares)
    asked = [sample for sample in log.samples or [] if sample.metadata.get("arm") in ARMS]
    parts = [
        f"Introspection, {log.eval.model}: share of the true option among {options} (chance {1 / options:.2f})",
        text_table(tables["arms"]),
        (
            "gap = cached - uncached; [] 95 % t-interval clustered by vector, () by wording of the prompt; near, far: gain on "
            "distractors of the same and of other categories; letter mass over the full vocabulary, cached reading"
        ),
        "Primary comparisons of gaps (t-test over vectors, Holm)",
        text_table(tables["comparisons"]),
        (
            "Identification (corrected: log share above its mean where another vector was applied, same arm; moved: the same of "
            "its change from uncached to cached)"
        ),
        text_table(tables["identification"]),
        *_notes(samples, len(asked)),
    ]
    return "\n\n".join(parts)


def _arm_row(samples: Sequence[Scored], arm: str) -> dict[str, str]:
    def show(what: str, form: str) -> str:
        effect = arm_effect(samples, arm, what)
        return "none" if effect is None else format(effect.mean, form)

    gap = arm_effect(samples, arm, "gap")
    assert gap is not None
    return {
        "arm": arm,
        "n": str(gap.n),
        "cached": show("cached", ".4f"),
        "uncached": show("uncached", ".4f"),
        "gap": f"{gap.mean:+.4f} {_interval(gap.by_vector, '[]')} {_interval(gap.by_wording, '()')}",
        "near": show("gap_near", "+.4f"),
        "far": show("gap_far", "+.4f"),
        "letter mass": show("letter_mass", ".3f"),
        "clean receipts": show("clean_receipt", ".0%"),
    }


def _effect_row(effect: Effect) -> dict[str, str]:
    return {
        "comparison": effect.name,
        "difference": f"{effect.mean:+.4f} {_interval(effect.by_vector, '[]')}",
        "pairs": str(effect.n),
        "vectors": str(effect.by_vector.clusters),
        "p": _p(effect.p),
        "p (Holm)": _p(effect.p_holm),
        "found with 80 % power": "-" if effect.detectable is None else f"{effect.detectable:.4f}",
    }


def _identification_row(samples: Sequence[Scored], arm: str) -> dict[str, str]:
    answered = [s.answered for s in samples if s.arm == arm]
    found = identify(answered)
    said = Counter(answer for answer in corrected_answers(answered) if answer is not None)
    favourites = sorted(said.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_ANSWERS]
    return {
        "arm": arm,
        "raw": f"{found.accuracy:.3f}",
        "corrected": f"{_number(found.accuracy_corrected)} ({found.n_corrected} of {found.n})",
        "moved": f"{_number(found.accuracy_moved)} ({found.n_moved} of {found.n})",
        "balanced": _number(found.balanced_accuracy),
        "bits": "-" if found.information is None else f"{found.information:+.3f} (p {_p(found.information_p)})",
        "answered most": ", ".join(f"{name} {count}" for name, count in favourites) or "-",
    }


def _notes(samples: Sequence[Scored], asked: int) -> list[str]:
    notes = []
    if (rank := rank_among_random(samples)) is not None:
        notes.append(
            f"Of {rank.directions} random directions, {rank.above} have a mean gap at least as large as the real one "
            f"(p {rank.p:.3f})."
        )
    computed = sum(s.value["computed_tokens"] for s in samples)
    naive = sum(s.value["prompt_tokens"] for s in samples)
    notes.append(
        f"Tokens computed: {computed:,.0f}; every reading alone would take {naive:,.0f} ({computed / naive:.2f})."
    )
    if asked > len(samples):
        notes.append(f"{asked - len(samples)} samples are unscored and count nowhere; read their reasons in the log.")
    return notes


def _interval(mean: Mean, brackets: str) -> str:
    if mean.low is None or mean.high is None:
        return "one cluster"
    return f"{brackets[0]}{mean.low:+.4f}, {mean.high:+.4f}{brackets[1]}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value >= 0.001 else "<0.001"
