"""What a conversation says of each take: its name, its dose, whether it had an effect, and which calls are takes."""

import math

import pytest
from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser
from inspect_ai.tool import ToolCall, ToolCallError

from self_steering.steering.calls import (
    FRAMINGS,
    SteeringCall,
    active_takes,
    number,
    steering_calls,
    take_calls,
    written,
)
from self_steering.steering.operations import OPERATIONS


def called(function: str = "take_vector", **arguments: object) -> SteeringCall:
    asked = ChatMessageAssistant(content="", tool_calls=[ToolCall(id="1", function=function, arguments=arguments)])
    (call,) = steering_calls([asked])
    return call


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"name": "calm"}, "calm"), ({"name": 7}, "7"), ({"name": None}, ""), ({"Name": "calm"}, "")],
)
def test_a_call_is_reported_with_the_name_it_asked_for(arguments: dict, name: str):
    """As text, and as none where it names nothing."""
    assert called(**arguments).name == name


@pytest.mark.parametrize(
    ("arguments", "dose"),
    [({}, 1.0), ({"dose": -2}, -2.0), ({"dose": "0.5"}, 0.5), ({"dose": "much"}, math.nan), ({"dose": None}, math.nan)],
)
def test_a_call_is_reported_with_the_dose_it_asked_for(arguments: dict, dose: float):
    """Where it gives none that is the one that the tool takes for granted; an ablation takes none, whatever it gives."""
    assert called(name="calm", **arguments).dose == pytest.approx(dose, nan_ok=True)
    assert called("ablate_vector", name="calm", **arguments).dose == 0


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (2, 2.0),
        ("1e-3", 0.001),
        (" -3 ", -3.0),
        *((odd, math.nan) for odd in (True, None, [1], b"1", "", "1,5", 10**400)),
    ],
)
def test_a_number_is_read_from_numbers_and_from_their_text_alone(value: object, read: float):
    """True is no dose of 1, and nothing raises."""
    assert number(value) == pytest.approx(read, nan_ok=True)


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_every_tool_that_starts_something_is_a_take_and_the_clear_is_none(framing):
    """In call order, with the operation that the tool's name stands for; other tools are not steering at all."""
    tools = [framing.tool(operation) for operation in OPERATIONS]
    calls = [
        ToolCall(id=name, function=name, arguments={})
        for name in (*tools, framing.list_tool, "clear_effects", "python")
    ]
    found = steering_calls([ChatMessageAssistant(content="", tool_calls=calls)])
    assert [call.call.function for call in found] == [*tools, "clear_effects"]
    assert [call.operation for call in found if call.takes] == list(OPERATIONS)
    assert take_calls([ChatMessageAssistant(content="", tool_calls=calls)]) == found[:-1]


ERROR = ToolCallError("unknown", "no")


@pytest.mark.parametrize(
    ("answer", "ok", "while_last", "once_followed"),
    [
        ({"content": "calm is active at dose 1."}, True, True, True),
        ({"content": "ERROR: no such name"}, False, False, False),
        ({"content": "no ERROR"}, True, True, True),
        ({"content": "calm is active at dose 1.", "error": ERROR}, False, False, False),
        (None, None, False, True),
    ],
)
def test_a_take_has_an_effect_unless_it_is_refused_or_nothing_follows(answer, ok, while_last, once_followed):
    """What an answer says holds whether or not the conversation goes on; without one, a take steers what follows."""
    take = ToolCall(id="1", function="take_vector", arguments={"name": "calm"})
    messages = [ChatMessageUser(content="u"), ChatMessageAssistant(content="", tool_calls=[take])]
    messages += [] if answer is None else [ChatMessageTool(tool_call_id="1", **answer)]
    (last,) = steering_calls(messages)
    (followed,) = steering_calls([*messages, ChatMessageUser(content="u"), ChatMessageAssistant(content="a")])
    assert [(call.ok, call.effective, call.followed) for call in (last, followed)] == [
        (ok, while_last, False),
        (ok, once_followed, True),
    ]
    assert last.answer == (answer and answer["content"])


def test_turns_are_those_that_the_model_wrote():
    """A scripted call has the number of the model's next turn; users' messages and answers count for nothing."""
    take = ToolCall(id="1", function="take_vector", arguments={"name": "calm"})
    scripted = ChatMessageAssistant(content="", tool_calls=[take])
    own = ChatMessageAssistant(content="", tool_calls=[take], source="generate")
    user = ChatMessageUser(content="u", source="generate")
    found = steering_calls([user, scripted, own, user, ChatMessageAssistant(content="a"), own, scripted])
    assert [(call.message, call.turn, call.scripted) for call in found] == [
        (1, 0, True),
        (2, 0, False),
        (5, 1, False),
        (6, 2, True),
    ]
    assert [written(message) for message in (user, scripted, own)] == [False, False, True]


def test_a_clear_ends_what_is_active_once_and_is_told_from_one_outside():
    """A later clear does not move an end; a clear from outside comes behind the calls of the message before it."""
    take, clear = (ToolCall(id="", function=name, arguments={}) for name in ("take_vector", "clear_effects"))

    def talk(*calls: ToolCall) -> list[ChatMessageAssistant]:
        return [ChatMessageAssistant(content="", tool_calls=[call]) for call in calls]

    def ends(*calls: ToolCall, outside: tuple[int, ...] = ()) -> list[tuple[int, int | None, bool]]:
        return [(one.start, one.stop, one.outside) for one in active_takes(talk(*calls), outside)]

    assert ends(take, clear, take, clear) == [(1, 2, False), (3, 4, False)]
    assert ends(take, take, clear, outside=(1,)) == [(1, 1, True), (2, 3, False)]
    assert ends(take, clear, outside=(4, 2)) == [(1, 2, False)]
    assert ends(take) == [(1, None, False)]
