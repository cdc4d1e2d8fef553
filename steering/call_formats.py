"""One table of the forms in which models write tool calls, and the readers of what stands inside them.

A form is an opening, a body and a closing. Bodies are told by their shape, whatever stands around them, so that a model which mixes
two forms is understood. Texts are read as they are decoded with special tokens: many forms consist of these.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from self_steering.steering.literals import read_arguments, read_value, whole_value
from self_steering.vectors.shown import shown


@dataclass(frozen=True)
class WrittenCall:
    """A call as it is written, before the tool's schema gives its arguments their types.

    Attributes:
        name: The function's name.
        arguments: Its arguments by name.
        positional: Arguments without a name, which Python's syntax allows.
        spread: Whether the arguments stand beside the name, with whatever else does.
    """

    name: str
    arguments: dict[str, Any]
    positional: list[Any] = field(default_factory=list)
    spread: bool = False


Reader = Callable[[str, int], tuple[list[WrittenCall], int]]


@dataclass(frozen=True)
class CallFormat:
    """One form in which models write calls.

    Attributes:
        name: What it is called here, in logs and in MODELS.md.
        families: Models that write it.
        example: A call in it, `{…}` standing for arguments as JSON.
        opening: Regular expression of what stands before a call.
        body: How what stands between is read.
        closing: Of what ends it; models leave it out at the end of a turn, and some forms have none.
        bare: Whether ordinary text may look like this too: then it is a call only if it names an offered tool and ends its line.
    """

    name: str
    families: str
    example: str
    opening: str
    body: Reader
    closing: str = "(?!)"
    bare: bool = False


_NAME = r"[^\W\d][\w.-]*"
# Tags may have a namespace (minimax:, atem:, steptml:, DSML between bars), which MiniMax M3 writes as a token before each; Kimi K3
# has tokens of its own for the brackets.
_TAG, _END_TAG, _TAG_ENDS = (
    r"(?:(?:\]<\]\w+\[>\[)?<|<\|open\|>)(?:\w+:|｜\w+｜)?",
    r"(?:(?:\]<\]\w+\[>\[)?</|<\|close\|>)(?:\w+:|｜\w+｜)?",
    r"(?:>|<\|sep\|>)",
)
_CALLER = r"(?:function(?:_call)?|invoke|(?:tool_)?call|tool)"  # what a tag with a function's name may itself be called
_SEPARATOR = re.compile(r"[\s;,]*")
_OBJECTS = re.compile(r"(?:\[\s*)?\{")
_FENCE = re.compile(r"\s*(?:```(?:\w+[ \t]*(?=\n|[\[{]))?|json\s(?=\s*[\[{]))")

# What may stand between a function's name and its arguments as JSON, and what closes a call that has none.
_CLOSES = r"<[|｜](?:[^<>|｜]*end|call|/[^<>|｜]*)[|｜]>|<\w+\|>"
_BETWEEN = (
    rf"(?:\s|:\d+|:|(?!{_CLOSES})<[|｜][^<>]*[|｜]>|\[ARGS\]|✿ARGS✿|\[CALL_ID\][\w-]*|\*|`(?!``)"
    r"|(?i:json|code|commentary|analysis|(?:action[ _])?input)\b)*+"
)
_NAMED = rf"\s*(?:function\s*<[|｜]tool[▁_]sep[|｜]>)?(?P<name>{_NAME}){_BETWEEN}"
_NAMED_JSON = re.compile(rf"{_NAMED}(?=\{{|```)")
_NAMED_ALONE = re.compile(rf"(?:\s*call\s*:)?{_NAMED}(?:```\w*\s*```\s*)?(?={_CLOSES})")
_NEXT_NAMED = re.compile(rf"(?P<name>{_NAME})(?=\{{)")
_FUNCTION = re.compile(
    rf"\s*{_TAG}{_CALLER}(?:\s+(?:name|tool))?\s*=\s*[\"']?(?P<name>[^\"'<>\s{{}}/]+)[\"']?"
    rf"[^<>{{}}/]*?(?:(?P<closed>/)?{_TAG_ENDS}|(?=\s*[<{{]))"
)
_FUNCTION_ENDS = re.compile(rf"\s*{_END_TAG}{_CALLER}{_TAG_ENDS}")
_PARAMETER = re.compile(
    rf"\s*{_TAG}(?:param(?:eter)?|argument)(?:\s+(?:name|key))?\s*=\s*[\"']?(?P<key>[^\"'<>]+?)[\"']?(?:\s+\w+=\"[^\"]*\")*"
    rf"\s*{_TAG_ENDS}\n?(?P<value>.*?)\n?(?:{_END_TAG}(?:param(?:eter)?|argument){_TAG_ENDS}"
    rf"|(?=\s*{_TAG}param(?:eter)?\b|\s*{_END_TAG}(?:function|invoke)\b))",
    re.DOTALL,
)
# A parameter whose tag is its own name, and within it those of an object's members or, each called item, a list's.
_OWN_TAG = re.compile(
    rf"\s*{_TAG}(?P<key>[^\W\d][\w.-]*){_TAG_ENDS}\n?(?P<value>[^<\]]*+(?:[<\]][^<\]]*+)*?){_END_TAG}(?P=key){_TAG_ENDS}"
)
_OWN_TAG_OPENS = re.compile(rf"\s*{_TAG}(?P<key>[^\W\d][\w.-]*){_TAG_ENDS}(?!\s*{_TAG}(?P=key){_TAG_ENDS})")
_KEYED = re.compile(rf"\s*(?!(?:null|true|false)\b)(?P<name>{_NAME})\s*(?:<tool_sep>\s*)?(?=<(?:\w+_)?arg_key>|</)")
_KEY_AND_VALUE = re.compile(
    r"\s*<((?:\w+_)?)arg_key>(.*?)</\1arg_key>\s*<\1arg_value>\n?(.*?)\n?</\1arg_value>", re.DOTALL
)
_KEY_OPENS = re.compile(r"\s*<(?:\w+_)?arg_key>")
_GEMMA = re.compile(rf"\s*call\s*:\s*(?P<name>{_NAME})\s*(?=\{{)")
_PYTHON = re.compile(rf"\s*(?:\w+\s*=\s*|call\s*:\s*)?(?P<print>print\s*\(\s*(?={_NAME}\s*\())?(?P<name>{_NAME})\s*\(")
# Comments, what is imported, and a result that is printed are no calls.
_PYTHON_ASIDE = rf"#[^\n]*|(?:from\s+[\w.]+\s+)?import\s[^\n]*|print\((?!\s*{_NAME}\s*\()[^\n]*\)"
_PYTHON_BETWEEN = re.compile(rf"(?:\s|[,;]|{_PYTHON_ASIDE})*+")
_PYTHON_ENDS = re.compile(rf"(?:[\s,;]*(?:{_PYTHON_ASIDE}))*+")


def json_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read objects one after the other, or in lists: `{"name": …, "arguments": …}` and its variants."""
    fence = _FENCE.match(text, at)
    at = _past(_SEPARATOR, text, fence.end() if fence else at)
    calls: list[WrittenCall] = []
    while not calls or _OBJECTS.match(text, at):
        value, end = read_value(text, at)
        calls += _calls_in(value)
        at = _past(_SEPARATOR, text, end)
    return calls, _past(_FENCE, text, at) if fence else end


