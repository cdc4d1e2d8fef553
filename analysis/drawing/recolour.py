"""Figures in real colours, for pictures that stand alone."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect
from matplotlib.text import Annotation, Text

from self_steering.analysis.drawing.style import THEMES, Theme, real_colours

# What holds an artist's colours, by the names of matplotlib's own `get_` and `set_` methods.
_PROPERTIES = ("facecolor", "edgecolor", "hatchcolor", "markerfacecolor", "markeredgecolor", "gapcolor")


def recolour(figure: Figure, theme: Theme = "light") -> Figure:
    """Replace the placeholder colours of all artists of a figure by a theme's, in place.

    Args:
        figure: Drawn within `page_style`, in the placeholder colours of `themed_svg`.
        theme: light or dark.

    Returns:
        The same figure, on the theme's paper, its layout as it stands now.
    """
    colours = real_colours(theme)
    figure.draw_without_rendering()  # ticks and legends make some of their artists when they are first drawn
    figure.set_layout_engine("none")  # another layout could make more of them
    for artist in _artists(figure):
        _recolour(artist, colours)
        if isinstance(artist, Axes):
            artist.patch.set_visible(False)  # as on the page, where the paper shows through
    figure.patch.set_facecolor(THEMES[theme]["paper"])
    return figure


def _artists(figure: Figure) -> Iterator[Artist]:
    """Yield all artists of a figure, those too that matplotlib does not count as children."""
    for artist in figure.findobj():
        yield artist
        if isinstance(artist, Text) and (box := artist.get_bbox_patch()) is not None:
            yield box
        if isinstance(artist, Annotation) and artist.arrow_patch is not None:
            yield artist.arrow_patch


def _recolour(artist: Artist, colours: Mapping[str, str]) -> None:
    # A collection of lines calls its edges "color" as well, and a patch sets edge and face by it.
    names = _PROPERTIES if hasattr(artist, "get_edgecolor") else ("color", *_PROPERTIES)
    held = {name: getattr(artist, f"get_{name}")() for name in names if hasattr(artist, f"get_{name}")}
    # All are read before any is set: some of them follow another until they are set themselves.
    for name, value in held.items():
        real = _real(value, colours)
        if real is not None:
            getattr(artist, f"set_{name}")(real)
    for effect in artist.get_path_effects() or []:
        _recolour_effect(effect, colours)


def _recolour_effect(effect: AbstractPathEffect, colours: Mapping[str, str]) -> None:
    held: dict[str, Any] = getattr(effect, "_gc", {})  # there is no other way to a path effect's colours
    for name in ("foreground", "facecolor", "edgecolor"):
        real = _real(held.get(name), colours)
        if real is not None:
            held[name] = real


def _real(value: Any, colours: Mapping[str, str]) -> Any:
    """Return a colour, or several, with placeholders replaced and opacity kept; None if there is nothing to replace."""
    if value is None:
        return None
    rows = to_rgba_array(value)
    if not any(to_hex(row) in colours for row in rows):
        return None
    real = [(*to_rgb(colours.get(to_hex(row), to_hex(row))), float(row[3])) for row in rows]
    return real if np.ndim(value) == 2 else real[0]  # a text has no dimension, one colour has one
