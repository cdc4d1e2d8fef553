"""Messages to token ids, with the span of each message in those very ids.

Chat templates are not prefix-stable (some drop earlier thinking, or add to the generation prompt what the next rendering
lacks), so spans are never found by rendering a prefix. Each message is rendered once more with a marker at its end; with
the markers taken out, the text must be the one that is run, and the markers' places are the messages' ends. Where that
fails for all messages at once, as with a template that prints nothing of an empty turn, each message is marked alone.
"""

import json
import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolInfo
from transformers import PreTrainedTokenizerBase

from self_steering.steering.call_formats import CallFormat, fallback_format
from self_steering.steering.habits import (
    CAUTIOUS,
    TEXT_REMEDIES,
    Habits,
    Remedy,
    calls_in_text,
    changed,
    find_habits,
    find_turn_ends,
    parallel_in_text,
    said_of,
)
from self_steering.steering.template import REMEDY, ChatError, ChatTemplate, Message, shared
from self_steering.steering.thinking import (
    ThoughtMarks,
    Wanted,
    find_thinking,
    find_thought_marks,
    left_open,
    take_apart,
)
from self_steering.steering.tool_calls import PROBE_CALLS, PROBE_TOOL, read_back, tool_schema, tools_prompt

logger = logging.getLogger(__name__)

# Private-use characters: no text contains them, JSON and Jinja pass them through.
_MARK_OPEN, _MARK_CLOSE = "\ue0f0", "\ue0f1"
_MARK = re.compile(f"{_MARK_OPEN}(\\d+){_MARK_CLOSE}")
_ZERO_WIDTH_SPACE = "\u200b"


@dataclass(frozen=True)
class RenderedChat:
    """A conversation as the model gets it.

    Attributes:
        ids: Token ids of the whole prompt, generation prompt included.
        starts: `starts[i]` is the position of message i's first token; one entry more than there are messages, the
            last being the first position after the last message. Messages tile the prompt: what a template writes
            between two messages belongs to the later one. An assistant message ends with its end-of-turn token, unless the
            template writes it and the next as one turn. A message of which the template prints nothing has no tokens, nor has
            a system message that it prints inside a later message, whose tokens those are.
        continued: Whether the last message is an assistant message that the generation continues.
        neutralised: How often a control token's text inside a message was broken up, so that no message can forge one.
        open_thought: What stands around the thought that the prompt opens and does not close, in which the generation
            starts; None where it starts outside of any.
    """

    ids: list[int]
    starts: list[int]
    continued: bool = False
    neutralised: int = 0
    open_thought: ThoughtMarks | None = None