def _calls_in(value: Any) -> list[WrittenCall]:
    if isinstance(value, list) and value:
        return [call for entry in value for call in _calls_in(entry)]
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {shown(value)}")
    if isinstance(value.get("function"), dict):
        return _calls_in(value["function"])
    given = next((key for key in _ARGUMENTS if key in value), None)
    # Without arguments of its own, an object that says which function it means has a name that may be one of them; what else may
    # say it is a word that any object may have.
    keys = ("function", "tool_name", "function_name", "name") if given is None else _NAMES
    key = next((key for key in keys if isinstance(value.get(key), str)), None)
    if key is not None and given is not None:
        return [WrittenCall(value[key], _object(value[given]))]
    if key is not None:
        return [WrittenCall(value[key], {k: v for k, v in value.items() if k != key}, spread=True)]
    inner = value.get("tool_calls", value.get("tool_call", value.get("function_call")))
    if isinstance(inner, dict | list):
        return _calls_in(inner)
    # Apertus writes {"take_vector": {…}}; a call without its name is none.
    if (
        len(value) == 1
        and value.keys().isdisjoint(_ARGUMENTS)
        and all(isinstance(entry, dict) for entry in value.values())
    ):
        return [WrittenCall(str(name), arguments) for name, arguments in value.items()]
    raise ValueError("expected a JSON object with a string `name`")


