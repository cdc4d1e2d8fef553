"""What a timeline is: effects, failed takes and clears of one rollout, and these as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

CLEARED, SITTER, SCRIPT = "clear call", "cleared by the trip sitter", "ended by the task"


@dataclass(frozen=True)
class Effect:
    """One stretch during which a vector was active.

    Attributes:
        name: What was asked for.
        vector: What was applied.
        category: Its category in the catalogue; empty for what that lacks.
        dose: The dose; NaN where it is not known.
        strength: What was added, in multiples of the vector; 0 under placebo, NaN where the log does not say.
        start: Index of the first message that was steered.
        stop: Index of the first that was no longer; None if it lasted to the end.
        ended: What ended it; empty if nothing did.
        tokens: First steered token and first that was not (None if it lasted), in the last steered generation; None if not known.
    """

    name: str
    vector: str
    category: str
    dose: float
    strength: float
    start: int
    stop: int | None
    ended: str = ""
    tokens: tuple[int, int | None] | None = None


@dataclass(frozen=True)
class FailedTake:
    """A take call without effect.

    Attributes:
        name: What was asked for.
        dose: The dose.
        message: Index of the message that held the call.
    """

    name: str
    dose: float
    message: int


@dataclass(frozen=True)
class Timeline:
    """One rollout.

    Attributes:
        about: Its row in the table `rollouts`.
        roles: Who wrote each message: system, user, assistant, tool, or script for what a task inserted in the model's name.
        effects: In the order of their calls.
        failed: Take calls without effect.
        clears: Indices of messages with a clear call, the model's or one that the task inserted.
        sitter: Indices of messages before which the trip sitter cleared them.
        tokens: How many tokens the last steered generation had; None where the log does not say.
        starts: First token of each message in it; empty where the log does not say.
    """

    about: Mapping[str, Any]
    roles: tuple[str, ...]
    effects: tuple[Effect, ...]
    failed: tuple[FailedTake, ...]
    clears: tuple[int, ...]
    sitter: tuple[int, ...]
    tokens: int | None = None
    starts: tuple[int, ...] = ()


def mark_table(shown: Timeline) -> pd.DataFrame:
    """Return a timeline as a table, a row a mark: effects, failed takes, clear calls and clears by the trip sitter."""
    rows: list[dict[str, Any]] = [
        {
            "mark": "effect",
            "name": effect.name,
            "vector": effect.vector,
            "category": effect.category,
            "dose": effect.dose,
            "strength": effect.strength,
            "from_message": effect.start,
            "to_message": effect.stop,
            "ended": effect.ended,
            "from_token": None if effect.tokens is None else effect.tokens[0],
            "to_token": None if effect.tokens is None else effect.tokens[1],
        }
        for effect in shown.effects
    ]
    rows += [
        {"mark": "failed take", "name": one.name, "dose": one.dose, "from_message": one.message} for one in shown.failed
    ]
    rows += [{"mark": CLEARED, "from_message": message} for message in shown.clears]
    rows += [{"mark": SITTER, "from_message": message} for message in shown.sitter]
    columns = ["mark", "name", "vector", "category", "dose", "strength"]
    columns += ["from_message", "to_message", "ended", "from_token", "to_token"]
    text = {"name": "", "vector": "", "category": "", "ended": ""}
    whole = {name: "Int64" for name in columns if name.endswith(("message", "token"))}
    found = pd.DataFrame(rows, columns=columns).fillna(text).astype(whole)
    return found.sort_values("from_message", kind="stable", ignore_index=True)
