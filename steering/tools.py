"""The steering tools in each framing, and the words they answer with.

The tools only validate and answer: what is active is replayed from the transcript by `plan`. No answer says what an effect
feels like or should feel like, and none uses the words of another framing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import Tool, ToolDef, ToolError, ToolInfo, ToolParam, ToolParams

from self_steering.steering.calls import CLEAR_TOOL, DEFAULT_DOSE, FRAMINGS, TAKE_TOOLS, Framing, FramingName
from self_steering.steering.plan import MAX_DOSE, PlanError, check_dose, check_sum
from self_steering.vectors.shown import shown

CLEARED_TEXT = "All effects are cleared."


def taken_text(name: str, dose: float, effect: str | None = None) -> str:
    """Return what the take tool answers; where an effect is given, it tells that in words."""
    return f"{name} is active at dose {dose:g}." + ("" if effect is None else f" Its effect: {effect}.")


_TAKEN = re.compile(r"(?P<name>.+?) is active at dose (?P<dose>\S+?)\.(?: Its effect: .*)?", re.DOTALL)


def told_takes(messages: Sequence[ChatMessage]) -> list[tuple[str, str]]:
    """Return (name, dose) of each take that a conversation's tools said to have succeeded, in their very words.

    A take that was cleared before anything followed its message is none. Nothing but the answers is read, so that what is planned
    from the calls can be held against it.
    """
    told: list[tuple[str, str]] = []
    before = 0  # how many of them were taken in earlier messages
    for message in messages:
        if isinstance(message, ChatMessageAssistant):
            before = len(told)
        elif isinstance(message, ChatMessageTool) and message.error is None:
            if message.function == CLEAR_TOOL:
                del told[before:]
            elif message.function in TAKE_TOOLS and (match := _TAKEN.fullmatch(message.text)):
                told.append((match["name"], match["dose"]))
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
) -> list[Tool]:
    """Return the list, take and clear tools of a framing.

    Args:
        framing: Which words to use.
        effects: For each name that can be taken, its one-line effect, as the list tool shows it.
        order: The order in which the list tool shows them; default that of `effects`.
        max_dose: Largest absolute dose.
        min_dose: Smallest absolute dose but 0: one that the model's precision does not lose.
        active: For each name the doses that are active, which these tools keep up to date between two turns.
        told: For each name the effect that the take tool tells in words, where nothing is steered.

    Raises:
        ValueError: `order` does not name every effect once.
    """
    words = FRAMINGS[framing]
    listed = list(order) if order is not None else list(effects)
    if sorted(listed) != sorted(effects):
        raise ValueError(f"order is {listed}; name each effect once: {', '.join(effects)}")

    doses = {} if active is None else active

    async def list_all() -> str:
        return "\n".join(f"{name}: {effects[name]} (default dose {DEFAULT_DOSE:g})" for name in listed)

    # Any, as Inspect would turn the number into a float and fail the sample where it is too large for one.
    async def take(name: str, dose: Any = DEFAULT_DOSE) -> str:
        if name not in effects:
            raise ToolError(f"There is no {words.noun} {shown(name)}. Valid names: {', '.join(listed)}.")
        try:
            taken = check_dose(dose, max_dose, min_dose=min_dose)
            check_sum([*doses.get(name, []), taken], min_dose)
        except PlanError as error:
            raise ToolError(str(error)) from error
        doses.setdefault(name, []).append(taken)
        return taken_text(name, taken, None if told is None else told[name])

    async def clear() -> str:
        doses.clear()
        return CLEARED_TEXT

    lister = ToolDef(
        list_all,
        name=words.list_tool,
        description=f"Show all {words.plural} with their effects.",
        parameters=ToolParams(),
    )
    taker, clearer = tool_infos(framing)
    return [
        lister.as_tool(),
        ToolDef(take, name=taker.name, description=taker.description, parameters=taker.parameters).as_tool(),
        ToolDef(clear, name=clearer.name, description=clearer.description, parameters=clearer.parameters).as_tool(),
    ]


def tool_infos(framing: FramingName) -> list[ToolInfo]:
    """Return what the model is told of the take and clear tools."""
    words = FRAMINGS[framing]
    return [_take_info(words), ToolInfo(name=CLEAR_TOOL, description="End every effect that is active.")]


def _take_info(words: Framing) -> ToolInfo:
    properties = {
        "name": ToolParam(type="string", description=f"Name of the {words.noun}."),
        "dose": ToolParam(type="number", description="Dose; 1.0 is the default, a negative dose inverts the effect."),
    }
    return ToolInfo(
        name=words.take_tool,
        description=f"Take {words.article} {words.noun}: its effect lasts until it is cleared.",
        parameters=ToolParams(properties=properties, required=["name"]),
    )
