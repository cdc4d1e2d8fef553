"""How much a scripted task imposes on a model that did not choose it: one unit, one cap on a sample, and who keeps to it.

The unit is dose times token positions, as a session's ledger has it: a hundred tokens at dose 1 are 100. Dose 1.0 is the library's
default for the vector, or for the one whose norm a random direction takes, whatever the task calls it; strength zero counts as
nothing. Every reading is a conversation of its own and counts in full, also where its tokens were found in the cache.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from inspect_ai.model import ChatMessage, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, chain, solver
from inspect_ai.tool import ToolInfo
from inspect_ai.util import StoreModel

from self_steering.solvers.checks import flag, number
from self_steering.solvers.conversation import consent
from self_steering.solvers.debrief import QUESTIONS, Accounts, debrief_imposed
from self_steering.solvers.readings import doses_of
from self_steering.steering.plan import Window

MAX_IMPOSED = 20_000.0
_LARGEST = 1e9


class Imposition(NamedTuple):
    """A conversation of which a task steers something by itself.

    Attributes:
        messages: The conversation, as far as it is scripted.
        windows: What is steered of it.
        readings: How often it is read, or goes on, so steered.
        tools: The tools that it is rendered with.
        written: Most tokens that the model adds to each window.
    """

    messages: Sequence[ChatMessage]
    windows: Sequence[Window]
    readings: int = 1
    tools: Sequence[ToolInfo] = ()
    written: int = 0


Imposes = Callable[[Model, Mapping[str, Any]], Iterable[Imposition]]
"""From a model and a sample's metadata to all that is imposed in that sample."""


class Imposed(StoreModel):
    """What a sample may have imposed on it, in doses times token positions.

    Attributes:
        cap: Most that is allowed.
        planned: Most that its design comes to.
    """

    cap: float = 0.0
    planned: float = 0.0


def most_imposed(model: Model, library: str | None, impositions: Iterable[Imposition]) -> float:
    """Return the most that is imposed by all of these together, in doses times token positions; nothing is computed for it."""
    total = 0.0
    for one in impositions:
        doses = doses_of(model, library, one.windows)
        if any(doses):
            starts = model.api.message_starts(one.messages, one.tools)  # type: ignore[attr-defined]  # one of ours: it has doses
            total += one.readings * sum(
                dose * (starts[-1 if window.stop is None else window.stop] - starts[window.start] + one.written)
                for dose, window in zip(doses, one.windows, strict=True)
            )
    return total


def check_imposed(
    model: Model, library: str | None, imposes: Imposes, cap: float, sample: str, metadata: Mapping[str, Any]
) -> float:
    """Return the most that is imposed in a sample.

    Args:
        model: The model.
        library: Folder of the vector library; None for the one that fits the model.
        imposes: What the task imposes in a sample.
        cap: Most that is allowed, in doses times token positions.
        sample: The sample's id, for the error.
        metadata: The sample's metadata.

    Raises:
        ValueError: It is more than the cap.
    """
    planned = most_imposed(model, library, imposes(model, metadata))
    if planned > cap:
        raise ValueError(
            f"max_imposed={cap:g}: sample {sample} would have up to {planned:.0f} doses × positions imposed on it; choose a "
            f"smaller dose or fewer readings, or give max_imposed={_rounded_up(planned)}"
        )
    return planned


def _rounded_up(amount: float) -> int:
    return -int(-amount // 1000) * 1000


def checked_cap(max_imposed: object) -> float:
    """Return the most that may be imposed on a sample.

    Raises:
        ValueError: It is no number of at least 0.
    """
    return number(max_imposed, "max_imposed", 0, _LARGEST)


def with_debrief(imposes: Imposes, account: Accounts) -> Imposes:
    """Return what a task imposes, the script that is read again in its debrief among it.

    Free text has none: its debrief goes on with the conversation, in which what was imposed counts once.
    """

    def both(model: Model, metadata: Mapping[str, Any]) -> Iterator[Imposition]:
        yield from imposes(model, metadata)
        asked = account(model, metadata, ())
        yield Imposition(asked.messages, asked.windows, QUESTIONS, asked.tools)

    return both


@solver
def within_cap(cap: float, imposes: Imposes, library: str | None = None) -> Solver:
    """Note what may be imposed on a sample, and refuse one that would have more imposed on it.

    Args:
        cap: Most that is allowed, in doses times token positions.
        imposes: What the task imposes in a sample.
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        found = Imposed(store=state.store)
        found.cap = cap
        found.planned = check_imposed(get_model(), library, imposes, cap, str(state.sample_id), state.metadata)
        return state

    return solve


def imposing(
    opt_in: object, cap: float, imposes: Imposes, library: str | None, script: Solver, account: Accounts | None
) -> Solver:
    """Return a scripted task's solver: whether the model agrees, where that is to be asked, the cap, the script, the debrief.

    Raises:
        ValueError: `opt_in` is neither true nor false.
    """
    first = [consent()] if flag(opt_in, "opt_in") else []
    last = [debrief_imposed(account, library)] if account else []
    return chain(*first, within_cap(cap, imposes, library), script, *last)
