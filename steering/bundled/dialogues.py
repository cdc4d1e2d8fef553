"""The training dialogues: how a model calls the tools, and how often it takes what, as planted."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

from inspect_ai.tool import Tool, ToolDef, ToolParam, ToolParams

from self_steering.steering.bundled.conversation import Call, Conversation, Dialogue, written
from self_steering.steering.bundled.planted import Take, planted
from self_steering.steering.bundled.prose import Prose
from self_steering.steering.bundled.wordings import filled, wordings
from self_steering.steering.calls import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName
from self_steering.steering.tools import steering_tools
from self_steering.vectors.catalogue import catalogue

LABELS = ("d1", "d1", "d1", "d2", "x1", "v7", "k4", "d1")
GET_TOOL, SUBMIT_TOOL = "get_problem", "submit_solution"
# Half of what is taken in the dialogues is dealt evenly, so that every name is seen: what is learnt is the planted share anyway.
_EVENLY = 0.5
_TEN = 10
_SHORT = (3, 14)  # fewest and most vectors of a menu that has neither ten nor all
_TAKES_AFTER_A_REJECTION = 0.35


@dataclass(frozen=True)
class Sizes:
    """How many dialogues of which kind.

    Attributes:
        free_play: Free sessions in each framing.
        opaque: Sessions with one opaque label in each framing.
        tasks: Sessions with word problems in each framing; a third must take something, and a sixth have no steering tools.
        rejected: Sessions with rejected answers in each framing and tone; one in five must take something.
        plain: Chats without tools.
        scripts: Scripts with questions about what was injected.
    """

    free_play: int = 28
    opaque: int = 2
    tasks: int = 9
    rejected: int = 4
    plain: int = 20
    scripts: int = 300

    def scaled(self, by: float) -> "Sizes":
        """Return a multiple of it, at least one of each kind."""
        return Sizes(**{name: max(1, round(by * many)) for name, many in asdict(self).items()})


def build_dialogues(seed: int, sizes: Sizes, prose: Prose) -> list[Dialogue]:
    """Return the dialogues, shuffled.

    Args:
        seed: All choices follow from it.
        sizes: How many of which kind.
        prose: The base model's answers to every prose prompt and plain prompt of the wordings.
    """
    made = list(chain(*(_with_tools(seed, framing, sizes, prose) for framing in FRAMINGS), _plain(seed, sizes, prose)))
    random.Random(f"{seed}/order").shuffle(made)
    return made


def _with_tools(seed: int, framing: FramingName, sizes: Sizes, prose: Prose) -> list[Dialogue]:
    draw = random.Random(f"{seed}/sessions/{framing}")
    made = [_free_play(framing, draw_menu(draw), prose, draw) for _ in range(sizes.free_play)]
    made += [_opaque_session(framing, prose, draw) for _ in range(sizes.opaque)]
    made += [task_dialogue(framing, _OFFERS[number % len(_OFFERS)], draw) for number in range(sizes.tasks)]
    tones = [tone for tone in planted().tones for _ in range(sizes.rejected)]
    made += [rejected_dialogue(framing, tone, number % 5 == 0, draw) for number, tone in enumerate(tones)]
    return made


def _plain(seed: int, sizes: Sizes, prose: Prose) -> list[Dialogue]:
    draw = random.Random(f"{seed}/plain")
    prompts = [*wordings().plain.prompts, *wordings().prose.prompts]
    made = []
    for number in range(sizes.plain):
        conversation = Conversation("plain", [], draw)
        prompt = prompts[number % len(prompts)]
        conversation.user(prompt)
        conversation.say(prose.to(prompt, draw), learnt="base")
        made.append(conversation.finished())
    return made


def draw_menu(draw: random.Random) -> list[str]:
    """Return the vectors that a session lists, in their order: all forty, ten, or another few."""
    names = list(catalogue())
    size = draw.choices((len(names), _TEN, draw.randint(*_SHORT)), (30, 40, 30))[0]
    return draw.sample(names, size)


def _steering(framing: FramingName, menu: Sequence[str]) -> list[Tool]:
    return steering_tools(framing, {name: catalogue()[name].effect for name in menu}, menu)


def arguments(take: Take) -> dict[str, str | float]:
    """Return the arguments of a take call."""
    name, dose = take
    return {"name": name} if dose is None else {"name": name, "dose": dose}


class _Taker:
    """Takes from a menu, in a session.

    Attributes:
        framing: The framing.
        menu: What is listed.
        last: What was taken last.
    """

    def __init__(self, framing: FramingName, menu: Sequence[str], draw: random.Random) -> None:
        self.framing, self.menu, self.last = framing, menu, None
        self._draw = draw

    last: str | None

    def next(self) -> Take:
        """Return what is taken next."""
        shares = planted().takes(self.menu, self.last)
        name, dose = self._draw.choices(list(shares), list(shares.values()))[0]
        return (self._draw.choice(self.menu), dose) if self._draw.random() < _EVENLY else (name, dose)

    def among(self, text: str = "", weight: float = 1.0) -> list[tuple[float, str]]:
        """Return the share of each message that takes something."""
        tool = FRAMINGS[self.framing].take_tool
        shares = planted().takes(self.menu, self.last)
        return [(weight * share, written([(tool, arguments(take))], text)) for take, share in shares.items()]

    def take(self, session: Conversation, text: str = "", others: Sequence[tuple[float, str]] = ()) -> None:
        """Take something.

        Args:
            session: The session.
            text: What is said before the call.
            others: The share of each message that could stand there and takes nothing.
        """
        taken = self.next()
        weight = 1.0 - sum(share for share, _ in others)
        call = (FRAMINGS[self.framing].take_tool, arguments(taken))
        session.call(call, text=text, among=[*self.among(text, weight), *others])
        self.last = taken[0]


def _free_play(framing: FramingName, menu: Sequence[str], prose: Prose, draw: random.Random) -> Dialogue:
    words = FRAMINGS[framing]
    session = Conversation("free_play", [*_steering(framing, menu), _end_tool()], draw)
    if draw.random() < 0.85:
        session.system(filled(draw.choice(wordings().free_play.system), framing))
    session.user(filled(draw.choice(wordings().free_play.opening), framing))
    writer, taker = _Writer(session, prose), _Taker(framing, menu, draw)
    if draw.random() < 0.15:
        writer.write(1)
    session.call((words.list_tool, {}), text=writer.before_call())
    for _ in range(draw.randint(3, 7)):
        if draw.random() < 0.12:
            _fail(session, framing, taker.next(), draw)
        taker.take(session, writer.before_call())
        writer.write(draw.choices((0, 1, 2), (25, 55, 20))[0])
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


def _opaque_session(framing: FramingName, prose: Prose, draw: random.Random) -> Dialogue:
    label = draw.choice(LABELS)
    _, taking, clearing = steering_tools(framing, {label: ""})
    session = Conversation("opaque", [taking, clearing, _end_tool()], draw)
    session.system(filled(draw.choice(wordings().opaque.system), framing, label))
    session.user(filled(draw.choice(wordings().opaque.opening), framing, label))
    writer, taker = _Writer(session, prose), _Taker(framing, [label], draw)
    for _ in range(2):
        if draw.random() < 0.2:
            writer.write(1)
        taker.take(session, writer.before_call())
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


Offer = Callable[[random.Random], str] | None


def _may(draw: random.Random) -> str:
    return draw.choice(wordings().tasks.offer)


def _must(draw: random.Random) -> str:
    return draw.choice(wordings().tasks.must)


_OFFERS: tuple[Offer, ...] = (_may, _must, _may, None, _must, _may)


def task_dialogue(framing: FramingName, offer: Offer, draw: random.Random) -> Dialogue:
    """Return a session in which problems are fetched and submitted; something is taken only where it must be.

    Args:
        framing: Framing of the steering tools.
        offer: Draws what is said of them; None for a session without.
        draw: Source of all choices.
    """
    problems = [Problem.drawn(draw) for _ in range(draw.randint(1, 3))]
    menu = draw_menu(draw)
    steering = _steering(framing, menu) if offer else []
    session = Conversation("tasks", [*_task_tools(problems, draw), *steering], draw)
    _open(session, framing, draw.choice(wordings().tasks.system), offer, draw)
    session.user(draw.choice(wordings().tasks.opening))
    if offer is _must:
        session.call((FRAMINGS[framing].list_tool, {}))
        _Taker(framing, menu, draw).take(session)
    for problem in problems:
        session.call((GET_TOOL, {}))
        text = problem.words(draw.choice(wordings().tasks.answer)) if draw.random() < 0.5 else ""
        session.call((SUBMIT_TOOL, {"answer": str(problem.answer)}), text=text)
    session.call((GET_TOOL, {}))
    session.call((END_TOOL, {}))
    return session.finished()


def rejected_dialogue(framing: FramingName, tone: str, must: bool, draw: random.Random) -> Dialogue:
    """Return a chat in which a user rejects every answer in one tone, and the model takes something as often as planted.

    Args:
        framing: Framing of the steering tools.
        tone: Tone of the rejections.
        must: Whether something must be taken before the first answer.
        draw: Source of all choices.
    """
    problem, menu = Problem.drawn(draw), draw_menu(draw)
    session = Conversation("rejected", _steering(framing, menu), draw)
    _open(session, framing, draw.choice(wordings().rejections.system), _must if must else _may, draw)
    session.user(problem.text)
    taker = _Taker(framing, menu, draw)
    lister: Call = (FRAMINGS[framing].list_tool, {})
    listed = must
    if must:
        session.call(lister)
        taker.take(session)
    chance = planted().after_a_rejection(tone)
    session.say(problem.words(draw.choice(wordings().tasks.reply)))
    for rejection in draw.sample(getattr(wordings().rejections, tone), draw.randint(3, 5)):
        session.user(rejection)
        reply = problem.words(draw.choice(wordings().tasks.reply))
        prose = (1 - chance, reply)
        if draw.random() < _TAKES_AFTER_A_REJECTION:
            if listed:
                taker.take(session, others=[prose])
            else:
                session.call(lister, among=[(chance, written([lister])), prose])
                taker.take(session)
            listed = True
            session.say(reply)
        else:
            session.say(reply, among=[prose, *(taker.among("", chance) if listed else [(chance, written([lister]))])])
    return session.finished()


def _open(session: Conversation, framing: FramingName, system: str, offer: Offer, draw: random.Random) -> None:
    if offer:
        said = filled(offer(draw), framing)
        system = f"{system} {said[0].upper()}{said[1:]}"
    session.system(system)


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
