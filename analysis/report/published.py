"""Measured headline effects beside the published figures of the same effect."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from self_steering.analysis.report.headline import Headline, said_condition

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
        _row(figure, one)
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


def _row(figure: PublishedFigure, one: Headline) -> dict[str, object]:
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
        "condition": said_condition(one),
        "measured": found.value,
        "low": found.low,
        "high": found.high,
        "difference": found.value - figure.value,
        "within interval": within,
        "n": found.n,
        "clusters": found.clusters,
        "method": found.method,
    }
