"""One sample's log: where its effects were cleared, and what the engine did in its last steered generation."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalSample, read_eval_log, read_eval_log_sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool

from self_steering.analysis.tables.log_files import find_logs
from self_steering.analysis.tables.study_conditions import is_study, study_log
from self_steering.steering.framings import CLEAR_TOOL
from self_steering.steering.request import EXTRA_BODY_KEY, METADATA_KEY
from self_steering.steering.take_calls import written


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


def clear_messages(messages: Sequence[ChatMessage]) -> set[int]:
    """Return the indices of messages with a call of the clear tool that succeeded."""
    return {
        index
        for index, message in enumerate(messages)
        if isinstance(message, ChatMessageAssistant)
        for call in message.tool_calls or []
        if call.function == CLEAR_TOOL and call.parse_error is None and not _refused(messages[index + 1 :], call.id)
    }


def _refused(following: Sequence[ChatMessage], call: str) -> bool:
    # Ids are only unique within one message.
    answers = takewhile(lambda message: not isinstance(message, ChatMessageAssistant), following)
    return any(isinstance(m, ChatMessageTool) and m.tool_call_id == call and m.error is not None for m in answers)


def last_steered(sample: EvalSample) -> Generation | None:
    """Return what the engine reports of the last generation with windows; of those alike, one that shows its tokens."""
    best: tuple[int, bool] | None = None
    found = None
    for event in sample.events:
        if not isinstance(event, ModelEvent):
            continue
        plan = ((event.config.extra_body or {}).get(EXTRA_BODY_KEY) or {}).get("plan") or {}
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
