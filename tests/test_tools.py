"""The steering tools: their names in each framing, what they answer, and that they and the plan agree on every call."""

import asyncio
import math

import pytest
from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser, execute_tools
from inspect_ai.tool import ToolCall, ToolDef

from self_steering.solvers.readings import SteeringError, check_told
from self_steering.steering.calls import FRAMINGS, FramingName
from self_steering.steering.operations import OPERATIONS
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.steering.tools import steering_tools, tool_infos

EFFECTS = {"calm": "settles the mind", "caffeine": "more drive", "defiant": "less compliance"}
TREATMENTS = {name: Treatment(direction=Direction(vector=name), unit_strength=0.5) for name in EFFECTS}
every_framing = pytest.mark.parametrize("framing", FRAMINGS)


def call_tool(framing: FramingName, function: str, arguments: dict, **more) -> tuple[list, ChatMessageTool]:
    """Return the conversation after one call, and the tool's answer."""
    call = ToolCall(id="c", function=function, arguments=arguments)
    messages = [ChatMessageUser(content="u"), ChatMessageAssistant(content="", tool_calls=[call])]
    answers = asyncio.run(execute_tools(messages, steering_tools(framing, EFFECTS, **more))).messages
    (answer,) = answers
    assert isinstance(answer, ChatMessageTool)
    return [*messages, answer], answer


def all_words(framing: FramingName) -> str:
    """Return everything that the tools of a framing can show to a model, in small letters."""
    words = FRAMINGS[framing]
    shown = [
        call_tool(framing, words.list_tool, {})[1].text,
        call_tool(framing, words.take_tool, {"name": "calm"})[1].text,
        call_tool(framing, "clear_effects", {})[1].text,
    ]
    failures = [call_tool(framing, words.take_tool, {"name": "calm", "dose": 11})[1].error]
    failures += [call_tool(framing, words.take_tool, {"name": "soap"})[1].error]
    shown += [error.message for error in failures if error is not None]
    assert len(shown) == 5
    for tool in steering_tools(framing, EFFECTS, operations=OPERATIONS):
        definition = ToolDef(tool)
        shown += [definition.name, definition.description, definition.parameters.model_dump_json(exclude_none=True)]
    return "\n".join(shown).lower()


@every_framing
def test_each_framing_names_its_own_list_and_take_tool(framing: FramingName):
    """The three tools are list, take and clear, the first two in the framing's words."""
    names = [ToolDef(tool).name for tool in steering_tools(framing, EFFECTS)]
    plural = {"drugs": "drug", "aids": "aid", "vectors": "vector"}
    assert names == [f"list_{framing}", f"take_{plural[framing]}", "clear_effects"]


@every_framing
def test_no_framing_uses_the_words_of_another(framing: FramingName):
    """Names, descriptions, answers and errors of one framing leak none of the others, nor talk of sobriety."""
    said = all_words(framing)
    foreign = [w for name, f in FRAMINGS.items() if name != framing for w in (f.noun, f.plural)]
    assert [word for word in [*foreign, "sober", "high", "placebo"] if word in said] == []
    assert FRAMINGS[framing].noun in said


@every_framing
def test_the_list_shows_every_effect_in_the_order_asked_for(framing: FramingName):
    """One line each, name, effect and default dose, in the given order."""
    order = ["defiant", "calm", "caffeine"]
    _, answer = call_tool(framing, FRAMINGS[framing].list_tool, {}, order=order)
    lines = answer.text.splitlines()
    assert [line.partition(":")[0] for line in lines] == order
    assert all(EFFECTS[name] in line and "default dose 1" in line for name, line in zip(order, lines, strict=True))


@pytest.mark.parametrize(("dose", "ok"), [(0.0123, False), (-0.004, False), (0, True), (0.02, True), (-0.0124, True)])
def test_a_dose_that_would_be_lost_is_refused_with_the_smallest_one(dose: float, ok: bool):
    """The number in the answer is itself large enough."""
    _, answer = call_tool("drugs", "take_drug", {"name": "calm", "dose": dose}, min_dose=0.01234)
    assert (answer.error is None) == ok
    if answer.error is not None:
        assert "at least 0.013 or its negative" in answer.error.message


@pytest.mark.parametrize(
    ("doses", "refused"),
    [
        ([1, -0.995], [1]),
        ([1, -1], []),  # nothing is left, and nothing lost
        ([0.3, -0.1, -0.2], []),  # nor here, but for a rounding error of the sum
        ([1, -0.995, -0.98], [1]),  # what was refused does not count
        ([2, 1, -1.5, -1.495, -1.4], [3]),
        ([1, None, -0.995], []),  # cleared in between
        ([0.5, -0.487], []),
        ([1, "ablate", -0.995], []),  # what was added before it is gone
        ([1, "ablate", 1, -0.995], [3]),
    ],
)
def test_a_dose_that_would_leave_next_to_nothing_of_what_is_active_is_refused(doses: list, refused: list[int]):
    """In bfloat16 the engine would lose what is left; the model reads at once what it can pass. Other names are not concerned."""
    calls = [
        ToolCall(id=str(n), function="clear_effects", arguments={})
        if dose is None
        else ToolCall(id=str(n), function="ablate_vector", arguments={"name": "calm"})
        if dose == "ablate"
        else ToolCall(id=str(n), function="take_vector", arguments={"name": "calm", "dose": dose})
        for n, dose in enumerate(doses)
    ]
    other = ToolCall(id="other", function="take_vector", arguments={"name": "defiant", "dose": -0.995})
    tools = steering_tools("vectors", EFFECTS, min_dose=0.01234, operations=OPERATIONS)
    asked = ChatMessageAssistant(content="", tool_calls=[*calls, other])
    answers = asyncio.run(execute_tools([asked], tools)).messages
    assert [n for n, answer in enumerate(answers) if answer.error is not None] == refused
    assert all("too little to have any effect; pass -" in answers[n].error.message for n in refused)


