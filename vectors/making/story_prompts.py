"""What a model is asked for one story, and how an answer that is none begins. Words are in `story_prompts.toml`."""

import hashlib
import json
import random
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser
from pydantic import BaseModel, ConfigDict

from self_steering.steering.seeds import derived_seed
from self_steering.vectors.catalogue import CatalogueEntry, catalogue


class Cell(NamedTuple):
    """The place of one story in a corpus.

    Attributes:
        emotion: The state, or `neutral`.
        topic: The setting's id.
        number: Number of the story in its state and setting, from 1.
    """

    emotion: str
    topic: str
    number: int

    def __str__(self) -> str:
        """Read as `calm/ferry 1`."""
        return f"{self.emotion}/{self.topic} {self.number}"


class Template(BaseModel):
    """A system and a user message with fields in braces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    user: str


class Templates(BaseModel):
    """One template for each kind of narrator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Template
    obsession: Template
    neutral: Template


class Variety(BaseModel):
    """What makes stories of one setting differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voices: tuple[str, ...]
    openings: tuple[str, ...]


class Answers(BaseModel):
    """How answers begin that are no stories, in lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refusals: tuple[str, ...]
    prefaces: tuple[str, ...]


class StoryPrompts(BaseModel):
    """The content of `story_prompts.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: Templates
    variety: Variety
    answers: Answers


@cache
def story_prompts() -> StoryPrompts:
    """Return the prompts that ship with the package."""
    text = resources.files(__package__).joinpath("story_prompts.toml").read_text(encoding="utf-8")
    return StoryPrompts.model_validate(tomllib.loads(text))


def story_messages(cell: Cell, settings: Mapping[str, str], seed: int) -> list[ChatMessage]:
    """Return what a model is asked for one story.

    Args:
        cell: The story's place.
        settings: The line that describes each setting, by id.
        seed: Seed of the corpus: it draws voice and opening for a setting and number, the same for every state.
    """
    prompts = story_prompts()
    entry = catalogue().get(cell.emotion)
    draw = random.Random(derived_seed(seed, cell.topic, cell.number))
    fields = {
        "setting": settings[cell.topic],
        "voice": draw.choice(prompts.variety.voices),
        "opening": draw.choice(prompts.variety.openings),
    }
    if entry is not None:
        fields |= {"effect": entry.effect, "never": ", ".join(entry.never), "recurs": entry.recurs or ""}
    template = _template(prompts.templates, entry)
    return [
        ChatMessageSystem(content=template.system.strip().format(**fields)),
        ChatMessageUser(content=template.user.strip().format(**fields)),
    ]


def _template(templates: Templates, entry: CatalogueEntry | None) -> Template:
    if entry is None:
        return templates.neutral
    return templates.obsession if entry.recurs else templates.state


def prompts_hash(settings: Mapping[str, str]) -> str:
    """Return the SHA-256 over all that goes into prompts: templates, the catalogue's lines, and the settings' lines."""
    content = {
        "prompts": story_prompts().model_dump(mode="json"),
        "catalogue": {name: (entry.effect, entry.never, entry.recurs) for name, entry in catalogue().items()},
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
