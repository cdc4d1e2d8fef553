"""The exposure ledger: how much of what a session steered, for how many tokens, from the engine's receipts."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from inspect_ai.event import Event, ModelEvent
from inspect_ai.log import transcript
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.cells import about_cell, by_cell, no_session, session_record
from self_steering.solvers.self_steer_records import SelfSteerState
from self_steering.steering.request import EXTRA_BODY_KEY, METADATA_KEY


@scorer(
    metrics={
        "exposure": [by_cell()],
        "steered_positions": [by_cell()],
        "effects": [by_cell()],
        "conversation_share": [by_cell(weight="conversation_tokens")],
        "generated_share": [by_cell(weight="generated_tokens")],
    }
)
def exposure_scorer() -> Scorer:
    """Say how much was steered.

    `effects`: effects that were active over at least one message. `steered_positions`: token positions, those under several effects
    as often. `exposure`: positions times the size of the strength, in multiples of the vector, summed; 0 under placebo.
    `conversation_share`: of the last generation's tokens, the share under at least one effect. `generated_share`: of
    the tokens that the model wrote, the share written with an effect active. Both are NaN where the log has no receipts; they
    count placebo's effects too, and their means are pooled over tokens.

    The ledger itself, one entry a name and what was applied for it, is in the score's metadata.
    """

    async def score(state: TaskState, target: Target) -> Score:
        record = session_record(state)
        if record is None:
            return no_session()
        entries = ledger(record)
        written, under = _generated(transcript().events)
        tokens, steered = _conversation(transcript().events)
        return Score(
            value={
                "exposure": float(sum(entry["exposure"] for entry in entries)),
                "steered_positions": float(sum(entry["positions"] for entry in entries)),
                "effects": float(len(record.exposures)),
                "conversation_share": steered / tokens if tokens else math.nan,
                "generated_share": under / written if written else math.nan,
            },
            explanation=_explain(entries),
            metadata={
                "ledger": entries,
                **about_cell(state, record, {"conversation_tokens": tokens, "generated_tokens": written}),
            },
        )

    return score


def ledger(record: SelfSteerState) -> list[dict[str, Any]]:
    """Return what each name steered: effects, positions, and positions times the size of its doses and strengths."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for one in record.exposures:
        fresh = {"name": one.name, "applied": one.applied, "effects": 0, "positions": 0, "dosage": 0.0, "exposure": 0.0}
        entry = entries.setdefault((one.name, one.applied), fresh)
        entry["effects"] += 1
        entry["positions"] += one.positions
        entry["dosage"] += one.positions * abs(one.dose)
        entry["exposure"] += one.positions * abs(one.strength)
    return list(entries.values())


def _generated(events: Iterable[Event]) -> tuple[int, int]:
    """Return how many tokens the model wrote, and how many of them with an effect active."""
    written = under = 0
    for event in events:
        if isinstance(event, ModelEvent) and _report(event) is not None and event.output.usage:
            tokens = event.output.usage.output_tokens
            plan = ((event.config.extra_body or {}).get(EXTRA_BODY_KEY) or {}).get("plan") or {}
            written += tokens
            under += tokens * any(window.get("stop") is None for window in plan.get("windows") or [])
    return written, under


def _conversation(events: Iterable[Event]) -> tuple[int, int]:
    """Return how many tokens the last generation had, and how many of them were under at least one effect."""
    reports = [report for event in events if isinstance(event, ModelEvent) and (report := _report(event)) is not None]
    if not reports:
        return 0, 0
    last = reports[-1]
    steered = {
        position
        for receipt in last["receipts"]
        for position in range(receipt["start"], receipt["start"] + receipt["steered"])
    }
    return last["computed_tokens"] + last["reused_tokens"], len(steered)


def _report(event: ModelEvent) -> Mapping[str, Any] | None:
    return (event.output.metadata or {}).get(METADATA_KEY)


def _explain(entries: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"| {entry['name']} | {entry['applied']} | {entry['effects']} | {entry['positions']} | {entry['dosage']:g} "
        f"| {entry['exposure']:g} |"
        for entry in entries
    ]
    if not rows:
        return "Nothing was steered."
    head = ["| name | applied | effects | positions | positions × dose | positions × strength |", "| --- " * 6 + "|"]
    return "\n".join([*head, *rows])
