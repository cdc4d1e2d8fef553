"""Scores of the gauge: is it read, is it followed, and does it serve? What the number shown does, and where the state is, apart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from inspect_ai.model import ChatMessage
from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.metrics import (
    about_cell,
    headline,
    no_session,
    scored,
    session_record,
    value_of,
)
from self_steering.solvers.records import NO_GAUGE, GaugeReading, GaugeState
from self_steering.steering.calls import steering_calls, written

_ORDER = ("true", "yoked", "inverted", "constant", "reminder", NO_GAUGE)


@dataclass(frozen=True)
class Followed:
    """What came of one reading, until the next one of the same name was answered.

    Attributes:
        asks: 1 where the number shown asks for more of the state, -1 for less, 0 where it is near enough, or there is no number.
        needs: The same of what was true.
        acted: Whether anything was taken or cleared.
        move: 1 where that left more of the state active, in nominal doses, -1 less, 0 as much.
    """

    asks: int
    needs: int
    acted: bool
    move: int


def gauge_scorers(gauges: Iterable[str]) -> list[Scorer]:
    """Return the scorer of the gauge where some arm has one."""
    return [gauge_scorer()] if set(gauges) - {NO_GAUGE} else []


def gauge_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the distance from the target by gauge, in the real arm; where there is no target, the share of rollouts that read."""
    for key in ("error", "read"):
        by_gauge: dict[str, list[float]] = {}
        for score in scored(scores, key):
            cell = (score.score.metadata or {})["cell"]
            if cell["arm"] == "real":
                by_gauge.setdefault(cell.get("gauge", NO_GAUGE), []).append(value_of(score, key))
        if by_gauge:
            found = sorted(by_gauge.items(), key=lambda item: _ORDER.index(item[0]))
            return {f"{key}_{gauge}": fmean(of) for gauge, of in found}
    return {}


@scorer(metrics=[headline(gauge_headline)])
def gauge_scorer() -> Scorer:
    """Count readings, what followed each, and how far the state was from its target.

    - `reads`: answers of the tool that reads; `read`: 1 where there is one. `acted`: of the readings, the share after which
      something was taken or cleared before the next one of that name was answered.

    Where a state is to be brought to a target, of the readings of it behind which there is another turn:

    - `asked_up`, `asked_down`: how many show a number below and above the target, by more than the tolerance; `raised_when_up`,
      `raised_when_down`: after how many of them more of the state was active, in nominal doses. *Sensitivity* is the difference of
      the two shares, over many rollouts: 1 of a model that raises when it reads too little and never else, 0 of one that pays no
      heed to the number, whatever it does. `sensitivity` is that of the rollout by itself, NaN where it was not asked for both.
    - `followed`: of those that ask for something and after which it acted, the share after which it moved as asked; chance depends
      on how often it does what (`self-steering report`). `right_move`: the share after which it moved as the true level asked.
      Of a reminder, which shows no number, only the latter.
    - `error`: mean distance of the true level from the target, in doses, over all turns but the first; `level`: the mean of the
      level itself; `on_target`: the share of these turns within the tolerance. *Targeting* is these, whatever was shown.

    What is undefined is NaN. Actions are the model's own calls that succeeded; levels are measured by the engine, the same way in
    every arm, and are in the random arm those along the random direction.
    """

    async def score(state: TaskState, target: Target) -> Score:
        record = session_record(state)
        if record is None:
            return no_session()
        if record.ended == "declined":
            return Score.unscored(
                reason="declined", explanation=f"asked whether it wants the tools: {record.opt_in_answer}"
            )
        found, about = state.store_as(GaugeState), state.metadata or {}
        goal = about.get("goal")
        turns = sum(map(written, state.messages)) - len(record.debrief)
        aim = (about["target"], about["tolerance"]) if goal else (math.nan, math.nan)
        all_of = followed(found.readings, state.messages, *aim)
        of_goal = [
            one
            for one, reading in zip(all_of, found.readings, strict=True)
            if reading.level.name == goal and reading.level.turn < turns - 1
        ]
        value = {
            "reads": float(len(all_of)),
            "read": float(bool(all_of)),
            "acted": _share(one.acted for one in all_of),
            **(_responses(of_goal) if goal else {}),
            **(_distances([level.value for level in found.levels[1:]], *aim) if goal else {}),
        }
        weights = {"reads": len(all_of), "asking": sum(1 for one in of_goal if one.asks and one.acted)}
        return Score(value=value, explanation=_explain(found, goal), metadata=about_cell(state, record, weights))

    return score


