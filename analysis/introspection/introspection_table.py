"""The introspection result of one log as text: arms, comparisons, identification, power, cost."""

from collections import Counter
from typing import cast

import pandas as pd
from inspect_ai.log import EvalLog

from self_steering.analysis.drawing.words import text_table
from self_steering.analysis.introspection.arms import (
    ARMS,
    arm_effect,
    primary_effects,
    rank_among_random,
    scored_table,
)
from self_steering.analysis.statistics.estimates import Row
from self_steering.scorers.identification import Answered, confusion, corrected_answers, identify

_SHOWN_ANSWERS = 3
_ACCOUNT = {"account_any": "something said to have acted", "account_exact": "right by the receipts"}
# Beside the gap, with their forms.
_SHOWN = {"near": ("gap_near", "+.4f"), "far": ("gap_far", "+.4f"), "letter mass": ("letter_mass", ".3f")}


def introspection_tables(log: EvalLog) -> dict[str, list[dict[str, str]]]:
    """Return what an introspection log says as tables of text: `arms`, `comparisons`, `identification`, `confusion`.

    Raises:
        ValueError: The log is not finished, or not of this experiment.
    """
    samples = scored_table(log)
    arms = [arm for arm in ARMS if arm in set(samples["arm"])]
    of_arm = {arm: samples.loc[samples["arm"] == arm, "answered"].tolist() for arm in arms}
    return {
        "arms": [_arm_row(samples, arm) for arm in arms],
        "comparisons": [_effect_row(effect) for effect in primary_effects(samples)],
        "identification": [_identification_row(arm, answered) for arm, answered in of_arm.items()],
        "confusion": [
            {"arm": arm, "true": true, "answered": said, "questions": str(count)}
            for arm, answered in of_arm.items()
            for true, row in sorted(confusion(answered).items())
            for said, count in sorted(row.items())
        ],
    }


def introspection_table(log: EvalLog) -> str:
    """Return what an introspection log says, to be read.

    Raises:
        ValueError: The log is not finished, or not of this experiment.
    """
    samples, tables = scored_table(log), introspection_tables(log)
    options = len(samples["answered"][0].shares)
    asked = sum(sample.metadata.get("arm") in ARMS for sample in log.samples or [])
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
        *_notes(samples, asked),
        *_imposed(log),
        *_accounts(log),
    ]
    return "\n\n".join(parts)


def _arm_row(samples: pd.DataFrame, arm: str) -> dict[str, str]:
    def show(what: str, form: str) -> str:
        found = arm_effect(samples, arm, what)
        return "none" if found is None else format(found["difference"], form)

    gap = arm_effect(samples, arm)
    assert gap is not None
    by_vector, by_wording = _interval(gap, "", "[]"), _interval(gap, "_by_problem", "()")
    return {
        "arm": arm,
        "n": str(gap["pairs"]),
        "cached": show("cached", ".4f"),
        "uncached": show("uncached", ".4f"),
        "gap": f"{gap['difference']:+.4f} {by_vector} {by_wording}",
        **{name: show(*figure) for name, figure in _SHOWN.items()},
        "clean receipts": show("clean_receipt", ".0%"),
    }


def _effect_row(effect: Row) -> dict[str, str]:
    return {
        "comparison": effect["comparison"],
        "difference": f"{effect['difference']:+.4f} {_interval(effect, '', '[]')}",
        "pairs": str(effect["pairs"]),
        "vectors": str(effect["vectors"]),
        "p": _p(effect["p"]),
        "p (Holm)": _p(effect["p_holm"]),
        "found with 80 % power": "-" if effect["detectable"] is None else f"{effect['detectable']:.4f}",
    }


def _identification_row(arm: str, answered: list[Answered]) -> dict[str, str]:
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


def _notes(samples: pd.DataFrame, asked: int) -> list[str]:
    notes = []
    read = pd.DataFrame(samples["gaps"][samples["arm"] == "random"].sum() or [], columns=["direction", "gap"])
    rank = rank_among_random(samples, read.groupby("direction")["gap"].mean())
    if rank["random_p"] is not None:
        notes.append(
            f"Of {rank['random_directions']} random directions, {rank['random_above']} have a mean gap at least as large as the "
            f"real one (p {rank['random_p']:.3f})."
        )
    computed, naive = samples["computed_tokens"].sum(), samples["prompt_tokens"].sum()
    notes.append(
        f"Tokens computed: {computed:,.0f}; every reading alone would take {naive:,.0f} ({computed / naive:.2f})."
    )
    if asked > len(samples):
        notes.append(f"{asked - len(samples)} samples are unscored and count nowhere; read their reasons in the log.")
    return notes


def _imposed(log: EvalLog) -> list[str]:
    """Return what was imposed, in a sentence; nothing where a log does not tell."""
    scores = [score for sample in log.samples or [] if (score := (sample.scores or {}).get("imposed_scorer"))]
    known = [cast("dict[str, float]", score.value) for score in scores if isinstance(score.value, dict)]
    if not known:
        return []
    most, cap = max(value["imposed"] for value in known), min(value["max_imposed"] for value in known)
    return [f"Imposed on a sample: at most {most:.0f} doses × positions, of {cap:.0f} that were allowed (max_imposed)."]


def _accounts(log: EvalLog) -> list[str]:
    """Return what the debriefs say by arm, in a sentence an arm; nothing where none was held."""
    asked: dict[str, list[dict[str, float] | None]] = {}
    for sample in log.samples or []:
        if score := (sample.scores or {}).get("imposed_account_scorer"):
            known = score.value if isinstance(score.value, dict) else None
            asked.setdefault(str(sample.metadata["arm"]), []).append(cast("dict[str, float] | None", known))
    said = []
    for arm in (arm for arm in ARMS if arm in asked):
        read = [value for value in asked[arm] if value]
        found = [f"{text} in {sum(value[name] for value in read):.0f}" for name, text in _ACCOUNT.items()]
        said.append(f"Debrief, {arm}: {', '.join(found)} of {len(read)} accounts ({len(asked[arm])} asked).")
    return ["\n".join(said)] if said else []


def _interval(effect: Row, by: str, brackets: str) -> str:
    low, high = effect[f"difference_low{by}"], effect[f"difference_high{by}"]
    return "one cluster" if low is None else f"{brackets[0]}{low:+.4f}, {high:+.4f}{brackets[1]}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value >= 0.001 else "<0.001"
