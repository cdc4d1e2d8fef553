"""Values in messages: a person, or a model, is shown enough to know one again."""

from math import log10
from typing import Annotated

from pydantic import StringConstraints, ValidationError

_MOST = 500  # letters of a value
# What a file says of itself and messages print as it is: a name, a mark, a hash.
OneLine = Annotated[str, StringConstraints(pattern=rf"^[^\x00-\x1f\x7f]{{0,{_MOST}}}$")]


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


def in_one_line(error: BaseException) -> str:
    """Return what an error says without its line breaks, else its type; of what was validated, the first fault and its place."""
    text = str(error)
    if isinstance(error, ValidationError):
        first, *others = error.errors()
        place = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        text = (f"{place}: " if place else "") + said + (f" (and {len(others)} more)" if others else "")
    return clipped(" ".join(text.split())) or type(error).__name__