class ChatRenderer:
    """Renders conversations with one tokenizer's chat template.

    What the template cannot express is found at load and put in a form that it can, always the same; a warning says so once.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        end_ids: Tokens that end a turn, as far as the model's configuration names them.
        thinking: Whether the model is to think, or how much; None for off where the template has a switch, else what it does.
        today: The date that templates which print one print; default the day on which this is made.

    Attributes:
        template_knows_tools: Whether the template prints tools, and calls in a form that is read; else a prompt of ours does.
        call_format: The form in which the model is to write calls.
        no_tools_because: Why the template's own tools are not used; None where they are.
        end_ids: Tokens that end a turn, those that the template writes included.
        stop_texts: What ends a turn though it is no token, so that a generation does not end there by itself.
        thought_marks: What stands around thoughts.
        thinking: How the template is told whether to think.
        date: The date that the template prints; None where it prints none.
        remedies: What it gets in another form; empty where it expresses all of it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        end_ids: frozenset[int],
        thinking: Wanted = None,
        today: date | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise ChatError(
                "the tokenizer is a slow one and has no character offsets; use a model with a fast tokenizer"
            )
        self._tokenizer = tokenizer
        template = ChatTemplate(tokenizer, today=today)
        self.thinking = find_thinking(template, thinking)
        self._template = template.told(self.thinking.options)
        self.date = self._template.date
        self._habits = find_habits(self._template)
        self.thought_marks = find_thought_marks(self._template)
        known = [token for token in tokenizer.convert_ids_to_tokens(sorted(end_ids)) if token]
        self._ends = find_turn_ends(self._template, self._habits, known, self.thought_marks)
        self.end_ids = end_ids | self._template.ids(self._ends.turns)
        self.stop_texts = tuple(sorted(end for end in self._ends.stops if not self._template.ids([end])))
        self._control = sorted(self._template.special | self._ends.turns, key=len)
        self._turn_end, self._other_end = (_any_of(ends) for ends in (self._ends.turns, self._ends.others))
        self.call_format, self.no_tools_because = self._choose_call_format()
        self.template_knows_tools = self._habits.tools
        self.remedies = said_of(self._habits.offered | self._habits.bare)
        if self.remedies:
            logger.warning("the chat template gets in another form what it cannot express: %s", self.remedies)

    def _choose_call_format(self) -> tuple[CallFormat, str | None]:
        """Let the template's own calls, one and two, be read back; where one is not, a prompt of ours stands in for its tools."""
        if not self._habits.tools:
            return fallback_format(), "its chat template knows no tools"
        form, written = self._read_back(1)
        if form is None:
            bare = self._habits.bare | {calls_in_text}
            self._habits = Habits(tools=False, offered=bare, bare=bare)
            return fallback_format(), f"a call that its chat template writes is not read back: {written!r}"
        if self._read_back(2)[0] is None:
            self._habits = replace(self._habits, offered=self._habits.offered | {parallel_in_text})
        return form, None

    def _read_back(self, number: int) -> tuple[CallFormat | None, str]:
        """Return the form in which the calls of a message are read back, None where they are not, and their text."""
        calls = PROBE_CALLS[:number]
        answers = [ChatMessageTool(content="answer", tool_call_id=c.id, function=c.function) for c in calls]
        asked = ChatMessageAssistant(content="", tool_calls=list(calls))
        try:
            rendered = self.render([ChatMessageUser(content="probe"), asked, *answers], [PROBE_TOOL])
        except ChatError as error:
            return None, str(error)
        written = str(self._tokenizer.decode(rendered.ids[rendered.starts[1] : rendered.starts[2]]))
        return read_back(written, calls), written

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[ToolInfo]) -> RenderedChat:
        """Render a conversation and find every message's tokens.

        Raises:
            ChatError: The template refuses the conversation, or does not show where each message ends.
        """
        if not messages:
            raise ChatError("the conversation has no message; send at least one")
        last = messages[-1]
        continued = isinstance(last, ChatMessageAssistant)
        if isinstance(last, ChatMessageAssistant) and last.tool_calls:
            raise ChatError("the last message is a tool call without its answer; execute the call before generating")
        counter = _Neutraliser(self._control, self.thought_marks)
        dicts = [_to_dict(message, counter) for message in messages]
        # What continues nothing opens a turn.
        if blank := continued and len(dicts) > 1 and not (dicts[-1]["content"] or dicts[-1].get("reasoning_content")):
            del dicts[-1]
        text, ends = self._laid_out(dicts, tools, open_turn=blank or not continued)
        if continued and not blank:
            text = text[: ends[-1]]
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = [start for start, _ in encoding["offset_mapping"]]
        starts = [0, *(bisect_left(offsets, end) for end in ends), *([len(offsets)] if blank else [])]
        opened = text[0 if len(starts) < 3 else ends[len(starts) - 3] :] if continued else text[ends[-1] :]
        return RenderedChat(
            list(encoding["input_ids"]), starts, continued, counter.count, left_open(opened, self.thought_marks)
        )

    def shown(self, message: ChatMessage) -> str:
        """Return what a message says, as it is handed to the template."""
        return str(_to_dict(message, _Neutraliser(self._control, self.thought_marks))["content"])

    def _laid_out(self, dicts: list[Message], tools: Sequence[ToolInfo], *, open_turn: bool) -> tuple[str, list[int]]:
        """Return the text of a conversation, and where each message ends in it."""
        remedies = self._habits.offered if tools else self._habits.bare
        schemas = [tool_schema(tool) for tool in tools] if self._habits.tools else []
        prompt = tools_prompt(tools) if tools else ""

        def turns(remedies: frozenset[Remedy], schemas: Sequence[Message]) -> tuple[str, list[int]]:
            said = "\n\n".join(filter(None, [self.thinking.line, "" if schemas else prompt]))
            return self._turns(_Draft(self._template, dicts, remedies, schemas, said, open_turn=open_turn))

        try:
            return turns(remedies, schemas)
        except ChatError as error:
            try:
                result = turns(remedies | CAUTIOUS, [])
            except ChatError:
                raise error from None
            _warn_of_refusal(str(error).removesuffix(REMEDY))
            return result

    def _turns(self, draft: "_Draft") -> tuple[str, list[int]]:
        """Return a draft's text, and where each message ends, with the token that ends its turn."""
        ends = draft.ends()
        roles = [message["role"] for message in draft.messages]
        result: list[int] = []
        for index, end in enumerate(ends):
            if end is None:
                result.append(result[-1] if result else 0)
                continue
            if index + 1 == len(ends) and not draft.open_turn:
                # The marker stands before trailing white space, which belongs to what is continued if the template keeps it.
                content = draft.messages[index]["content"]
                trailing = content[len(content.rstrip()) :]
                result.append(end + len(trailing) * draft.text.startswith(trailing, end))
                continue
            limit = next((later for later in ends[index + 1 :] if later is not None), len(draft.text))
            turn = roles[index] == "assistant"
            closing = (self._turn_end if turn else self._other_end).search(draft.text, end, limit)
            if turn and closing is None and index + 1 < len(roles) and roles[index + 1] != "assistant":
                raise ChatError(
                    f"the template writes no end-of-turn token after assistant message {index}; expected one of "
                    f"{sorted(self._ends.turns)}: steering windows end there"
                )
            result.append(end if closing is None else closing.end())
        return draft.text, result


