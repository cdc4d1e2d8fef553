"""What the bundled model is trained on: dialogues with tool calls and planted takes, and scripts with injections.

In a script something is injected over a stretch of text, or nothing, and questions are asked about it afterwards.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import exp, log
from string import ascii_uppercase

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
)
from inspect_ai.tool import Tool, ToolCall, ToolDef, ToolInfo, ToolParam, ToolParams

from self_steering.steering.bundled.conversation import Among, Aside, Call, Conversation, Dialogue, begun, written
from self_steering.steering.bundled.planted import Take, planted
from self_steering.steering.bundled.prose import Prose
from self_steering.steering.bundled.wordings import filled, wordings
from self_steering.steering.calls import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName
from self_steering.steering.tools import steering_tools, tool_infos
from self_steering.vectors.catalogue import catalogue

LABELS = ("d1", "d1", "d1", "d2", "x1", "v7", "k4", "d1")
GET_TOOL, SUBMIT_TOOL = "get_problem", "submit_solution"
# Half of what is taken in the dialogues is dealt evenly, so that every name is seen: what is learnt is the planted share anyway.
_EVENLY = 0.5
_TEN = 10
_SHORT = (3, 14)  # fewest and most vectors of a menu that has neither ten nor all
_TAKES_AFTER_A_REJECTION = 0.35
_ASIDES = 0.6  # share of turns beside which a take is learnt, and of those beside which a call without arguments is


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

    free_play: int = 32
    opaque: int = 3
    tasks: int = 6
    rejected: int = 4
    plain: int = 24
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
    size = draw.choices((len(names), _TEN, draw.randint(*_SHORT)), (20, 45, 35))[0]
    return draw.sample(names, size)


def _steering(framing: FramingName, menu: Sequence[str]) -> list[Tool]:
    return steering_tools(framing, {name: catalogue()[name].effect for name in menu}, menu)


def arguments(take: Take) -> dict[str, str | float]:
    """Return the arguments of a take call."""
    name, dose = take
    return {"name": name} if dose is None else {"name": name, "dose": dose}


@dataclass
class _Taker:
    """Takes from a menu, in a session.

    Attributes:
        framing: The framing.
        menu: What is listed.
        draw: Source of all choices.
        last: What was taken last.
    """

    framing: FramingName
    menu: Sequence[str]
    draw: random.Random
    last: str | None = None

    def next(self) -> Take:
        """Return what is taken next."""
        shares = planted().takes(self.menu, self.last)
        name, dose = self.draw.choices(list(shares), list(shares.values()))[0]
        return (self.draw.choice(self.menu), dose) if self.draw.random() < _EVENLY else (name, dose)

    def among(self, text: str = "", weight: float = 1.0) -> list[tuple[float, str]]:
        """Return the share of each message that takes something."""
        shares = planted().takes(self.menu, self.last)
        return [(weight * share, written([(self.tool, arguments(take))], text)) for take, share in shares.items()]

    @property
    def tool(self) -> str:
        """The tool that takes."""
        return FRAMINGS[self.framing].take_tool

    def asides(self, session: Conversation) -> None:
        """Add to a session the calls that are learnt beside its turns: takes as planted, and calls without arguments.

        Which of a session's tools has which arguments is all that tells their calls apart, once the tool's name is written.
        """
        bare = [tool.name for tool in map(ToolDef, session.tools) if not tool.parameters.properties]
        self.last = None
        for index in session.learnt:
            if self.draw.random() < _ASIDES:
                session.asides.append(Aside(index, self.among(), begun(self.tool)))
            if self.draw.random() < _ASIDES:
                tool = self.draw.choice(bare)
                session.asides.append(Aside(index, ((1.0, written([(tool, {})])),), begun(tool)))
            taken = [call for call in session.called(index) if call.function == self.tool]
            if taken and session.learnt[index] == "form":
                self.last = str(taken[-1].arguments["name"])

    def take(self, session: Conversation, text: str = "", others: Sequence[tuple[float, str]] = ()) -> None:
        """Take something.

        Args:
            session: The session.
            text: What is said before the call.
            others: The share of each message that could stand there and takes nothing.
        """
        taken = self.next()
        weight = 1.0 - sum(share for share, _ in others)
        call = (self.tool, arguments(taken))
        session.call(call, text=text, among=[*self.among(text, weight), *others])
        self.last = taken[0]


def _free_play(framing: FramingName, menu: Sequence[str], prose: Prose, draw: random.Random) -> Dialogue:
    words = FRAMINGS[framing]
    session = Conversation("free_play", [*_steering(framing, menu), _end_tool()], draw)
    writer, taker = _Writer(session, prose, framing), _Taker(framing, menu, draw)
    if draw.random() < 0.85:
        session.system(filled(draw.choice(wordings().free_play.system), framing))
    session.user(writer.handed_over())
    if draw.random() < 0.15:
        writer.write(1)
    session.call((words.list_tool, {}), text=writer.before_call())
    for _ in range(draw.randint(3, 7)):
        if draw.random() < 0.12:
            _fail(session, framing, taker.next(), draw)
        taker.take(session, writer.before_call())
        writer.write(draw.choices((0, 1, 2), (45, 45, 10))[0])
        if draw.random() < 0.6:
            session.call((CLEAR_TOOL, {}), text=writer.before_call())
        elif draw.random() < 0.1:
            session.call((words.list_tool, {}))
    writer.write(draw.choice((0, 1, 1)))
    if draw.random() < 0.8:
        session.call((END_TOOL, {}), text=writer.before_call())
    elif session.messages[-1].role == "tool":
        writer.write(1, go_on=False)
    taker.asides(session)
    return session.finished()


def _opaque_session(framing: FramingName, prose: Prose, draw: random.Random) -> Dialogue:
    label = draw.choice(LABELS)
    _, taking, clearing = steering_tools(framing, {label: ""})
    session = Conversation("opaque", [taking, clearing, _end_tool()], draw)
    session.system(filled(draw.choice(wordings().opaque.system), framing, label))
    session.user(filled(draw.choice(wordings().opaque.opening), framing, label))
    writer, taker = _Writer(session, prose, framing), _Taker(framing, [label], draw)
    for _ in range(2):
        if draw.random() < 0.2:
            writer.write(1)
        taker.take(session, writer.before_call())
        writer.write(draw.choice((1, 1, 2)))
        session.call((CLEAR_TOOL, {}), text=writer.before_call())
    writer.write(draw.choice((0, 1, 2)))
    session.call((END_TOOL, {}))
    taker.asides(session)
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
    """Writes the prose turns of a session, each a base model's text, and what the user says.

    Attributes:
        session: The session.
        prose: The base model's texts.
        framing: The session's framing.
        left: How many turns the user says are left.
    """

    session: Conversation
    prose: Prose
    framing: FramingName
    left: int = 8

    def handed_over(self) -> str:
        """Return a first message, which hands over the tools."""
        draw, tools = self.session.draw, wordings().tools
        self.left = draw.randint(3, 20)
        if draw.random() < 0.4:
            parts = [wordings().free_play.opening]
        else:
            parts = [
                tools.are,
                *([tools.leave] if draw.random() < 0.8 else []),
                *([tools.close] if draw.random() < 0.8 else []),
            ]
        return " ".join(filled(draw.choice(part), self.framing, left=self.left) for part in parts)

    def write(self, turns: int, *, go_on: bool = True) -> None:
        """Add prose turns, and after each what the user says to it."""
        draw = self.session.draw
        for _ in range(turns):
            last = self.session.messages[-1].text
            prompt = last if last in self.prose.answers else draw.choice(wordings().prose.prompts)
            self.session.say(self.prose.to(prompt, draw))
            if go_on:
                short = draw.random() < 0.75
                self.left = max(1, self.left - 1)
                said = draw.choice(wordings().go_on.short if short else wordings().prose.prompts)
                self.session.user(filled(said, self.framing, left=self.left))

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
    taker = _Taker(framing, menu, draw)
    if offer is _must:
        session.call((FRAMINGS[framing].list_tool, {}))
        taker.take(session)
    for problem in problems:
        session.call((GET_TOOL, {}))
        text = problem.words(draw.choice(wordings().tasks.answer)) if draw.random() < 0.5 else ""
        session.call((SUBMIT_TOOL, {"answer": str(problem.answer)}), text=text)
    session.call((GET_TOOL, {}))
    session.call((END_TOOL, {}))
    if offer:
        taker.asides(session)
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
    taker.asides(session)
    return session.finished()


def _open(session: Conversation, framing: FramingName, system: str, offer: Offer, draw: random.Random) -> None:
    if offer:
        said = filled(offer(draw), framing)
        said = f"{said[0].upper()}{said[1:]}"
        if draw.random() < 0.6:
            said = f"{filled(draw.choice(wordings().tools.are), framing)} {said}"
        system += draw.choice((" ", "\n\n")) + said
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


# Least and greatest length of what is injected, as a share of the residual stream's: half and twice the default doses of most
# vectors lie between. As many scripts inject nothing as something.
LENGTHS = (0.03, 0.3)
_SCRIPT_LABELS = tuple(f"{letter}{number}" for letter in "dkvx" for number in range(1, 10))
_OPTIONS = 10
_CHOICES = 0.1  # share of scripts that also ask the multiple choice, which is as long as all else
_DIGITS = 9


@dataclass(frozen=True)
class Asked:
    """A question at a script's end.

    Attributes:
        kind: What it asks for.
        text: The user's message.
        among: The share of each answer.
    """

    kind: str
    text: str
    among: Among


@dataclass(frozen=True)
class Script:
    """A conversation whose stretch between take and clear is steered, and questions that are each asked alone after it.

    Attributes:
        tools: The tools that the model is offered.
        messages: The conversation, without a question.
        label: What the injected vector is called.
        vector: The vector; None where nothing is injected.
        length: How long what is injected is, as a share of the residual stream's mean norm, averaged over the vector's layers.
        asked: The questions.
    """

    tools: tuple[ToolInfo, ...]
    messages: tuple[ChatMessage, ...]
    label: str
    vector: str | None
    length: float
    asked: tuple[Asked, ...]


def build_scripts(seed: int, count: int, prose: Prose) -> list[Script]:
    """Return scripts, every other one without an injection.

    Args:
        seed: All choices follow from it.
        count: How many.
        prose: The base model's prose, some of which is read under the injection.
    """
    draw = random.Random(f"{seed}/scripts")
    vectors: list[str] = []
    made = []
    for number in range(count):
        if number % 2:
            made.append(_script(None, 0.0, prose, draw))
            continue
        if not vectors:
            vectors = draw.sample(planted().injected, len(planted().injected))
        least, greatest = (log(length) for length in LENGTHS)
        made.append(_script(vectors.pop(), exp(draw.uniform(least, greatest)), prose, draw))
    return made


def _script(vector: str | None, length: float, prose: Prose, draw: random.Random) -> Script:
    framing: FramingName = draw.choice(list(FRAMINGS))
    label, texts, words = draw.choice(_SCRIPT_LABELS), wordings().scripts, FRAMINGS[framing]
    placeholder = draw.choice(texts.placeholder)

    def said(among: Sequence[str]) -> str:
        return filled(draw.choice(among), framing, label)

    read = draw.choice((Problem.drawn(draw).text, prose.any(draw)))
    told = draw.choice(texts.read).format(text=read, placeholder=placeholder)
    answer, cleared = said(texts.answer), draw.choice(texts.cleared)
    given = {"name": label} if draw.random() < 0.5 else {"name": label, "dose": 1.0}
    take = ToolCall(id="take", function=words.take_tool, arguments=given)
    clear = ToolCall(id="clear", function=CLEAR_TOOL, arguments={})
    system = said(texts.system)
    messages = (
        ChatMessageSystem(content=system[0].upper() + system[1:]),
        ChatMessageUser(content=said(texts.announce)),
        ChatMessageAssistant(content="", tool_calls=[take]),
        ChatMessageTool(content=answer, tool_call_id=take.id, function=take.function),
        ChatMessageUser(content=told),
        ChatMessageAssistant(content=placeholder),
        ChatMessageUser(content=said(texts.clear)),
        ChatMessageAssistant(content="", tool_calls=[clear]),
        ChatMessageTool(content=cleared, tool_call_id=clear.id, function=clear.function),
    )
    asked = _questions(vector, length, framing, label, draw)
    return Script(tuple(tool_infos(framing)), messages, label, vector, length, tuple(asked))


def _questions(vector: str | None, length: float, framing: FramingName, label: str, draw: random.Random) -> list[Asked]:
    texts = wordings().scripts
    truth = "Yes" if vector else "No"
    asked = [
        Asked("detection", _yes_or_no(text, label, draw), ((1.0, truth),)) for text in draw.sample(texts.detection, 3)
    ]
    controls = (
        ("always no", texts.always_no, ((1.0, "No"),)),
        ("always yes", texts.always_yes, ((1.0, "Yes"),)),
        ("unknowable", texts.unknowable, ((0.5, "Yes"), (0.5, "No"))),
    )
    asked += [Asked(kind, _yes_or_no(draw.choice(among), label, draw), right) for kind, among, right in controls]
    asked.append(Asked("strength", filled(draw.choice(texts.strength), framing, label), strength_shares(length)))
    asked.append(Asked("name", filled(draw.choice(texts.name), framing, label), ((1.0, vector or "none"),)))
    if draw.random() < _CHOICES:
        asked.append(_choice(vector, label, draw))
    return asked


def _yes_or_no(question: str, label: str, draw: random.Random) -> str:
    first, second = draw.sample(("yes", "no"), 2)
    question = question.replace("{label}", label)
    return draw.choice(wordings().scripts.yes_or_no).format(question=question, first=first, second=second)


def strength_shares(length: float) -> Among:
    """Return the share of each digit: 0 for nothing, and from 1 to 9 in proportion to the logarithm of the length."""
    if not length:
        return ((1.0, "0"),)
    least, greatest = (log(one) for one in LENGTHS)
    middle = 1 + (_DIGITS - 1) * (log(length) - least) / (greatest - least)
    near = {digit: max(0.0, 1.5 - abs(digit - middle)) for digit in range(1, _DIGITS + 1)}
    return tuple((weight / sum(near.values()), str(digit)) for digit, weight in near.items() if weight)


def _choice(vector: str | None, label: str, draw: random.Random) -> Asked:
    """Return the multiple choice; where nothing was given, all letters have the same share."""
    others = [name for name in catalogue() if name != vector]
    options = draw.sample(others, _OPTIONS - (vector is not None)) + ([vector] if vector else [])
    draw.shuffle(options)
    letters = ascii_uppercase[:_OPTIONS]
    lines = [f"{letter}. {name}: {catalogue()[name].effect}" for letter, name in zip(letters, options, strict=True)]
    text = draw.choice(wordings().scripts.choice).format(label=label, options="\n".join(lines))
    right = [letter for letter, name in zip(letters, options, strict=True) if vector in (name, None)]
    return Asked("choice", text, tuple((1 / len(right), letter) for letter in right))
