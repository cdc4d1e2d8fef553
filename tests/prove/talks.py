"""Random conversations in which effects start, stack, invert, fail and end, and an own account of what is then steered."""

import random
from dataclasses import dataclass, field, replace

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool, ChatMessageUser
from inspect_ai.tool import ToolCall, ToolCallError

LABELS = ("d1", "d2", "d3", "zero")
TAKE, CLEAR = "take_vector", "clear_effects"
# The tools by what they do, and how often each is called; gains are small, as many of them multiply.
_TOOLS = {"add": TAKE, "clamp": "clamp_vector", "ablate": "ablate_vector", "gain": "scale_vector"}
_WEIGHTS = (6, 2, 1, 2)
_DOSES = {"gain": [0.25, -0.25, 0.0], "ablate": [0.0]}
_RECURRING = ("call0", "call1")
_FILLER = ("the", "harbour", "was", "still", "and", "a", "boat", "lay", "low")


@dataclass(frozen=True)
class Effect:
    """What a take starts: an operation with `label` at `dose`, from the end of message `start` to that of `stop` (None: open)."""

    label: str
    dose: float
    start: int
    stop: int | None = None
    operation: str = "add"


@dataclass(frozen=True)
class Talk:
    """A conversation.

    Attributes:
        messages: The messages; the last is a user's or a tool's.
        words: For each message a word that it alone holds.
        effects: What its takes did, kept beside the messages while they are made, not replayed from them.
        outside: Messages before which all effects ended from outside.
        before: The conversation that it came from.
    """

    messages: tuple[ChatMessage, ...] = ()
    words: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    outside: frozenset[int] = frozenset()
    before: "Talk | None" = field(default=None, repr=False)

    def cleared(self, message: int) -> "Talk":
        """End every effect at the end of a message."""
        ended = (e if e.stop is not None else replace(e, stop=message) for e in self.effects)
        return replace(self, effects=tuple(ended))

    def added(self, message: ChatMessage, word: str) -> "Talk":
        """Add a message."""
        return replace(self, messages=(*self.messages, message), words=(*self.words, word))


def opening(rng: random.Random) -> Talk:
    """Return the beginning of a conversation."""
    said = _word(rng)
    return Talk().added(ChatMessageUser(content=f"{_filler(rng)} {said} {_filler(rng)}".strip()), said)


def grown(talk: Talk, rng: random.Random) -> Talk:
    """Return a conversation with one more turn of the model and what follows it; `before` is the one it came from."""
    kind = rng.choices(["prose", "calls", "outside"], [3, 6, 1])[0]
    if kind == "calls":
        return replace(_with_calls(talk, rng), before=talk)
    said, reply = _word(rng), _word(rng)
    text = f"{_filler(rng)} {said} {_filler(rng)}".strip()
    more = talk.added(ChatMessageAssistant(content=text), said)
    if kind == "outside":
        more = replace(more.cleared(len(more.messages) - 1), outside=more.outside | {len(more.messages)})
    return replace(more.added(ChatMessageUser(content=f"{_filler(rng)} {reply}".strip()), reply), before=talk)


def edited(talk: Talk, rng: random.Random) -> Talk:
    """Return a conversation whose past is another: it goes back some turns, and goes on differently from there."""
    for _ in range(rng.randrange(1, 4)):
        talk = talk.before or talk
    return grown(talk, rng)


def _with_calls(talk: Talk, rng: random.Random) -> Talk:
    index, said = len(talk.messages), _word(rng)
    calls: list[ToolCall] = []
    answers: list[ChatMessage] = []
    for number in range(rng.choices([1, 2, 3, 6], [6, 3, 2, 1])[0]):
        fails = rng.random() < 0.15
        # Agents that trim or edit their history make ids recur, in other messages and in this one.
        call_id = rng.choice(_RECURRING) if rng.random() < 0.3 else f"{said}{number}"
        if rng.random() < 0.25:
            call = ToolCall(id=call_id, function=CLEAR, arguments={})
            talk = talk if fails else talk.cleared(index)
        else:
            (operation,) = rng.choices(list(_TOOLS), _WEIGHTS)
            label, dose = rng.choice(LABELS), rng.choice(_DOSES.get(operation, [1.0, 0.5, -1.0, 2.25, -0.3, 0.0, 1]))
            told = {} if dose == 1.0 or operation == "ablate" else {"dose": dose}
            call = ToolCall(
                id=call_id, function=_TOOLS[operation], arguments={"name": "unknown" if fails else label, **told}
            )
            # One that is taken and ended in one message never steers: both happen at that message's end.
            effect = Effect(label, float(dose), index, operation=operation)
            talk = talk if fails else replace(talk, effects=(*talk.effects, effect))
        if fails and rng.random() < 0.5:
            call.parse_error = "could not be read"
        calls.append(call)
        answers.append(_answer(call, f"{_word(rng)}{number}", fails))
    # In the last call's arguments: some templates print no text beside a call.
    calls[-1].arguments = {**calls[-1].arguments, "note": said}
    talk = talk.added(ChatMessageAssistant(content="", tool_calls=calls), said)
    for answer in answers:
        talk = talk.added(answer, answer.metadata["word"] if answer.metadata else "")
    return talk


def _answer(call: ToolCall, said: str, fails: bool) -> ChatMessageTool:
    error = ToolCallError("unknown", f"It failed {said}.") if fails else None
    return ChatMessageTool(
        content="" if fails else f"Noted {said}.",
        tool_call_id=call.id,
        function=call.function,
        error=error,
        metadata={"word": said},
    )


def _word(rng: random.Random) -> str:
    """Return a word that stands nowhere else."""
    return f"w{rng.randrange(10**9):09d}x"


def _filler(rng: random.Random) -> str:
    return " ".join(rng.choices(_FILLER, k=rng.randrange(9)))
