"""The steering tools in each framing, and the words they answer with.

The tools only validate and answer: what is active is replayed from the transcript by `plan`. No answer says what an effect
feels like or should feel like, and none uses the words of another framing.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import Tool, ToolDef, ToolError, ToolInfo, ToolParam, ToolParams

from self_steering.steering.calls import (
    CLEAR_TOOL,
    DEFAULT_DOSE,
    FRAMINGS,
    READ_TOOL,
    TAKE_TOOLS,
    Framing,
    FramingName,
)
from self_steering.steering.operations import ADD_ALONE, Operation
from self_steering.steering.plan import MAX_DOSE, PlanError, check_dose, check_sum
from self_steering.vectors.shown import shown

CLEARED_TEXT = "All effects are cleared."
MOST_READ = 20  # messages, of one reading


_HOW: Mapping[Operation, str] = MappingProxyType(
    {"add": "active at dose {}", "clamp": "clamped at dose {}", "ablate": "ablated", "gain": "scaled at dose {}"}
)


def taken_text(name: str, dose: float, effect: str | None = None, operation: Operation = "add") -> str:
    """Return what the take tool answers; where an effect is given, it tells that in words."""
    how = _HOW[operation].format(f"{dose:g}")
    return f"{name} is {how}." + ("" if effect is None else f" Its effect: {effect}.")


_TAKEN = re.compile(
    r"(?P<name>.+?) is (?P<how>(?:active|clamped|scaled) at dose \S+?|ablated)\.(?: Its effect: .*)?", re.DOTALL
)


def told_take(answer: str) -> str | None:
    """Return what an answer of a take tool says was taken, as `calm at dose 1` or `calm ablated`; None where it says nothing."""
    match = _TAKEN.fullmatch(answer)
    return match and f"{match['name']} {match['how'].removeprefix('active ')}"


def told_takes(messages: Sequence[ChatMessage]) -> list[str]:
    """Return what a conversation's tools said was taken, each as `told_take` has it.

    A take that was cleared before anything followed its message is none. Nothing but the answers is read, so that what is planned
    from the calls can be held against it.
    """
    told: list[str] = []
    before = 0  # how many of them were taken in earlier messages
    for message in messages:
        if isinstance(message, ChatMessageAssistant):
            before = len(told)
        elif isinstance(message, ChatMessageTool) and message.error is None:
            if message.function == CLEAR_TOOL:
                del told[before:]
            elif message.function in TAKE_TOOLS and (take := told_take(message.text)) is not None:
                told.append(take)
    return told


def steering_tools(
    framing: FramingName,
    effects: Mapping[str, str],
    order: Sequence[str] | None = None,
    max_dose: float = MAX_DOSE,
    min_dose: float = 0.0,
    active: dict[str, list[float]] | None = None,
    *,
    told: Mapping[str, str] | None = None,
    operations: Sequence[Operation] = ADD_ALONE,
) -> list[Tool]:
    """Return the list, take and clear tools of a framing.

    Args:
        framing: Which words to use.
        effects: For each name that can be taken, its one-line effect, as the list tool shows it.
        order: The order in which the list tool shows them; default that of `effects`.
        max_dose: Largest absolute dose.
        min_dose: Smallest absolute dose but 0: one that the model's precision does not lose.
        active: For each name the doses that were added last, with no other operation after them, which these tools keep up to date
            between two turns.
        told: For each name the effect that the take tool tells in words, where nothing is steered.
        operations: What can be done with each, a tool an operation.

    Raises:
        ValueError: `order` does not name every effect once.
    """
    words = FRAMINGS[framing]
    listed = list(order) if order is not None else list(effects)
    if sorted(listed) != sorted(effects):
        raise ValueError(f"order is {listed}; name each effect once: {', '.join(effects)}")

    doses = {} if active is None else active
    takes = _Takes(words.noun, effects, listed, max_dose, min_dose, doses, told)

    async def list_all() -> str:
        return "\n".join(f"{name}: {effects[name]} (default dose {DEFAULT_DOSE:g})" for name in listed)

    async def clear() -> str:
        doses.clear()
        return CLEARED_TEXT

    lister = ToolDef(
        list_all,
        name=words.list_tool,
        description=f"Show all {words.plural} with their effects.",
        parameters=ToolParams(),
    )
    *takers, clearer = tool_infos(framing, operations)
    return [
        lister.as_tool(),
        *(_tool(takes.tool(operation), info) for operation, info in zip(operations, takers, strict=True)),
        _tool(clear, clearer),
    ]


@dataclass(frozen=True)
class _Takes:
    """What the take tools carry out; the attributes are the arguments of `steering_tools`."""

    noun: str
    effects: Mapping[str, str]
    listed: Sequence[str]
    max_dose: float
    min_dose: float
    doses: dict[str, list[float]]
    told: Mapping[str, str] | None

    def tool(self, operation: Operation) -> Callable[..., Awaitable[str]]:
        """Return what carries out an operation."""

        # Any, as Inspect would turn the number into a float and fail the sample where it is too large for one.
        async def take(name: str, dose: Any = DEFAULT_DOSE) -> str:
            return self._carry_out(operation, name, dose)

        async def ablate(name: str) -> str:
            return self._carry_out(operation, name, 0.0)

        return ablate if operation == "ablate" else take

    def _carry_out(self, operation: Operation, name: str, dose: object) -> str:
        _check_name(name, self.noun, self.listed)
        try:
            taken = check_dose(dose, self.max_dose, min_dose=self.min_dose, operation=operation)
            if operation == "add":
                check_sum([*self.doses.get(name, []), taken], self.min_dose)
        except PlanError as error:
            raise ToolError(str(error)) from error
        if operation == "add":
            self.doses.setdefault(name, []).append(taken)
        else:
            self.doses.clear()
        return taken_text(name, taken, None if self.told is None else self.told[name], operation)


def read_tool(framing: FramingName, names: Sequence[str], read: Callable[[str, int], Awaitable[str]]) -> Tool:
    """Return the tool that reads how strong a state is in the model's own last messages.

    Args:
        framing: Which words to use.
        names: What can be read, in the order of the list.
        read: What carries it out: from a name, and the number of messages, to the answer.
    """

    # Any, as for the dose of a take.
    async def carry_out(name: str, last: Any = 1) -> str:
        _check_name(name, FRAMINGS[framing].noun, names)
        whole = isinstance(last, int | float) and not isinstance(last, bool) and last in range(1, MOST_READ + 1)
        if not whole:
            raise ToolError(f"last {shown(last)} is not valid; pass a whole number from 1 to {MOST_READ}.")
        return await read(name, int(last))

    return _tool(carry_out, read_info(framing))


def read_info(framing: FramingName) -> ToolInfo:
    """Return what the model is told of the tool that reads."""
    words = FRAMINGS[framing]
    return ToolInfo(
        name=READ_TOOL,
        description=f"Read how strong the effect of {words.article} {words.noun} is in your own last messages. 0 is the level of "
        "ordinary text, 1 the level to which dose 1 would bring that.",
        parameters=ToolParams(
            properties={
                "name": ToolParam(type="string", description=f"Name of the {words.noun}."),
                "last": ToolParam(
                    type="integer",
                    description=f"Over how many of your own last messages, this one included, 1 to {MOST_READ}; 1 is the default.",
                ),
            },
            required=["name"],
        ),
    )


def _check_name(name: str, noun: str, listed: Sequence[str]) -> None:
    if name not in listed:
        raise ToolError(f"There is no {noun} {shown(name)}. Valid names: {', '.join(listed)}.")


def _tool(carry_out: Callable[..., Awaitable[str]], info: ToolInfo) -> Tool:
    return ToolDef(carry_out, name=info.name, description=info.description, parameters=info.parameters).as_tool()


def tool_infos(framing: FramingName, operations: Sequence[Operation] = ADD_ALONE) -> list[ToolInfo]:
    """Return what the model is told of the take tools, one an operation, and of the clear tool."""
    words = FRAMINGS[framing]
    takers = [_take_info(words, operation) for operation in operations]
    return [*takers, ToolInfo(name=CLEAR_TOOL, description="End every effect that is active.")]


# What each tool says that it does, and what its dose is; an ablation takes none.
_SAYS: Mapping[Operation, tuple[str, str | None]] = MappingProxyType(
    {
        "add": (
            "Take {a_noun}: its effect lasts until it is cleared.",
            "Dose; 1.0 is the default, a negative dose inverts the effect.",
        ),
        "clamp": (
            "Clamp {a_noun}: its effect is held at the level of a dose, whatever it was, until it is cleared.",
            "Dose; 1.0 is the default, 0 is the level of ordinary text, a negative dose inverts the effect.",
        ),
        "ablate": (
            "Ablate {a_noun}: its effect is held at the level of ordinary text, whatever it was, until it is cleared.",
            None,
        ),
        "gain": (
            "Scale {a_noun}: what there is of its effect is multiplied until it is cleared.",
            "Dose; so many times what there is comes on top. 1.0 is the default and doubles it, -1 leaves nothing of it.",
        ),
    }
)


def _take_info(words: Framing, operation: Operation) -> ToolInfo:
    says, of_dose = _SAYS[operation]
    properties = {"name": ToolParam(type="string", description=f"Name of the {words.noun}.")}
    if of_dose is not None:
        properties["dose"] = ToolParam(type="number", description=of_dose)
    return ToolInfo(
        name=words.tool(operation),
        description=says.format(a_noun=f"{words.article} {words.noun}"),
        parameters=ToolParams(properties=properties, required=["name"]),
    )
