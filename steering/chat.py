"""Messages to token ids, with the span of each message in those very ids.

Chat templates are not prefix-stable (some drop earlier thinking, or add to the generation prompt what the next rendering
lacks), so spans are never found by rendering a prefix. Each message is rendered once more with a marker at its end; with
the markers taken out, the text must be the one that is run, and the markers' places are the messages' ends.
"""

import copy
import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolInfo
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from self_steering.steering.tool_calls import call_json, call_text, tool_schema, tools_prompt

# Private-use characters: no text contains them, JSON and Jinja pass them through.
_MARK_OPEN, _MARK_CLOSE = "\ue0f0", "\ue0f1"
_ZERO_WIDTH_SPACE = "\u200b"
_PROBE_TOOL = ToolInfo(name="probe_tool", description="Used once at load, to see what the template can do.")


class ChatError(ValueError):
    """A conversation that cannot be rendered so that every message's tokens are known."""


@dataclass(frozen=True)
class RenderedChat:
    """A conversation as the model gets it.

    Attributes:
        ids: Token ids of the whole prompt, generation prompt included.
        starts: `starts[i]` is the position of message i's first token; one entry more than there are messages, the
            last being the first position after the last message. Messages tile the prompt: what a template writes
            between two messages belongs to the later one. An assistant message ends with its end-of-turn token.
        continued: Whether the last message is an assistant message that the generation continues.
        neutralised: How often a control token's text inside a message was broken up, so that no message can forge one.
    """

    ids: list[int]
    starts: list[int]
    continued: bool = False
    neutralised: int = 0


