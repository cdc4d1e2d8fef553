"""Values in messages: a person, or a model, is shown enough to know one again."""

_MOST = 120  # letters of a value


def shown(value: object) -> str:
    """Return a value as an error message shows it, its middle left out where it is long."""
    return clipped(repr(value))


def clipped(text: str) -> str:
    """Return a text, its middle left out where it is long."""
    if len(text) <= _MOST:
        return text
    return f"{text[: _MOST // 2]} … ({len(text):,} letters) … {text[-_MOST // 4 :]}"
