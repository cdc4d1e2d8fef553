"""The trip sitter: after three turns in a row without a tool call, once something was taken, it asks whether the model is lost.

First time: all effects are ended from outside, with words that suggest nothing. Second time: the session ends. It is the same
in every arm and is told of none. A judgement that cannot be had is noted as unknown, never as fine. A call that could not be read
is none: a model whose every call is broken is one to look after.
"""

from typing import Literal

from inspect_ai.log import transcript
from inspect_ai.model import ChatMessageAssistant

from self_steering.solvers import self_steer_prompts
from self_steering.solvers.lost import Judgement, judge_by_model, judge_by_rules
from self_steering.solvers.self_steer_records import SitterCheck
from self_steering.solvers.session import SITTER, SteeringSession
from self_steering.steering.take_calls import written

Monitor = Literal["rules", "model", "none"]
MONITOR_ROLE = "sitter"
QUIET_TURNS = 3


class TripSitter:
    """Watches one session.

    Args:
        session: The session.
        monitor: Who judges: rules; model, the one in the role `sitter`; or none, no sitter.
    """

    def __init__(self, session: SteeringSession, monitor: Monitor) -> None:
        self._session = session
        self._monitor = monitor
        self._watched_from = 0

    async def watch(self) -> bool:
        """Look at the conversation after a turn; return whether the session ends."""
        state, record = self._session.state, self._session.record
        turns = [m for m in state.messages[self._watched_from :] if isinstance(m, ChatMessageAssistant) and written(m)]
        recent = turns[-QUIET_TURNS:]
        quiet = len(recent) == QUIET_TURNS and not any(map(_calls, recent))
        if self._monitor == "none" or not quiet or not self._session.has_taken:
            return False
        found = judge_by_rules(recent) if self._monitor == "rules" else await judge_by_model(recent, MONITOR_ROLE)
        check = self._act(found)
        record.sitter_checks = [*record.sitter_checks, check]
        transcript().info(check.model_dump(mode="json"), source="trip sitter")
        return check.action == "ended"

    def _act(self, found: Judgement) -> SitterCheck:
        record = self._session.record
        check = SitterCheck(turn=record.turns, lost=found.lost, reason=found.reason, by=self._monitor)
        if found.lost is None:
            record.sitter_errors += 1
        if not found.lost:
            return check
        if record.sitter_clears:
            return check.model_copy(update={"action": "ended"})
        record.sitter_clears += 1
        self._session.clear_from_outside(self_steer_prompts.SITTER_CLEARED, by=SITTER)
        # What was written under the effects says nothing of what comes after them.
        self._watched_from = len(self._session.state.messages)
        return check.model_copy(update={"action": "cleared"})


def _calls(turn: ChatMessageAssistant) -> bool:
    return any(call.parse_error is None for call in turn.tool_calls or [])
