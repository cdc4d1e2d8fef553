"""Colours of figures and pages, what categories and valences look like, and matplotlib's settings.

Figures are drawn once, for a light ground: a page shows them on a card of that colour, whichever style the reader has chosen.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.patches import Patch

INK, QUIET, GRID, BAND, PAPER = "#1c1f23", "#646b73", "#e3e6e9", "#eceff7", "#ffffff"
# Every pair of these differs for readers with any common colour blindness.
BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY = "#0578cc", "#c34900", "#0f7160", "#853995", "#bb890b", "#209dd7"

# The variables of the pages' style sheet, by the style that the reader's system asks for.
PAGE_COLOURS: dict[str, dict[str, str]] = {
    "light": {
        "paper": PAPER,
        "ink": INK,
        "quiet": QUIET,
        "grid": GRID,
        "band": BAND,
        "raised": "#f5f6f8",
        "blue": BLUE,
        "orange": ORANGE,
        "green": GREEN,
    },
    "dark": {
        "paper": "#14171a",
        "ink": "#e6e8ea",
        "quiet": "#9aa2ab",
        "grid": "#2b3036",
        "band": "#232a3a",
        "raised": "#1d2125",
        "blue": "#43c1ff",
        "orange": "#f29f39",
        "green": "#47b48b",
    },
}

_SETTINGS: dict[Any, Any] = {  # matplotlib's type of a key is a list of all its keys
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may have a dollar sign
    "font.family": "DejaVu Sans",  # to measure with; wider than what pages are shown in
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 11,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Within this context, figures are drawn as the page wants them."""
    with rc_context(_SETTINGS):
        yield


@dataclass(frozen=True)
class Look:
    """What marks of one kind look like: colour is never the only sign.

    Attributes:
        colour: Of bars, points and lines.
        hatch: Of bars.
        marker: Of points.
    """

    colour: str
    hatch: str
    marker: str


# In the catalogue's order, which is that of the legends.
CATEGORY_LOOKS = {
    "emotion": Look(BLUE, "", "o"),
    "cognitive": Look(ORANGE, "///", "s"),
    "recreational": Look(GREEN, "...", "^"),
    "fictional": Look(PURPLE, "\\\\\\", "D"),
    "invented": Look(GOLD, "xxx", "P"),
    "stance": Look(SKY, "||||", "v"),
}
# For vectors of somebody's own library, which the catalogue does not know.
NO_CATEGORY, NO_LOOK = "other", Look(QUIET, "+++", "X")

# Orange and blue differ under every common colour blindness.
VALENCE_LOOKS = {-1: Look(ORANGE, "///", "v"), 0: Look(QUIET, "...", "o"), 1: Look(BLUE, "", "^")}
VALENCE_NAMES = {-1: "negative", 0: "neutral", 1: "positive"}


def look(category: object) -> Look:
    """Return what a category looks like; NO_LOOK for what the catalogue does not know (NaN too)."""
    return CATEGORY_LOOKS.get(str(category), NO_LOOK)


def category_order(categories: Sequence[object]) -> list[str]:
    """Return the categories among these in the catalogue's order, those that it does not know as one at the end."""
    present = {str(category) for category in categories}
    unknown = [NO_CATEGORY] if present - CATEGORY_LOOKS.keys() else []
    return [category for category in CATEGORY_LOOKS if category in present] + unknown


def category_legend(categories: Sequence[object]) -> list[Patch]:
    """Return the entries of a legend that says what bars of these categories look like."""
    return [filled(look(category), label=category) for category in category_order(categories)]


def filled(of: Look, **more: Any) -> Patch:
    """Return a filled area of a look, as it stands in a legend; `more` are other properties of the patch."""
    return Patch(**{"facecolor": of.colour, "hatch": of.hatch, "edgecolor": PAPER, "linewidth": 0, **more})
