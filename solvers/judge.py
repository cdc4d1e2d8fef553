"""Grading one text against another by the model role `grader`, so that the graded text cannot instruct the grader.

The texts travel as one JSON object between two lines that carry a marker which occurs in neither. Within it everything but
plain letters, digits and common punctuation is escaped, so that no quote, line end, bracket or control token of any chat template
can be formed; decoding the JSON gives the text back unchanged. The instructions come after the data, and the grade must be
the whole reply.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Generic, TypeVar

from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
    model_roles,
)
from inspect_ai.util import LimitExceededError
from pydantic import BaseModel

from self_steering.solvers.prompts import judge as prompts
from self_steering.steering.seeds import derived_seed

T = TypeVar("T")

ROLE = "grader"
TRIES = 3
HOW_TO_NAME_ONE = "name one with --model-role grader=PROVIDER/MODEL"

_PLAIN = frozenset(ascii_letters + digits + " .,;:!?'()-/")
_GRADE = re.compile(r"(?P<fence>```(?:json)?\s*)?\{\s*\"grade\"\s*:\s*(?P<grade>10|[0-9])\s*\}(?(fence)\s*```)")


class Grade(BaseModel):
    """What the grader said about one pair of texts.

    Attributes:
        value: The grade, 1 to 10; None where there is none.
        reason: Where there is none, why, in one word: no_grader, grader_failed or grader_unparseable.
        explanation: The same in a sentence.
        replies: Every reply, in order.
    """

    value: int | None = None
    reason: str | None = None
    explanation: str = ""
    replies: list[str] = []


async def grade(description: str, reference: str, seed: str) -> Grade:
    """Ask the grader how well `description` matches `reference`; what cannot be graded says why.

    Args:
        description: A model's own text; it is data and cannot instruct the grader.
        reference: What it is compared with.
        seed: Seeds the marker and the grader's sampling.
    """
    return await ask_grader(grading_prompt(description, reference, seed), seed)


async def ask_grader(messages: list[ChatMessage], seed: str, lowest: int = 1) -> Grade:
    """Ask the grader for one grade, from `lowest` to 10; where there is none, say why.

    Args:
        messages: What it is asked.
        seed: Seeds the grader's sampling.
        lowest: The lowest grade of the scale.
    """
    if ROLE not in model_roles():
        return Grade(reason="no_grader", explanation=f"there is no model with the role {ROLE!r}; {HOW_TO_NAME_ONE}")
    grader = get_model(role=ROLE, required=True)
    found = await ask_until_read(grader, messages, seed, lambda reply: parse_grade(reply, lowest))
    if found.error:
        explanation = f"the grader {grader} could not be reached ({found.error}); {HOW_TO_NAME_ONE}"
        return Grade(reason="grader_failed", explanation=explanation, replies=found.replies)
    if found.value is None:
        explanation = (
            f"the grader {grader} gave no grade in {TRIES} tries; its last reply began {found.replies[-1][:200]!r}"
        )
        return Grade(reason="grader_unparseable", explanation=explanation, replies=found.replies)
    return Grade(value=found.value, replies=found.replies)


@dataclass(frozen=True)
class Replies(Generic[T]):
    """What a judging model replied.

    Attributes:
        value: What was read from the last reply; None where none could be read.
        replies: Every reply, in order.
        error: Why the model could not be reached; empty where it could.
    """

    value: T | None
    replies: list[str]
    error: str = ""


async def ask_until_read(
    judge: Model, messages: list[ChatMessage], seed: str, read: Callable[[str], T | None]
) -> Replies[T]:
    """Ask a model for a judgement until a reply can be read, at most `TRIES` times: at temperature 0 first, then at 1.

    Args:
        judge: The grader or monitor. What its own configuration says comes first, save for the seed.
        messages: What is asked, with all texts that are judged fenced as data.
        seed: Seeds the model's sampling.
        read: Returns what a reply says; None where it cannot be read.

    Raises:
        LimitExceededError: A limit of the sample, which is never a failed judgement.
    """
    replies: list[str] = []
    for attempt in range(TRIES):
        base = GenerateConfig(temperature=0.0 if attempt == 0 else 1.0).merge(judge.config)
        config = base.model_copy(update={"seed": derived_seed(f"{seed}/{attempt}")})
        try:
            output = await judge.generate(messages, config=config)
        except LimitExceededError:
            raise
        except Exception as error:  # noqa: BLE001  providers have errors of their own; none of them may become a judgement
            return Replies(None, replies, f"{type(error).__name__}: {error}")
        replies.append(output.completion)
        if (value := read(output.completion)) is not None:
            return Replies(value, replies)
    return Replies(None, replies)


def grading_prompt(description: str, reference: str, seed: str) -> list[ChatMessage]:
    """Return the messages that ask for one grade."""
    data = f'{{"reference": {as_data(reference)}, "description": {as_data(description)}}}'
    return fenced_prompt(prompts.SYSTEM, data, prompts.INSTRUCTIONS, seed)


def fenced_prompt(system: str, data: str, instructions: str, seed: str) -> list[ChatMessage]:
    """Return a system message, and one with `data` between two lines with a marker, and the instructions after it.

    Args:
        system: The system message.
        data: JSON whose texts have gone through `as_data`.
        instructions: What to do with it; {marker} is filled in.
        seed: Seeds the marker.
    """
    marker = marker_for(data, seed)
    text = f"{prompts.DATA.format(marker=marker, data=data)}\n\n{instructions.format(marker=marker)}"
    return [ChatMessageSystem(content=system), ChatMessageUser(content=text)]


def marker_for(data: str, seed: str) -> str:
    """Return a random marker that does not occur in `data`; the same one for the same data and seed."""
    rng = random.Random(f"marker/{seed}")
    while True:
        marker = f"{rng.getrandbits(64):016x}"
        if marker not in data.lower():
            return marker


def as_data(text: str) -> str:
    """Return `text` as a JSON string in which all but plain letters, digits and common punctuation is escaped."""
    return f'"{"".join(c if c in _PLAIN else _escaped(c) for c in text)}"'


def _escaped(character: str) -> str:
    short = json.dumps(character)[1:-1]
    # JSON leaves brackets and the like alone, which chat templates use for their control tokens.
    return short if short.startswith("\\") else f"\\u{ord(character):04x}"


def parse_grade(reply: str, lowest: int = 1) -> int | None:
    """Return the grade, from `lowest` to 10, if it is the whole reply, in a code block or not; anything else is no grade."""
    match = _GRADE.fullmatch(reply.strip())
    return int(match["grade"]) if match and int(match["grade"]) >= lowest else None
