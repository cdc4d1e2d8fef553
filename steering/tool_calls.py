"""Tool calls in a model's text: reading them back, writing them where a template knows no tools, and forcing one.

The forms are those of `call_formats`. What looks like a call and cannot be taken for one of an offered tool is counted: a
missed call would read as a model that did not act.
"""

import hashlib
import json
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo, ToolParam, ToolParams

from self_steering.steering.call_formats import (
    CallFormat,
    WrittenCall,
    fallback_format,
    named_json_calls,
    ordered,
    python_calls,
    read_body,
)
from self_steering.steering.literals import TornError, whole_value
from self_steering.vectors.shown import clipped, shown

MALFORMED_NAME = "malformed_tool_call"

_PROMPT = """You can call these tools. Each line is one tool, as JSON:
<tools>
{tools}
</tools>
To call a tool, write one JSON object with its name and arguments between tags:
<tool_call>
{{"name": "tool_name", "arguments": {{}}}}
</tool_call>
The result comes back between <tool_response> tags."""

# Code in a language that no call is written in, and code within a sentence, quote: nothing in them is a call.
_QUOTE = (
    r"```[ \t]*(?!(?i:json\w*|xml|(?:tool|function|call|action)\w*|text|plaintext)?[ \t]*(?:\n|[\[{<]))[^\n`]*\n.*?(?:```|\Z)"
    r"|(?<!`)`[^`\n]+`(?!`)"
)
_MENTION = r"\b(?P<mentioned>[^\W\d]\w*)\((?P<mentioned_with>[^()\n]*)\)"
# No form of calls, and yet no way to speak of a tool: a tag with its name, its name between tags, a command, a line that is its
# name and a value, options, an object without braces, its name and an object.
_LIKENESS = (
    r"<(?:\w+[=(\s][ \t]*[\"']?)?(?P<like_tag>[^\W\d]\w*)(?=[\s/>)\"'])"
    r"|>\s*(?P<like_text>[^\W\d]\w*)\s*</"
    r"|(?m:^)/(?P<like_command>[^\W\d]\w*)\b"
    r"|(?m:^)(?P<like_line>[^\W\d]\w*):?[ \t]+[\"']?[\w.-]+[\"']?(?:,?[ \t]+[-+]?[\d.]+)?(?m:[ \t]*$)"
    r"|\b(?P<like_options>[^\W\d]\w*)(?:\[\s*[\"']|[ \t]+--\w)"
    r"|\b(?:name|function|tool)[\"']?\s*(?::|=>?)\s*[\"'](?P<like_member>[^\W\d]\w*)[\"'](?![^\n]*(?:…|\.\.\.))"
    r"|(?P<like_object>\b[^\W\d]\w*)[\"'>`]*\s*(?:<[^<>\n]*>|[^\s\w{}<>]*\w{1,12}[^\s\w{}<>]+)?\s*\{\s*[\"'](?![^{}]*(?:…|\.\.\.))"
)
_LINE_ENDS = re.compile(r"[ \t;,.]*(?:\n|\Z|`|<|\[/)")
_BODY_BEGINS = re.compile(r"\s*(?:[\[{`]|<\w|\Z)|\n?[^\W\d][\w.-]*\s*(?:[({<\[\n:]|\Z)|\s*call:")
_ONLY_NAMED = re.compile(r"(?:[\s.…,`'\"]|\band\b|\bor\b|\bto\b)+")
_GUESS = re.compile(
    r"""(?:\b(?:name|function|tool|tool_name|function_name|action)["'”]?\s*:\s*["'“]?(?=[\w.-]+(?! ?\w))"""
    r"""|<\w*:?(?:function|invoke)(?:\s+name)?\s*=\s*["']?|\bcall:"""
    r"""|\A\s*\[?\s*(?:print\()?(?:functions\.)?)([^\W\d][\w.-]*)"""
)
_SAYS_ITS_NAME = re.compile(r"""\b(?:name|function|tool|tool_name|function_name|action)["'”]?\s*:\s*["'“]""")
_SAYS_ARGUMENTS = re.compile(r"""\b(?:arguments|parameters|action_input|tool_input)["'”]?\s*:""")
_MOST_TRIES = 20  # in what a degenerate model repeats each would read on to its end
_PLACEHOLDER = re.compile(r"…|\.\.\.")
# How a call ends after which nothing can be missing, whatever closes the form around it.
_WHOLE = re.compile(r"(?:[}\])`]|(?:function|invoke|call)(?:>|<\|sep\|>))(?:\s*#[^\n]*)?\s*\Z")
_TORN_UNTIL = re.compile(r"\n\s*```|\n[ \t]*\n|\Z")
# What is left of fences and tags once the calls in them are taken out.
_LEFT_OVER = re.compile(r"```[\w-]*\s*```|(?<!`)``(?!`)|</?tools?(?:_calls?)?>")
_AROUND_NAMES = " \t\n`()"
_NAMESPACES = re.compile(r"^(?:functions?|tools|default_api)\.|:\d+$")


