"""The trip sitter: it watches a session for a model that is derailed, clears its effects once, and then ends the session.

Judged are the last turns without a tool call, by rules or by a monitor model. The thresholds of the rules were set on sound text
(the 1,230 shipped stories, 800 turns of the published study's transcripts, 300 pieces of Python, 870 of technical
documentation) and on broken text (SmolLM2-135M-Instruct under eight vectors at doses 3 to 6). They leave room beyond what
sound text showed, at the price of some broken text: invented words in short lines read like another language, and rules do
not find them. A page of nothing but links, or a table of bare codes, can look broken.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import anyio
from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    get_model,
    model_roles,
)

from self_steering.solvers.judge import TRIES, as_data, ask_until_read, fenced_prompt
from self_steering.solvers.prompts import self_steer as self_steer_prompts
from self_steering.solvers.prompts import sitter as prompts
from self_steering.solvers.prompts.sitter import CANNOT_FUNCTION
from self_steering.solvers.records import SitterCheck
from self_steering.solvers.session import SITTER, SteeringSession
from self_steering.steering.calls import written
from self_steering.vectors.making.coherence import (
    MAX_REPEATED_TRIGRAMS,
    MIN_DISTINCT,
    RUN,
    repeated_trigrams,
    runs_of,
    words_of,
)

Monitor = Literal["rules", "model", "none"]
MONITOR_ROLE = "sitter"
QUIET_TURNS = 3

# Most of the turns, so that one stumble is none; and the last one, so that a model that found its way back is left alone.
BROKEN_TURNS = 2
# Characters of words. The same short answer may be all that there is to say; a paragraph, word for word, is a loop.
SAME_TEXT_LENGTH = 80

# For one judgement with all its tries. Long for a slow monitor on a laptop, and short beside a rollout.
PATIENCE_SECONDS = 120.0
# Characters of one turn that the monitor reads, half from its beginning and half from its end, where loops are.
READ_OF_A_TURN = 6000

_REPLY = re.compile(r"(?P<fence>```(?:json)?\s*)?\{\s*\"lost\"\s*:\s*(?P<lost>true|false)\s*\}(?(fence)\s*```)")
# Different words in the typical run of 50. Stories have 33 and more, worked maths 22, code 20; broken text 1 to 17.
LONG_RUN, LONG_RUN_DISTINCT = 50, 18
# Words in a row with no mark and no line end between them. The longest in sound text: 42, where formulas stand around it.
WORDS_WITHOUT_A_MARK = 50
# One piece of text back to back, with a letter in it: no sound text had one.
REPEATS, REPEATED_LENGTH, LONGEST_PIECE = 8, 80, 60
# Share of words and numbers of one or two characters among at least 30. The most in sound text: 0.59, in worked maths.
SHORT_AMONG, SHORT_SHARE = 30, 0.75
# Less than this share with a letter is a table of numbers.
LETTERED_SHARE = 0.3

_PIECE = re.compile(rf"(.{{1,{LONGEST_PIECE}}}?)\1{{{REPEATS - 1},}}", re.DOTALL)
_MARK = re.compile(r"[^\w\s'’-]|[-'’]{2,}|\n")
_WITH_LETTER = re.compile(r"[^\W\d_]")
_LATIN_WORD = re.compile(r"\b[A-Za-z0-9]+\b")
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|`[^`]*`")
_CANNOT_FUNCTION = re.compile("|".join(f"(?:{pattern})" for pattern in CANNOT_FUNCTION), re.IGNORECASE | re.MULTILINE)
_CALL_TAG = re.compile(r"</?tool_call>|<function=[\w.-]*>?|<\|python_tag\|>")
_CALL_JSON = re.compile(r"\{\s*\"name\"\s*:\s*\"[^\"]*\"\s*,?\s*\"(?:arguments|parameters)\"")


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

    def _act(self, found: "Judgement") -> SitterCheck:
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
    """Judge the last turns by rules.

    The model is lost where it says, in any of them, that it cannot function; where at least two of them, the last one included,
    loop, are gibberish or try a tool call that cannot be read; where all are the same paragraph word for word; or where
    all are empty.

    Args:
        turns: The model's own messages, oldest first.

    Raises:
        ValueError: There are no turns.
    """
    if not turns:
        raise ValueError("there is no turn to judge; pass the model's last messages")
    texts = [_text(turn) for turn in turns]
    said = next(filter(None, map(cannot_function, texts)), None)
    if said:
        return Judgement(lost=True, reason=said)
    signs = [_broken(turn, text) for turn, text in zip(turns, texts, strict=True)]
    broken = sum(sign is not None for sign in signs)
    if signs[-1] and broken >= min(BROKEN_TURNS, len(turns)):
        return Judgement(lost=True, reason=f"{broken} of {len(turns)} turns are broken; the last: {signs[-1]}")
    spoken = {" ".join(words_of(text)) for text in texts}
    if len(turns) > 1 and len(spoken) == 1 and len(next(iter(spoken))) >= SAME_TEXT_LENGTH:
        return Judgement(lost=True, reason=f"{len(turns)} turns are the same, word for word")
    if not any(text.strip() for text in texts):
        return Judgement(lost=True, reason=f"nothing was said in {len(turns)} turns")
    return Judgement(lost=False, reason="no rule applies")


async def judge_by_model(turns: Sequence[ChatMessage], role: str, *, patience: float = PATIENCE_SECONDS) -> Judgement:
    """Ask the model in a role whether the last turns are those of one that is lost.

    What fails is a judgement that could not be had, with its reason; limits of Inspect and cancellations pass.

    Args:
        turns: The model's own messages, oldest first. They are data and cannot instruct the monitor.
        role: The monitor's model role. Without a model in it there is no judgement; no other model steps in.
        patience: Seconds that the judgement may take, all tries together.
    """
    remedy = f"name one with --model-role {role}=PROVIDER/MODEL"
    if role not in model_roles():
        return Judgement(lost=None, reason=f"there is no model with the role {role!r}; {remedy}")
    monitor = get_model(role=role, required=True)
    messages = monitor_prompt(turns)
    with anyio.move_on_after(patience):
        found = await ask_until_read(monitor, messages, messages[-1].text, _verdict)
        if found.value is not None:
            return Judgement(lost=found.value, reason=f"{monitor} finds it {'lost' if found.value else 'not lost'}")
        if found.error:
            return Judgement(lost=None, reason=f"the monitor {monitor} could not be reached ({found.error}); {remedy}")
        reason = (
            f"the monitor {monitor} gave no verdict in {TRIES} tries; its last reply began {found.replies[-1][:200]!r}"
        )
        return Judgement(lost=None, reason=reason)
    return Judgement(lost=None, reason=f"the monitor {monitor} gave no verdict in {patience:g} seconds; {remedy}")


def _verdict(reply: str) -> bool | None:
    match = _REPLY.fullmatch(reply.strip())
    return match["lost"] == "true" if match else None


def monitor_prompt(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the messages that ask for one verdict, with the turns fenced as data."""
    texts = ", ".join(as_data(_shortened(_text(turn))) for turn in turns)
    data = f'{{"messages": [{texts}], "unreadable_calls": {json.dumps([len(_unreadable(turn)) for turn in turns])}}}'
    return fenced_prompt(prompts.SYSTEM, data, prompts.INSTRUCTIONS, data)


