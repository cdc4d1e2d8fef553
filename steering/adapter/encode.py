"""Training dialogues as tokens, each with what is learnt at it; rendered by the renderer that runs the model."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser
from transformers import PreTrainedTokenizerBase

from self_steering.steering.adapter.conversation import Dialogue
from self_steering.steering.chat import ChatError, ChatRenderer

NOTHING, TOKEN, BASE = 0, 1, 2


@dataclass(frozen=True)
class Encoded:
    """A dialogue as tokens.

    Attributes:
        ids: Token ids [tokens].
        learnt: For each token [tokens]: NOTHING, TOKEN (the token itself), or BASE (the base model's distribution there).
    """

    ids: torch.Tensor
    learnt: torch.Tensor


def encode(dialogue: Dialogue, renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Return a dialogue as tokens, up to the last token of its last assistant message.

    Of an assistant message only what the model would generate is learnt, the end of the turn included: its calls, the first
    token of its prose and the end of the turn as they stand, and the prose in between as the base model has it.

    Raises:
        ChatError: The template does not render the conversation's turns as it renders the prompts before them.
    """
    # With a message after it, as the renderer leaves a last assistant message open, to be continued.
    rendered = renderer.render([*dialogue.messages, ChatMessageUser(content="…")], dialogue.tools)
    learnt = torch.full((len(rendered.ids),), NOTHING, dtype=torch.int8)
    last = 0
    for index, what in dialogue.learnt.items():
        prompt = renderer.render(dialogue.messages[:index], dialogue.tools).ids
        if rendered.ids[: len(prompt)] != prompt:
            raise ChatError(f"the template renders message {index} otherwise once it is followed by others")
        first, last = len(prompt), _end(rendered.ids, len(prompt), tokenizer)
        if what == "base":
            learnt[first:last] = BASE
        elif what == "form":
            prose = _prose_tokens(dialogue, index, rendered.ids[first:last], tokenizer)
            learnt[first:last] = TOKEN
            learnt[first + 1 : first + prose] = BASE
    return Encoded(torch.tensor(rendered.ids[:last]), learnt[:last])


def _end(ids: list[int], first: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the position after the end-of-turn token of the turn that starts at `first`."""
    return ids.index(int(tokenizer.eos_token_id), first) + 1


def _prose_tokens(dialogue: Dialogue, index: int, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens of an assistant message are prose, the rest being calls and the end of the turn."""
    message = dialogue.messages[index]
    assert isinstance(message, ChatMessageAssistant)
    if not message.text:
        return 0
    if not message.tool_calls:
        return len(ids) - 1
    return next(n for n, text in _growing(ids, tokenizer) if len(text) > len(message.text)) - 1


def _growing(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, str]]:
    for n in range(1, len(ids) + 1):
        yield n, str(tokenizer.decode(ids[:n]))