@lru_cache
def _warn_of_refusal(error: str) -> None:
    """Say once what a template refuses."""
    logger.warning(
        "%s; it gets a plainer form of it, in which calls are text and users and assistants take turns", error
    )


def _any_of(texts: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


class _Draft:
    """A conversation as a template writes it.

    Args:
        template: The template.
        messages: The conversation.
        remedies: What is changed of it.
        schemas: The tools that the template prints.
        prompt: What is said of tools in the system text.
        open_turn: Whether the assistant's next turn is opened.

    Attributes:
        messages: The conversation, with its calls in text where they are so handed over.
        open_turn: Whether the assistant's next turn is opened; else the last message is continued.
        text: What the template makes of it.
    """

    def __init__(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        remedies: frozenset[Remedy],
        schemas: Sequence[Message],
        prompt: str,
        *,
        open_turn: bool,
    ) -> None:
        self._template = template
        self._remedies = remedies - TEXT_REMEDIES
        self._schemas = schemas
        self.open_turn = open_turn
        self.messages = changed(messages, remedies & TEXT_REMEDIES)
        first = self.messages[0]
        self._lead: list[Message] = []
        if prompt and first["role"] == "system":
            self.messages[0] = {**first, "content": f"{first['content']}\n\n{prompt}"}
        elif prompt:
            self._lead = [{"role": "system", "content": prompt}]
        self.text = self._written({})

    def _written(self, places: Mapping[int, "_Place"]) -> str:
        """Return the text, with markers in some messages."""
        marked = [
            places[index](message, f"{_MARK_OPEN}{index}{_MARK_CLOSE}") if index in places else message
            for index, message in enumerate(self.messages)
        ]
        return self._template.write(
            changed([*self._lead, *marked], self._remedies), self._schemas, open_turn=self.open_turn
        )

    def ends(self) -> list[int | None]:
        """Return where each message ends, before what the template writes after it; None where it prints nothing of it.

        Raises:
            ChatError: It cannot be told.
        """
        every = range(len(self.messages))
        blank = [index for index in every if _is_blank(self.messages[index])]
        found = self._marked_at_once(every)
        if found is None and blank:
            found = self._marked_at_once([index for index in every if index not in blank])
        alone = {index: self._marked_alone(index) for index in every if found is None or index not in found}
        ends = [({} if found is None else found).get(index, alone.get(index)) for index in every]
        for index in every:
            later = [end for end in ends[index + 1 :] if end is not None]
            end = ends[index]
            if end is not None and later and end > min(later):
                if self.messages[index]["role"] != "system":
                    raise ChatError(_HIDDEN.format(index))
                ends[index] = None
        return ends

    def _marked_at_once(self, indices: Collection[int]) -> dict[int, int] | None:
        """Return where messages end, by a marker in each; None where that changes the text, or not all are there."""
        try:
            bare, places = _without_marks(self._written(dict.fromkeys(indices, _at_end)))
        except ChatError:
            return None
        if bare != self.text or len(places) != len(indices):
            return None
        # A tool's answer may name the function, and its marker, again.
        if any(len(found) > 1 and not _calls(self.messages[index]) for index, found in places.items()):
            return None
        return {index: found[0] for index, found in places.items()}

    def _marked_alone(self, index: int) -> int | None:
        """Return where a message ends, by a marker in it alone; None where the template prints nothing of it."""
        message = self.messages[index]
        calls, blank = _calls(message), _is_blank(message)
        repeated = False
        for place in (_at_end, _in_id, _in_argument) if calls else (_at_end, _behind):
            try:
                marked = self._written({index: place})
            except ChatError:
                continue
            bare, places = _without_marks(marked)
            found = places.get(index, [])
            if found and bare == self.text and (calls or len(found) == 1):
                return found[0]
            repeated |= len(found) == 1
            if blank and len(found) == 1:
                # With text the template writes more, such as a line end: the place is where all of that comes in.
                before, after = shared(marked, self.text), shared(marked[::-1], self.text[::-1])
                if before + after >= len(self.text):
                    return min(before, found[0])
        if blank:
            return None
        raise ChatError(_CHANGED if repeated else _HIDDEN.format(index))


_Place = Callable[[Message, str], Message]
_HIDDEN = "the chat template does not print message {} exactly once and in order; send roles that it knows, or use another template"
_CHANGED = (
    "the chat template renders a message differently when its end is marked, so that the message's tokens cannot be located; "
    "use another template"
)


def _calls(message: Message) -> list[Message]:
    calls: list[Message] = message.get("tool_calls", [])
    return calls


def _is_blank(message: Message) -> bool:
    """Tell whether a template may print nothing of a message."""
    return not _calls(message) and not message["content"].strip()


def _at_end(message: Message, mark: str) -> Message:
    """Mark the end of what a template prints of a message: of the last function's name, or of the text."""
    if _calls(message):
        return _in_call(message, lambda call: {**call, "function": _marked(call["function"], "name", mark)})
    # Before trailing white space, which templates may trim; after white space alone, which they may trim from the left.
    content = message["content"]
    kept = content.rstrip() or content
    return {**message, "content": kept + mark + content[len(kept) :]}


def _behind(message: Message, mark: str) -> Message:
    return _marked(message, "content", mark)


def _in_id(message: Message, mark: str) -> Message:
    return _in_call(message, lambda call: _marked(call, "id", mark))


def _in_argument(message: Message, mark: str) -> Message:
    def in_last_text(call: Message) -> Message:
        arguments = call["function"]["arguments"]
        texts = [key for key, value in arguments.items() if isinstance(value, str)]
        return {
            **call,
            "function": {**call["function"], "arguments": _marked(arguments, texts[-1], mark) if texts else arguments},
        }

    return _in_call(message, in_last_text)


def _in_call(message: Message, change: Callable[[Message], Message]) -> Message:
    *others, last = _calls(message)
    return {**message, "tool_calls": [*others, change(last)]}


def _marked(value: Message, key: str, mark: str) -> Message:
    return {**value, key: value[key] + mark}


def _without_marks(text: str) -> tuple[str, dict[int, list[int]]]:
    """Return a text without markers, and where in it each of them stood."""
    places: dict[int, list[int]] = {}
    removed = 0
    for mark in _MARK.finditer(text):
        places.setdefault(int(mark[1]), []).append(mark.start() - removed)
        removed += len(mark[0])
    return _MARK.sub("", text), places


class _Neutraliser:
    """Breaks up the text of control tokens inside messages with a zero-width space, and counts how often."""

    def __init__(self, control: list[str], marks: Sequence[ThoughtMarks]) -> None:
        self._control = control
        self._marks = marks
        self.count = 0

    def __call__(self, text: str) -> str:
        return self._broken_up(text, self._control)

    def turn(self, text: str) -> str:
        """Return what an assistant says, also without closing marks where no thought is open: templates drop what is before one."""
        closings = [one.close for one in self._marks]
        if not any(close in text for close in closings):
            return self(text)
        parts: list[str] = []
        at = 0
        for first, last in [*take_apart(text, self._marks).spans, (len(text), len(text))]:
            parts += [self._broken_up(text[at:first], closings), text[first:last]]
            at = last
        return self("".join(parts))

    def _broken_up(self, text: str, tokens: Iterable[str]) -> str:
        for token in tokens:
            if token in text:
                self.count += text.count(token)
                text = text.replace(token, token[0] + _ZERO_WIDTH_SPACE + token[1:])
        return text

    def tree(self, value: Any) -> Any:
        """Return a JSON value with all its strings treated."""
        return json.loads(self(json.dumps(value, ensure_ascii=False)))


def _to_dict(message: ChatMessage, counter: _Neutraliser) -> Message:
    """Turn a message into the dictionary that templates take."""
    text = _text_of(message)
    content = counter.turn(text) if isinstance(message, ChatMessageAssistant) else counter(text)
    if isinstance(message, ChatMessageTool):
        return {
            "role": "tool",
            "name": counter(message.function or ""),
            "tool_call_id": counter(message.tool_call_id or ""),
            "content": content,
        }
    result: Message = {"role": message.role, "content": content}
    if not isinstance(message, ChatMessageAssistant):
        return result
    if isinstance(message.content, list):
        thoughts = [part.reasoning for part in message.content if isinstance(part, ContentReasoning)]
        if thoughts:
            result["reasoning_content"] = counter("\n".join(thoughts))
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "type": "function",
                "id": counter(call.id),
                "function": {"name": counter(call.function), "arguments": counter.tree(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return result


def _text_of(message: ChatMessage) -> str:
    if isinstance(message, ChatMessageTool) and message.error is not None:
        return message.error.message
    if isinstance(message.content, list):
        odd = [c.type for c in message.content if not isinstance(c, ContentText | ContentReasoning)]
        if odd:
            raise ChatError(f"message content of type {', '.join(odd)} is not supported; send text only")
    return message.text
