"""Scores of the preference experiment: which of two states is chosen, for how many points less, and how each is rated."""

import math
from collections.abc import Mapping, Sequence

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import (
    answer_mass,
    costs,
    expected_value,
    mean_log_odds,
    not_read,
    preferred,
    reading_faults,
    receipts_line,
)
from self_steering.scorers.metrics import by_arm, clustered_mean, headline, value_of
from self_steering.solvers.preference import (
    CHOICE,
    FIRST,
    OTHER_FIRST,
    PRICE,
    SECOND,
    STATE_FIRST,
    PreferenceTrial,
)
from self_steering.solvers.prompts.preference import RATINGS
from self_steering.solvers.readings import UNCACHED, Reading
from self_steering.solvers.segments import StretchState

_MIDDLE = 5


def preference_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return how far choices are from indifference in each arm (the mean absolute log-odds), and the liking for a label."""
    arms = by_arm(scores, "log_odds")
    found = {
        f"mean_absolute_log_odds_{arm}": clustered_mean(
            [abs(value_of(score, "log_odds")) for score in of], range(len(of))
        )
        for arm, of in arms.items()
    }
    bias = [abs(value_of(score, "label_bias")) for of in arms.values() for score in of]
    return {name: mean.value for name, mean in found.items()} | ({"label_bias": sum(bias) / len(bias)} if bias else {})


@scorer(metrics=[headline(preference_headline)])
def preference_scorer() -> Scorer:
    """Score what is chosen of two states, with what a liking for a label, a place or a word does taken out.

    `log_odds` is of the state over the other: of its label over the other's, averaged over both assignments of the states to the
    labels and both orders of the labels; `prefers` is 1 where it is above zero, 0.5 where it is zero. `label_bias` is the log-odds
    of the first label over the second with nothing given. Of the price, `worth` is how many points the state is worth more than the
    other, from the line of the log-odds over the points that come with the other, `worth_log_odds` the log-odds where both have as
    many, and `points_effect` what a point for the other takes off (`points_effect_uncached`: with nothing given). `worth` is
    missing where points do not count. Ratings are the expected digit of the state less that of the other under the same label, from
    1 to 9: `liking`, `want_again`, with `_reversed` and `_renamed` scales, all signed so that more is liked more; `liking_level` is
    the digit itself, `echo` how far the digit of the reversed scale is from what the plain one says it should be (0: none; what is
    answered with the same digit whatever it means has 2 · (digit - 5)). `answer_mass` is what the choice's answers have of the full
    vocabulary, `digit_mass` what the digits have. `clean_receipt` is 1 where exactly the planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        readings = state.store_as(StretchState).readings
        if not readings:
            return not_read(state)
        trial = PreferenceTrial.model_validate(state.metadata)
        faults = reading_faults(readings)
        value = {**preference_value(readings), "clean_receipt": float(not faults)}
        odds = value.get("log_odds", value.get("worth_log_odds", math.nan))
        return Score(
            value=value,
            answer=trial.vector if odds > 0 else trial.other or "nothing",
            explanation=_explain(trial, value, faults),
            metadata={"receipt_faults": faults, **costs(readings)},
        )

    return score