_NAMES = ("name", "function", "tool_name", "function_name", "tool", "action")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "action_input", "tool_input", "params")


def _object(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        arguments = whole_value(arguments) if arguments.strip() else {}
    if arguments is None or arguments == []:
        return {}
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments must be a JSON object, got {shown(arguments)}")
    return arguments


def named_json_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read a name, what separates it, and its arguments as JSON, in a fence or without; another may follow without a space."""
    match: re.Match[str] | None = _matched(_NAMED_JSON, text, at, "a function's name and its arguments as JSON")
    calls: list[WrittenCall] = []
    while match is not None:
        fence = _FENCE.match(text, match.end())
        arguments, at = read_value(text, fence.end() if fence else match.end())
        calls.append(WrittenCall(match["name"], _object(arguments)))
        at = _past(_FENCE, text, at) if fence else at
        match = _NEXT_NAMED.match(text, at)
    return calls, at


def named_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read a name without arguments, where the mark that closes a call shows that none were cut off."""
    match = _matched(_NAMED_ALONE, text, at, "a function's name")
    return [WrittenCall(match["name"], {})], match.end()


def tagged_parameter_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read `<function=name>` or `<invoke name="…">` with a tag for each parameter, or with JSON."""
    calls: list[WrittenCall] = []
    match: re.Match[str] | None = _matched(_FUNCTION, text, at, "a function's tag")
    while match is not None:
        arguments: dict[str, Any] = {}
        at = match.end()
        if _past(_SEPARATOR, text, at) < len(text) and text[_past(_SEPARATOR, text, at)] in '{["':
            value, at = read_value(text, at)
            arguments = _object(value)
        while parameter := _PARAMETER.match(text, at) or _OWN_TAG.match(text, at):
            own = parameter.re is _OWN_TAG
            value = parameter["value"]
            arguments[parameter["key"].strip()] = _tree(value.removesuffix("\n")) if own else value
            at = parameter.end()
        calls.append(WrittenCall(match["name"], arguments))
        closed = match if match["closed"] else _FUNCTION_ENDS.match(text, at)
        if closed is None and not arguments:
            raise ValueError(f"expected parameters of {match['name']}, found {shown(text[at : at + 20])}")
        if closed is None and _PARAMETER_OPENS.match(text, at):
            raise ValueError(f"the last parameter of {match['name']} is not closed")
        at = max(at, closed.end()) if closed else at
        match = _FUNCTION.match(text, at)
    return calls, at


def own_tag_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read tags that are named as the keys of an object are, such as `<name>`, or as the function and its parameters."""
    members: dict[str, Any] = {}
    while (opens := _OWN_TAG_OPENS.match(text, at)) and opens["key"] in text[opens.end() :]:
        match = _matched(_OWN_TAG, text, at, "a tag that is closed")
        members[match["key"]] = _tree(match["value"].removesuffix("\n"))
        at = match.end()
    return _calls_in(members), at


def _tree(text: str) -> Any:
    """Return what stands between a parameter's own tags: text, or the object or list that the tags within it make up."""
    members: list[tuple[str, Any]] = []
    at = 0
    while member := _OWN_TAG.match(text, at):
        members.append((member["key"], _tree(member["value"].removesuffix("\n"))))
        at = member.end()
    if not members or text[at:].strip():
        return text
    return [value for _, value in members] if {key for key, _ in members} == {"item"} else dict(members)


_PARAMETER_OPENS = re.compile(rf"\s*{_TAG}(?:param|argument)")


def keyed_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read a name and pairs of `<arg_key>` and `<arg_value>`."""
    match = _matched(_KEYED, text, at, "a function's name and <arg_key>")
    arguments: dict[str, Any] = {}
    at = match.end()
    while pair := _KEY_AND_VALUE.match(text, at):
        arguments[pair[2].strip()] = pair[3]
        at = pair.end()
    if _KEY_OPENS.match(text, at):
        raise ValueError(f"the last argument of {match['name']} is not closed")
    return [WrittenCall(match["name"], arguments)], at


def gemma_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read `call:name{key:value}`, strings between tokens of their own."""
    match = _matched(_GEMMA, text, at, "`call:` and a function's name")
    arguments, end = read_value(text, match.end())
    return [WrittenCall(match["name"], _object(arguments))], end


def python_calls(text: str, at: int) -> tuple[list[WrittenCall], int]:
    """Read calls in Python's syntax, in a list or one after the other, printed or not; their arguments are literals."""
    at = _past(_PYTHON_BETWEEN, text, at)
    listed = text[at : at + 1] == "["
    match: re.Match[str] | None = _matched(_PYTHON, text, at + listed, "a call such as name(key=value)")
    calls: list[WrittenCall] = []
    while match is not None:
        positional, arguments, at = read_arguments(text, match.end())
        calls.append(WrittenCall(match["name"].removesuffix(".call"), arguments, positional))
        if match["print"]:
            at = _past(_PYTHON_BETWEEN, text, at)
            at = _closed(text, at, ")")
        end = _past(_PYTHON_ENDS, text, at)
        at = _past(_PYTHON_BETWEEN, text, at)
        match = _PYTHON.match(text, at)
    return calls, _closed(text, at, "]") if listed else end


def _closed(text: str, at: int, bracket: str) -> int:
    if text[at : at + 1] != bracket:
        raise ValueError(f"expected `{bracket}` at character {at}, found {shown(text[at : at + 20])}")
    return at + 1


# By shape: the first whose beginning fits reads the body.
_SHAPES: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (_GEMMA, gemma_calls),
    (_FUNCTION, tagged_parameter_calls),
    (re.compile(rf"{_PYTHON_BETWEEN.pattern}\[?{_PYTHON.pattern}"), python_calls),
    (re.compile(r"\s*(?:```\w*\s*|json\s+)?[\[{]"), json_calls),
    (_NAMED_ALONE, named_calls),
    (_NAMED_JSON, named_json_calls),
    (_KEYED, keyed_calls),
    (_OWN_TAG_OPENS, own_tag_calls),
)