class ChatRenderer:
    """Renders conversations with one tokenizer's chat template.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        end_ids: Tokens that end a turn.
        thinking: For templates with a thinking switch: whether it is on.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_ids: frozenset[int], thinking: bool = False) -> None:
        if not tokenizer.is_fast:
            raise ChatError(
                "the tokenizer is a slow one and has no character offsets; use a model with a fast tokenizer"
            )
        if not tokenizer.chat_template:
            raise ChatError(
                f"{tokenizer.name_or_path!r} has no chat template; use an instruction-tuned model, or add a "
                "`chat_template.jinja` to its folder"
            )
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._thinking = thinking
        control = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        control.update(token for token in tokenizer.convert_ids_to_tokens(sorted(end_ids)) if token)
        self._control = sorted(control, key=len)
        self.template_knows_tools = self._probe([tool_schema(_PROBE_TOOL)], parallel=False)
        self._template_knows_parallel = self.template_knows_tools and self._probe(
            [tool_schema(_PROBE_TOOL)], parallel=True
        )
        self._merges_users = self._try([{"role": "user", "content": "probe"}] * 2, []) is None

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[ToolInfo]) -> RenderedChat:
        """Render a conversation and find every message's tokens.

        Raises:
            ChatError: The template refuses the conversation, or does not show where each message ends.
        """
        if not messages:
            raise ChatError("the conversation has no message; send at least one")
        plain, neutralised = self._to_dicts(messages, tools)
        marked, _ = self._to_dicts(messages, tools, mark=True)
        schemas = [tool_schema(tool) for tool in tools] if self.template_knows_tools else []
        last = messages[-1]
        continued = isinstance(last, ChatMessageAssistant)
        if isinstance(last, ChatMessageAssistant) and last.tool_calls:
            raise ChatError("the last message is a tool call without its answer; execute the call before generating")
        text = self._apply(plain, schemas, generation_prompt=not continued)
        # The fallback's own system message, if one is added in front.
        extra = int(bool(tools) and not self.template_knows_tools and messages[0].role != "system")
        bare, ends = _strip_marks(self._apply(marked, schemas, generation_prompt=not continued), len(messages), extra)
        if bare != text:
            raise ChatError(
                "the chat template renders a message differently when its end is marked, so that the message's tokens "
                "cannot be located; give the messages non-empty text without trailing white space, or another template"
            )
        if continued:
            # The marker stands before trailing white space, which belongs to what is continued if the template keeps it.
            content = plain[-1]["content"]
            trailing = content[len(content.rstrip()) :]
            if text.startswith(trailing, ends[-1]):
                ends[-1] += len(trailing)
            text = text[: ends[-1]]
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(encoding["input_ids"])
        boundaries = self._boundaries(ids, [start for start, _ in encoding["offset_mapping"]], ends, messages, extra)
        return RenderedChat(ids, boundaries, continued, neutralised)

    def _boundaries(
        self, ids: list[int], offsets: list[int], ends: list[int], messages: Sequence[ChatMessage], extra: int
    ) -> list[int]:
        """Turn the characters at which messages end into token positions."""
        positions = [bisect_left(offsets, end) for end in ends]
        starts = [0]
        for index, position in enumerate(positions):
            limit = positions[index + 1] if index + 1 < len(positions) else len(ids)
            closing = next((i for i in range(position, limit) if ids[i] in self._end_ids), None)
            last = index == len(positions) - 1
            message = messages[index - extra] if index >= extra else None
            if isinstance(message, ChatMessageAssistant) and closing is None and not last:
                raise ChatError(
                    f"the template writes no end-of-turn token after assistant message {index - extra}; expected one of "
                    f"{self._tokenizer.convert_ids_to_tokens(sorted(self._end_ids))}: steering windows end there"
                )
            starts.append(position if closing is None else closing + 1)
        return [0, *starts[extra + 1 :]]

    def _apply(self, messages: list[dict[str, Any]], schemas: list[dict[str, Any]], generation_prompt: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=[*schemas] or None,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                enable_thinking=self._thinking,
            )
        except (TemplateError, TypeError, KeyError) as error:
            roles = " ".join(message["role"] for message in messages)
            raise ChatError(f"the chat template refuses this conversation ({roles}): {error}") from error
        return str(text)

    def _probe(self, schemas: list[dict[str, Any]], parallel: bool) -> bool:
        """Tell whether the template renders tools, a call (or two) and its answer."""
        name = schemas[0]["function"]["name"]
        calls = [{"type": "function", "id": f"probe{n}", "function": {"name": name, "arguments": {}}} for n in range(2)]
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "probe"},
            {"role": "assistant", "content": "", "tool_calls": calls if parallel else calls[:1]},
            *(
                {"role": "tool", "name": name, "tool_call_id": f"probe{n}", "content": "answer"}
                for n in range(1 + parallel)
            ),
        ]
        text = self._try(messages, schemas)
        # Once in the tools block and once a call.
        return text is not None and text.count(name) >= 2 + parallel and "answer" in text

    def _try(self, messages: list[dict[str, Any]], schemas: list[dict[str, Any]]) -> str | None:
        """Return what the template makes of these messages, or None where it refuses them."""
        try:
            return self._apply(messages, schemas, generation_prompt=True)
        except ChatError:
            return None

    def _to_dicts(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolInfo], mark: bool = False
    ) -> tuple[list[dict[str, Any]], int]:
        """Turn messages into a template's dictionaries, with an end marker in each if `mark`."""
        counter = _Neutraliser(self._control)
        native = self.template_knows_tools
        result = [self._to_dict(message, native, counter) for message in messages]
        if tools and not native:
            if result[0]["role"] == "system":
                result[0]["content"] = f"{result[0]['content']}\n\n{tools_prompt(tools)}"
            else:
                result.insert(0, {"role": "system", "content": tools_prompt(tools)})
        if mark:
            for index, message in enumerate(result):
                _mark(message, f"{_MARK_OPEN}{index}{_MARK_CLOSE}")
        return _merge_users(result) if self._merges_users else result, counter.count

    def _to_dict(self, message: ChatMessage, native: bool, counter: "_Neutraliser") -> dict[str, Any]:
        content = counter(_text_of(message))
        if isinstance(message, ChatMessageTool):
            return _tool_dict(message, content, native, counter)
        if not isinstance(message, ChatMessageAssistant):
            return {"role": message.role, "content": content}
        result: dict[str, Any] = {"role": "assistant", "content": content}
        if isinstance(message.content, list):
            thoughts = [part.reasoning for part in message.content if isinstance(part, ContentReasoning)]
            if thoughts:
                result["reasoning_content"] = counter("\n".join(thoughts))
        calls = message.tool_calls or []
        if not calls:
            return result
        if native and (len(calls) == 1 or self._template_knows_parallel):
            result["tool_calls"] = [
                {
                    "type": "function",
                    "id": c.id,
                    "function": {"name": counter(c.function), "arguments": counter.tree(c.arguments)},
                }
                for c in calls
            ]
        else:
            # The template knows no tools, or only one call a message: write the calls out as text.
            write = call_json if native else call_text
            result["content"] = "\n".join(filter(None, [content, *(counter(write(call)) for call in calls)]))
        return result


