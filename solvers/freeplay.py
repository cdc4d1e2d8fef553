"""Free play: a model, the steering tools, and nothing to do."""

from collections.abc import Sequence

from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.solver import Generate, Solver, TaskState, solver

from self_steering.solvers.conversation import converse, end_tool
from self_steering.solvers.gauge import play_freely
from self_steering.solvers.prompts import freeplay as prompts
from self_steering.solvers.prompts.freeplay import Visibility
from self_steering.solvers.records import NO_GAUGE
from self_steering.solvers.session import SteeringSession, what_starts
from self_steering.solvers.sitter import Monitor
from self_steering.steering.calls import CLEAR_TOOL, END_TOOL, FRAMINGS, FramingName
from self_steering.steering.operations import ADD_ALONE, Operation
from self_steering.steering.plan import MAX_DOSE


@solver
def free_play(
    menu: Sequence[str],
    turns: int = 15,
    opt_in: bool = False,
    debrief: bool = True,
    sitter: Monitor = "rules",
    max_tokens: int = 120,
    temperature: float = 0.9,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
) -> Solver:
    """Let the model do as it likes with the steering tools, until it ends the session or its turns are used up.

    A sample's metadata says its framing, arm and seed, its input is `opening`. A model that is asked first and does not say yes
    gets no tools: there is nothing to play with, so its session ends there, as `declined`.

    Args:
        menu: The vectors that can be taken.
        turns: Most turns.
        opt_in: Ask first whether the model wants the tools.
        debrief: Ask the closing questions, unless the conversation has outgrown the model's context.
        sitter: The trip sitter's monitor: rules, model (the one in the role `sitter`), or none.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature of every turn.
        max_dose: Largest absolute dose.
        library: Folder of the vector library; default the shipped one that fits the model.
    """
    config = GenerateConfig(max_tokens=max_tokens, temperature=temperature)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        own = SteeringSession.of_sample(state, menu, library=library, max_dose=max_dose)

        async def play(session: SteeringSession) -> None:
            await converse(
                session,
                [end_tool()],
                turns=turns,
                config=config,
                monitor=sitter,
                go_on=prompts.GO_ON,
            )

        await play_freely(own, opt_in, config, play, debrief)
        return state

    return solve


def opening(
    framing: FramingName,
    visibility: Visibility,
    turns: int,
    operators: Sequence[Operation] = ADD_ALONE,
    gauge: str = NO_GAUGE,
) -> list[ChatMessage]:
    """Return the system message, which says nothing of steering, and the user's, which hands over the tools."""
    words = FRAMINGS[framing]
    system = f"{prompts.SYSTEM} {prompts.VISIBILITIES[visibility]}".strip()
    task = prompts.TASK.format(
        plural=words.plural,
        list_tool=words.list_tool,
        starts=what_starts(words, operators, gauge),
        clear_tool=CLEAR_TOOL,
        end_tool=END_TOOL,
        left=turns,
    )
    return [ChatMessageSystem(content=system), ChatMessageUser(content=task)]
