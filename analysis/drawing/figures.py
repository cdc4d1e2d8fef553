"""One figure of a page: its pictures, what it says in words, the numbers behind it, and how pictures become SVG and PNG.

One unit of a picture is one CSS pixel at its natural width. In SVG text stays text, and nothing refers to the network.
"""

import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pandas as pd
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from self_steering.analysis.drawing.words import visible

_UNITS = 72  # a figure's units in an inch
_SHARPNESS = 2  # pixels of a PNG for one of the page
_FALLBACK = ", system-ui, sans-serif"
_DATELESS = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # dates would make each run's bytes differ
_ATTRIBUTE = re.compile(r'\b(d|x|y|width|height|transform|style)="([^"]*)"')
_DECIMALS = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Picture:
    """One drawing.

    Attributes:
        figure: Drawn within `page_style`.
        label: Alternative text: what a reader who cannot see it should know, with numbers.
    """

    figure: Figure
    label: str


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a page.

    Attributes:
        key: A word of its own among the page's figures; letters, digits, `-`.
        title: What it shows, as a short noun phrase.
        pictures: One or more drawings.
        finding: What it says, in whole sentences with numbers; every effect with n, clusters, interval and name of its test.
        reading: What its marks stand for, and which rows went in.
        table: The numbers behind it, one row a mark; written as CSV and shown below the figure. Empty where the page has them.
    """

    key: str
    title: str
    pictures: tuple[Picture, ...]
    finding: str
    reading: str
    table: pd.DataFrame = field(default_factory=pd.DataFrame)

    def picture_name(self, place: int) -> str:
        """Return a word for one of the pictures that no other on the page has; `place` counts from 0."""
        return f"{self.key}-{place + 1}" if len(self.pictures) > 1 else self.key

    def panels(self) -> tuple[Markup, ...]:
        """Return the pictures as `<svg>` elements; call it within `page_style`."""
        return tuple(
            inline_svg(picture.figure, self.picture_name(place), picture.label)
            for place, picture in enumerate(self.pictures)
        )


def new_figure(width: int, height: int, *, constrained: bool = True) -> Figure:
    """Return an empty figure of a size in pixels; `constrained` lets the layout keep labels apart."""
    return Figure(figsize=(width / _UNITS, height / _UNITS), layout="constrained" if constrained else None)


def png_file(figure: Figure) -> bytes:
    """Return a figure as PNG, two pixels for each of its own; the same figure gives the same bytes."""
    return _saved(figure, format="png", dpi=_SHARPNESS * _UNITS, metadata={"Software": None})


def svg_file(figure: Figure, name: str) -> bytes:
    """Return a figure as an SVG file whose text stays text; the same figure and name give the same bytes."""
    # Where the font that the figure was measured with is not there, another must do.
    return re.sub(r"(font(?:-family)?: [^;\"]*'DejaVu Sans')", rf"\1{_FALLBACK}", _svg(figure, name)).encode()


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an `<svg>` element to put into HTML.

    Args:
        figure: Drawn within `page_style`.
        name: A word of the figure's own, which keeps its ids apart from those of others on the page.
        label: Alternative text.
    """
    text = _svg(figure, name, transparent=True)
    head, body = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    assert box is not None
    width, height = (round(float(side)) for side in box.groups())
    opening = f'<svg viewBox="0 0 {width} {height}" style="--width:{width}px" role="img" aria-label="{escape(visible(label))}">'
    return Markup(opening + _slim(body))  # noqa: S704  matplotlib escapes texts, the label is escaped above


def _svg(figure: Figure, name: str, *, transparent: bool = False) -> str:
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        return _saved(figure, format="svg", transparent=transparent, metadata=_DATELESS).decode()


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, **options)
    figure.set_layout_engine(None)  # its places are found: finding them again would take as long as drawing does
    return buffer.getvalue()


def _slim(svg: str) -> str:
    """Return matplotlib's SVG without what a page has no use for: names, fonts, and decimals that nobody sees."""
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    svg = _ATTRIBUTE.sub(lambda found: f'{found[1]}="{_short(found[2], 4 if found[1] == "transform" else 2)}"', svg)
    return re.sub(r">\s+<", "><", svg).strip()


def _short(value: str, decimals: int) -> str:
    """Return an attribute's value with one space for any, and numbers rounded."""
    rounded = _DECIMALS.sub(lambda number: f"{float(number[0]):.{decimals}f}".rstrip("0").rstrip("."), value)
    return " ".join(rounded.split())
