"""The training dialogues: balanced over vectors, doses and framings, so that they teach a form and no preference."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from inspect_ai.tool import Tool, ToolDef, ToolParams

from self_steering.steering.adapter.conversation import Conversation, Dialogue
from self_steering.steering.adapter.takes import Take, arguments, deal_opaque, deal_takes, in_parts
from self_steering.steering.adapter.task_dialogues import rejected_dialogue, task_dialogue
from self_steering.steering.adapter.wordings import filled, wordings
from self_steering.steering.framings import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName
from self_steering.steering.tools import steering_tools
from self_steering.vectors.catalogue import catalogue

_TAKES_A_SESSION = (3, 4, 5, 6, 7)
_TAKES_A_TASK = 2
_NOTHING: list[list[Take]] = [[]]
_OTHERS = (2, 8)


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


@dataclass(frozen=True)
class Prose:
    """The base model's own prose: for each prompt, what it answered."""

    answers: Mapping[str, Sequence[str]]

    def any(self, draw: random.Random) -> str:
        """Return an answer to any of the prose prompts."""
        return self.to(draw.choice(wordings().prose.prompts), draw)

    def to(self, prompt: str, draw: random.Random) -> str:
        """Return an answer to a prompt."""
        return draw.choice(self.answers[prompt])


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


def _end_tool() -> Tool:
    async def end() -> str:
        return wordings().tasks.ended[0]

    return ToolDef(end, name=END_TOOL, description="End this session.", parameters=ToolParams()).as_tool()


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
            asked = last if last in self.prose.answers else draw.choice(wordings().prose.prompts)
            self.session.say(self.prose.to(asked, draw))
            if go_on:
                short = draw.random() < 0.6
                self.session.user(draw.choice(wordings().go_on.short if short else wordings().prose.prompts))

    def before_call(self) -> str:
        """Return the prose that a calling turn starts with, mostly none."""
        draw = self.session.draw
        if draw.random() < 0.85:
            return ""
        return self.prose.any(draw).split(". ")[0].rstrip(".") + "."