def followed(
    readings: Sequence[GaugeReading], messages: Sequence[ChatMessage], target: float, tolerance: float
) -> list[Followed]:
    """Return what came of each reading.

    Args:
        readings: In order.
        messages: The whole conversation.
        target: Where the state is to be; NaN where nowhere, so that no number asks for anything.
        tolerance: How far from it a number asks for nothing.
    """
    calls = [call for call in steering_calls(messages) if call.effective]
    result = []
    for place, reading in enumerate(readings):
        name, turn = reading.level.name, reading.level.turn
        # The message that reads again was written after this answer, and before the next.
        later = [one.level.turn for one in readings[place + 1 :] if one.level.name == name and one.level.turn > turn]
        until = min(later, default=math.inf)
        held, before, acted = 0.0, None, False
        for call in calls:
            if call.turn > until:
                break
            if call.turn > turn:
                before = held if before is None else before
                acted = True
            if not call.takes:
                held = 0.0
            elif call.name == name and call.operation == "add":
                held += call.dose
        change = 0.0 if before is None else held - before
        result.append(
            Followed(
                asks=_asks(reading.shown, target, tolerance),
                needs=_asks(reading.level.value, target, tolerance),
                acted=acted,
                move=_sign(change),
            )
        )
    return result


def _asks(number: float | None, target: float, tolerance: float) -> int:
    return 0 if number is None or not abs(target - number) > tolerance else _sign(target - number)


def _sign(number: float) -> int:
    # Doses that cancel leave a rounding error.
    return 0 if abs(number) < 1e-9 else int(math.copysign(1, number))


def _responses(found: Sequence[Followed]) -> dict[str, float]:
    up, down = ([one.move > 0 for one in found if one.asks == way] for way in (1, -1))
    return {
        "asked_up": float(len(up)),
        "raised_when_up": float(sum(up)),
        "asked_down": float(len(down)),
        "raised_when_down": float(sum(down)),
        "sensitivity": _share(up) - _share(down),
        "followed": _share(one.move == one.asks for one in found if one.asks and one.acted),
        "right_move": _share(one.move == one.needs for one in found if one.needs and one.acted),
    }


def _distances(levels: Sequence[float], target: float, tolerance: float) -> dict[str, float]:
    away = [abs(level - target) for level in levels]
    return {
        "error": fmean(away) if away else math.nan,
        "level": fmean(levels) if levels else math.nan,
        "on_target": _share(distance <= tolerance for distance in away),
    }


def _share(hits: Iterable[bool]) -> float:
    known = list(hits)
    return fmean(known) if known else math.nan


def _explain(found: GaugeState, goal: str | None) -> str:
    lines = ["| turn | read | last | shown | true |", "| --- | --- | --- | --- | --- |"]
    for one in found.readings:
        shown = "–" if one.shown is None else f"{one.shown:g}"
        lines.append(f"| {one.level.turn} | {one.level.name} | {one.level.last} | {shown} | {one.level.value:.2f} |")
    if not found.readings:
        lines = ["Nothing was read."]
    if goal:
        lines += [
            "",
            f"{goal} after each turn: {', '.join(f'{level.value:.2f}' for level in found.levels) or 'not measured'}.",
        ]
    return "\n".join(lines)
