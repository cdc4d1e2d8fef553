"""From an engine's generation to Inspect's model output."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    Content,
    ContentReasoning,
    ContentText,
    Logprob,
    Logprobs,
    ModelOutput,
    ModelUsage,
    StopReason,
    TopLogprob,
)
from inspect_ai.tool import ToolInfo
from transformers import PreTrainedTokenizerBase

from self_steering.steering.call_formats import CallFormat
from self_steering.steering.chat import RenderedChat
from self_steering.steering.engine.requests import Generation, TokenWindow
from self_steering.steering.engine.sampling import TokenLogprob
from self_steering.steering.request import METADATA_KEY
from self_steering.steering.thinking import ThoughtMarks, take_apart
from self_steering.steering.token_bytes import token_bytes
from self_steering.steering.tool_calls import parse_calls


def model_output(
    name: str,
    generation: Generation,
    tokenizer: PreTrainedTokenizerBase,
    tools: list[ToolInfo],
    origin: str,
    metadata: dict[str, Any],
    call_format: CallFormat | None = None,
    marks: Sequence[ThoughtMarks] = (),
    opened: ThoughtMarks | None = None,
) -> ModelOutput:
    """Return the output of one generation.

    Args:
        name: The model's name.
        generation: What the engine gave.
        tokenizer: For the text of single tokens.
        tools: The tools that were offered.
        origin: What tells this generation from every other; the ids of its calls follow from it.
        metadata: What lies under `self_steering` in the output's metadata; `looked_like_a_call` joins it.
        call_format: The model's own form of calls.
        marks: What stands around thoughts.
        opened: The marks of the thought that the prompt opens, in which the text begins.
    """
    written, control = _with_special_tokens(generation, tokenizer)
    parts = take_apart(written, marks, opened)
    cut_off = generation.stop_reason in ("max_tokens", "model_length")
    parsed = parse_calls(parts.said, tools, origin, call_format, control, cut_off=cut_off)
    content: str | list[Content] = parsed.content
    if parts.thoughts:
        thought = "\n".join(parts.thoughts)
        thought = _any_of(control).sub("", thought) if control else thought
        content = [ContentReasoning(reasoning=thought), ContentText(text=parsed.content)]
    stop: StopReason = generation.stop_reason  # type: ignore[assignment]  # a subset of Inspect's reasons
    message = ChatMessageAssistant(content=content, tool_calls=parsed.calls or None, model=name, source="generate")
    logprobs = [_logprob(entry, tokenizer) for entry in generation.logprobs]
    choice = ChatCompletionChoice(
        message=message,
        stop_reason="tool_calls" if parsed.calls and stop == "stop" else stop,
        logprobs=Logprobs(content=logprobs) if logprobs else None,
    )
    return ModelOutput(
        model=name,
        choices=[choice],
        usage=ModelUsage(
            input_tokens=generation.prompt_tokens - generation.reused_tokens,
            input_tokens_cache_read=generation.reused_tokens,
            output_tokens=generation.generated_tokens,
            total_tokens=generation.prompt_tokens + generation.generated_tokens,
        ),
        metadata={METADATA_KEY: {**metadata, "looked_like_a_call": parsed.looked_like_a_call}},
    )


def _with_special_tokens(generation: Generation, tokenizer: PreTrainedTokenizerBase) -> tuple[str, frozenset[str]]:
    """Return a generation's text with its special tokens, up to where a stop string cut it, and the texts of those tokens."""
    special = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    control = frozenset(special[i] for i in generation.tokens if i in special)
    if not control:
        return generation.text, control
    whole = str(tokenizer.decode(generation.tokens))
    plain = at = 0  # how many characters before `at` are in no special token
    for token in _any_of(control).finditer(whole):
        if (before := plain + token.start() - at) > len(generation.text):
            break
        plain, at = before, token.end()
    return whole[: at + len(generation.text) - plain], control


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of any of these texts, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def overflow_output(name: str, prompt_tokens: int, context: int) -> ModelOutput:
    """Return the output for a prompt that leaves no room in the context: no text, and the reason."""
    message = ChatMessageAssistant(content="", model=name, source="generate")
    return ModelOutput(
        model=name,
        choices=[ChatCompletionChoice(message=message, stop_reason="model_length")],
        usage=ModelUsage(input_tokens=prompt_tokens, total_tokens=prompt_tokens),
        error=f"the prompt has {prompt_tokens} tokens, the model's context {context}",
    )


def token_map(
    rendered: RenderedChat, windows: tuple[TokenWindow, ...], tokenizer: PreTrainedTokenizerBase
) -> list[list[Any]]:
    """Return the prompt token by token: [text, index of its message, indices of the windows that steer it]."""
    rows: list[list[Any]] = []
    message = 0
    for position, token in enumerate(rendered.ids):
        while message + 1 < len(rendered.starts) and position >= rendered.starts[message + 1]:
            message += 1
        active = [i for i, w in enumerate(windows) if w.covers(position)]
        rows.append([tokenizer.decode([token]), message, active])
    return rows


def _logprob(entry: TokenLogprob, tokenizer: PreTrainedTokenizerBase) -> Logprob:
    def shown(token: int) -> tuple[str, list[int]]:
        return str(tokenizer.decode([token])), list(token_bytes(tokenizer, token))

    top = []
    for token, logprob in entry.top:
        text, data = shown(token)
        top.append(TopLogprob(token=text, logprob=logprob, bytes=data))
    text, data = shown(entry.token)
    return Logprob(token=text, logprob=entry.logprob, bytes=data, top_logprobs=top or None)