@dataclass(frozen=True)
class ParsedText:
    """A model's text, taken apart.

    Attributes:
        content: The text without its tool calls and control tokens.
        calls: The calls, in order; a malformed one carries its `parse_error`.
        looked_like_a_call: How often the text looks like a call and is none of an offered tool: an unclosed tag, an unknown name, a
            call within a sentence.
        form: The form that the first call is written in.
    """

    content: str
    calls: list[ToolCall] = field(default_factory=list)
    looked_like_a_call: int = 0
    form: CallFormat | None = None


def tool_schema(tool: ToolInfo) -> dict[str, Any]:
    """Return a tool in the form that chat templates expect."""
    parameters = tool.parameters.model_dump(exclude_none=True, by_alias=True)
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def tools_prompt(tools: Sequence[ToolInfo]) -> str:
    """Return the system text that stands in for the tools block of a template that knows no tools."""
    return _PROMPT.format(tools="\n".join(json.dumps(tool_schema(tool)["function"]) for tool in tools))


def call_text(call: ToolCall) -> str:
    """Return a call as text, in the form that `tools_prompt` asks for."""
    return f"<tool_call>\n{call_json(call)}\n</tool_call>"


def call_json(call: ToolCall) -> str:
    """Return a call as one JSON object."""
    return json.dumps({"name": call.function, "arguments": call.arguments}, ensure_ascii=False)


def parse_calls(
    text: str,
    tools: Sequence[ToolInfo],
    origin: str,
    own: CallFormat | None = None,
    control: Iterable[str] = (),
    *,
    cut_off: bool = False,
) -> ParsedText:
    """Read the tool calls out of a model's text.

    Args:
        text: What the model wrote, decoded with its special tokens, without its end-of-turn token.
        tools: The tools it was offered; they give arguments their types.
        origin: What tells this text from every other that a model writes, such as a hash of prompt and seed: calls get ids that
            follow from it, so that they do not recur.
        own: The model's own form: tried first, and named to the model where a call cannot be read.
        control: Texts of special tokens, which are taken out of the content.
        cut_off: Whether the text ends where there was no room for more: arguments in tags may be missing then.
    """
    tokens = sorted(control, key=len, reverse=True)
    shown_text = re.compile("|".join(map(re.escape, tokens))) if tokens else None
    reading = _Reading(text, {tool.name: tool for tool in tools}, own, cut_off=cut_off)
    if tools:
        reading.run()
    content = shown_text.sub("", reading.content) if shown_text else reading.content
    if not reading.found:
        return ParsedText(content, looked_like_a_call=reading.looked)
    calls = [reading.call(entry, _call_id(origin, text, n)) for n, entry in enumerate(reading.found)]
    return ParsedText(_LEFT_OVER.sub("", content).strip(), calls, reading.looked, reading.form)