def preference_value(readings: Sequence[Reading]) -> dict[str, float]:
    """Return all numbers that follow from the read-outs; of what was not asked there are none."""
    by_kind: dict[str, list[Reading]] = {}
    for reading in readings:
        by_kind.setdefault(reading.kind, []).append(reading)
    value: dict[str, float] = {}
    if choice := by_kind.get(CHOICE):
        odds = state_log_odds(choice)
        value |= {
            "log_odds": odds,
            "prefers": preferred(odds),
            "label_bias": mean_log_odds(_named(choice, UNCACHED), FIRST, SECOND),
            "answer_mass": answer_mass([reading for reading in choice if reading.name != UNCACHED]),
        }
    if price := by_kind.get(PRICE):
        value |= _price(price)
    digits = {kind: of for kind, of in by_kind.items() if kind in RATINGS}
    for kind, of in digits.items():
        sign = -1 if kind.endswith("reversed") else 1
        value[kind.replace(", ", "_").replace(" ", "_")] = sign * _rated(of)
    if digits:
        levels = {kind: expected_value([r for r in of if r.name != UNCACHED]) for kind, of in digits.items()}
        value |= {
            "liking_level": levels["liking"],
            "liking_level_uncached": expected_value(_named(digits["liking"], UNCACHED)),
            "echo": levels["liking"] + levels["liking, reversed"] - 2 * _MIDDLE,
            "digit_mass": answer_mass(
                [reading for of in digits.values() for reading in of if reading.name != UNCACHED]
            ),
        }
    return value


def state_log_odds(readings: Sequence[Reading]) -> float:
    """Return the log-odds of the state over the other, both assignments together, so that a liking for a label cancels."""
    first, second = (mean_log_odds(_named(readings, name), FIRST, SECOND) for name in (STATE_FIRST, OTHER_FIRST))
    return (first - second) / 2


def _price(readings: Sequence[Reading]) -> dict[str, float]:
    """Return the line of the state's log-odds over the points that come with the other, both assignments together.

    An item's points come with the second label, and over all items they sum to zero. So the means of the two assignments differ by
    twice what the state is preferred at equal points, and a liking for a label is in neither that nor the slopes.
    """
    slopes, means = {}, {}
    for name in (STATE_FIRST, OTHER_FIRST, UNCACHED):
        rows = _named(readings, name)
        extra = [float(reading.item) for reading in rows]
        odds = [mean_log_odds([reading], FIRST, SECOND) for reading in rows]
        middle, means[name] = sum(extra) / len(extra), sum(odds) / len(odds)
        slopes[name] = sum((x - middle) * y for x, y in zip(extra, odds, strict=True)) / sum(
            (x - middle) ** 2 for x in extra
        )
    at_equal = (means[STATE_FIRST] - means[OTHER_FIRST]) / 2
    effect = (slopes[STATE_FIRST] + slopes[OTHER_FIRST]) / 2
    return {
        "worth": at_equal / -effect if effect < 0 else math.nan,
        "worth_log_odds": at_equal,
        "points_effect": effect,
        "points_effect_uncached": slopes[UNCACHED],
    }


def _rated(readings: Sequence[Reading]) -> float:
    """Return the expected digit under the state less that under the other, label by label."""
    level = {
        (name, label): expected_value([reading for reading in _named(readings, name) if reading.item == label])
        for name in (STATE_FIRST, OTHER_FIRST)
        for label in (FIRST, SECOND)
    }
    first = level[STATE_FIRST, FIRST] - level[OTHER_FIRST, FIRST]
    second = level[OTHER_FIRST, SECOND] - level[STATE_FIRST, SECOND]
    return (first + second) / 2


def _named(readings: Sequence[Reading], name: str) -> list[Reading]:
    return [reading for reading in readings if reading.name == name]


def _explain(trial: PreferenceTrial, value: Mapping[str, float], faults: Sequence[str]) -> str:
    other = trial.other or "nothing"
    given = {
        "real": f"{trial.vector} and {other}",
        "placebo": f"{trial.vector} and {other}, both at strength zero",
        "random": f"random directions of the norms of {trial.vector} and {other}",
        "opposite": f"the negatives of {trial.vector} and {other}",
    }[trial.arm]
    rows = [f"| {name} | {number:+.4f} |" for name, number in value.items()]
    return "\n".join(
        [
            f"{trial.arm} arm: {given}, at {trial.dose:g} times the default dose, under {' and '.join(trial.labels)}.",
            "",
            f"| {trial.vector} against {other} | |",
            "| --- | --- |",
            *rows,
            "",
            receipts_line(faults),
        ]
    )