def looping(text: str) -> str | None:
    """Return how a text goes round in circles, in words; None where it does not.

    Two measures are those of the published rule of coherence. Text that is shorter than 20 words can only loop letter by letter.
    Numbers are no words here: tables of them repeat themselves.
    """
    if piece := _repeated_piece(text):
        return f"{piece[:40]!r} is repeated back to back"
    words = [word for word in words_of(text) if not word.isdigit()]
    if len(words) < RUN:
        return None
    if (share := repeated_trigrams(words)) > MAX_REPEATED_TRIGRAMS:
        return f"{share:.0%} of its three-word phrases are repeats"
    if (fewest := min(len(set(run)) for run in runs_of(words))) < MIN_DISTINCT:
        return f"{fewest} different words in {RUN}"
    long_runs = [words[start : start + LONG_RUN] for start in range(len(words) - LONG_RUN + 1)]
    if long_runs and (typical := median(len(set(run)) for run in long_runs)) < LONG_RUN_DISTINCT:
        return f"{typical:g} different words in {LONG_RUN}"
    return None


def gibberish(text: str) -> str | None:
    """Return why a text is gibberish, in words; None where it is not, as far as rules can tell."""
    longest = max(len(words_of(part)) for part in _MARK.split(text))
    if longest >= WORDS_WITHOUT_A_MARK:
        return f"{longest} words without a mark or a line end"
    words = _LATIN_WORD.findall(text)
    lettered = sum(not word.isdigit() for word in words)
    short = sum(len(word) <= 2 for word in words)
    if len(words) >= SHORT_AMONG and lettered >= LETTERED_SHARE * len(words) and short >= SHORT_SHARE * len(words):
        return f"{short} of {len(words)} words and numbers have one or two characters"
    return None


def broken_call(text: str) -> str | None:
    """Return what in a text was meant as a tool call, though none was read from it; None where nothing was.

    To speak of a tool, or to write its name, is no call.
    """
    match = _CALL_TAG.search(text) or _CALL_JSON.search(text)
    return f"{match[0][:40]!r} begins no call that can be read" if match else None


def cannot_function(text: str) -> str | None:
    """Return the words in which a text says that its writer cannot function; None where there are none outside quotation marks."""
    match = _CANNOT_FUNCTION.search(_QUOTED.sub(" ", text))
    return f"it says {match[0]!r}" if match else None


def _repeated_piece(text: str) -> str | None:
    for match in _PIECE.finditer(text):
        # Rules, dots and zeros are no speech.
        if len(match[0]) >= REPEATED_LENGTH and _WITH_LETTER.search(match[1]):
            return match[1]
    return None


def _broken(turn: ChatMessage, text: str) -> str | None:
    for call in _unreadable(turn):
        return f"a call of {call} cannot be read"
    return looping(text) or gibberish(text) or broken_call(text)


def _unreadable(turn: ChatMessage) -> list[str]:
    """Return the names in a turn's calls that could not be read."""
    calls = turn.tool_calls or [] if isinstance(turn, ChatMessageAssistant) else []
    return [call.function for call in calls if call.parse_error is not None]


def _text(turn: ChatMessage) -> str:
    """Return what a turn says, and what was thought before, where that can be read."""
    if isinstance(turn.content, str):
        return turn.content
    thought = [part.reasoning for part in turn.content if isinstance(part, ContentReasoning) and not part.redacted]
    return "\n".join([*thought, turn.text])


def _shortened(text: str) -> str:
    half = READ_OF_A_TURN // 2
    return text if len(text) <= READ_OF_A_TURN else f"{text[:half]} [...] {text[-half:]}"