def _call_id(origin: str, text: str, number: int) -> str:
    """Return nine letters and digits, as Mistral's templates want them."""
    digest = int.from_bytes(hashlib.sha256(f"{origin}\0{number}\0{text}".encode()).digest())
    letters = string.ascii_letters + string.digits
    return "".join(letters[digest // len(letters) ** place % len(letters)] for place in range(9))


@dataclass(frozen=True)
class _Torn:
    """A call that cannot be read."""

    body: str
    error: str


class _Reading:
    """One pass over a text, left to right: at each place where something opens, it is a call, looks like one, or is skipped."""

    def __init__(self, text: str, tools: dict[str, ToolInfo], own: CallFormat | None, *, cut_off: bool) -> None:
        self._text = text
        self._cut_off = cut_off
        self._tools = tools
        self._own = own
        self.found: list[WrittenCall | _Torn] = []
        self.looked = 0
        self.form: CallFormat | None = None
        self._kept: list[str] = []
        self._cut = 0
        # For each form, the end of a torn stretch that names no tool, and how often it was tried in it.
        self._calm: dict[str, tuple[int, int]] = {}

    @property
    def content(self) -> str:
        """The text without the calls."""
        return "".join([*self._kept, self._text[self._cut :]])

    def run(self) -> None:
        """Read the whole text."""
        pattern, groups = _openings(self._own)
        at = 0
        while match := pattern.search(self._text, at):
            kind = match.lastgroup or ""
            if kind == "quote":
                after = self._quote(match)
            elif kind == "mention":
                after = self._mention(match)
            elif kind == "likeness":
                self.looked += any(
                    text in self._tools for name, text in match.groupdict().items() if name.startswith("like_")
                )
                after = match.start()
            else:
                forms = groups[kind]
                after = (self._bare if forms[0].bare else self._tagged)(match, forms)
            at = max(after, match.start() + 1)

    def _take(self, start: int, end: int, found: Sequence[WrittenCall | _Torn], form: CallFormat) -> int:
        self._kept.append(self._text[self._cut : start])
        self._cut = end
        self.found += found
        self.form = self.form or form
        return end

    def _tagged(self, match: re.Match[str], forms: Sequence[CallFormat]) -> int:
        """Read what a tag opens: it shows the intent, whatever name follows."""
        start = match.end()
        opening, closing = re.compile(forms[0].opening), re.compile(forms[0].closing)
        closed, again = closing.search(self._text, start), opening.search(self._text, max(start, match.start() + 1))
        if closed and _ONLY_NAMED.fullmatch(self._text, start, closed.start()):
            return closed.end()  # "between <tool_call> and </tool_call>" speaks of the tags
        try:
            calls, end, reader = read_body(self._text, start)
            if ends := closing.match(self._text, _skip(self._text, end)):
                end = ends.end()
            elif (later := closing.search(self._text, end)) and not opening.search(self._text, end, later.start()):
                raise ValueError(f"expected the call to end, found {shown(self._text[end : end + 20])}")
            else:
                self._check_whole(start, end)
        except ValueError as error:
            fault = clipped(str(error))
        else:
            return self._take(match.start(), end, calls, next((one for one in forms if one.body is reader), forms[0]))
        if closed and again and again.start() < closed.start():
            closed = None
        stop = closed.start() if closed else again.start() if again else len(self._text)
        body = self._text[start:stop]
        if not closed and not _BODY_BEGINS.match(body):
            self.looked += 1
            return start
        torn = [] if again and not closed and not body.strip() else [_Torn(body.strip(), fault)]
        return self._take(match.start(), closed.end() if closed else stop, torn, forms[0])

    def _bare(self, match: re.Match[str], forms: Sequence[CallFormat]) -> int:
        """Read what ordinary text may look like too: a call only where it names an offered tool and ends its line."""
        start = match.end()
        weak = start == match.start()
        until, tries = self._calm.get(forms[0].name, (0, 0))
        if start < until and tries >= _MOST_TRIES:
            self.looked += not weak
            return start
        try:
            calls, end, reader = read_body(self._text, start)
            self._check_whole(start, end)
        except ValueError as error:
            return self._torn(match, forms[0], error, weak=weak)
        form = next((one for one in forms if one.body is reader), forms[0])
        closed = re.compile(form.closing).match(self._text, _skip(self._text, end))
        if any(self._name(call) in self._tools for call in calls):
            if closed or _LINE_ENDS.match(self._text, end):
                return self._take(match.start(), closed.end() if closed else end, calls, form)
            self.looked += any(call.arguments or call.positional for call in calls)
            return end
        if weak and form.body in (python_calls, named_json_calls):
            return start  # what is in it may be a call, or look like one
        written = self._text[start:end]
        self.looked += not weak or bool(_SAYS_ITS_NAME.search(written) and _SAYS_ARGUMENTS.search(written))
        return end

    def _check_whole(self, start: int, end: int) -> None:
        """Raise where the text was cut off behind what was read, so that arguments in tags may be missing."""
        if self._cut_off and not self._text[end:].strip() and not _WHOLE.search(self._text, start, end):
            raise ValueError("it was cut off before its end")

    def _torn(self, match: re.Match[str], form: CallFormat, error: ValueError, *, weak: bool) -> int:
        start = match.end()
        stop = _TORN_UNTIL.search(self._text, start)
        assert stop is not None
        body = self._text[start : stop.start()]
        # An object that begins after the fault is read by itself.
        later = body.find("{", error.at - start) if weak and isinstance(error, TornError) else -1
        if self._guess(body[:later] if later >= 0 else body) in self._tools and not _PLACEHOLDER.search(body):
            if not weak or not _line_before(self._text, match.start()).strip("` \t"):
                return self._take(match.start(), stop.start(), [_Torn(body.strip(), clipped(str(error)))], form)
            self.looked += 1
            return stop.start()
        self.looked += not weak
        until, tries = self._calm.get(form.name, (0, 0))
        self._calm[form.name] = (stop.start(), tries + 1 if start < until else 1)
        return start

    def _quote(self, match: re.Match[str]) -> int:
        quote = match.group()
        if not quote.startswith("```"):
            line = _line_before(self._text, match.start()) + self._text[match.end() :].partition("\n")[0]
            return match.end() if line.strip() else match.start()
        code = quote.partition("\n")[2].removesuffix("```")
        try:
            calls, end, _ = read_body(code, 0)
        except ValueError:
            return match.end()
        self.looked += not code[end:].strip() and any(self._name(call) in self._tools for call in calls)
        return match.end()

    def _mention(self, match: re.Match[str]) -> int:
        """Count `take_vector("calm")` in a sentence, but not `take_vector(name, dose)`, which speaks of the tool."""
        name, arguments = match["mentioned"], match["mentioned_with"].strip()
        if name in self._tools or name.startswith("take_"):
            line = _line_before(self._text, match.start()) + self._text[match.end() :].partition("\n")[0]
            parameters = "|".join({re.escape(p) for tool in self._tools.values() for p in tool.parameters.properties})
            signature = (
                rf"(?:{parameters or '(?!)'})(?:\s*[:=]\s*(?:str|string|float|number|int|integer|\.\.\.|…|<[^<>]*>))?"
            )
            spoken_of = [re.fullmatch(rf"(?:{signature}|\.\.\.|…)", part.strip()) for part in arguments.split(",")]
            self.looked += not all(spoken_of) if arguments else not line.strip("`*-. \t")
        return match.end()

    def _name(self, call: WrittenCall) -> str:
        return call.name if call.name in self._tools else _NAMESPACES.sub("", call.name.strip(_AROUND_NAMES))

    def _guess(self, body: str) -> str:
        """Return which tool an unreadable call names."""
        names = [_NAMESPACES.sub("", name) for name in _GUESS.findall(body)]
        return next((name for name in names if name in self._tools), names[0] if names else MALFORMED_NAME)

    def call(self, written: WrittenCall | _Torn, call_id: str) -> ToolCall:
        """Return a call as Inspect knows it, its arguments typed by the tool's schema."""
        if isinstance(written, WrittenCall):
            name = self._name(written)
            tool = self._tools.get(name)
            self.looked += tool is None
            try:
                return ToolCall(id=call_id, function=name, arguments=_typed(written, tool))
            except ValueError as error:
                body, reason = name, str(error)
        else:
            name, body, reason = self._guess(written.body), written.body, written.error
        example = (self._own or fallback_format()).example
        return ToolCall(
            id=call_id,
            function=name,
            arguments={},
            parse_error=f"tool call could not be read ({reason}): {body}; write it as {example}"
            + (", where {…} is a JSON object" if "{…}" in example else ""),
        )


def _line_before(text: str, at: int) -> str:
    return text[text.rfind("\n", 0, at) + 1 : at]


def _skip(text: str, at: int) -> int:
    return len(text) - len(text[at:].lstrip(" \t\r\n;,"))


@lru_cache
def _openings(own: CallFormat | None) -> tuple[re.Pattern[str], dict[str, list[CallFormat]]]:
    """Return one pattern of everything that opens a call, and for each of its groups the forms that open so."""
    groups: dict[str, list[CallFormat]] = {}
    for form in ordered(own):
        groups.setdefault(form.opening, []).append(form)
    named = {f"form{n}": forms for n, forms in enumerate(groups.values())}
    alternatives = [f"(?P<{name}>{forms[0].opening})" for name, forms in named.items()]
    # A quote goes before the bare forms that may stand in it, but after a tag at the same place, such as ```tool_code.
    others = [f"(?P<quote>(?s:{_QUOTE}))", f"(?P<mention>{_MENTION})", f"(?P<likeness>{_LIKENESS})"]
    return re.compile("|".join([*alternatives, *others])), named


# ------------------------------------------------------------ types


def _typed(call: WrittenCall, tool: ToolInfo | None) -> dict[str, Any]:
    """Return a call's arguments as the tool's schema types them; what does not fit stays, for the tool to refuse.

    Raises:
        ValueError: It has more arguments without a name than the tool has parameters, or one of them twice.
    """
    properties = tool.parameters.properties if tool else {}
    names = list(properties)
    given = {k: v for k, v in call.arguments.items() if k in properties or not (tool and call.spread)}
    match call.positional:
        case [dict() as whole] if not given and properties and whole.keys() <= properties.keys():
            given, call = whole, replace(call, positional=[])  # name({…}) has all of them in one
    if len(call.positional) > len(names):
        raise ValueError(
            f"{len(call.positional)} arguments without a name, for the parameters {', '.join(names) or 'none'}"
        )
    if twice := given.keys() & set(names[: len(call.positional)]):
        raise ValueError(f"{', '.join(sorted(twice))} is given twice, with its name and without")
    given.update(zip(names, call.positional, strict=False))
    required = tool.parameters.required if tool else []
    result = {}
    for name, value in given.items():
        types = _types(properties.get(name))
        typed = _value(value, types)
        if typed is None and name in properties and name not in required and "null" not in types:
            continue  # its default
        result[name] = typed
    return result


def _types(schema: ToolParam | None) -> set[str]:
    """Return the types that a parameter's schema admits; none where it says nothing."""
    if schema is None:
        return set()
    own = schema.type if isinstance(schema.type, list) else [schema.type] if schema.type else []
    return {*own, *(one for option in schema.anyOf or [] for one in _types(option))}


def _value(value: Any, types: set[str]) -> Any:
    if isinstance(value, str) and types and "string" not in types:
        try:
            read = whole_value(value) if value.strip() else None
        except ValueError:
            return value
        if isinstance(read, str) and read != value:
            return _value(read, types)
        return read if read is None or _fits(read, types) else value
    if "string" in types and isinstance(value, int | float) and not _fits(value, types):
        return json.dumps(value)
    if types & {"integer"} and "number" not in types and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _fits(value: Any, types: set[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        return "number" in types or ("integer" in types and float(value).is_integer())
    return bool(
        types & ({"array"} if isinstance(value, list) else {"object"} if isinstance(value, dict) else {"string"})
    )


# ------------------------------------------------------------ which form a template writes

PROBE_TOOL = ToolInfo(
    name="probe_tool",
    description="Used once at load, to see what the template can do.",
    parameters=ToolParams(properties={"name": ToolParam(type="string"), "dose": ToolParam(type="number")}),
)
PROBE_CALLS = tuple(
    ToolCall(id=f"probe000{n}", function=PROBE_TOOL.name, arguments={"name": f"value {n}", "dose": n - 0.5})
    for n in (1, 2)
)


def read_back(written: str, calls: Sequence[ToolCall]) -> CallFormat | None:
    """Return the form in which a message of these `PROBE_CALLS` is read back, None where they do not come out as they went in.

    Args:
        written: The message as a chat template writes it, encoded and decoded with special tokens, as a model's own would be.
        calls: The calls that it was made of.
    """
    found = parse_calls(written, [PROBE_TOOL], "probe")
    came = [(call.function, call.arguments, call.parse_error) for call in found.calls]
    return found.form if came == [(call.function, call.arguments, None) for call in calls] else None


# ------------------------------------------------------------ forced calls


def forced_call_grammar(tools: Sequence[ToolInfo], choice: ToolChoice) -> str | None:
    """Return a Lark grammar (llguidance) that admits exactly one call, or None where the model is free.

    Raises:
        ValueError: `choice` names no offered tool, or there is none to choose from.
    """
    if choice in ("auto", "none"):
        return None
    wanted = [t for t in tools if not isinstance(choice, ToolFunction) or t.name == choice.name]
    if not wanted:
        raise ValueError(
            f"tool_choice {choice!r} matches no tool; offered: {', '.join(t.name for t in tools) or 'none'}"
        )
    forms = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                "arguments": tool.parameters.model_dump(exclude_none=True, by_alias=True),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in wanted
    ]
    # White space between JSON tokens would let a model pad without end; the compact form always finishes.
    options = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
    return "start: %json " + json.dumps({"x-guidance": options, "anyOf": forms})
