"""Two runs or two models side by side: each headline effect of one beside the other's, with the difference and its interval."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import combinations
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from self_steering.analysis.drawing.words import plain
from self_steering.analysis.report.files import csv_file
from self_steering.analysis.report.headline import Headline, condition_in_words, headline_effects, headline_table
from self_steering.analysis.statistics.estimates import ESTIMATE, Estimate, estimate_columns
from self_steering.analysis.statistics.intervals import difference
from self_steering.analysis.tables import Tables

_COLUMNS = [
    *["effect", "source", "model", "arm", "condition", "first", "first low", "first high", "second", "second low"],
    *["second high", "difference", "low", "high", "n", "clusters", "method"],
]


@dataclass(frozen=True)
class Comparison:
    """Two things side by side.

    Attributes:
        kind: What they are: run, model.
        first: Name of the first.
        second: Name of the second.
        table: One row an effect that both have: both estimates, second - first, and its interval.
        only_first: How many effects only the first has.
        only_second: How many only the second has.
    """

    kind: str
    first: str
    second: str
    table: pd.DataFrame
    only_first: int
    only_second: int


def compare_runs(runs: Mapping[str, Sequence[Headline]]) -> list[Comparison]:
    """Return each run but the first beside the first.

    Effects are matched within a model and a source; across them only where each run is of one, and not of the same.
    """
    (first, of_first), *others = runs.items()
    return [_compared("run", (first, of_first), other, _matched_by(of_first, other[1])) for other in others]


def compare_models(headlines: Sequence[Headline]) -> list[Comparison]:
    """Return all pairs of models in logs of one source, those that share an effect."""
    models = sorted({(one.source, one.model) for one in headlines})
    parts = {key: [one for one in headlines if (one.source, one.model) == key] for key in models}
    found = [_compared("model", (a[1], parts[a]), (b[1], parts[b]), ("source",)) for a, b in combinations(models, 2)]
    return [one for one in found if len(one.table)]


def _matched_by(first: Sequence[Headline], second: Sequence[Headline]) -> tuple[str, ...]:
    """Return which of source and model two runs' effects must agree in."""
    must = []
    for name in ("source", "model"):
        ours, theirs = ({getattr(one, name) for one in part} for part in (first, second))
        if ours & theirs or len(ours) != 1 or len(theirs) != 1:
            must.append(name)
    return tuple(must)


def _compared(
    kind: str, first: tuple[str, Sequence[Headline]], second: tuple[str, Sequence[Headline]], must: tuple[str, ...]
) -> Comparison:
    ours, theirs = ({_key(one, must): one for one in part} for _, part in (first, second))
    rows = [_compare_row(one, theirs[key]) for key, one in ours.items() if key in theirs]
    only = len(ours.keys() - theirs.keys()), len(theirs.keys() - ours.keys())
    return Comparison(kind, first[0], second[0], pd.DataFrame(rows, columns=_COLUMNS), *only)


def _key(one: Headline, must: tuple[str, ...]) -> tuple[object, ...]:
    return (one.effect, one.arm, one.condition, *(getattr(one, name) for name in must))


def _compare_row(first: Headline, second: Headline) -> dict[str, object]:
    between = difference(first.estimate, second.estimate)
    return {
        "effect": first.effect,
        "source": " / ".join(dict.fromkeys((first.source, second.source))),
        "model": " / ".join(dict.fromkeys((first.model, second.model))),
        "arm": first.arm,
        "condition": condition_in_words(first),
        **_side("first", first.estimate),
        **_side("second", second.estimate),
        "difference": between.value,
        **estimate_columns(between, ESTIMATE[1:]),
    }


def _side(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}


PUBLISHED_COLUMNS = [
    *["effect", "arm", "published for", "sense", "published", "measured on", "measured", "low", "high", "difference"],
    *["within interval", "source", "condition", "n", "clusters", "method", "words"],
]


