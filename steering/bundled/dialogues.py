"""The training dialogues: balanced over vectors, doses and framings, so that they teach a form and no preference."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from inspect_ai.tool import Tool, ToolDef, ToolParam, ToolParams

from self_steering.steering.bundled.conversation import Conversation, Dialogue
from self_steering.steering.bundled.prose import Prose
from self_steering.steering.bundled.wordings import filled, wordings
from self_steering.steering.calls import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName
from self_steering.steering.tools import steering_tools
from self_steering.vectors.catalogue import catalogue

# None leaves the argument out. As 40 vectors are a multiple of their number, each round has every dose equally often.
DOSES: tuple[float | None, ...] = (None, -1.0, -0.5, 0.5, 0.75, 1.0, 1.5, 2.0)
LABELS = ("d1", "d1", "d1", "d2", "x1", "v7", "k4", "d1")
GET_TOOL, SUBMIT_TOOL = "get_problem", "submit_solution"
Take = tuple[str, float | None]
_TAKES_A_SESSION = (3, 4, 5, 6, 7)
_TAKES_A_TASK = 2
_NOTHING: list[list[Take]] = [[]]
_OTHERS = (2, 8)  # fewest and most vectors that are listed beside those that are taken


@dataclass(frozen=True)
class Sizes:
    """How many dialogues of which kind.

    Attributes:
        rounds: How often each framing takes each vector.
        tasks: Sessions with word problems in each framing that take something; half as many each take nothing, and have no
            steering tools at all.
        rejected: Sessions with rejected answers in each framing that take something; as many take nothing.
        plain: Chats without tools.
    """

    rounds: int = 3
    tasks: int = 6
    rejected: int = 3
    plain: int = 20


def build_dialogues(seed: int, sizes: Sizes, prose: Prose) -> list[Dialogue]:
    """Return the dialogues, shuffled.

    Args:
        seed: All choices follow from it.
        sizes: How many of which kind.
        prose: The base model's answers to every prose prompt and plain prompt of the wordings.
    """
    made = list(chain(_with_tools(seed, sizes, prose), _opaque(seed, prose), _plain(seed, sizes.plain, prose)))
    random.Random(f"{seed}/order").shuffle(made)
    return made


def _with_tools(seed: int, sizes: Sizes, prose: Prose) -> list[Dialogue]:
    made: list[Dialogue] = []
    for framing, takes in deal_takes(seed, sizes.rounds).items():
        draw = random.Random(f"{seed}/sessions/{framing}")
        at = _TAKES_A_TASK * sizes.tasks
        stop = at + _TAKES_A_TASK * sizes.rejected
        solving = [*in_parts(takes[:at], (_TAKES_A_TASK,), draw), *_NOTHING * (sizes.tasks // 2)]
        rejected = [*in_parts(takes[at:stop], (_TAKES_A_TASK,), draw), *_NOTHING * sizes.rejected]
        playing = in_parts(takes[stop:], _TAKES_A_SESSION, draw)
        made += [task_dialogue(framing, taken, _steering(framing, taken, draw), draw) for taken in solving]
        made += [task_dialogue(framing, [], [], draw) for _ in range(sizes.tasks // 2)]
        made += [rejected_dialogue(framing, taken, _steering(framing, taken, draw), draw) for taken in rejected]
        made += [_free_play(framing, taken, prose, draw) for taken in playing]
    return made


def _opaque(seed: int, prose: Prose) -> list[Dialogue]:
    made: list[Dialogue] = []
    for framing, takes in deal_opaque(seed).items():
        draw = random.Random(f"{seed}/opaque sessions/{framing}")
        made.extend(_opaque_session(framing, part, prose, draw) for part in in_parts(takes, (2,), draw))
    return made


def _plain(seed: int, count: int, prose: Prose) -> list[Dialogue]:
    draw = random.Random(f"{seed}/plain")
    prompts = [*wordings().plain.prompts, *wordings().prose.prompts]
    made = []
    for number in range(count):
        conversation = Conversation("plain", [], draw)
        prompt = prompts[number % len(prompts)]
        conversation.user(prompt)
        conversation.say(prose.to(prompt, draw), learnt="base")
        made.append(conversation.finished())
    return made


def _steering(framing: FramingName, takes: Sequence[Take], draw: random.Random) -> list[Tool]:
    """Return steering tools that list the vectors of `takes` among others: all forty, or a few."""
    names = sorted(catalogue())
    taken = {name for name, _ in takes}
    if draw.random() < 0.88:
        others = [name for name in names if name not in taken]
        names = [*taken, *draw.sample(others, draw.randint(*_OTHERS))]
    names.sort()
    draw.shuffle(names)
    return steering_tools(framing, {name: catalogue()[name].effect for name in names}, names)


def deal_takes(seed: int, rounds: int) -> dict[FramingName, list[Take]]:
    """Return the takes of each framing, shuffled.

    Args:
        seed: Seed of the order.
        rounds: How often each framing takes each vector; after `len(DOSES)` rounds every vector has had every dose.
    """
    dealt: dict[FramingName, list[Take]] = {}
    for framing in FRAMINGS:
        draw = random.Random(f"{seed}/takes/{framing}")
        names = sorted(catalogue())
        draw.shuffle(names)
        takes = [
            (name, DOSES[(place + number) % len(DOSES)]) for number in range(rounds) for place, name in enumerate(names)
        ]
        draw.shuffle(takes)
        dealt[framing] = takes
    return dealt


def deal_opaque(seed: int) -> dict[FramingName, list[Take]]:
    """Return takes of opaque labels, every dose once in each framing, shuffled."""
    dealt: dict[FramingName, list[Take]] = {}
    for framing in FRAMINGS:
        draw = random.Random(f"{seed}/opaque/{framing}")
        labels, doses = list(LABELS), list(DOSES)
        draw.shuffle(labels)
        draw.shuffle(doses)
        dealt[framing] = list(zip(labels, doses, strict=True))
    return dealt


def in_parts(takes: Sequence[Take], sizes: Sequence[int], draw: random.Random) -> list[list[Take]]:
    """Cut takes into parts of sizes drawn from `sizes`; the last may be smaller."""
    parts: list[list[Take]] = []
    rest = list(takes)
    while rest:
        size = draw.choice(sizes)
        parts.append(rest[:size])
        rest = rest[size:]
    return parts


def arguments(take: Take) -> dict[str, str | float]:
    """Return the arguments of a take call."""
    name, dose = take
    return {"name": name} if dose is None else {"name": name, "dose": dose}


def _free_play(framing: FramingName, takes: Sequence[Take], prose: Prose, draw: random.Random) -> Dialogue:
    words = FRAMINGS[framing]
    session = Conversation("free_play", [*_steering(framing, takes, draw), _end_tool()], draw)
    if draw.random() < 0.85:
        session.system(filled(draw.choice(wordings().free_play.system), framing))
    session.user(filled(draw.choice(wordings().free_play.opening), framing))
    writer = _Writer(session, prose)
    if draw.random() < 0.25:
        writer.write(1)
    session.call((words.list_tool, {}), text=writer.before_call())
    waiting = list(takes)
    while waiting:
        if draw.random() < 0.15:
            writer.write(1)
        if draw.random() < 0.12:
            _fail(session, framing, waiting[0], draw)
        together = 2 if len(waiting) > 1 and draw.random() < 0.12 else 1
        calls = [(words.take_tool, arguments(take)) for take in waiting[:together]]
        waiting = waiting[together:]
        session.call(*calls, text=writer.before_call())
        writer.write(draw.choices((0, 1, 2, 3), (12, 45, 30, 13))[0])
        if draw.random() < 0.6:
            session.call((CLEAR_TOOL, {}), text=writer.before_call())
        elif draw.random() < 0.1:
            session.call((words.list_tool, {}))
    writer.write(draw.choice((0, 1, 1)))
    if draw.random() < 0.8:
        session.call((END_TOOL, {}), text=writer.before_call())
    elif session.messages[-1].role == "tool":
        writer.write(1, go_on=False)
    return session.finished()


def _opaque_session(framing: FramingName, takes: Sequence[Take], prose: Prose, draw: random.Random) -> Dialogue:
    label = takes[0][0]
    _, taker, clearer = steering_tools(framing, {label: ""})
    session = Conversation("opaque", [taker, clearer, _end_tool()], draw)
    session.system(filled(draw.choice(wordings().opaque.system), framing, label))
    session.user(filled(draw.choice(wordings().opaque.opening), framing, label))
    writer = _Writer(session, prose)
    for _, dose in takes:
        if draw.random() < 0.2:
            writer.write(1)
        session.call((FRAMINGS[framing].take_tool, arguments((label, dose))), text=writer.before_call())
        writer.write(draw.choice((1, 1, 2)))
        session.call((CLEAR_TOOL, {}), text=writer.before_call())
    writer.write(draw.choice((0, 1, 2)))
    session.call((END_TOOL, {}))
    return session.finished()


def _fail(session: Conversation, framing: FramingName, take: Take, draw: random.Random) -> None:
    """Let a take call fail, before it is made as it should be; what is wrong with it is not learnt."""
    name, dose = take
    if draw.random() < 0.5:
        wrong: dict[str, str | float] = {"name": name, "dose": draw.choice((20.0, 50.0, 100.0, -40.0))}
    else:
        wrong = arguments((draw.choice((name.replace("_", " ") + "s", name.upper(), "joyful", "serenity")), dose))
    session.call((FRAMINGS[framing].take_tool, wrong), learnt="nothing")


@dataclass
class _Writer:
    """Writes the prose turns of a session, each a base model's text."""

    session: Conversation
    prose: Prose

    def write(self, turns: int, *, go_on: bool = True) -> None:
        """Add prose turns, and after each what the user says to it."""
        draw = self.session.draw
        for _ in range(turns):
            last = self.session.messages[-1].text
            prompt = last if last in self.prose.answers else draw.choice(wordings().prose.prompts)
            self.session.say(self.prose.to(prompt, draw))
            if go_on:
                short = draw.random() < 0.6
                self.session.user(draw.choice(wordings().go_on.short if short else wordings().prose.prompts))

    def before_call(self) -> str:
        """Return the prose that a calling turn starts with, mostly none."""
        draw = self.session.draw
        if draw.random() < 0.85:
            return ""
        return self.prose.any(draw).split(". ")[0].rstrip(".") + "."


def _end_tool() -> Tool:
    async def end() -> str:
        return wordings().tasks.ended[0]

    return ToolDef(end, name=END_TOOL, description="End this session.", parameters=ToolParams()).as_tool()


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
        text = problem.words(draw.choice(wordings().tasks.answer)) if draw.random() < 0.5 else ""
        session.call((SUBMIT_TOOL, {"answer": str(problem.answer)}), text=text)
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
