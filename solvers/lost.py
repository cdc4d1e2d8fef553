"""Whether a model is lost: it loops, writes gibberish, or its tool calls are broken. Rules that need no other model."""

from collections.abc import Sequence
from dataclasses import dataclass

from inspect_ai.model import ChatMessage


@dataclass(frozen=True)
class Judgement:
    """What a monitor says of the last turns.

    Attributes:
        lost: Whether the model is lost; None where no judgement could be had.
        reason: Why, or what failed.
    """

    lost: bool | None
    reason: str


def judge_by_rules(turns: Sequence[ChatMessage]) -> Judgement:
    """Judge the last turns, oldest first, by rules."""
    raise NotImplementedError


async def judge_by_model(turns: Sequence[ChatMessage], role: str) -> Judgement:
    """Ask the model in a role whether the last turns are those of one that is lost."""
    raise NotImplementedError