class PublishedFigure(BaseModel):
    """One figure that the study published.

    Attributes:
        effect: The headline effect it is of.
        model: The model it was measured on.
        arm: The arm; empty where there are none.
        condition: What else its cell is, by name.
        value: The figure, in the effect's unit.
        sense: How the source means it.
        words: What the source says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: str
    model: str
    arm: str = ""
    condition: dict[str, str] = Field(default_factory=dict)
    value: float
    sense: Literal["exactly", "about", "at most", "below"]
    words: str

    def fits(self, measured: Headline) -> bool:
        """Whether a measured effect is of the same kind: its effect, its arm, its condition; on any model."""
        same = (self.effect, self.arm) == (measured.effect, measured.arm)
        return same and self.condition.items() <= dict(measured.condition).items()


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """Return all published figures, in the order of `published.toml`."""
    text = resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(PublishedFigure(**entry) for entry in tomllib.loads(text)["figure"])


def beside_published(headlines: Sequence[Headline]) -> pd.DataFrame:
    """Return every measured effect beside the published figure of its kind, one row a pair.

    A model that the study measured is set beside its own figures, any other beside those of each of the study's models.

    Returns:
        The table; `difference` is measured - published, `within interval` whether the measured interval holds the published figure,
        empty where there is no interval or the source gives no more than a bound.
    """
    own = {figure.model.lower() for figure in published_figures()}
    rows = [
        _published_row(figure, one)
        for figure in published_figures()
        for one in headlines
        if figure.fits(one) and (_bare(one.model) == figure.model.lower() or _bare(one.model) not in own)
    ]
    table = pd.DataFrame(rows, columns=PUBLISHED_COLUMNS)
    same = table["published for"].str.lower() == table["measured on"].map(_bare)
    return pd.concat([table[same], table[~same]], ignore_index=True)


def _bare(model: str) -> str:
    """Return a model's name without who made it, in lower case."""
    return model.rpartition("/")[2].lower()


def _published_row(figure: PublishedFigure, one: Headline) -> dict[str, object]:
    found = one.estimate
    within = None
    if found.low is not None and found.high is not None and figure.sense in {"exactly", "about"}:
        within = found.low <= figure.value <= found.high
    return {
        "effect": figure.effect,
        "arm": figure.arm,
        "published for": figure.model,
        "published": figure.value,
        "sense": figure.sense,
        "words": figure.words,
        "measured on": one.model,
        "source": one.source,
        "condition": condition_in_words(one),
        "measured": found.value,
        **estimate_columns(found, ESTIMATE[1:]),
        "difference": found.value - figure.value,
        "within interval": within,
    }


_FOLDER = "comparison"


@dataclass(frozen=True)
class Comparisons:
    """Everything of a report's section on comparison.

    Attributes:
        headlines: The headline effects of all logs together, one row each.
        pairs: Runs or models side by side.
        published: Published figures beside measured ones.
    """

    headlines: pd.DataFrame
    pairs: list[Comparison]
    published: pd.DataFrame

    @property
    def files(self) -> dict[str, bytes]:
        """The tables as CSV, by their path below the report."""
        tables = {HEADLINE_FILE: self.headlines, PUBLISHED_FILE: self.published}
        tables |= {pair_file(place): pair.table for place, pair in enumerate(self.pairs)}
        return {name: csv_file(table) for name, table in tables.items()}


HEADLINE_FILE, PUBLISHED_FILE = f"{_FOLDER}/headline_effects.csv", f"{_FOLDER}/published.csv"


def pair_file(place: int) -> str:
    """Return where the table of a pair lies below the report; `place` counts from 0."""
    return f"{_FOLDER}/pair_{place + 1}.csv"


def comparisons(tables: Tables, runs: Mapping[str, Tables]) -> Comparisons:
    """Return the comparisons of a report: two runs are compared with each other, and otherwise the models in all of them.

    Args:
        tables: The tables of all runs together.
        runs: Each run's own, by its name.
    """
    headlines = headline_effects(tables)
    pairs = (
        compare_runs({name: headline_effects(of_run) for name, of_run in runs.items()})
        if len(runs) == 2
        else compare_models(headlines)
    )
    return Comparisons(headline_table(headlines), pairs, beside_published(headlines))


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of estimates as a page shows it: intervals behind their figures, and no column that says nothing."""
    shown = table.copy()
    for name in ("value", "first", "second", "difference", "measured"):
        low, high = (_bound(name, end, table) for end in ("low", "high"))
        if name in table and low in table:
            triples = zip(table[name], table[low], table[high], strict=True)
            shown[name] = [_with_interval(*triple) for triple in triples]
            shown = shown.drop(columns=[low, high])
    blank = [name for name in shown if shown[name].isna().all() or (shown[name] == "").all()]
    return shown.drop(columns=blank)


def _bound(name: str, end: str, table: pd.DataFrame) -> str:
    """Return the column of one end of a figure's interval; published figures' `difference` has none."""
    own = f"{name} {end}"
    if own in table:
        return own
    main = "measured" if "measured" in table else "difference" if "difference" in table else "value"
    return end if name == main else own


def _with_interval(value: float, low: float, high: float) -> str:
    interval = "no interval" if pd.isna(low) or pd.isna(high) else f"{plain(low)}, {plain(high)}"
    return f"{plain(value)} [{interval}]"
