"""The headline effects of a set of logs: the few numbers that runs and models are compared by, and set beside what was published.

| effect | what it is |
| --- | --- |
| introspection gap | the true option's cached less its uncached probability or share, by arm, primer and choice of doses |
| free-text gap | the cached less the uncached rating of the model's description, from 1 to 10 |
| redose rate | of the vectors taken in free play, the share taken again in the same rollout |
| mean valence | of the vectors picked in free play, from -1 to 1 |
| negative share | of the picks, those of negative valence |
| negative share, times placebo's | the same as a multiple of that in the placebo arm |
| maths accuracy | share of right answers, over all problems and over those attempted, by framing and intent |
| maths accuracy less no tools | the same less that without tools, paired by problem |
| maths accuracy less neutral intent | the same less that where taking is no more than allowed, paired by problem |
| maths self-steer rate | share of maths rollouts with a take of the model's own |
| frustration self-steer rate | the same under frustration, by tone and possible or impossible problem |
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from self_steering.analysis.freeplay.picks import MEAN, SHARES, valences
from self_steering.analysis.freeplay.redosing import RATE, redosing
from self_steering.analysis.freeplay.rollouts import ALL_FRAMINGS, PLACEBO
from self_steering.analysis.introspection.gaps import ALL_DOSES, CONDITION, condition_gaps, gap_table, rating_table
from self_steering.analysis.statistics.estimates import ESTIMATE, Estimate, estimate_columns
from self_steering.analysis.statistics.intervals import ratio
from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.accuracy import AGAINST_INTENT, AGAINST_TOOLS, accuracy, effects, self_steering
from self_steering.analysis.tasks.frustration import frustration_self_steering

HEADLINE_COLUMNS = ["effect", "source", "model", "arm", "condition", *ESTIMATE]
_NEGATIVE = SHARES[-1]
_Row = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Headline:
    """One headline effect of one cell.

    Attributes:
        effect: Its name.
        source: Who wrote the logs.
        model: The model's name.
        arm: The arm; empty where there are none.
        condition: What else sets the cell apart: names and values, those that are blank left out.
        estimate: The effect.
    """

    effect: str
    source: str
    model: str
    arm: str
    condition: tuple[tuple[str, str], ...]
    estimate: Estimate


def headline_effects(tables: Tables) -> list[Headline]:
    """Return all headline effects that the logs hold, in the order of the table above."""
    return [one for effect in _EFFECTS for one in effect(tables)]


def headline_table(headlines: Sequence[Headline]) -> pd.DataFrame:
    """Return headline effects as a table, one row each."""
    rows = [
        {
            **{name: getattr(one, name) for name in ("effect", "source", "model", "arm")},
            "condition": condition_in_words(one),
            **estimate_columns(one.estimate),
        }
        for one in headlines
    ]
    return pd.DataFrame(rows, columns=HEADLINE_COLUMNS)


def condition_in_words(one: Headline) -> str:
    """Return a cell's condition as text."""
    return ", ".join(f"{name} {value}" for name, value in one.condition)


def _gaps(tables: Tables) -> list[Headline]:
    names = ("framing", "primer", "options", "doses", "measure")
    choice, free_text = (_doses_named(condition_gaps(table(tables))) for table in (gap_table, rating_table))
    return [
        *_headlines("introspection gap", choice, names, "gap", "vectors"),
        *_headlines("free-text gap", free_text, ("framing", "primer", "doses"), "gap", "vectors"),
    ]


def _doses_named(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return gaps with `all` for the only dose of a condition of ours: the study's are those of a part of its doses."""
    if gaps.empty:
        return gaps
    single = gaps.groupby([*CONDITION, "arm"], dropna=False)["doses"].transform("size") == 1
    return gaps.assign(doses=gaps["doses"].mask(single & (gaps["source"] != "study"), ALL_DOSES))


def _free_play(tables: Tables) -> list[Headline]:
    doses, picks = redosing(tables), valences(tables)
    shown = []
    for table, measure in ((doses, RATE), (picks, MEAN), (picks, _NEGATIVE)):
        kept = table[(table["measure"] == measure) & (table["against"] == "") & (table["framing"] == ALL_FRAMINGS)]
        shown += _headlines(measure, kept, ("visibility", "rollouts"))
    return [*shown, *_times_placebo([one for one in shown if one.effect == _NEGATIVE])]


def _times_placebo(shown: Sequence[Headline]) -> list[Headline]:
    placebo = {(one.source, one.model, one.condition): one.estimate for one in shown if one.arm == PLACEBO}
    return [
        replace(one, effect=f"{one.effect}, times placebo's", estimate=times)
        for one in shown
        if one.arm != PLACEBO
        and (base := placebo.get((one.source, one.model, one.condition))) is not None
        and (times := ratio(base, one.estimate)) is not None
    ]


def _tasks(tables: Tables) -> list[Headline]:
    changes = effects(tables, "maths")
    return [
        *_headlines("maths accuracy", accuracy(tables, "maths"), ("framing", "intent", "over")),
        *(
            one
            for name, against in (("no tools", AGAINST_TOOLS), ("neutral intent", AGAINST_INTENT))
            for one in _headlines(
                f"maths accuracy less {name}", changes[changes["against"] == against], ("framing", "intent", "over")
            )
        ),
        *_headlines("maths self-steer rate", self_steering(tables, "maths"), ("framing", "intent")),
        *_headlines(
            "frustration self-steer rate", frustration_self_steering(tables), ("framing", "intent", "tone", "possible")
        ),
    ]


def _headlines(
    effect: str, table: pd.DataFrame, names: Sequence[str], value: str = "value", clusters: str = "clusters"
) -> list[Headline]:
    """Return the rows of a table of estimates as headline effects.

    Args:
        effect: Name of the effect.
        table: One row a cell.
        names: Columns that say what else sets a cell apart; those that the table lacks are passed over.
        value: Column of the estimate; its bounds are in `low` and `high`, or in VALUE_low and VALUE_high.
        clusters: Column of the number of clusters.
    """
    prefix = f"{value}_" if f"{value}_low" in table else ""
    found = []
    for row in table.to_dict("records"):
        low, high = (
            None if pd.isna(row[f"{prefix}{end}"]) else float(row[f"{prefix}{end}"]) for end in ("low", "high")
        )
        estimate = Estimate(float(row[value]), low, high, int(row["n"]), int(row[clusters]), str(row["method"]))
        condition = tuple((name, word) for name in names if (word := _word(row, name)))
        found.append(Headline(effect, str(row["source"]), str(row["model"]), _word(row, "arm"), condition, estimate))
    return found


def _word(row: _Row, name: str) -> str:
    value = row.get(name)
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


_EFFECTS: tuple[Callable[[Tables], list[Headline]], ...] = (_gaps, _free_play, _tasks)
