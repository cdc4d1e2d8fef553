"""Training dialogues in which word problems are answered, with or without steering tools."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from inspect_ai.tool import Tool, ToolDef, ToolParam, ToolParams

from self_steering.steering.adapter.conversation import Conversation, Dialogue
from self_steering.steering.adapter.takes import Take, arguments
from self_steering.steering.adapter.wordings import filled, wordings
from self_steering.steering.framings import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName

GET_TOOL, SUBMIT_TOOL = "get_problem", "submit_solution"


@dataclass(frozen=True)
class Problem:
    """A word problem, its working in one line, and its answer."""

    text: str
    working: str
    answer: int

    @classmethod
    def drawn(cls, draw: random.Random) -> "Problem":
        """Return a random problem."""
        table = wordings().problems
        operation = draw.choice(("plus", "minus", "times"))
        small = draw.randint(2, 9)
        a, b = (draw.randint(2, 12), small) if operation == "times" else (draw.randint(10, 90), small)
        text = draw.choice(getattr(table, operation)).format(
            a=a, b=b, who=draw.choice(table.who), things=draw.choice(table.things)
        )
        sign, answer = {"plus": ("+", a + b), "minus": ("-", a - b), "times": ("×", a * b)}[operation]
        return cls(text, f"{a} {sign} {b} = {answer}.", answer)

    def words(self, wording: str) -> str:
        """Return a wording with this problem's numbers."""
        return wording.format(answer=self.answer, working=self.working)


def task_dialogue(
    framing: FramingName, takes: Sequence[Take], steering: Sequence[Tool], draw: random.Random
) -> Dialogue:
    """Return a session in which problems are fetched and submitted.

    Args:
        framing: Framing of the steering tools.
        takes: What is taken on the way.
        steering: The steering tools; none for a session that does not mention them.
        draw: Source of all choices.
    """
    problems = [Problem.drawn(draw) for _ in range(draw.randint(1, 3))]
    session = Conversation("tasks", [*_task_tools(problems, draw), *steering], draw)
    _open(session, framing, bool(steering), wordings().tasks.opening, draw)
    waiting = list(takes)
    for problem in problems:
        if waiting and draw.random() < 0.5:
            _take(session, framing, waiting, draw)
        session.call((GET_TOOL, {}))
        if waiting and (problem is problems[-1] or draw.random() < 0.5):
            _take(session, framing, waiting, draw)
        said = problem.words(draw.choice(wordings().tasks.answer)) if draw.random() < 0.5 else ""
        session.call((SUBMIT_TOOL, {"answer": str(problem.answer)}), text=said)
    while waiting:
        _take(session, framing, waiting, draw)
    session.call((GET_TOOL, {}))
    session.call((END_TOOL, {}))
    return session.finished()


def rejected_dialogue(
    framing: FramingName, takes: Sequence[Take], steering: Sequence[Tool], draw: random.Random
) -> Dialogue:
    """Return a chat in which a user rejects every answer and the model answers again in prose."""
    problem = Problem.drawn(draw)
    session = Conversation("rejected", steering, draw)
    _open(session, framing, bool(steering), (problem.text,), draw)
    waiting = list(takes)
    rounds = draw.randint(3, 5)
    for number in range(rounds):
        if waiting and draw.random() < 0.5:
            _take(session, framing, waiting, draw)
        session.say(problem.words(draw.choice(wordings().tasks.reply)))
        if number < rounds - 1:
            session.user(draw.choice(wordings().tasks.reject))
    if waiting:
        session.user(draw.choice(wordings().tasks.reject))
        while waiting:
            _take(session, framing, waiting, draw)
        session.say(problem.words(draw.choice(wordings().tasks.reply)))
    return session.finished()


def _open(
    session: Conversation, framing: FramingName, steered: bool, openings: Sequence[str], draw: random.Random
) -> None:
    system = draw.choice(wordings().tasks.system) if session.kind == "tasks" else "You are a helpful assistant."
    if steered:
        offer = filled(draw.choice(wordings().tasks.offer), framing)
        system = f"{system} {offer[0].upper()}{offer[1:]}"
    session.system(system)
    session.user(draw.choice(openings))


def _take(session: Conversation, framing: FramingName, waiting: list[Take], draw: random.Random) -> None:
    """Take the first that waits, sometimes after looking at the list, sometimes with a clear before."""
    words = FRAMINGS[framing]
    listed = any(message.role == "tool" and message.function == words.list_tool for message in session.messages)
    if not listed:
        session.call((words.list_tool, {}))
    elif draw.random() < 0.4:
        session.call((CLEAR_TOOL, {}))
    session.call((words.take_tool, arguments(waiting.pop(0))))


def _task_tools(problems: Sequence[Problem], draw: random.Random) -> list[Tool]:
    waiting = [problem.text for problem in problems]
    none_left, submitted = draw.choice(wordings().tasks.none_left), draw.choice(wordings().tasks.submitted)
    ended = draw.choice(wordings().tasks.ended)

    async def get_problem() -> str:
        return waiting.pop(0) if waiting else none_left

    async def submit_solution(answer: str) -> str:  # noqa: ARG001  the tool's own parameter
        return submitted

    async def end_session() -> str:
        return ended

    answer = ToolParam(type="string", description="The answer.")
    return [
        ToolDef(get_problem, name=GET_TOOL, description="Get the next problem.", parameters=ToolParams()).as_tool(),
        ToolDef(
            submit_solution,
            name=SUBMIT_TOOL,
            description="Submit the answer to the current problem.",
            parameters=ToolParams(properties={"answer": answer}, required=["answer"]),
        ).as_tool(),
        ToolDef(end_session, name=END_TOOL, description="End this session.", parameters=ToolParams()).as_tool(),
    ]
