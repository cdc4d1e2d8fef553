"""What was active when in one rollout: its takes, their doses, who ended them, and the tokens that this steered."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant

from self_steering.analysis.tables import Tables
from self_steering.analysis.tasks.timeline_log import (
    Generation,
    TimelineError,
    clear_messages,
    last_steered,
    read_sample,
    sitter_messages,
)
from self_steering.analysis.tasks.timeline_records import CLEARED, SCRIPT, SITTER, Effect, FailedTake, Timeline
from self_steering.steering.framings import CLEAR_TOOL, TAKE_TOOLS
from self_steering.steering.take_calls import TakeCall, take_calls, written
from self_steering.vectors.catalogue import catalogue


def most_takes(tables: Tables) -> str | None:
    """Return the rollout with the most take calls of the model's own, else with the most that a task inserted.

    Among equals the first by name. None where no rollout has any.
    """
    scripted = tables.takes["scripted"].astype("boolean").fillna(value=False)
    counted = tables.takes.assign(own=~scripted, all=True).groupby("rollout")[["own", "all"]].sum().reset_index()
    order = counted.sort_values(["own", "all", "rollout"], ascending=[False, False, True], kind="stable")
    return str(order["rollout"].iloc[0]) if len(order) else None


def read_timeline(tables: Tables, rollout: str, *paths: str | Path) -> Timeline:
    """Read one rollout's timeline from its log.

    Args:
        tables: The logs' tables.
        rollout: Its id in these.
        *paths: The folders and files that the tables were read from.

    Raises:
        TimelineError: There is no such rollout, or its log is not where it was, or has changed since.
    """
    found = tables.rollouts[tables.rollouts["rollout"] == rollout]
    if len(found) != 1:
        raise TimelineError(
            f"there is no rollout {rollout!r}; valid ids are in the column `rollout` of the table rollouts"
        )
    about: dict[str, Any] = found.iloc[0].to_dict()
    sample, sitter_says = read_sample(str(about["log"]), str(about["sample"]), int(about["epoch"]), paths)
    takes = tables.takes[tables.takes["rollout"] == rollout].sort_values("order").to_dict("records")
    return timeline(about, sample, takes, sitter_says)


def timeline(
    about: Mapping[str, Any], sample: EvalSample, takes: Sequence[Mapping[Any, Any]], sitter_says: str | None = None
) -> Timeline:
    """Return a rollout's timeline.

    Args:
        about: Its row in the table `rollouts`.
        sample: Its sample.
        takes: Its rows in the table `takes`, in order.
        sitter_says: What the trip sitter says when it clears effects, where the log tells.

    Raises:
        TimelineError: The sample has other take calls than the table.
    """
    calls = take_calls(sample.messages)
    if len(calls) != len(takes):
        raise TimelineError(
            f"{about['rollout']} has {len(calls)} take calls in its log and {len(takes)} in the table; read the logs again"
        )
    clears, last = clear_messages(sample.messages), last_steered(sample)
    sitter = sitter_messages(sample, sitter_says, last, clears) if about["sitter_clears"] > 0 else ()
    pairs = list(zip(calls, takes, strict=True))
    effects = _replayed(sample.messages, pairs, clears, sitter) if calls else _planned(last)
    return Timeline(
        about=about,
        roles=tuple(
            message.role if message.role != "assistant" or written(message) else "script" for message in sample.messages
        ),
        effects=tuple(_with_tokens(effects, last)),
        failed=tuple(FailedTake(call.name, float(take["dose"]), call.message) for call, take in pairs if not call.ok),
        clears=tuple(sorted(clears)),
        sitter=tuple(sitter),
        tokens=last.tokens if last else None,
        starts=last.starts if last else (),
    )


def _replayed(
    messages: Sequence[ChatMessage],
    pairs: Sequence[tuple[TakeCall, Mapping[Any, Any]]],
    clears: AbstractSet[int],
    sitter: Sequence[int],
) -> list[Effect]:
    """Return the effects of take calls, each until it was cleared; those cleared in their own message never began."""
    waiting, open_, over = iter(pairs), list[Effect](), list[Effect]()

    def close(stop: int, ended: str) -> None:
        over.extend(replace(effect, stop=stop, ended=ended) for effect in open_ if effect.start < stop)
        open_.clear()

    for index, message in enumerate(messages):
        if index in sitter:
            close(index, SITTER)
        for call in (message.tool_calls or []) if isinstance(message, ChatMessageAssistant) else []:
            if call.function in TAKE_TOOLS:
                asked, take = next(waiting)
                if asked.ok:
                    open_.append(_effect(asked, take))
            elif call.function == CLEAR_TOOL and index in clears:
                close(index + 1, CLEARED)
    return sorted([*over, *open_], key=lambda effect: effect.start)


def _effect(call: TakeCall, take: Mapping[Any, Any]) -> Effect:
    vector = str(take["taken"]) or call.name
    category = str(take["taken_category"])
    return Effect(call.name, vector, category, float(take["dose"]), float(take["strength"]), call.message + 1, None)


def _planned(last: Generation | None) -> list[Effect]:
    """Return the effects of a task that steers without take calls."""
    effects = []
    for window in last.windows if last else ():
        vector = str(window["direction"]["vector"])
        known = catalogue().get(vector) if window["direction"].get("random_seed") is None else None
        effects.append(
            Effect(
                name=str(window["label"]),
                vector=vector if known or window["direction"].get("random_seed") is None else "random direction",
                category=known.category if known else "",
                dose=float(window.get("dose", math.nan)),
                strength=float(window.get("strength", math.nan)),
                start=int(window["start"]),
                stop=window.get("stop"),
                ended="" if window.get("stop") is None else SCRIPT,
            )
        )
    return effects


def _with_tokens(effects: Sequence[Effect], last: Generation | None) -> list[Effect]:
    """Return effects with the tokens of the generation's windows: those that start at the same message under the same label."""
    waiting: dict[tuple[int, str], list[tuple[int, int | None]]] = {}
    for window, tokens in zip(last.windows, last.spans, strict=True) if last else ():
        waiting.setdefault((int(window["start"]), str(window["label"])), []).append(tokens)
    found = []
    for effect in effects:
        spans = waiting.get((effect.start, effect.name))
        found.append(replace(effect, tokens=spans.pop(0)) if spans else effect)
    return found
