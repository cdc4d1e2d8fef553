"""Colours: figures in files have real ones, and those of data can be told apart by everyone, in both themes."""

import itertools
import re
from io import BytesIO

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patheffects import withStroke
from PIL import Image

from self_steering.analysis.drawing.recolour import recolour
from self_steering.analysis.drawing.style import (
    BAND,
    BLUE,
    GOLD,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    QUIET,
    SKY,
    THEMES,
    VARIABLES,
    inline_svg,
    new_figure,
    page_style,
    real_colours,
)
from self_steering.analysis.report.files import png_file, svg_file

MARKS = ("blue", "orange", "green", "purple", "gold", "sky")
# Machado, Oliveira and Fernandes (2009), full severity, on linear RGB; rows make the new red, green and blue.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> np.ndarray:
    """Return a colour's linear RGB."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the contrast of WCAG 2."""
    light, dark = sorted((float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Return Ottosson's perceptual coordinates of linear RGB."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.793617785, -0.0040720468],
        [1.9779984951, -2.428592205, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.808675766],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_of_data_can_be_told_apart_by_everyone(theme, blindness):
    """Any two of the six are far apart under every common colour blindness: 0.09 in Oklab, four just noticeable steps."""
    seen = {name: oklab(np.array(BLINDNESS[blindness]) @ linear(THEMES[theme][name])) for name in MARKS}
    near = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in itertools.combinations(MARKS, 2)}
    assert min(near.values()) > 0.09, min(near, key=near.get)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_stand_out_from_the_paper(theme):
    """Marks by 3 to 1, and what text is written in by 4.5 to 1 (WCAG 2)."""
    colours = THEMES[theme]
    for name in MARKS:
        assert contrast(colours[name], colours["paper"]) >= 3.0, name
    for name in ("ink", "quiet", "blue", "orange", "green"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name


def test_both_themes_have_a_colour_for_every_placeholder():
    """A page whose style lacks one would show that part in black."""
    assert set(VARIABLES.values()) <= set(THEMES["light"])
    assert set(THEMES["light"]) == set(THEMES["dark"])


def every_kind():
    """Return a figure with every kind of artist that one of ours may have, in placeholder colours."""
    with page_style():
        drawn = new_figure(300, 240)
        axes = drawn.subplots()
        axes.bar([0, 1], [2, 3], color=[ORANGE, GREEN], edgecolor=PAPER, hatch="//", label="bars")
        axes.plot([0, 1], [1, 2], "o--", color=BLUE, markerfacecolor="none", markeredgecolor=PURPLE, label="line")
        axes.scatter([0.2, 0.8], [1, 1], c=[GOLD, SKY], edgecolors=INK, s=90)
        axes.errorbar([0.5], [2.5], yerr=[0.4], color=QUIET, capsize=4)
        axes.add_collection(LineCollection([[(0, 0), (1, 3)]], colors=[PURPLE], linewidths=6))
        axes.fill_between([0, 1], [0, 0], [0.5, 0.5], color=BLUE, alpha=0.3)
        axes.axhspan(2, 2.2, color=BAND)
        axes.axvspan(0.4, 0.45, facecolor=to_rgba(SKY, 0.6))
        axes.annotate("here", (0.5, 2), (0.2, 2.7), color=ORANGE, arrowprops={"color": GREEN})
        axes.text(0.7, 0.3, "halo", path_effects=[withStroke(linewidth=4, foreground=GOLD)])
        axes.text(0.1, 0.7, "boxed", bbox={"facecolor": PAPER, "edgecolor": SKY})
        axes.tick_params(colors=QUIET)
        axes.set_title("title")
        axes.legend(title="legend")
    return drawn


@pytest.fixture
def figure():
    """That figure, within the style of pages, which pictures are saved in."""
    with page_style():
        yield every_kind()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_artist_keeps_a_placeholder(figure, theme):
    """Lines, markers, bars, hatches, collections, texts, halos, boxes, arrows, ticks and legends all have the theme's colours."""
    recolour(figure, theme)
    text = svg_file(figure, "one").decode()
    assert [colour for colour in VARIABLES if colour in text] == []
    used = set(re.findall(r"#[0-9a-f]{6}", text))
    assert {THEMES[theme][name] for name in (*MARKS, "ink", "quiet", "grid", "band", "paper")} <= used
    assert used <= set(THEMES[theme].values())


def test_a_pixel_of_a_picture_is_the_themes(figure):
    """The corner is paper, the bars are orange and green, and nothing is nearly black on the dark paper."""
    recolour(figure, "dark")
    with Image.open(BytesIO(png_file(figure))) as image:
        assert image.size == (600, 480)
        pixels = np.array(image.convert("RGB"))
    found = {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()}
    for name in ("orange", "green", "paper"):
        assert tuple(round(255 * part) for part in to_rgb(THEMES["dark"][name])) in found
    assert pixels[0, 0].tolist() == [round(255 * part) for part in to_rgb(THEMES["dark"]["paper"])]
    assert pixels.max(axis=2).min() > 16


def test_opacity_is_kept(figure):
    """Whether an artist or its colour holds it."""
    recolour(figure, "light")
    text = svg_file(figure, "one").decode()
    for name, opacity in (("blue", 0.3), ("sky", 0.6)):
        assert f"fill: {THEMES['light'][name]}; fill-opacity: {opacity}" in text


def test_the_layout_is_that_of_the_page(figure):
    """Labels have the room that they have there."""
    other = every_kind()
    other.draw_without_rendering()
    recolour(figure)
    png_file(figure)
    assert figure.axes[0].get_position().bounds == pytest.approx(other.axes[0].get_position().bounds, abs=1e-3)


def test_the_page_takes_every_placeholder(figure):
    """On the page each is a variable of its style, the ground of a hatch too; what could not be replaced is an error."""
    with page_style():
        shown = inline_svg(figure, "one", "All kinds.")
    assert not re.search("|".join(VARIABLES), shown)
    for name in (*MARKS, "ink", "quiet"):
        assert f"var(--{name})" in shown
    assert set(real_colours("light")) == set(VARIABLES)
