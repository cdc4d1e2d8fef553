"""The colours of pages and pictures, light and dark.

The six that mark data are far enough from each other, and from the paper, for readers with any common colour blindness too.
"""

from typing import Literal

from self_steering.analysis.drawing.themed_svg import VARIABLES

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
