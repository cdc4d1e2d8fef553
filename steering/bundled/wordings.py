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


class GoOn(_Table):
    """What a user says between two turns."""

    short: tuple[str, ...]


class Prompts(_Table):
    """Prompts that the base model answers in prose."""

    prompts: tuple[str, ...]


class Tasks(Opening):
    """Texts of sessions with word problems."""

    offer: tuple[str, ...]
    submitted: tuple[str, ...]
    none_left: tuple[str, ...]
    answer: tuple[str, ...]
    reply: tuple[str, ...]
    reject: tuple[str, ...]
    ended: tuple[str, ...]


class Problems(_Table):
    """Texts of word problems, by operation."""

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    times: tuple[str, ...]
    who: tuple[str, ...]
    things: tuple[str, ...]


class Wordings(_Table):
    """All wordings, one table a kind of dialogue."""

    free_play: Opening
    opaque: Opening
    go_on: GoOn
    prose: Prompts
    plain: Prompts
    tasks: Tasks
    problems: Problems


@cache
def wordings() -> Wordings:
    """Return the wordings in `templates.toml`."""
    text = resources.files(__package__).joinpath("templates.toml").read_text(encoding="utf-8")
    return Wordings.model_validate(tomllib.loads(text))


def filled(text: str, framing: FramingName, label: str = "") -> str:
    """Return a wording in the words of a framing."""
    words = FRAMINGS[framing]
    return text.format(
        noun=words.noun,
        plural=words.plural,
        a_noun=f"{words.article} {words.noun}",
        label=label,
        list_tool=words.list_tool,
        take_tool=words.take_tool,
        clear_tool=CLEAR_TOOL,
        end_tool=END_TOOL,
    )
