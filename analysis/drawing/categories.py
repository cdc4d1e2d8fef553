"""How the catalogue's six categories and three valences are told apart: by colour, and by a hatch or marker as well."""

from matplotlib.patches import Patch

from self_steering.analysis.drawing.themed_svg import BLUE, GOLD, GREEN, ORANGE, PAPER, PURPLE, QUIET, SKY

# In the catalogue's order, which is that of the legends.
CATEGORY_COLOURS: dict[str, str] = {
    "emotion": BLUE,
    "cognitive": ORANGE,
    "recreational": GREEN,
    "fictional": PURPLE,
    "invented": GOLD,
    "stance": SKY,
}
CATEGORY_HATCHES: dict[str, str] = {
    "emotion": "",
    "cognitive": "///",
    "recreational": "...",
    "fictional": "\\\\\\",
    "invented": "xxx",
    "stance": "||||",
}
CATEGORY_MARKERS: dict[str, str] = {
    "emotion": "o",
    "cognitive": "s",
    "recreational": "^",
    "fictional": "D",
    "invented": "P",
    "stance": "v",
}
# For vectors of somebody's own library, which the catalogue does not know.
NO_CATEGORY, NO_COLOUR, NO_HATCH, NO_MARKER = "other", QUIET, "+++", "X"

# Orange and blue keep apart under every common colour blindness; the hatch says it again.
VALENCE_COLOURS: dict[int, str] = {-1: ORANGE, 0: QUIET, 1: BLUE}
VALENCE_HATCHES: dict[int, str] = {-1: "///", 0: "...", 1: ""}
VALENCE_NAMES: dict[int, str] = {-1: "negative", 0: "neutral", 1: "positive"}


def colour(category: object) -> str:
    """Return a category's colour; QUIET for what the catalogue does not know (NaN too)."""
    return CATEGORY_COLOURS.get(str(category), NO_COLOUR)


def hatch(category: object) -> str:
    """Return a category's hatch; one of their own for what the catalogue does not know."""
    return CATEGORY_HATCHES.get(str(category), NO_HATCH)


def marker(category: object) -> str:
    """Return a category's marker; one of their own for what the catalogue does not know."""
    return CATEGORY_MARKERS.get(str(category), NO_MARKER)


def category_order(categories: list[object]) -> list[str]:
    """Return the categories among these in the catalogue's order, those that it does not know as one at the end."""
    present = {str(category) for category in categories}
    unknown = [NO_CATEGORY] if present - CATEGORY_COLOURS.keys() else []
    return [category for category in CATEGORY_COLOURS if category in present] + unknown


def category_legend(categories: list[object]) -> list[Patch]:
    """Return the entries of a legend that says what bars of these categories look like."""
    return [
        Patch(facecolor=colour(category), hatch=hatch(category), edgecolor=PAPER, linewidth=0, label=category)
        for category in category_order(categories)
    ]
