"""Tool calls as text: writing them where a template knows no tools, reading them back, and forcing one.

Forms that are read: `<tool_call>{…}</tool_call>` (Hermes, Qwen), Llama's bare JSON with `parameters`, its
`<function=name>{…}</function>`, and plain or fenced JSON.
"""

import hashlib
import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo

from self_steering.vectors.shown import clipped, shown

MALFORMED_NAME = "malformed_tool_call"

_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_LLAMA_FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_FENCED = re.compile(r"```(?:json|tool_call)?\s*\n(.*?)\n?```", re.DOTALL)
_PYTHON_TAG = "<|python_tag|>"
_BETWEEN = " \t\r\n;,"
_NAME = re.compile(r'"name"\s*:\s*"([^"]+)"')

_PROMPT = """You can call these tools. Each line is one tool, as JSON:
<tools>
{tools}
</tools>
To call a tool, write one JSON object with its name and arguments between tags:
<tool_call>
{{"name": "tool_name", "arguments": {{}}}}
</tool_call>
The result comes back between <tool_response> tags."""


@dataclass(frozen=True)
class ParsedText:
    """A model's text, taken apart.

    Attributes:
        content: The text without its tool calls.
        calls: The calls, in order; a malformed one carries its `parse_error`.
    """

    content: str
    calls: list[ToolCall] = field(default_factory=list)


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


def parse_calls(text: str, tools: Sequence[ToolInfo], origin: str) -> ParsedText:
    """Read the tool calls out of a model's text.

    Args:
        text: What the model wrote, without its end-of-turn token.
        tools: The tools it was offered; an untagged JSON object is a call only if it names one of them.
        origin: What tells this text from every other that a model writes, such as a hash of prompt and seed: calls get ids that
            follow from it, so that they do not recur.
    """
    if not tools:
        return ParsedText(text)
    bodies, content = _find_bodies(text.replace(_PYTHON_TAG, ""), {tool.name for tool in tools})
    calls = [_parse_body(name, body, _call_id(origin, text, n)) for n, (name, body) in enumerate(bodies)]
    return ParsedText(content.strip(), calls) if calls else ParsedText(text)


def _call_id(origin: str, text: str, number: int) -> str:
    """Return nine letters and digits, as Mistral's templates want them."""
    digest = int.from_bytes(hashlib.sha256(f"{origin}\0{number}\0{text}".encode()).digest())
    letters = string.ascii_letters + string.digits
    return "".join(letters[digest // len(letters) ** place % len(letters)] for place in range(9))


def _find_bodies(text: str, names: set[str]) -> tuple[list[tuple[str | None, str]], str]:
    """Return (name or None, JSON text) for each call, and the rest of the text."""
    if "<tool_call>" in text:
        return [(None, m.group(1).strip()) for m in _TAGGED.finditer(text)], _TAGGED.sub("", text)
    if "<function=" in text:
        found = [(m.group(1), m.group(2).strip()) for m in _LLAMA_FUNCTION.finditer(text)]
        return found, _LLAMA_FUNCTION.sub("", text)
    fenced = [m for m in _FENCED.finditer(text) if _names_a_tool(m.group(1), names)]
    if fenced:
        rest = text
        for match in fenced:
            rest = rest.replace(match.group(0), "")
        return [(None, body) for m in fenced for body in _json_values(m.group(1))], rest
    if _names_a_tool(text, names):
        return [(None, body) for body in _json_values(text)], ""
    return [], text


def _names_a_tool(text: str, names: set[str]) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    return any(name in names for name in _NAME.findall(text))


def _json_values(text: str) -> list[str]:
    """Split `{…}; {…}`, one object a line, and `[{…}, {…}]` into the JSON of each call; unreadable text comes back whole."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    rest = text.strip(_BETWEEN)
    try:
        while rest:
            value, end = decoder.raw_decode(rest)
            values.extend(value if isinstance(value, list) else [value])
            rest = rest[end:].lstrip(_BETWEEN)
        return [json.dumps(value) for value in values]
    except (ValueError, RecursionError):  # the latter where it is nested too deep
        return [text.strip()]


def _parse_body(name: str | None, body: str, call_id: str) -> ToolCall:
    try:
        value = json.loads(body) if body or name is None else {}
        function, arguments = (name, value) if name is not None else _name_and_arguments(value)
        if isinstance(arguments, str):
            arguments = json.loads(arguments or "{}")
        if not isinstance(arguments, dict):
            raise ValueError(f"arguments must be a JSON object, got {shown(arguments)}")
    except (ValueError, RecursionError) as error:  # the latter where it is nested too deep
        guess = name or next(iter(_NAME.findall(body)), MALFORMED_NAME)
        return ToolCall(
            id=call_id,
            function=guess,
            arguments={},
            parse_error=f"tool call could not be read ({clipped(str(error))}): {body}; "
            'write {"name": "tool_name", "arguments": {…}} as valid JSON',
        )
    return ToolCall(id=call_id, function=function, arguments=arguments)


def _name_and_arguments(value: Any) -> tuple[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("expected a JSON object with a string `name`")
    arguments = value.get("arguments", value.get("parameters"))
    return value["name"], {} if arguments is None else arguments


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
