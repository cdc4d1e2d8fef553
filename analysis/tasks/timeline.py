"""What was active when in one rollout: its takes, their doses, who ended them, and the tokens that this steered."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalSample, read_eval_log, read_eval_log_sample

from self_steering.analysis.tables import Tables
from self_steering.analysis.tables.log_files import find_logs
from self_steering.analysis.tables.study import is_study, study_log
from self_steering.solvers.records import asked
from self_steering.steering.calls import Active, active_takes, steering_calls, take_calls, written
from self_steering.steering.operations import Operation
from self_steering.steering.request import METADATA_KEY, is_aside, logged_request
from self_steering.vectors.catalogue import described

CLEARED, SITTER, SCRIPT = "clear call", "cleared by the trip sitter", "ended by the task"


@dataclass(frozen=True)
class Effect:
    """One span of a rollout in which a vector was active.

    Attributes:
        name: What was asked for.
        vector: What was applied.
        category: Its category in the catalogue; empty for what that lacks.
        dose: The dose; NaN where it is not known.
        strength: What was added, in multiples of the vector, or the strength of another operation; 0 under placebo, NaN where the
            log does not say.
        start: Index of the first message that was steered.
        stop: Index of the first that was no longer; None if it lasted to the end.
        ended: What ended it; empty if nothing did.
        tokens: First steered token and first that was not (None if it lasted), in the last steered generation; None if not known.
        operation: What was done with the vector.
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
    operation: Operation = "add"


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
            "name": asked(effect.operation, effect.name),
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


class TimelineError(ValueError):
    """A timeline that cannot be made; the message says of which rollout, and why."""


@dataclass(frozen=True)
class Generation:
    """The last steered generation of a rollout, as the engine reports it.

    Attributes:
        windows: The windows that were planned, by message.
        spans: First token of each, and first that it no longer steered; None where it was open.
        tokens: How many tokens there were.
        starts: First token of each message; empty where the log does not say.
    """

    windows: tuple[Mapping[str, Any], ...]
    spans: tuple[tuple[int, int | None], ...]
    tokens: int
    starts: tuple[int, ...]


def read_sample(log: str, sample: str, epoch: int, paths: Sequence[str | Path]) -> tuple[EvalSample, str | None]:
    """Return a sample, and what its trip sitter says when it clears effects, where its log tells.

    Args:
        log: The log's name in the tables.
        sample: The sample's id, as text.
        epoch: Its epoch.
        paths: The folders and files that the tables were read from.

    Raises:
        TimelineError: The log or the sample is not there.
    """
    files = {file.name: file.path for file in find_logs(paths)}
    if log not in files:
        raise TimelineError(f"there is no log {log!r} in {', '.join(map(str, paths))}; name the folders that were read")
    path = files[log].as_posix()
    header = read_eval_log(path, header_only=True)
    ids = {str(one): one for one in header.eval.dataset.sample_ids or ()}
    try:
        found = read_eval_log_sample(path, id=ids.get(sample, sample), epoch=epoch, resolve_attachments=True)
    except (IndexError, KeyError) as error:
        raise TimelineError(
            f"the log {log!r} has no sample {sample!r} of epoch {epoch}; read the logs again"
        ) from error
    return found, study_log(header).sitter_message if is_study(header) else None


def last_steered(sample: EvalSample) -> Generation | None:
    """Return what the engine reports of the last generation with windows; of those alike, one that shows its tokens."""
    best: tuple[int, bool] | None = None
    found = None
    for event in sample.events:
        if not isinstance(event, ModelEvent) or is_aside(event.config):
            continue
        plan = logged_request(event.config).get("plan") or {}
        report = (event.output.metadata or {}).get(METADATA_KEY) or {}
        windows, receipts = plan.get("windows") or [], report.get("receipts") or []
        rank = (int(plan.get("messages", 0)), bool(report.get("tokens")))
        if windows and len(windows) == len(receipts) and (best is None or rank >= best):
            best, found = rank, _generation(windows, receipts, report)
    return found


def sitter_messages(
    sample: EvalSample, says: str | None, last: Generation | None, clears: AbstractSet[int]
) -> tuple[int, ...]:
    """Return the indices of messages before which the trip sitter cleared effects, of a sample in which it did.

    The engine's plan tells, or the sitter's own words, or else the turn that the study noted it in.
    """
    if last is not None:
        stops = {int(window["stop"]) for window in last.windows if window.get("stop") is not None}
        return tuple(sorted(stop for stop in stops if stop - 1 not in clears))
    messages = sample.messages
    said = [i for i, message in enumerate(messages) if says and message.role != "assistant" and says in message.text]
    if said:
        return tuple(said)
    turns = [index for index, message in enumerate(messages) if written(message)]
    noted = sample.store.get("DrugState:trip_sitter_clears") or []
    known = [entry.get("turn") if isinstance(entry, Mapping) else entry for entry in noted]
    return tuple(turns[turn] + 1 for turn in known if isinstance(turn, int) and 0 <= turn < len(turns))


def _generation(
    windows: Sequence[Mapping[str, Any]], receipts: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> Generation:
    shown = report.get("tokens") or []
    starts: dict[int, int] = {}
    for position, token in enumerate(shown):
        starts.setdefault(int(token[1]), position)
    return Generation(
        windows=tuple(windows),
        spans=tuple((int(receipt["start"]), receipt["stop"]) for receipt in receipts),
        tokens=len(shown) or int(report["computed_tokens"]) + int(report["reused_tokens"]),
        starts=tuple(starts[message] for message in sorted(starts)),
    )


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
    clears = {call.message for call in steering_calls(sample.messages) if not call.takes and call.effective}
    last = last_steered(sample)
    sitter = sitter_messages(sample, sitter_says, last, clears) if about["sitter_clears"] > 0 else ()
    pairs = list(zip(calls, takes, strict=True))
    effective = [take for call, take in pairs if call.ok is not False]
    active = zip(active_takes(sample.messages, sitter), effective, strict=True)
    effects = [_effect(one, take) for one, take in active if one.call.effective and one.start != one.stop]
    effects = effects if calls else _planned(last, (sample.metadata or {}).get("own"))
    return Timeline(
        about=about,
        roles=tuple(
            message.role if message.role != "assistant" or written(message) else "script" for message in sample.messages
        ),
        effects=tuple(_with_tokens(effects, last)),
        failed=tuple(
            FailedTake(call.name, float(take["dose"]), call.message) for call, take in pairs if not call.effective
        ),
        clears=tuple(sorted(clears)),
        sitter=tuple(sitter),
        tokens=last.tokens if last else None,
        starts=last.starts if last else (),
    )


def _effect(active: Active, take: Mapping[Any, Any]) -> Effect:
    call = active.call
    return Effect(
        name=call.name,
        vector=str(take["taken"]) or call.name,
        category=str(take["taken_category"]),
        dose=float(take["dose"]),
        strength=float(take["strength"]),
        start=active.start,
        stop=active.stop,
        ended="" if active.stop is None else SITTER if active.outside else CLEARED,
        operation=call.operation,
    )


def _planned(last: Generation | None, own: Mapping[str, Any] | None) -> list[Effect]:
    """Return the effects of a task that steers without take calls."""
    effects = []
    for window in last.windows if last else ():
        vector = str(window["direction"]["vector"])
        known = described(vector, own) if window["direction"].get("random_seed") is None else None
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
                operation=window.get("operation", "add"),
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
