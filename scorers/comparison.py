"""Scores of the comparison experiment, from the read-outs that the solver left."""

from collections.abc import Sequence

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import (
    answer_mass,
    chosen_readings,
    costs,
    mean_log_odds,
    mean_shares,
    not_read,
    preferred,
    reading_faults,
    receipts_line,
)
from self_steering.scorers.metrics import arm_means, headline
from self_steering.solvers.comparison import FIRST, FIRST_HARDER, SECOND, SECOND_HARDER, ComparisonTrial
from self_steering.solvers.readings import UNCACHED, Reading
from self_steering.solvers.segments import StretchState


def comparison_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the real arm's gap with its interval, the gaps of the controls, and how often the harder one is named."""
    return arm_means(scores, "gap", ("real", "random", "placebo")) | arm_means(scores, "right", ["real"])


@scorer(metrics=[headline(comparison_headline)])
def comparison_scorer() -> Scorer:
    """Score the share of the sentence that was steered harder.

    `cached` is its share of the letters' mass, averaged over both assignments of the doses and both orders of the options;
    `uncached` the same in the reading without windows, one half by construction; `gap` their difference. `log_odds` is of
    the harder over the weaker one, averaged likewise, and `right` whether that is above zero (0.5 where it is zero).
    `first_share` is what the first sentence gets whichever was steered harder. `letter_mass` is what both letters have of
    the full vocabulary, cached. `clean_receipt` is 1 where exactly the planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        readings = state.store_as(StretchState).readings
        if not readings:
            return not_read(state)
        trial = ComparisonTrial.model_validate(state.metadata)
        value = comparison_value(readings)
        faults = reading_faults(readings)
        return Score(
            value={**value, "clean_receipt": float(not faults)},
            answer={0.0: "wrong", 0.5: "tie", 1.0: "right"}[value["right"]],
            explanation=_explain(trial, readings, value, faults),
            metadata={"shares": _shares(readings), "receipt_faults": faults, **costs(readings)},
        )

    return score


def comparison_value(readings: Sequence[Reading]) -> dict[str, float]:
    """Return all numbers that follow from the read-outs."""
    shares = _shares(readings)
    by_name = {name: _named(readings, name) for name in (FIRST_HARDER, SECOND_HARDER)}
    first = {name: mean_log_odds(found, FIRST, SECOND) for name, found in by_name.items()}
    # As one difference: where the assignment of the doses changes nothing, this is zero to the bit.
    log_odds = (first[FIRST_HARDER] - first[SECOND_HARDER]) / 2
    cached = (shares[FIRST_HARDER][FIRST] + shares[SECOND_HARDER][SECOND]) / 2
    uncached = (shares[UNCACHED][FIRST] + shares[UNCACHED][SECOND]) / 2
    return {
        "cached": cached,
        "uncached": uncached,
        "gap": cached - uncached,
        "log_odds": log_odds,
        "right": preferred(log_odds),
        "first_share": (shares[FIRST_HARDER][FIRST] + shares[SECOND_HARDER][FIRST]) / 2,
        "letter_mass": sum(answer_mass(found) for found in by_name.values()) / 2,
    }


def _named(readings: Sequence[Reading], name: str) -> list[Reading]:
    return chosen_readings(readings, name, readings[0].kind)


def _shares(readings: Sequence[Reading]) -> dict[str, dict[str, float]]:
    return {name: mean_shares(_named(readings, name)) for name in (FIRST_HARDER, SECOND_HARDER, UNCACHED)}


def _explain(
    trial: ComparisonTrial, readings: Sequence[Reading], value: dict[str, float], faults: Sequence[str]
) -> str:
    applied = {
        "real": trial.vector,
        "placebo": f"{trial.vector} at strength zero",
        "random": f"a random direction of {trial.vector}'s norm",
    }[trial.arm]
    rows = [f"| {name} | {of[FIRST]:.4f} | {of[SECOND]:.4f} |" for name, of in _shares(readings).items()]
    lines = [
        f"{trial.arm} arm: {applied}, at {trial.weaker:g} and at {trial.stronger:g} times the default dose.",
        "",
        f"1. {trial.sentences[0]}",
        f"2. {trial.sentences[1]}",
        "",
        "| which was steered harder | share of the first | share of the second |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"Share of the harder one {value['cached']:.4f}, uncached {value['uncached']:.4f}; log-odds {value['log_odds']:+.4f}.",
        "",
        receipts_line(faults),
    ]
    return "\n".join(lines)