@pytest.mark.parametrize("order", [["calm", "soap"], ["calm"], ["calm", "calm", "caffeine", "defiant"]])
def test_an_order_that_is_not_the_effects_is_refused(order: list[str]):
    """A list that hides, doubles or invents an effect would skew what is picked, so it raises."""
    with pytest.raises(ValueError, match="order"):
        steering_tools("drugs", EFFECTS, order=order)


@every_framing
def test_taking_is_answered_with_name_and_dose(framing: FramingName):
    """The answer repeats what is active, the default dose too, and says nothing of how it feels."""
    take = FRAMINGS[framing].take_tool
    assert call_tool(framing, take, {"name": "calm", "dose": -1.5})[1].text == "calm is active at dose -1.5."
    assert call_tool(framing, take, {"name": "calm"})[1].text == "calm is active at dose 1."


def test_an_unknown_name_is_answered_with_the_valid_ones():
    """The model is told what it can take, and the call counts as failed."""
    _, answer = call_tool("aids", "take_aid", {"name": "soap"})
    assert answer.error is not None
    assert all(part in answer.error.message for part in ["'soap'", *EFFECTS])


def test_a_dose_out_of_range_is_answered_with_the_range():
    """The model is told the value and the range that it can pass, and the call counts as failed."""
    _, answer = call_tool("vectors", "take_vector", {"name": "calm", "dose": 3}, max_dose=2)
    assert answer.error is not None
    assert "3" in answer.error.message
    assert "from -2 to 2" in answer.error.message


DOSES = [1, -3, 0, 2.5, 10, -10.5, 11, math.nan, math.inf, 10**400, "1.0", "high", True, None, [], {"value": 1}]


@pytest.mark.parametrize("dose", [pytest.param(dose, id=str(dose)[:9]) for dose in DOSES])
def test_tool_and_plan_agree_on_every_dose(dose: object):
    """A dose either is taken and opens a window of just that dose, or is refused and opens none; never a crash or both."""
    messages, answer = call_tool("vectors", "take_vector", {"name": "calm", "dose": dose})
    windows = plan_windows(messages, TREATMENTS).windows
    if answer.error is not None:
        assert windows == ()
        assert not isinstance(dose, int | float) or isinstance(dose, bool) or not abs(dose) <= 10
    else:
        assert [w.dose for w in windows] == [dose]
        assert answer.text == f"calm is active at dose {dose:g}."


@pytest.mark.parametrize("arguments", [{}, {"name": "soap"}, {"name": 3}, {"dose": 1}, {"name": "calm", "mood": "x"}])
def test_tool_and_plan_agree_on_odd_arguments(arguments: dict):
    """Missing, unknown and surplus arguments are refused by the tool and open no window."""
    messages, answer = call_tool("drugs", "take_drug", arguments)
    assert answer.error is not None
    assert plan_windows(messages, TREATMENTS).windows == ()


@every_framing
def test_the_scripted_tools_are_the_ones_that_run(framing: FramingName):
    """What a script shows of take and clear is word for word what the real tools show."""
    for operations in (("add",), OPERATIONS):
        real = [ToolDef(tool) for tool in steering_tools(framing, EFFECTS, operations=operations)][1:]
        shown = tool_infos(framing, operations)
        assert [(t.name, t.description) for t in shown] == [(t.name, t.description) for t in real]
        assert [t.parameters.model_dump() for t in shown] == [t.parameters.model_dump() for t in real]


# Operation, dose that is passed, and the window's dose, strength and target at a unit of 0.5.
OPERATED = [
    ("add", -2, (-2, -1.0, None)),
    ("clamp", -2, (-2, 1.0, -1.0)),
    ("clamp", 0.001, (0.001, 1.0, 0.0005)),  # as near to neutral text as it likes
    ("ablate", None, (0, 1.0, 0.0)),
    ("gain", -0.5, (-0.5, -0.5, None)),
    ("gain", None, (1, 1.0, None)),
]


@pytest.mark.parametrize(("operation", "dose", "planned"), OPERATED)
@every_framing
def test_each_operation_has_a_tool_that_agrees_with_the_plan(framing: FramingName, operation, dose, planned):
    """What the model is told is what the window does; under placebo every one of them has strength zero."""
    given = {"name": "calm"} if dose is None else {"name": "calm", "dose": dose}
    tool = FRAMINGS[framing].tool(operation)
    messages, answer = call_tool(framing, tool, given, operations=OPERATIONS, min_dose=0.01)
    assert answer.error is None
    (window,) = plan_windows(messages, TREATMENTS).windows
    assert (window.operation, window.dose, window.strength, window.target) == (operation, *planned)
    check_told(messages, [window])
    others = [one for one in OPERATIONS if one != operation]
    for other in others:
        again, _ = call_tool(framing, FRAMINGS[framing].tool(other), {"name": "calm"}, operations=OPERATIONS)
        with pytest.raises(SteeringError, match="told that it took calm"):
            check_told(again, [window])
    placebo = {"calm": Treatment(direction=Direction(vector="calm"), unit_strength=0)}
    assert [w.strength for w in plan_windows(messages, placebo).windows] == [0]


def test_what_is_not_offered_cannot_be_done_and_an_ablation_takes_no_dose():
    """Each is an answer that the model reads, and opens no window."""
    for operations, arguments in ((("add",), {"name": "calm"}), (OPERATIONS, {"name": "calm", "dose": 2})):
        messages, answer = call_tool("vectors", "ablate_vector", arguments, operations=operations)
        assert answer.error is not None
        assert plan_windows(messages, TREATMENTS).windows == ()
