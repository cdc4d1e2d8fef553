"""Values as models write them: JSON, Python literals and Gemma's own strings, read by one lenient reader that runs nothing.

Lenient are trailing commas, every kind of quotes, Python's words, bare keys, comments, line breaks and unescaped quotes in strings.
What is torn, or not a value, is an error: nothing is guessed.
"""

import re
from collections.abc import Callable
from typing import Any

_DEEPEST = 64
_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/|#[^\n]*)*+", re.DOTALL)
_NUMBER = re.compile(r"[-+−]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_WORD = re.compile(r"[^\W\d][\w.$-]*")
_ARGUMENT = re.compile(r"([^\W\d]\w*)\s*=(?!=)")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
# A quote ends a string only where something may follow a string: templates write strings with quotes in them unescaped.
_STRING = re.compile(
    r"""(?P<triple>\"{3}|'{3})(?P<long>.*?)(?P=triple)
    |(?P<quote>["'])(?P<short>(?:\\.|(?!(?P=quote)\s*(?:[,:)\]}]|\Z))[^\\])*+)(?P=quote)
    |“(?P<curly>(?:\\.|(?!”\s*(?:[,:)\]}]|\Z))[^\\])*+)”
    |(?P<gemma><\|"\|>|<escape>)(?P<raw>.*?)(?P=gemma)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_SURROGATE = re.compile("[\ud800-\udfff]")


class TornError(ValueError):
    """A value that breaks off, or is none.

    Attributes:
        at: The place in the text up to which it could be read.
    """

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


def read_value(text: str, at: int = 0) -> tuple[Any, int]:
    """Return the value that is written at a place of a text, and where it ends.

    Raises:
        ValueError: There is none, or it is torn; the message says where.

    Example:
        >>> read_value("{'dose': 1.5, flat: True, }, and more")
        ({'dose': 1.5, 'flat': True}, 27)
    """
    return _value(text, _skip(text, at), 0)


def whole_value(text: str) -> Any:
    """Return the value that a text is.

    Raises:
        ValueError: It is none, or has more than one value.
    """
    value, at = read_value(text)
    if (at := _skip(text, at)) != len(text):
        raise _fault(text, at, "nothing after the value")
    return value


def read_arguments(text: str, at: int) -> tuple[list[Any], dict[str, Any], int]:
    """Return the arguments of a Python call, from behind its opening bracket: those without a name, those with one, and the end.

    Raises:
        ValueError: They are no literals, or torn.
    """
    positional: list[Any] = []
    named: dict[str, Any] = {}

    def add(key: str | None, value: Any) -> None:
        if key is None:
            positional.append(value)
        else:
            named[key] = value

    return positional, named, _members(text, at, ")", add, 0, _argument_name)


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError(f"values are nested more than {_DEEPEST} deep")
    opening = text[at : at + 1]
    if opening == "{":
        members: dict[str, Any] = {}
        return members, _members(text, at + 1, "}", lambda k, v: members.__setitem__(str(k), v), depth, _key)
    if opening in ("[", "("):
        items: list[Any] = []
        closing = "]" if opening == "[" else ")"
        return items, _members(
            text, at + 1, closing, lambda _, v: items.append(v), depth, lambda _, place: (None, place)
        )
    if match := _STRING.match(text, at):
        return _text(match), match.end()
    if match := _NUMBER.match(text, at):
        number = match.group().replace("_", "").replace("−", "-")
        return int(number) if number.lstrip("+-").isdecimal() else float(number), match.end()
    if (match := _WORD.match(text, at)) and match.group() in _WORDS:
        return _WORDS[match.group()], match.end()
    raise _fault(text, at, "a value")


def _members(
    text: str,
    at: int,
    closing: str,
    add: Callable[[str | None, Any], None],
    depth: int,
    read_key: Callable[[str, int], tuple[str | None, int]],
) -> int:
    """Give `add` every member up to the closing bracket, and return the place after it."""
    at = _skip(text, at)
    while text[at : at + 1] != closing:
        unpacked = closing == ")" and text.startswith("**{", at)
        key, at = (None, at + 2) if unpacked else read_key(text, at)
        value, at = _value(text, _skip(text, at), depth + 1)
        for name, one in value.items() if unpacked else ((key, value),):
            add(name, one)
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != closing:
            raise _fault(text, at, f"`,` or `{closing}`")
    return at + 1


def _key(text: str, at: int) -> tuple[str, int]:
    if match := _STRING.match(text, at):
        key = _text(match)
    elif match := _WORD.match(text, at):
        key = match.group()
    else:
        raise _fault(text, at, "a key")
    at = _skip(text, match.end())
    if text[at : at + 1] != ":":
        raise _fault(text, at, "`:`")
    return key, at + 1


def _argument_name(text: str, at: int) -> tuple[str | None, int]:
    match = _ARGUMENT.match(text, at)
    return (None, at) if match is None else (match[1], match.end())


def _text(match: re.Match[str]) -> str:
    if match["raw"] is not None:
        return match["raw"]
    written = next(text for text in match.group("long", "short", "curly") if text is not None)
    plain = _ESCAPE.sub(_unescaped, written)
    # Two escapes that are one character, and halves of one, which no text can hold.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _SURROGATE.search(plain) else plain


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return code if code in "\\/\"'" else _ESCAPED.get(code, match[0])


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _fault(text: str, at: int, expected: str) -> TornError:
    found = repr(text[at : at + 20]) if at < len(text) else "the end"
    return TornError(f"expected {expected} at character {at}, found {found}", at)