def read_body(text: str, at: int) -> tuple[list[WrittenCall], int, Reader]:
    """Read the calls at a place of a text.

    Returns:
        The calls, where they end, and the reader that found them.

    Raises:
        ValueError: No shape of a call is there, or it is torn.
    """
    for shape, read in _SHAPES:
        if shape.match(text, at):
            return *read(text, at), read
    raise ValueError(f"expected a call, found {shown(text[at : at + 20]) if text[at:].strip() else 'nothing'}")


def _matched(pattern: re.Pattern[str], text: str, at: int, expected: str) -> re.Match[str]:
    if match := pattern.match(text, at):
        return match
    raise ValueError(f"expected {expected}, found {shown(text[at : at + 20])}")


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()


_READERS: dict[str, Reader] = {
    "json": json_calls,
    "name and json": named_json_calls,
    "tags": tagged_parameter_calls,
    "keys": keyed_calls,
    "gemma": gemma_calls,
    "python": python_calls,
}


@lru_cache
def call_formats() -> tuple[CallFormat, ...]:
    """Return the table, in the order in which its forms are tried."""
    rows = tomllib.loads(resources.files(__package__).joinpath("call_formats.toml").read_text("utf-8"))["formats"]
    return tuple(CallFormat(**{**row, "body": _READERS[row["body"]]}) for row in rows)


def fallback_format() -> CallFormat:
    """Return the form that is asked of a model whose template knows no tools: the table's first."""
    return call_formats()[0]


def ordered(own: CallFormat | None) -> Sequence[CallFormat]:
    """Return the forms in the order in which they are tried: a model's own first."""
    return call_formats() if own is None else (own, *(one for one in call_formats() if one is not own))


def format_table() -> list[tuple[str, str, str]]:
    """Return name, families and an example of every form."""
    return [(one.name, one.families, one.example) for one in call_formats()]
