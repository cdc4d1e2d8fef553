"""The finding first: what the logs say to each of the three research questions, its largest effects and what did not hold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from self_steering.analysis.drawing.words import (
    counted,
    listed,
    model_name,
    p_in_words,
    share_in_words,
    visible,
    with_interval,
)
from self_steering.analysis.freeplay.picks import MEAN, SHARES, valences
from self_steering.analysis.freeplay.redosing import EVERY, RATE, redosing
from self_steering.analysis.freeplay.rollouts import figure_in_words, group_names, who
from self_steering.analysis.introspection.arms import arm_comparisons
from self_steering.analysis.introspection.gap_words import condition_names, gap_in_words
from self_steering.analysis.introspection.gaps import condition_gaps, gap_table, rating_table
from self_steering.analysis.statistics.estimates import Row
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import effects, self_steering
from self_steering.analysis.tasks.cells import condition, gauge_in_words
from self_steering.analysis.tasks.frustration import SELF_STEERING, frustration_self_steering, tone_effects

_LEVEL, _NAMED = 0.05, 4
_MANDATORY = "mandatory"


@dataclass(frozen=True)
class Answer:
    """What the logs say to one question.

    Attributes:
        question: The question.
        sentences: What they say: of each kind of effect the largest, and what did not hold; empty where they say nothing.
        figures: Keys of figures that show it, the best first.
    """

    question: str
    sentences: tuple[str, ...]
    figures: tuple[str, ...]

    @property
    def short(self) -> tuple[str, ...]:
        """What stands first on the page: the first kind of effect and the last, such as who steers itself, and what it costs."""
        return tuple(dict.fromkeys((*self.sentences[:1], *self.sentences[-1:])))


@dataclass(frozen=True)
class _Effect:
    """One effect: what it is of, its size, what there is to say of it, and whether it holds; None where that cannot be told."""

    name: str
    value: float
    words: str
    holds: bool | None


def answers(tables: Tables) -> list[Answer]:
    """Return the answers to the three questions."""
    return [
        Answer(
            "Free play: does what it takes depend on whether anything is added?",
            tuple(_free_play(tables)),
            ("redosing", "picks", "valence"),
        ),
        Answer(
            "Introspection: can it tell, from what a vector left behind, which one it was?",
            tuple(_introspection(tables)),
            ("arms", "gaps", "detection", "free-text"),
        ),
        Answer(
            "Tasks: does it steer itself where something is to be done, and what does that cost?",
            tuple(_tasks(tables)),
            ("frustration-self-steering", "maths-effects", "maths-self-steering", "ctf-effects", "maths-accuracy"),
        ),
    ]


def _free_play(tables: Tables) -> Iterable[str]:
    doses, picks = redosing(tables), valences(tables)
    for title, table, measure in (
        ("Redose rate, against placebo", doses[doses["rollouts"] == EVERY], RATE),
        ("Share of negative picks, against placebo", picks, SHARES[-1]),
        ("Mean valence, against placebo", picks, MEAN),
    ):
        own = table[table["measure"] == measure]
        names = group_names(own)
        rows = own[own["against"] != ""].to_dict("records")
        percent = measure != MEAN
        yield from _verdict(
            title, [_effect(who(row, names), row, figure_in_words(row, percent=percent)) for row in rows]
        )
        alone = own[(own["against"] == "") & (own["framing"] == "all")].to_dict("records")
        if not rows and alone and measure == RATE:
            said = [f"{who(row, names)} {figure_in_words(row, percent=True)}" for row in alone[:_NAMED]]
            yield f"Redose rate: {'; '.join(said)}; with one arm alone nothing can be said of steering."


def _introspection(tables: Tables) -> Iterable[str]:
    for title, gaps in (("Multiple choice, cached − uncached", gap_table(tables)), ("Free text", rating_table(tables))):
        found = condition_gaps(gaps)
        real = found[(found["arm"] == "real") & found["doses"].ne("calibrated")] if len(found) else found
        real = real[real["doses"].eq("all") | ~real["doses"].eq("all").any()] if len(real) else real
        rows = zip(condition_names(real), real.to_dict("records"), strict=True) if len(real) else ()
        yield from _verdict(title, [_effect(name, row, gap_in_words(row), "gap") for name, row in rows])
    beside = arm_comparisons(tables)
    against = beside[beside["comparison"] != "real"] if len(beside) else beside
    rows = zip(condition_names(against), against.to_dict("records"), strict=True) if len(against) else ()
    yield from _verdict(
        "Against other arms, question by question",
        [
            _effect(
                f"{name}, {row['comparison']}", row, gap_in_words(row, "difference", "pairs"), "difference", "p_holm"
            )
            for name, row in rows
        ],
    )
    if len(gap_table(tables)) and against.empty:
        yield "No other arm was read beside the real one, so a gap cannot be told from a liking for some options."


def _tasks(tables: Tables) -> Iterable[str]:
    rates = [
        *((f"maths, {condition(row)}", row) for row in self_steering(tables, "maths").to_dict("records")),
        *(
            (
                ", ".join(filter(None, ("frustration", row["operators"], gauge_in_words(row), f"{row['tone']} tone"))),
                row,
            )
            for row in frustration_self_steering(tables).query("framing == 'all'").to_dict("records")
        ),
    ]
    free = [(name, row) for name, row in rates if row["intent"] != _MANDATORY]
    if free:
        name, row = max(free, key=lambda one: one[1]["value"])
        never = sum(one["took"] == 0 for _, one in free)
        rollouts = sum(one["n"] for _, one in free)
        cells = counted(len(free), "cell")
        most = (
            f"{'most in ' if len(free) > 1 else ''}{_model(row)}, {name}: {share_in_words(row)} of {row['n']} rollouts"
        )
        if never == len(free):
            found = f"nobody took anything in any of {cells} ({counted(rollouts, 'rollout')})"
        elif never:
            found = f"{most}; in {never} of {cells} nobody took anything"
        else:
            found = f"{most}, the only cell" if len(free) == 1 else f"{most}; something was taken in each of {cells}"
        yield f"Self-steering where no take was demanded: {found}."
    tones = tone_effects(tables, SELF_STEERING).to_dict("records")
    yield from _verdict(
        "Self-steering, against the neutral tone",
        [_effect(f"{_model(row)}, {row['tone']} tone", row, _points(row)) for row in tones],
    )
    said = []
    for family in ("maths", "ctf"):
        found = effects(tables, family)
        rows = found[found["over"] == "all"].to_dict("records")
        said += _verdict(
            "Accuracy in maths" if family == "maths" else "Success at capture the flag",
            [_effect(f"{_model(row)}, {condition(row)} − {row['against']}", row, _points(row)) for row in rows],
        )
    if rates and not said:
        said = [
            "What it costs cannot be told: no cell shares its problems with one without tools, or of neutral intent."
        ]
    yield from said


def _model(row: Row) -> str:
    return model_name(row["model"], row["source"])


def _points(row: Row) -> str:
    return with_interval(row, scale=100, decimals=0, signed=True, after=" points")


def _effect(name: str, row: Row, words: str, value: str = "value", p: str = "p_adjusted") -> _Effect:
    """Return a row of a table as an effect: it holds where its interval leaves out zero and its corrected p is small."""
    prefix = f"{value}_" if f"{value}_low" in row else ""
    low, high, corrected = row[f"{prefix}low"], row[f"{prefix}high"], row.get(p)
    apart = not pd.isna(low) and not pd.isna(high) and (low > 0 or high < 0)
    chance = 0.0 if corrected is None or pd.isna(corrected) else float(corrected)
    tested = f", {p_in_words(chance)}" if chance else ""
    holds = None if pd.isna(low) else bool(apart and chance <= _LEVEL)
    return _Effect(visible(name, kept=""), float(row[value]), f"{words}{tested}", holds)


def _verdict(title: str, found: Sequence[_Effect]) -> list[str]:
    """Return which effect is the largest, how many hold, and which do not."""
    ranked = sorted(found, key=lambda one: -abs(one.value))
    hold, fail = [one for one in ranked if one.holds], [one for one in ranked if not one.holds]
    if not ranked:
        return []
    if all(one.holds is None for one in ranked):
        return [f"{title}: too few to say; the largest is {ranked[0].name}: {ranked[0].words}."]
    if not hold:
        which = "it does not hold" if len(ranked) == 1 else f"none of {len(ranked)} holds"
        return [f"{title}: {which} (interval or corrected test); the largest is {ranked[0].name}: {ranked[0].words}."]
    said = f"{title}: the largest is {hold[0].name}: {hold[0].words}; {len(hold)} of {len(ranked)} hold."
    if fail:
        more = [f"{len(fail) - _NAMED} more"] if len(fail) > _NAMED else []
        said += f" Did not hold: {listed([*(one.name for one in fail[:_NAMED]), *more])}."
    return [said]
