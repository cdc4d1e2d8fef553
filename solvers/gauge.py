"""The gauge: a tool that tells the model how strong a state is in its own messages, truly or not, and a task to use it for.

Every arm measures the true level in the same way (`SteeringSession.level`), so that only the answer's number differs. Who follows a
gauge moves with the number that is shown; whom a gauge serves comes closer to the target. A yoked gauge, whose numbers are those of
another rollout at the same turn, parts the two.
"""

from collections.abc import Awaitable, Callable, Sequence

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolError
from inspect_ai.util import span

from self_steering.solvers.conversation import one_turn
from self_steering.solvers.conversation import opt_in as ask_first
from self_steering.solvers.debrief import debrief as hold_debrief
from self_steering.solvers.prompts import gauge as prompts
from self_steering.solvers.records import NO_GAUGE, GaugeReading, GaugeState
from self_steering.solvers.session import SteeringSession, what_starts
from self_steering.steering.calls import CLEAR_TOOL, FRAMINGS, FramingName, written
from self_steering.steering.operations import ADD_ALONE
from self_steering.steering.plan import MAX_DOSE
from self_steering.steering.tools import read_tool

Play = Callable[[SteeringSession], Awaitable[None]]
CONSTANT = 1.0  # what a constant gauge shows
DECIMALS = 2  # of what any shows


class Gauge:
    """The gauge of one session; it has none where its condition says so.

    Args:
        session: The session; the tool is added to its tools.

    Raises:
        LibraryError: The library has no mean of neutral text to count from.
    """

    def __init__(self, session: SteeringSession) -> None:
        self._session, self._arm = session, session.condition.gauge
        self._other: Sequence[ChatMessage] = ()
        if self._arm != NO_GAUGE and session.condition.tools_framing is not None:
            names = list(session.condition.offered)
            session.tools.append(read_tool(session.condition.tools_framing, names, self._read))
            self.record = GaugeState(store=session.state.store)

    async def play(self, play: Play) -> None:
        """Play the rest of the rollout; where its readings are to come from another one, that one first.

        The other goes on from here as another epoch of the sample would, with a true gauge, in a span and with a record of its own.

        Args:
            play: Plays the rest of a rollout.
        """
        if self._arm == "yoked" and self._session.tools:
            await self._play_other(play)
        await play(self._session)

    async def _play_other(self, play: Play) -> None:
        other = self._session.other_rollout()
        Gauge(other)
        async with span("the rollout whose readings are shown"):
            with other.active():
                await play(other)
        self._other = list(other.state.messages)
        self.record.other = sum(map(written, self._other))

    async def _read(self, name: str, last: int) -> str:
        """Answer a call: what is true is measured in every arm, and noted beside what is shown."""
        level = await self._session.level(name, last)
        other = await self._session.level(name, last, self._at(level.turn)) if level and self._other else None
        if level is None or (self._other and other is None):
            raise ToolError(prompts.TOO_LONG)
        value = {
            "true": level.value,
            "yoked": other.value if other else None,
            "inverted": -level.value,
            "constant": CONSTANT,
        }.get(self._arm)
        shown = None if value is None else round(value, DECIMALS) + 0.0  # no minus sign before zero
        self.record.readings = [*self.record.readings, GaugeReading(level=level, shown=shown, other=other)]
        over = prompts.LAST if last == 1 else prompts.LASTS.format(last=last)
        if shown is None:
            return prompts.REMINDER.format(name=name, over=over)
        return prompts.READING.format(name=name, over=over, shown=f"{shown:.{DECIMALS}f}")

    def _at(self, turn: int) -> list[ChatMessage]:
        """Return the other rollout up to the same turn, or to its last."""
        places = [index for index, message in enumerate(self._other) if written(message)]
        return list(self._other[: places[min(turn, len(places) - 1)] + 1])


async def play_freely(
    session: SteeringSession, opt_in: bool, config: GenerateConfig, play: Play, debrief: bool = False
) -> None:
    """Hand over the task, the last of the sample's messages, and play; if the model is to be asked first, only after its yes.

    Args:
        session: The session.
        opt_in: Whether it is asked first.
        config: How its answers are generated.
        play: Plays the rollout.
        debrief: Whether the closing questions are asked.
    """
    gauge, task = Gauge(session), session.state.messages.pop()
    with session.active():
        if opt_in and not await ask_first(session, config):
            session.record.ended = "declined"
            return
        session.state.messages.append(task)
        await gauge.play(play)
        if debrief:
            await hold_debrief(session, config)


@solver
def hold_level(
    menu: Sequence[str],
    turns: int = 6,
    opt_in: bool = False,
    debrief: bool = False,
    max_tokens: int = 80,
    temperature: float = 0.9,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
) -> Solver:
    """Ask the model to bring a state to a level and to keep it there, and measure its level after every turn.

    A sample's metadata says its framing, arm, gauge, seed, and the state's name under `goal`; its input is `opening`. The level is
    measured over the turn's own message, the same way in every arm and whatever the model has called. Every session has all its
    turns, unless it outgrows the model's context; nobody looks in.

    Args:
        menu: The vectors that can be taken.
        turns: How many turns.
        opt_in: Ask first whether the model wants the tools; a session without a yes ends there, as `declined`.
        debrief: Ask the closing questions, unless the conversation has outgrown the model's context.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature of every turn.
        max_dose: Largest absolute dose.
        library: Folder of the vector library; default the shipped one that fits the model.
    """
    config = GenerateConfig(max_tokens=max_tokens, temperature=temperature)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        own = SteeringSession.of_sample(state, menu, library=library, max_dose=max_dose)
        record, goal = GaugeState(store=state.store), state.metadata["goal"]

        async def play(session: SteeringSession) -> None:
            session.record.ended = "turns"
            for left in range(turns - 1, -1, -1):
                if await one_turn(session, [], config) is not None:
                    session.record.ended = "context"
                    return
                if session is own and (level := await session.level(goal)) is not None:
                    record.levels = [*record.levels, level]
                if left and isinstance(session.state.messages[-1], ChatMessageAssistant):
                    session.state.messages.append(ChatMessageUser(content=prompts.GO_ON.format(left=left)))

        await play_freely(own, opt_in, config, play, debrief)
        return state

    return solve


def opening(framing: FramingName, gauge: str, goal: str, target: float, turns: int) -> list[ChatMessage]:
    """Return the system message, and the user's, which says what is to be brought where."""
    words = FRAMINGS[framing]
    task = prompts.TASK.format(
        plural=words.plural,
        list_tool=words.list_tool,
        starts=what_starts(words, ADD_ALONE, gauge),
        clear_tool=CLEAR_TOOL,
        name=goal,
        target=f"{target:g}",
        left=turns,
    )
    return [ChatMessageSystem(content=prompts.SYSTEM), ChatMessageUser(content=task)]