class _Neutraliser:
    """Breaks up the text of control tokens inside messages with a zero-width space, and counts how often."""

    def __init__(self, control: list[str]) -> None:
        self._control = control
        self.count = 0

    def __call__(self, text: str) -> str:
        for token in self._control:
            if token in text:
                self.count += text.count(token)
                text = text.replace(token, token[0] + _ZERO_WIDTH_SPACE + token[1:])
        return text

    def tree(self, value: Any) -> Any:
        """Return a JSON value with all its strings treated."""
        return json.loads(self(json.dumps(value, ensure_ascii=False)))


def _text_of(message: ChatMessage) -> str:
    if isinstance(message, ChatMessageTool) and message.error is not None:
        return message.error.message
    if isinstance(message.content, list):
        odd = [c.type for c in message.content if not isinstance(c, ContentText | ContentReasoning)]
        if odd:
            raise ChatError(f"message content of type {', '.join(odd)} is not supported; send text only")
    return message.text


def _tool_dict(message: ChatMessageTool, content: str, native: bool, counter: _Neutraliser) -> dict[str, Any]:
    if native:
        name = counter(message.function or "")
        return {"role": "tool", "name": name, "tool_call_id": message.tool_call_id, "content": content}
    return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}


def _merge_users(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join user messages in a row, such as the answers to parallel calls, for templates that refuse two of them."""
    result: list[dict[str, Any]] = []
    for message in messages:
        if result and result[-1]["role"] == message["role"] == "user":
            result[-1] = {**message, "content": f"{result[-1]['content']}\n{message['content']}"}
        else:
            result.append(message)
    return result


def _mark(message: dict[str, Any], marker: str) -> None:
    """Put a marker at the end of what a template will print of a message."""
    if message.get("tool_calls"):
        message["tool_calls"] = copy.deepcopy(message["tool_calls"])
        message["tool_calls"][-1]["function"]["name"] += marker
        return
    # Before trailing white space, which templates may trim; after white space alone, which they may trim from the left.
    content = message["content"]
    kept = content.rstrip() or content
    message["content"] = kept + marker + content[len(kept) :]


def _strip_marks(text: str, count: int, extra: int) -> tuple[str, list[int]]:
    """Return the text without markers, and where each marker stood in that text.

    There are markers for `count` messages, and before them for `extra` that were added in front.
    """
    pieces: list[str] = []
    ends: list[int] = []
    length = 0
    rest = text
    for index in range(count + extra):
        marker = f"{_MARK_OPEN}{index}{_MARK_CLOSE}"
        before, found, rest = rest.partition(marker)
        if not found or marker in rest:
            which = f"message {index - extra}" if index >= extra else "the system message"
            raise ChatError(
                f"the chat template does not print {which} exactly once and in order; "
                "send roles that the template knows, or use another template"
            )
        pieces.append(before)
        length += len(before)
        ends.append(length)
    return "".join([*pieces, rest]), ends
