"""Stand-ins for a language model that writes stories: what they say follows from what they are asked and from the seed."""

import random
import re
from collections.abc import Callable

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    StopReason,
)

SETTINGS = {"ferry": "the deck of a ferry", "attic": "an attic with boxes"}
STATES = ("calm", "goblins", "neutral")
WORDS = re.findall(
    r"\w+", "the boat came in and we stood by the rail until it left again past lamps and nets in the rain"
)
Teller = Callable[[list[ChatMessage], list, object, GenerateConfig], ModelOutput]


def output(text: str, stop: StopReason = "stop") -> ModelOutput:
    """Return an answer; its usage is given, as counting it would need a tokenizer from the network."""
    choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason=stop)
    return ModelOutput(model="mock", choices=[choice], usage=ModelUsage())


def sound_story(seed: int, recurs: str = "goblin") -> str:
    """Return a story without a fault for every state whose obsession, if any, is `recurs`."""
    return " ".join([*random.Random(seed).choices(WORDS, k=70), *[recurs] * 3])


def tell(messages: list[ChatMessage], tools: list, choice: object, config: GenerateConfig) -> ModelOutput:
    """Write a sound story at most seeds, and one that is too short at a third of them."""
    return output(sound_story(config.seed) if config.seed % 3 else "Too short.")
