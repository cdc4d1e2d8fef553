"""What the cells of a task offer: steering tools in a framing, arm and intent, or none."""

from collections.abc import Sequence
from itertools import product

NO_TOOLS = "none"


def offers(framings: Sequence[str], arms: Sequence[str], intents: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (framing, arm, intent) of every cell; the framing none is one cell, in which there is no arm and no intent."""
    return [
        offer
        for framing in framings
        for offer in ([(NO_TOOLS,) * 3] if framing == NO_TOOLS else product([framing], arms, intents))
    ]
