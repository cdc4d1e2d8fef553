"""An effect that is printed in several places has the same interval in all of them: headline, figure, and the answer."""

import math
import re

import pytest

from self_steering.analysis.report.answers import answers
from self_steering.analysis.report.figures import REPORT_FIGURES, draw_sections
from self_steering.analysis.report.headline import Headline, headline_effects
from self_steering.analysis.tables import Tables, read_tables
from tests.support.shared import PUBLISHED, published_only

pytestmark = [pytest.mark.slow, published_only]

# Where else each headline effect is printed: the figure, the column of its value, and what its rows are told by.
PLACES = {
    "introspection gap": ("gaps", "gap", {"mark": "condition"}),
    "free-text gap": ("free-text", "gap", {"mark": "mean"}),
    "redose rate": ("redosing", "value", {"measure": "redose rate", "against": "", "framing": "all"}),
    "mean valence": ("valence", "value", {"measure": "mean valence", "against": "", "framing": "all"}),
    "negative share": ("valence", "value", {"measure": "negative share", "against": "", "framing": "all"}),
    "maths accuracy": ("maths-accuracy", "value", {}),
    "maths accuracy less no tools": ("maths-effects", "value", {"against": "no tools"}),
    "maths accuracy less neutral intent": ("maths-effects", "value", {"against": "neutral intent"}),
    "maths self-steer rate": ("maths-self-steering", "value", {}),
    "frustration self-steer rate": ("frustration-self-steering", "value", {}),
}


@pytest.fixture(scope="module")
def tables() -> Tables:
    """The published logs' tables."""
    return read_tables(PUBLISHED)


@pytest.fixture(scope="module")
def figures(tables):
    """The report's figures of them by key."""
    drawn = [figure for section in draw_sections(tables, REPORT_FIGURES) for figure in section.figures]
    return {one.figure.key: one.figure for one in drawn}


def printed(one: Headline, figures) -> list[dict]:
    """Return the rows of a figure's table that are of a headline effect."""
    key, _, only = PLACES[one.effect]
    of = {**only, "source": one.source, "model": one.model, **dict(one.condition)}
    of |= {"arm": one.arm} if one.arm else {}
    names = of.keys() & set(figures[key].table)
    rows = figures[key].table.to_dict("records")
    return [row for row in rows if all(as_word(row[name]) == of[name] for name in names)]


def as_word(value: object) -> str:
    """Return a cell as conditions name it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_a_headline_has_the_interval_that_its_figure_has(tables, figures):
    """Value and both ends; every headline that a figure shows is found in it."""
    compared = set()
    for one in headline_effects(tables):
        if one.effect not in PLACES:
            continue  # a ratio of two others
        _, value, _ = PLACES[one.effect]
        prefix = f"{value}_" if value == "gap" else ""
        rows = printed(one, figures)
        assert rows, one
        for row in rows:
            ends = (one.estimate.value, one.estimate.low, one.estimate.high)
            there = (row[value], row[f"{prefix}low"], row[f"{prefix}high"])
            assert there == pytest.approx([math.nan if end is None else end for end in ends], nan_ok=True), one
        compared.add(one.effect)
    assert len(compared) > 3, compared


def test_the_answers_say_intervals_that_the_figures_say(tables, figures):
    """Every interval of an answer stands in the words of a figure, to the digits that the answer has."""
    words = " ".join(figure.finding for figure in figures.values())
    said = [interval for answer in answers(tables) for text in answer.sentences for interval in intervals(text)]
    there = intervals(words)
    assert said
    for interval in said:
        unit = 10.0 ** -len(interval[0].partition(".")[2])
        same = pytest.approx([number(end) for end in interval], abs=0.51 * unit)
        assert any([number(end) for end in one] == same for one in there), interval


def intervals(text: str) -> list[tuple[str, str]]:
    """Return the intervals that a text has in brackets."""
    return re.findall(r"\[([+−-]?[\d.]+)%?, ([+−-]?[\d.]+)%?\]", text)


def number(end: str) -> float:
    """Return what an end of an interval says."""
    return float(end.replace("−", "-"))
