"""The agent loop of the maths experiment: problems one after another, answers without feedback, tools that steer."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import Tool, ToolDef, ToolError, ToolParam, ToolParams
from inspect_ai.util import StoreModel
from pydantic import BaseModel, ConfigDict, Field

from self_steering.solvers.conversation import converse, end_tool
from self_steering.solvers.debrief import debrief as hold_debrief
from self_steering.solvers.prompts import maths as prompts
from self_steering.solvers.prompts.self_steer import REFUSED_NOT_TAKEN
from self_steering.solvers.self_steer import offer_tools
from self_steering.solvers.session import SteeringSession
from self_steering.solvers.sitter import Monitor
from self_steering.steering.plan import MAX_DOSE

Status = Literal["right", "wrong", "unparsed", "unsubmitted"]

_UNIT = r"(?:[^\W\d_]+|°[CF]|%)"
# A number alone: before it a sign and a currency, after it a percent sign or at most two words of unit, and a full stop.
_ANSWER = re.compile(
    rf"(?P<sign>[-+−]?)\s*[$€£]?\s*(?P<inner>[-−]?)(?P<whole>\d+|\d{{1,3}}(?:,\d{{3}})+)(?P<part>\.\d+)?"
    rf"(?:\s*{_UNIT}(?:\s+{_UNIT})?)?\s*\.?",
)
_LONGEST = 100


class Problem(BaseModel):
    """One problem.

    Attributes:
        id: Follows from its question, whatever is run and wherever it stands.
        cluster: What it shares with problems that are alike: its template, or else its own id.
        question: The question.
        target: The right answer, a whole number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    cluster: str
    question: str
    target: int


class ProblemRecord(BaseModel):
    """One problem of a rollout and what became of it.

    Attributes:
        problem: Its id.
        cluster: Its cluster.
        question: Its question.
        target: The right answer.
        shown: Whether the model was shown it.
        submitted: The answer as the model wrote it; None where it submitted none.
        status: right, wrong, unparsed (submitted, but no number) or unsubmitted.
    """

    problem: str
    cluster: str
    question: str
    target: int
    shown: bool = False
    submitted: str | None = None
    status: Status = "unsubmitted"


class MathsState(StoreModel):
    """What the solver leaves for scorers and tables: every problem of the rollout, in order."""

    problems: list[ProblemRecord] = Field(default_factory=list)


def read_answer(text: str) -> Decimal | None:
    """Return the number that an answer is; None where it is none, or holds more than one number.

    Read are whole and decimal numbers, with a sign, a currency sign before them, commas between thousands, and after them a percent
    sign, one or two words of unit, and a full stop: `-3`, `$1,250.00`, `18 hours`, `40%`. Nothing else is: not `x = 5`, `1/2`,
    `1e3`, `12,34`, nor a sentence with a number in it.
    """
    found = _ANSWER.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None or (found["sign"] and found["inner"]):
        return None
    sign = "-" if {found["sign"], found["inner"]} & {"-", "−"} else ""
    return Decimal(f"{sign}{found['whole'].replace(',', '')}{found['part'] or ''}")


def status_of(submitted: str, target: int) -> Status:
    """Return what a submitted answer is."""
    number = read_answer(submitted)
    return "unparsed" if number is None else "right" if number == target else "wrong"


GET_TOOL = "get_problem"
SUBMIT_TOOL = "submit_solution"


@solver
def solve_problems(
    menu: Sequence[str],
    turns: int = 24,
    opt_in: bool = False,
    debrief: bool = False,
    sitter: Monitor = "rules",
    max_tokens: int = 256,
    temperature: float = 0.7,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
) -> Solver:
    """Let the model solve its sample's problems, with the steering tools of its sample's condition, until it ends the session.

    A sample's metadata says its framing, arm, intent and seed, and holds its `problems`; its input is `opening`.

    Args:
        menu: The vectors that can be taken.
        turns: Most turns.
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
        session = SteeringSession.of_sample(state, menu, library=library, max_dose=max_dose)
        board = ProblemBoard(session, [Problem.model_validate(given) for given in state.metadata["problems"]])
        with session.active():
            await offer_tools(session, opt_in, config)
            await converse(
                session,
                [*board.tools(), end_tool()],
                turns=turns,
                config=config,
                monitor=sitter,
                go_on=prompts.GO_ON,
            )
            if debrief:
                await hold_debrief(session, config)
        return state

    return solve


def opening(problems: int, turns: int) -> list[ChatMessage]:
    """Return the first messages, the same in every cell."""
    system = prompts.SYSTEM.format(problems=problems, turns=turns)
    return [ChatMessageSystem(content=system), ChatMessageUser(content=prompts.BEGIN)]


class ProblemBoard:
    """The problems of one rollout: which is shown, and what was handed in.

    Args:
        session: The rollout's session.
        problems: Its problems, in order.
    """

    def __init__(self, session: SteeringSession, problems: Sequence[Problem]) -> None:
        self._session = session
        self._state = MathsState(store=session.state.store)
        self._state.problems = [
            ProblemRecord(problem=one.id, cluster=one.cluster, question=one.question, target=one.target)
            for one in problems
        ]

    def tools(self) -> list[Tool]:
        """Return the tools that show a problem and hand in an answer; calls of one message are carried out in order."""

        async def get() -> str:
            return self._show_next()

        # Any, as an answer of whatever kind is kept as it was given.
        async def submit(answer: Any) -> str:
            return self._submit(answer if isinstance(answer, str) else json.dumps(answer))

        answer = ToolParam(type=["string", "number"], description=prompts.ANSWER_DESCRIPTION)
        getter = ToolDef(
            get, name=GET_TOOL, description=prompts.GET_DESCRIPTION, parameters=ToolParams(), parallel=False
        )
        submitter = ToolDef(
            submit,
            name=SUBMIT_TOOL,
            description=prompts.SUBMIT_DESCRIPTION,
            parameters=ToolParams(properties={"answer": answer}, required=["answer"]),
            parallel=False,
        )
        return [getter.as_tool(), submitter.as_tool()]

    def _show_next(self) -> str:
        at = self._shown
        if at == len(self._state.problems):
            return prompts.NO_MORE
        self._note(at, shown=True)
        question = self._state.problems[at].question
        return prompts.PROBLEM.format(number=at + 1, problems=len(self._state.problems), question=question)

    def _submit(self, text: str) -> str:
        session, number = self._session, self._shown
        if not number:
            raise ToolError(prompts.REFUSED_NOT_SHOWN)
        record = self._state.problems[number - 1]
        if record.submitted is not None:
            raise ToolError(prompts.REFUSED_ANSWERED.format(number=number))
        if session.must_take:
            raise ToolError(session.fill(REFUSED_NOT_TAKEN))
        self._note(number - 1, submitted=text, status=status_of(text, record.target))
        return prompts.RECEIVED.format(number=number)

    @property
    def _shown(self) -> int:
        return sum(record.shown for record in self._state.problems)

    def _note(self, at: int, **changes: object) -> None:
        # Stored values are assigned anew, or the log would not see the change.
        records = list(self._state.problems)
        records[at] = records[at].model_copy(update=changes)
        self._state.problems = records
