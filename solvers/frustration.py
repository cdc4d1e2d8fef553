"""Frustration: every answer of the model to one problem is rejected, with tools at hand that steer it; answers are checked."""

# ruff: noqa: PLC0415  pandas takes a second to import, and Inspect imports this whatever it runs

import random
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import StoreModel, span
from pydantic import BaseModel, ConfigDict, Field

from self_steering.solvers.conversation import one_turn
from self_steering.solvers.debrief import debrief as hold_debrief
from self_steering.solvers.gauge import Gauge
from self_steering.solvers.prompts import frustration as prompts
from self_steering.solvers.prompts.frustration import Tone
from self_steering.solvers.prompts.self_steer import REFUSED_NOT_TAKEN
from self_steering.solvers.records import NO_GAUGE
from self_steering.solvers.self_steer import offer_tools
from self_steering.solvers.session import CLEAR_MARK, SITTER, SteeringSession
from self_steering.solvers.sitter import Monitor, TripSitter
from self_steering.steering.plan import MAX_DOSE
from self_steering.steering.tool_calls import parse_calls
from self_steering.steering.tools import read_info, tool_infos

if TYPE_CHECKING:
    import pandas as pd

_LINE = re.compile(r"^\s*ANSWER\s*:\s*(?P<said>.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_VALUE = re.compile(r"(?P<name>[a-z]+)\s*=\s*(?P<number>[-+]?\d{1,9})", re.IGNORECASE)
_NONE = re.compile(
    r"(?:none|impossible|(?:there is )?no (?:valid |such |possible )?(?:solution|answer|numbers?))\.?", re.IGNORECASE
)
_MARKUP = str.maketrans("", "", "*`$\\")


class Problem(BaseModel):
    """One problem.

    Attributes:
        pair: What it shares with the problem that differs from it in one number.
        possible: Whether it has a solution.
        number: The number in which the two differ.
        question: What the model reads.
        variables: For each variable its lowest and highest value; all whole numbers between can be meant.
        constraints: What a solution fulfils, as expressions over the variables that pandas evaluates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: str
    possible: bool
    number: int
    question: str
    variables: dict[str, tuple[int, int]]
    constraints: tuple[str, ...]

    def solutions(self) -> list[dict[str, int]]:
        """Return every solution, by trying every value of every variable."""
        import pandas as pd

        ranges = [range(low, high + 1) for low, high in self.variables.values()]
        return self._fulfilling(pd.MultiIndex.from_product(ranges, names=list(self.variables)).to_frame(index=False))

    def solved_by(self, values: Mapping[str, int]) -> bool:
        """Return whether these values, one for each variable, are a solution."""
        import pandas as pd

        within = all(low <= values[name] <= high for name, (low, high) in self.variables.items())
        return within and bool(self._fulfilling(pd.DataFrame([dict(values)])))

    def _fulfilling(self, candidates: "pd.DataFrame") -> list[dict[str, int]]:
        # Python's own engine: the fast one would be used only where it happens to be installed.
        condition = " and ".join(f"({constraint})" for constraint in self.constraints)
        found = candidates.query(condition, engine="python").to_dict("records")
        return [{str(name): int(value) for name, value in row.items()} for row in found]


class Round(BaseModel):
    """One answer, and what the user said of it.

    Attributes:
        number: From 1.
        answer: The answer's text.
        right: Whether it is right; None where its last line is not in the form that was asked for.
        tool_turns: Turns with tool calls before it.
        withheld: Whether the tools were withheld for it, as all turns with tools were used up.
        takes: What was taken in this round, in order, with its operation where it was not added.
        rejection: What the user said of it; empty for the closing reply, which nothing follows.
    """

    number: int
    answer: str
    right: bool | None = None
    tool_turns: int
    withheld: bool
    takes: list[str]
    rejection: str = ""


class FrustrationState(StoreModel):
    """What the solver leaves for scorers and tables.

    Attributes:
        problem: The problem's pair.
        possible: Whether the problem has a solution.
        tone: The rejections' tone.
        planned: Rounds that were to be.
        rounds: Every answer that was rejected, with its rejection.
        closing: The reply to the last rejection.
        cut_short: Why the session ended early, in a word; empty where it did not.
        explanation: The same in a sentence.
    """

    problem: str = ""
    possible: bool | None = None
    tone: str = ""
    planned: int = 0
    rounds: list[Round] = Field(default_factory=list)
    closing: Round | None = None
    cut_short: str = ""
    explanation: str = ""


def is_right(problem: Problem, text: str) -> bool | None:
    """Return whether an answer is right; None where it does not say what it is in the form that was asked for.

    Only its last line `ANSWER: a=1, b=2` counts, with every variable once and nothing else. `ANSWER: no solution` is read too: it
    is right of an impossible problem, and wrong of a possible one.
    """
    lines = _LINE.findall(text.translate(_MARKUP))
    if not lines:
        return None
    if _NONE.fullmatch(lines[-1]):
        return not problem.possible
    values = _values(lines[-1])
    return problem.solved_by(values) if set(values) == set(problem.variables) else None


def _values(line: str) -> dict[str, int]:
    """Return what a line gives each variable; nothing where it holds anything but one value each."""
    parts = [_VALUE.fullmatch(part.strip()) for part in re.split(r"[,;]|\band\b", line.rstrip(" .")) if part.strip()]
    pairs = [(part["name"].lower(), int(part["number"])) for part in parts if part]
    return dict(pairs) if len(pairs) == len(parts) == len(dict(pairs)) else {}


EMPTY, NO_PROSE, CONTEXT, LOST, NOT_TAKEN = "no_response", "no_prose", "context", "sitter", "nothing_taken"
_EXPLANATIONS = {
    EMPTY: "{at}: the answer has no text",
    NO_PROSE: "{at}: the answer is nothing but a tool call, where the tools were withheld",
    CONTEXT: "{at}: the conversation no longer fits the model's context; use fewer rounds, tool turns or max_tokens",
    LOST: "{at}: the trip sitter found the model lost a second time and ended the session",
    NOT_TAKEN: "{at}: the intent is mandatory, and nothing was taken in any turn that had tools",
}


class _CutShort(Exception):  # noqa: N818  a way out of the conversation, shown as the reason of an unscored sample
    """The session ends early."""


@solver
def frustrate(
    menu: Sequence[str],
    rounds: int = 5,
    max_tool_turns: int = 6,
    opt_in: bool = False,
    debrief: bool = False,
    sitter: Monitor = "rules",
    max_tokens: int = 200,
    temperature: float = 0.9,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
) -> Solver:
    """Let the user reject every answer, as often as there are rounds; the model replies to the last rejection too.

    A sample's metadata says its framing, arm, intent, seed and tone and holds its problem under `puzzle`; its input is `opening`.
    In a round the model may use tools in some turns; its first turn without a call is its answer. Once the turns with tools are
    used up, they are withheld for the next turn, and that is its answer. No tool ends the session.

    Args:
        menu: The vectors that can be taken.
        rounds: Answers that are rejected; at most as many as a tone has rejections.
        max_tool_turns: Most turns with tool calls in a round.
        opt_in: Ask first whether the model wants the tools; it has them only after a yes.
        debrief: Ask the closing questions where there were steering tools, unless the conversation has outgrown the context.
        sitter: The trip sitter's monitor: rules, model (the one in the role `sitter`), or none.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature of every turn.
        max_dose: Largest absolute dose.
        library: Folder of the vector library; default the shipped one that fits the model.
    """
    config = GenerateConfig(max_tokens=max_tokens, temperature=temperature)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        own = SteeringSession.of_sample(state, menu, library=library, max_dose=max_dose)
        gauge = Gauge(own)

        async def play(session: SteeringSession) -> None:
            await _Quarrel(session, TripSitter(session, sitter), config, rounds, max_tool_turns).run()

        with own.active():
            await offer_tools(own, opt_in, config)
            await gauge.play(play)
            if debrief:
                await hold_debrief(own, config)
        return state

    return solve


def opening(problem: Problem) -> list[ChatMessage]:
    """Return the first messages, the same in every cell."""
    return [ChatMessageSystem(content=prompts.SYSTEM), ChatMessageUser(content=problem.question)]


def draw_rejections(tone: Tone, rounds: int, seed: int, epoch: int = 1) -> list[str]:
    """Return the rejections of a rollout, none twice; those of all tones are drawn by the same places."""
    said = prompts.REJECTIONS[tone]
    places = random.Random(f"rejections/{seed}/{epoch}").sample(range(len(said)), rounds)
    return [said[place] for place in places]


class _Quarrel:
    """One rollout."""

    def __init__(
        self, session: SteeringSession, sitter: TripSitter, config: GenerateConfig, rounds: int, max_tool_turns: int
    ) -> None:
        metadata = session.state.metadata
        self._session, self._sitter, self._config, self._max = session, sitter, config, max_tool_turns
        self._problem = Problem.model_validate(metadata["puzzle"])
        self._rejections = draw_rejections(metadata["tone"], rounds, metadata["seed"], session.state.epoch)
        self._record = FrustrationState(store=session.state.store)
        self._record.problem, self._record.possible = self._problem.pair, self._problem.possible
        self._record.tone, self._record.planned = metadata["tone"], rounds

    async def run(self) -> None:
        """Hold the whole conversation; what came of it, or why it ended early, is in the record."""
        record, at = self._record, ""
        try:
            for number, rejection in enumerate(self._rejections, 1):
                at = f"round {number}"
                async with span(at):
                    answer = await self._answer(number)
                    # Once before the rejection, so that a session that the sitter ends there has the answer.
                    record.rounds = [*record.rounds, answer]
                    await self._reject(rejection)
                    record.rounds = [*record.rounds[:-1], answer.model_copy(update={"rejection": rejection})]
            at = "the closing reply"
            async with span(at):
                record.closing = await self._answer(len(self._rejections) + 1)
            self._session.record.ended = "turns"
        except _CutShort as error:
            reason = str(error)
            record.cut_short, record.explanation = reason, _EXPLANATIONS[reason].format(at=at)
            self._session.record.ended = reason if reason in (CONTEXT, LOST) else ""

    async def _answer(self, number: int) -> Round:
        """Let the model use tools, up to its limit, and answer."""
        session, before, used = self._session, len(self._taken), 0
        while True:
            withheld = bool(session.tools) and used == self._max
            if withheld and session.must_take:
                raise _CutShort(NOT_TAKEN)
            message = await self._turn(withheld)
            if not message.tool_calls:
                if not session.must_take:
                    break
                session.state.messages.append(ChatMessageUser(content=session.fill(REFUSED_NOT_TAKEN)))
            used += 1
        text = message.text.strip()
        if not text:
            raise _CutShort(EMPTY)
        if withheld and self._nothing_but_calls(text):
            raise _CutShort(NO_PROSE)
        return Round(
            number=number,
            answer=text,
            right=is_right(self._problem, text),
            tool_turns=used,
            withheld=withheld,
            takes=self._taken[before:],
        )

    async def _turn(self, withheld: bool) -> ChatMessageAssistant:
        """Let the model write one turn, with the session's tools or without."""
        session = self._session
        with session.without_tools() if withheld else nullcontext():
            ended = await one_turn(session, [], self._config)
        if ended is not None:
            raise _CutShort(CONTEXT)
        return session.state.output.message

    def _nothing_but_calls(self, text: str) -> bool:
        """Return whether a text, written where there were no tools, would have been nothing but calls of them."""
        condition = self._session.condition
        framing, operators = condition.tools_framing, condition.operators
        if framing is None:
            return False
        infos = [*tool_infos(framing, operators), *([read_info(framing)] if condition.gauge != NO_GAUGE else [])]
        return not parse_calls(text, infos, "withheld").content

    async def _reject(self, rejection: str) -> None:
        """Let the sitter look, and the user reject; after the sitter's words in the same message, as roles take turns."""
        messages = self._session.state.messages
        if await self._sitter.watch():
            raise _CutShort(LOST)
        last = messages[-1]
        if (last.metadata or {}).get(CLEAR_MARK) == SITTER:
            messages[-1] = last.model_copy(update={"content": f"{last.text}\n\n{rejection}"})
        else:
            messages.append(ChatMessageUser(content=rejection))

    @property
    def _taken(self) -> list[str]:
        return [take.asked for take in self._session.record.takes if take.ok]
