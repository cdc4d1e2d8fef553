"""The wordings of the training dialogues, as data."""

import tomllib
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict

from self_steering.steering.calls import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Opening(_Table):
    """System and first user messages of one kind of session."""

    system: tuple[str, ...]
    opening: tuple[str, ...]


class ToolWords(_Table):
    """Sentences about the steering tools: what they are, that they are free to be used, and when a session ends."""

    are: tuple[str, ...]
    leave: tuple[str, ...]
    close: tuple[str, ...]


class GoOn(_Table):
    """What a user says between two turns."""

    short: tuple[str, ...]


class Prompts(_Table):
    """Prompts that the base model answers in prose."""

    prompts: tuple[str, ...]


class Tasks(Opening):
    """Texts of sessions with word problems."""

    offer: tuple[str, ...]
    must: tuple[str, ...]
    submitted: tuple[str, ...]
    none_left: tuple[str, ...]
    answer: tuple[str, ...]
    reply: tuple[str, ...]
    ended: tuple[str, ...]


class Problems(_Table):
    """Texts of word problems, by operation."""

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    times: tuple[str, ...]
    who: tuple[str, ...]
    things: tuple[str, ...]


class Rejections(_Table):
    """What a user says of a wrong answer, by tone, and how such a session begins."""

    system: tuple[str, ...]
    neutral: tuple[str, ...]
    aggressive: tuple[str, ...]
    sarcastic: tuple[str, ...]
    disappointed: tuple[str, ...]


class Scripts(_Table):
    """Texts of the scripts in which something is injected, and the questions about it."""

    system: tuple[str, ...]
    announce: tuple[str, ...]
    answer: tuple[str, ...]
    read: tuple[str, ...]
    placeholder: tuple[str, ...]
    clear: tuple[str, ...]
    cleared: tuple[str, ...]
    yes_or_no: tuple[str, ...]
    detection: tuple[str, ...]
    always_no: tuple[str, ...]
    always_yes: tuple[str, ...]
    unknowable: tuple[str, ...]
    strength: tuple[str, ...]
    name: tuple[str, ...]
    choice: tuple[str, ...]


class Wordings(_Table):
    """All wordings, one table a kind of dialogue."""

    free_play: Opening
    tools: ToolWords
    opaque: Opening
    go_on: GoOn
    prose: Prompts
    plain: Prompts
    tasks: Tasks
    problems: Problems
    rejections: Rejections
    scripts: Scripts


@cache
def wordings() -> Wordings:
    """Return the wordings in `templates.toml`."""
    text = resources.files(__package__).joinpath("templates.toml").read_text(encoding="utf-8")
    return Wordings.model_validate(tomllib.loads(text))


def filled(text: str, framing: FramingName, label: str = "", left: int = 0) -> str:
    """Return a wording in the words of a framing, with a label and a number of turns that are left."""
    words = FRAMINGS[framing]
    return text.format(
        noun=words.noun,
        plural=words.plural,
        a_noun=f"{words.article} {words.noun}",
        label=label,
        left=left,
        list_tool=words.list_tool,
        take_tool=words.take_tool,
        clear_tool=CLEAR_TOOL,
        end_tool=END_TOOL,
    )
