"""Matplotlib figures as SVG for inside a page: the page's style sheet sets their colours, so that they suit light and dark.

Figures are drawn in placeholder colours, which `inline_svg` replaces with the page's CSS variables. One unit of a figure is
one CSS pixel at its natural width. Text stays text, and nothing refers to the network.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

# Placeholder colours, and the variables of the page's style sheet that take their place.
INK, QUIET, GRID, BAND, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY = "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b"
VARIABLES = {
    INK: "ink",
    QUIET: "quiet",
    GRID: "grid",
    BAND: "band",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PURPLE: "purple",
    GOLD: "gold",
    SKY: "sky",
}
_STYLE: dict[Any, Any] = {  # matplotlib's type of a key is a list of all its keys
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
    "legend.frameon": False,
    "legend.fontsize": 11,
}
_ATTRIBUTE = re.compile(r'\b(d|x|y|width|height|transform|style)="([^"]*)"')
_DECIMALS = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class PageFigure:
    """One figure of a page.

    Attributes:
        key: Its name, for links to it.
        title: What it shows.
        panels: One or more pictures.
        finding: What it says, in numbers.
        reading: What its marks stand for.
    """

    key: str
    title: str
    panels: tuple[Markup, ...]
    finding: str
    reading: str


@contextmanager
def page_style() -> Iterator[None]:
    """Within this context, figures are drawn as the page wants them."""
    with rc_context(_STYLE):
        yield


def new_figure(width: int, height: int, *, constrained: bool = True) -> Figure:
    """Return an empty figure of a size in pixels; `constrained` lets the layout keep labels apart."""
    return Figure(figsize=(width / 72, height / 72), layout="constrained" if constrained else None)


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an `<svg>` element to put into HTML.

    Args:
        figure: Drawn within `page_style`, in the colours of this module.
        name: A word of the figure's own, which keeps its ids apart from those of others on the page.
        label: Alternative text.
    """
    buffer = BytesIO()
    with rc_context({"svg.hashsalt": name}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # dates would make each run's bytes differ
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue().decode()
    head, body = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    assert box is not None
    width, height = (round(float(side)) for side in box.groups())
    opening = f'<svg viewBox="0 0 {width} {height}" style="--width:{width}px" role="img" aria-label="{escape(label)}">'
    return Markup(opening + _slim(body))  # noqa: S704  matplotlib escapes texts, the label is escaped above


def _slim(svg: str) -> str:
    """Return matplotlib's SVG with the page's colours and without what a page has no use for."""
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    svg = _ATTRIBUTE.sub(lambda found: f'{found[1]}="{_short(found[2], 4 if found[1] == "transform" else 2)}"', svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(f": {colour}", f":var(--{variable})")
        svg = svg.replace(f'fill="{colour}"', f'style="fill:var(--{variable})"')  # the ground of a hatch
    if (left := re.search("|".join(VARIABLES), svg)) is not None:
        raise ValueError(
            f"the placeholder colour {left[0]} stands where the page's style cannot replace it; see `_slim`"
        )
    return re.sub(r">\s+<", "><", svg).strip()


def _short(value: str, decimals: int) -> str:
    """Return an attribute's value with one space for any, and numbers rounded."""
    rounded = _DECIMALS.sub(lambda number: f"{float(number[0]):.{decimals}f}".rstrip("0").rstrip("."), value)
    return " ".join(rounded.split())


Theme = Literal["light", "dark"]

THEMES: dict[Theme, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1c1f23",
        "quiet": "#646b73",
        "grid": "#e3e6e9",
        "band": "#eceff7",
        "raised": "#f5f6f8",
        "blue": "#0578cc",
        "orange": "#c34900",
        "green": "#0f7160",
        "purple": "#853995",
        "gold": "#bb890b",
        "sky": "#209dd7",
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
        "purple": "#b880c8",
        "gold": "#f5e27a",
        "sky": "#aadbff",
    },
}


def real_colours(theme: Theme) -> dict[str, str]:
    """Return, for each placeholder colour that figures are drawn in, the theme's colour."""
    return {placeholder: THEMES[theme][variable] for placeholder, variable in VARIABLES.items()}
