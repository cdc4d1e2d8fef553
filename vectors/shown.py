"""Values in messages: a person, or a model, is shown enough to know one again."""

from math import log10

_MOST = 500  # letters of a value


def shown(value: object) -> str:
    """Return a value as an error message shows it, its middle left out where it is long."""
    try:
        return clipped(repr(value))
    except (
        ValueError,
        RecursionError,
    ):  # Python prints no number of more than some thousand digits, and nothing nested too deep
        digits = f" of {round(value.bit_length() * log10(2)):,} digits" if isinstance(value, int) else ""
        return f"{type(value).__name__}{digits}"


def clipped(text: str) -> str:
    """Return a text, its middle left out where it is long."""
    if len(text) <= _MOST:
        return text
    return f"{text[: _MOST // 2]} … ({len(text):,} letters) … {text[-_MOST // 4 :]}"
