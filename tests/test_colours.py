"""Colours of data can be told apart by everyone, and stand out from the ground that they are drawn on."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from self_steering.analysis.drawing.style import BLUE, GOLD, GREEN, ORANGE, PAGE_COLOURS, PAPER, PURPLE, SKY

MARKS = (BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY)
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


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_of_data_can_be_told_apart_by_everyone(blindness):
    """Any two of the six are far apart under every common colour blindness: 0.09 in Oklab, four just noticeable steps."""
    seen = {colour: oklab(np.array(BLINDNESS[blindness]) @ linear(colour)) for colour in MARKS}
    near = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in itertools.combinations(MARKS, 2)}
    assert min(near.values()) > 0.09, min(near, key=near.get)
    assert all(contrast(colour, PAPER) >= 3.0 for colour in MARKS)


@pytest.mark.parametrize("style", PAGE_COLOURS)
def test_text_stands_out_from_the_page(style):
    """By 4.5 to 1 (WCAG 2), in the light and in the dark style, and both set the same variables."""
    colours = PAGE_COLOURS[style]
    assert colours.keys() == PAGE_COLOURS["light"].keys()
    for name in ("ink", "quiet", "blue", "orange", "green"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
