"""Messages to windows: the replay, what opens and closes a window, and what is refused."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.tool import ToolCall, ToolCallError
from pydantic import ValidationError

from self_steering.steering.calls import FRAMINGS, FramingName, steering_calls
from self_steering.steering.plan import (
    Direction,
    Plan,
    PlanError,
    Treatment,
    Window,
    at_site,
    check_dose,
    check_sum,
    plan_windows,
)
from self_steering.steering.request import (
    EXTRA_BODY_KEY,
    LIBRARY_KEY,
    SteeringRequest,
    is_aside,
    logged_request,
    read_request,
    steering_report,
)
from self_steering.vectors.card import card_hash

TREATMENTS = {
    "calm": Treatment(direction=Direction(vector="calm"), unit_strength=0.5),
    "curious": Treatment(direction=Direction(vector="honest"), unit_strength=2.0),
    "proud": Treatment(direction=Direction(vector="proud", random_seed=7), unit_strength=1.0),
    "sugar": Treatment(direction=Direction(vector="calm"), unit_strength=0.0),
}


def take(name: object = "calm", dose: object = None, tool: str = "take_vector", **more) -> ToolCall:
    arguments = {"name": name} | ({} if dose is None else {"dose": dose})
    return ToolCall(id="", function=tool, arguments=arguments, **more)


def clear(**more) -> ToolCall:
    return ToolCall(id="", function="clear_effects", arguments={}, **more)


def talk(*turns: list[ToolCall] | str, failed: tuple[str, ...] = ()) -> list[ChatMessage]:
    """Return a conversation: a list of calls is an assistant message with its answers, `u` and `a` a user's or a plain one."""
    messages: list[ChatMessage] = [ChatMessageSystem(content="s"), ChatMessageUser(content="u")]
    for turn in turns:
        if turn == "u":
            messages.append(ChatMessageUser(content="u"))
        elif turn == "a":
            messages.append(ChatMessageAssistant(content="a"))
        else:
            calls = [replace(c, id=f"{len(messages)}/{n}") for n, c in enumerate(turn)]
            messages.append(ChatMessageAssistant(content="", tool_calls=calls))
            messages.extend(
                ChatMessageTool(
                    content="",
                    tool_call_id=c.id,
                    function=c.function,
                    error=ToolCallError("unknown", "no") if c.id in failed else None,
                )
                for c in calls
            )
    return messages


def spans(messages: list[ChatMessage], **more) -> list[tuple[str, int, int | None]]:
    return [(w.label, w.start, w.stop) for w in plan_windows(messages, TREATMENTS, **more).windows]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_take_steers_from_the_tool_answer_to_the_end_of_the_clearing_message(framing: FramingName):
    """A window opens right after the taking message and closes right after the clearing one, in every framing."""
    messages = talk([take(tool=FRAMINGS[framing].take_tool)], "u", "a", "u", [clear()], "u")
    taking, clearing = 2, 7
    assert [m.role for m in messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert spans(messages) == [("calm", taking + 1, clearing + 1)]


def test_an_effect_that_is_not_cleared_stays_open():
    """Without a clear the window has no end, so that what is generated is steered."""
    assert spans(talk("a", "u", [take()], "u")) == [("calm", 5, None)]


def test_a_conversation_without_calls_has_no_windows():
    """Plain talk is not steered, and the plan still knows how long the talk is."""
    assert plan_windows(talk("a", "u"), TREATMENTS) == Plan(messages=4)


def test_listing_and_ending_open_and_close_nothing():
    """Tools other than take and clear leave the windows alone."""
    others = [ToolCall(id="", function=name, arguments={"name": "calm"}) for name in ("list_vectors", "end_session")]
    assert spans(talk([take()], others)) == [("calm", 3, None)]


def test_effects_stack_in_the_order_of_their_taking_and_one_clear_ends_all():
    """Several windows are open at once, the same label twice too, and one clear closes every one."""
    messages = talk([take("calm")], [take("curious", 2.0)], [take("calm", 3.0)], [clear()])
    assert spans(messages) == [("calm", 3, 9), ("curious", 5, 9), ("calm", 7, 9)]


def test_an_effect_taken_after_a_clear_has_its_own_window():
    """A clear leaves what is taken later alone, and a later clear does not move an earlier end."""
    messages = talk([take("calm")], [clear()], [take("curious")], [clear()])
    assert spans(messages) == [("calm", 3, 5), ("curious", 7, 9)]


def test_strength_is_dose_times_unit_strength_and_the_direction_is_the_treatments():
    """The label is the model's word; what is added comes from the treatment."""
    windows = plan_windows(talk([take("curious", -1.5), take("proud"), take("sugar", 4)]), TREATMENTS).windows
    assert [(w.dose, w.strength) for w in windows] == [(-1.5, -3.0), (1.0, 1.0), (4.0, 0.0)]
    assert [w.direction for w in windows] == [TREATMENTS[w.label].direction for w in windows]


def test_parallel_calls_open_windows_at_the_same_message():
    """All calls of one message take effect at the first answer."""
    assert spans(talk([take("calm"), take("curious")], "u")) == [("calm", 3, None), ("curious", 3, None)]


def test_clear_then_take_in_one_message_ends_the_old_and_starts_the_new():
    """Calls of one message act in their order: here the new effect outlives the clear."""
    assert spans(talk([take("calm")], [clear(), take("curious")])) == [("calm", 3, 5), ("curious", 5, None)]


def test_take_then_clear_in_one_message_leaves_nothing_of_the_new():
    """Calls of one message act in their order: here the clear ends the new effect before its first token."""
    assert spans(talk([take("calm")], [take("curious"), clear()])) == [("calm", 3, 5)]


def test_clearing_from_outside_ends_effects_before_that_message():
    """An outside clear before message i leaves message i unsteered, and what is taken later alone."""
    messages = talk([take("calm")], "a", "u", [take("curious")], "u")
    assert messages[5].role == "user"
    assert spans(messages, outside_clears=[5]) == [("calm", 3, 5), ("curious", 7, None)]


def test_clearing_from_outside_right_after_a_take_leaves_no_window():
    """A window whose first message is already cleared steers nothing and is not listed."""
    assert spans(talk([take("calm")], "u"), outside_clears=[3]) == []


def test_clearing_from_outside_before_the_next_turn_leaves_the_generation_unsteered():
    """The end of the conversation is a place to clear at: the window ends with the last message."""
    messages = talk([take("calm")], "u")
    assert spans(messages, outside_clears=[len(messages)]) == [("calm", 3, len(messages))]


def test_clearing_from_outside_before_all_else_changes_nothing():
    """The first message is a place to clear at too, though nothing is active there."""
    assert spans(talk([take("calm")], "u"), outside_clears=[0]) == [("calm", 3, None)]


@pytest.mark.parametrize("index", [-1, 6])
def test_clearing_from_outside_at_no_message_is_refused(index: int):
    """An index beyond the conversation would silently clear nothing, so it raises."""
    messages = talk([take("calm")], "u")
    assert len(messages) == 5
    with pytest.raises(PlanError, match=rf"{index}.*0 to 5"):
        plan_windows(messages, TREATMENTS, outside_clears=[index])


def test_a_take_that_the_tool_refused_opens_nothing():
    """A call answered by an error never took effect, whatever it names; calls beside it did."""
    messages = talk([take("nonsense", "much"), take("calm")], failed=("2/0",))
    assert spans(messages) == [("calm", 3, None)]


def test_a_clear_that_failed_closes_nothing():
    """A clear answered by an error leaves the effect active."""
    assert spans(talk([take("calm")], [clear()], failed=("4/0",))) == [("calm", 3, None)]


def test_calls_that_could_not_be_read_open_and_close_nothing():
    """A call with a parse error is text, not an act."""
    messages = talk([take("calm")], [take("curious", parse_error="torn"), clear(parse_error="torn")])
    assert spans(messages) == [("calm", 3, None)]


def answered(*turns: tuple[list[ToolCall], list[ToolCallError | None]]) -> list[ChatMessage]:
    """Return a conversation whose calls keep their ids, each with its error or None."""
    messages: list[ChatMessage] = [ChatMessageUser(content="u")]
    for calls, errors in turns:
        messages.append(ChatMessageAssistant(content="", tool_calls=calls))
        pairs = zip(calls, errors, strict=True)
        messages += [ChatMessageTool(content="said", tool_call_id=c.id, function=c.function, error=e) for c, e in pairs]
    return messages


REFUSED = ToolCallError("unknown", "dose 99 is out of range")


@pytest.mark.parametrize(
    ("turns", "expected", "oks"),
    [
        # Refused first, then taken under the same id; and the other way round.
        ([([("calm", "c")], [REFUSED]), ([("calm", "c")], [None])], [("calm", 4, None)], [False, True]),
        ([([("calm", "c")], [None]), ([("curious", "c")], [REFUSED])], [("calm", 2, None)], [True, False]),
        # A clear that was refused and one that was not; twice the same id in one message, answered in order.
        (
            [([("calm", "c")], [None]), ([("", "d")], [REFUSED]), ([("", "d")], [None])],
            [("calm", 2, 6)],
            [True, False, True],
        ),
        ([([("calm", "c"), ("curious", "c")], [REFUSED, None])], [("curious", 2, None)], [False, True]),
        ([([("calm", "c"), ("", "c")], [None, REFUSED])], [("calm", 2, None)], [True, False]),
    ],
)
def test_ids_that_recur_do_not_mix_up_what_succeeded(turns, expected, oks):
    """An answer belongs to the message before it, so what is told, what is planned and what is reported agree."""
    made = [
        ([replace(take(name) if name else clear(), id=call_id) for name, call_id in calls], errors)
        for calls, errors in turns
    ]
    messages = answered(*made)
    assert spans(messages) == expected
    assert [call.ok for call in steering_calls(messages)] == oks


def test_a_take_whose_answer_is_missing_counts_once_the_conversation_goes_on():
    """Without an answer, a take steers what follows; nothing says yet whether it succeeded while nothing follows."""
    messages = talk([take("calm")])[:-1]
    (pending,) = steering_calls(messages)
    assert (pending.ok, pending.effective) == (None, False)
    assert spans(messages) == [("calm", 3, None)]
    longer = [*messages, ChatMessageUser(content="u"), ChatMessageAssistant(content="a")]
    (unanswered,) = steering_calls(longer)
    assert (unanswered.ok, unanswered.effective) == (None, True)
    assert spans(longer) == [("calm", 3, None)]


@pytest.mark.parametrize("name", ["heroine", None, 7, ["calm"], "Calm"])
def test_an_unknown_name_is_refused_with_the_valid_ones(name: object):
    """An effective call with an unknown name is an error that names it and every choice."""
    with pytest.raises(PlanError) as refusal:
        plan_windows(talk([take(name, tool="take_drug")]), TREATMENTS)
    for part in (repr(name), "take_drug", *TREATMENTS):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    "dose",
    [
        math.nan,
        math.inf,
        -math.inf,
        10.01,
        -11,
        pytest.param(10**400, id="huge"),
        "1.0",
        "high",
        True,
        False,
        [1.0],
        {},
    ],
)
def test_an_invalid_dose_is_refused_with_value_and_range(dose: object):
    """What is no finite number in range is an error that names the value and says what to pass."""
    with pytest.raises(PlanError, match="pass a number from -10 to 10") as refusal:
        plan_windows(talk([take("calm", dose)]), TREATMENTS)
    assert repr(dose) in str(refusal.value)


@pytest.mark.parametrize("dose", [-10, -0.5, 0, 0.0, 1, 10, 10.0])
def test_doses_within_range_are_valid_negative_ones_too(dose: float):
    """Both ends of the range, zero, whole numbers and negative doses pass unchanged."""
    checked = check_dose(dose)
    assert (checked, type(checked)) == (dose, float)


def test_the_largest_dose_can_be_set():
    """A smaller limit refuses what it should, and says so."""
    assert check_dose(-2, max_dose=2) == -2.0
    with pytest.raises(PlanError, match=r"2\.5.*from -2 to 2"):
        plan_windows(talk([take("calm", 2.5)]), TREATMENTS, max_dose=2)


def test_the_smallest_dose_is_large_enough():
    """Refused is what is smaller; a dose of 0 is none, and what is held may be as near to the neutral mean as it likes."""
    assert [check_dose(dose, min_dose=0.5) for dose in (0.5, -0.5, 0)] == [0.5, -0.5, 0.0]
    assert check_dose(0.25, min_dose=0.5, operation="clamp") == 0.25
    with pytest.raises(
        PlanError, match=r"^dose 0\.25 is too small to have any effect; pass 0, or a number of at least 0\.5 "
    ):
        check_dose(0.25, min_dose=0.5)


def test_what_doses_leave_is_told_from_a_rounding_error():
    """In float32 the first two differ by the last place of their sum, which is no steering; twice that is too little."""
    place = 2.0**-23
    check_sum([1 + place, place - 1], 0.5)
    check_sum([1.0, -0.5], 0.5)  # all that is needed is left
    for left in ([1 + 3 * place, place - 1], [1.0, -0.625], [-1.0, 0.625]):
        with pytest.raises(PlanError, match=r"too little to have any effect; pass -?1"):
            check_sum(left, 0.5)


def test_planning_changes_neither_messages_nor_treatments():
    """The replay is a pure function: the same conversation gives the same plan, and stays as it was."""
    messages = talk([take("calm")], [clear(), take("curious", -2)], "u")
    before = [m.model_dump() for m in messages]
    assert plan_windows(messages, TREATMENTS) == plan_windows(messages, TREATMENTS)
    assert [m.model_dump() for m in messages] == before


def test_the_uncached_plan_is_the_same_conversation_without_windows():
    """Removing the windows keeps the number of messages, so that the provider accepts it."""
    plan = plan_windows(talk([take("calm")], "u"), TREATMENTS)
    assert plan.windows
    assert plan.without_windows() == Plan(messages=5)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (3, 2), (5, None), (1, 5)])
def test_a_window_outside_its_conversation_is_refused(start: int, stop: int | None):
    """A plan cannot hold a window that starts before it ends or lies beyond its four messages."""
    with pytest.raises(ValidationError, match="messages"):
        Plan(
            messages=4,
            windows=(
                Window(
                    label="x", direction=Direction(vector="calm"), dose=1, strength=1, start=start, stop=stop
                ).model_dump(),
            ),
        )


@pytest.mark.parametrize("messages", [0, 3])
def test_a_window_may_begin_with_what_is_generated(messages: int):
    """That is where the last message ends, of none too."""
    window = Window(label="x", direction=Direction(vector="calm"), dose=1, strength=1, start=messages)
    assert Plan(messages=messages, windows=(window,)).windows == (window,)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("field", ["dose", "strength"])
def test_a_window_with_a_strength_that_is_not_finite_is_refused(field: str, value: float):
    """NaN and infinity never reach the model, not even past the tools."""
    with pytest.raises(ValidationError, match="finite number"):
        Window(**{"label": "x", "direction": {"vector": "calm"}, "dose": 1, "strength": 1, "start": 0, field: value})


# ------------------------------------------------------------ the request that carries the plan


def test_a_request_survives_the_trip_through_json_in_the_configuration():
    """What the solver asks for is what the provider reads after the configuration went through a log."""
    messages = talk([take("calm", -0.1)], [clear(), take("proud", 1 / 3)])
    request = SteeringRequest(
        plan=plan_windows(messages, TREATMENTS), library="lib", readout={"A": ["A", "a"]}, show_tokens=True
    )
    config = GenerateConfig.model_validate_json(request.config(GenerateConfig(temperature=0.3)).model_dump_json())
    assert read_request(config, len(messages)) == request
    assert config.temperature == 0.3


def test_requests_that_differ_only_in_steering_differ_in_the_configuration():
    """The plan lies where a response cache looks, so a steered answer is never served to an unsteered request."""
    plan = plan_windows(talk([take("calm")]), TREATMENTS)
    real, uncached = (SteeringRequest(plan=p).config().model_dump_json() for p in (plan, plan.without_windows()))
    assert real != uncached


def test_a_request_keeps_what_else_is_in_the_configuration_unchanged():
    """The base configuration is copied, not written to."""
    base = GenerateConfig(seed=5, extra_body={"other": 1})
    made = SteeringRequest(plan=Plan(messages=1)).config(base)
    assert (made.seed, sorted(made.extra_body or {}), base.extra_body) == (5, ["other", EXTRA_BODY_KEY], {"other": 1})


def test_no_request_means_no_steering():
    """Plain generations have an empty plan of the right length."""
    assert read_request(GenerateConfig(), 3) == SteeringRequest(plan=Plan(messages=3))


@pytest.mark.parametrize("reached", [3, 5])
def test_a_plan_for_another_number_of_messages_is_refused(reached: int):
    """If something dropped or added a message on the way, windows would lie elsewhere, so both numbers are told."""
    config = SteeringRequest(plan=Plan(messages=4)).config()
    with pytest.raises(PlanError, match=f"made for 4 messages, but {reached} reached"):
        read_request(config, reached)


@pytest.mark.parametrize(
    "raw",
    [
        "yes",
        {},
        {"plan": {"messages": 2}, "readouts": {}},
        {"plan": {"messages": 2, "windows": [{"label": "calm"}]}},
        {"plan": {"messages": 2}, "readout": {"A": []}},
    ],
)
def test_a_malformed_request_is_refused(raw: object):
    """A typo or a missing part raises instead of leaving the turn unsteered or a read-out empty."""
    with pytest.raises(PlanError, match="not a valid steering request") as refused:
        read_request(GenerateConfig(extra_body={EXTRA_BODY_KEY: raw}), 2)
    assert len(str(refused.value).splitlines()) == 1


def test_other_extra_body_entries_are_refused():
    """What the provider would ignore is named, with what it knows."""
    with pytest.raises(PlanError, match=f"selfsteering.*{EXTRA_BODY_KEY}"):
        read_request(GenerateConfig(extra_body={"selfsteering": {}}), 1)


def test_the_dumped_request_is_plain_json():
    """Nothing in the configuration needs our classes to be read."""
    extra = SteeringRequest(plan=plan_windows(talk([take("calm")]), TREATMENTS)).config().extra_body
    assert json.loads(json.dumps(extra)) == extra


def test_a_request_says_what_it_asks_for_alone():
    """What is not asked for is left out of the configuration, and so of the key of the cache and of the log."""
    extra = SteeringRequest(plan=Plan(messages=1), trace=True).config().extra_body
    assert None not in (extra or {})[EXTRA_BODY_KEY].values()


def test_a_library_that_is_built_anew_makes_another_request(tmp_path: Path):
    """The hash of its card travels beside the request, and is not taken for something that the provider does not know."""
    (tmp_path / "card.json").write_text("{}")
    request = SteeringRequest(plan=Plan(messages=1), library=str(tmp_path))
    before = request.config()
    assert (before.extra_body or {})[LIBRARY_KEY] == card_hash(tmp_path)
    assert read_request(before, 1) == request
    (tmp_path / "card.json").write_text('{"model": "other"}')
    assert request.config().extra_body != before.extra_body


@pytest.mark.parametrize(("branches", "odd"), [((0, 2), []), ((), []), ((3, 1), [3]), ((-1, 2, 4), [-1, 4])])
def test_conversations_part_ways_at_messages_that_there_are(branches: tuple[int, ...], odd: list[int]):
    """Others are named, with those that there are."""
    if not odd:
        assert SteeringRequest(plan=Plan(messages=3), branches=branches).branches == branches
        return
    with pytest.raises(ValidationError, match=rf"branches at messages {re.escape(str(odd))}.*0 to 2"):
        SteeringRequest(plan=Plan(messages=3), branches=branches)


@pytest.mark.parametrize("must_steer", [True, False])
def test_a_plan_without_windows_is_refused_where_steering_was_asked_for(must_steer: bool):
    """Only there, and only without windows."""
    steered = plan_windows(talk([take()]), TREATMENTS)
    assert SteeringRequest(plan=steered, must_steer=must_steer).plan == steered
    if must_steer:
        with pytest.raises(ValidationError, match="steers none of its 4 messages"):
            SteeringRequest(plan=steered.without_windows(), must_steer=True)
    else:
        assert not SteeringRequest(plan=steered.without_windows()).must_steer


def test_a_logged_generation_is_read_as_it_was_asked_for():
    """Whether it lay beside the sample's own conversation, too; one without a request asked for nothing."""
    aside, own = (SteeringRequest(plan=Plan(messages=1), aside=aside).config() for aside in (True, False))
    assert [is_aside(config) for config in (aside, own, GenerateConfig())] == [True, False, False]
    switches = ("show_tokens", "trace", "picture", "must_steer", "canonical")
    assert logged_request(own) == {"plan": {"messages": 1, "windows": []}, **dict.fromkeys(switches, False)}
    assert logged_request(GenerateConfig()) == logged_request(GenerateConfig(extra_body={EXTRA_BODY_KEY: None})) == {}


def test_the_report_is_the_providers_own():
    """An output without one is no generation of its: a missing key, not an empty report."""
    assert steering_report(ModelOutput(metadata={EXTRA_BODY_KEY: {"receipts": []}, "other": 1})) == {"receipts": []}
    for metadata in (None, {"other": 1}):
        with pytest.raises(KeyError):
            steering_report(ModelOutput(metadata=metadata))


# ------------------------------------------------------------ one side of a window


def sides(messages: list[ChatMessage], site: str) -> list[tuple[str, int, int | None]]:
    return [(w.label, w.start, w.stop) for w in at_site(plan_windows(messages, TREATMENTS), messages, site).windows]


def test_a_window_is_cut_into_the_runs_of_one_side():
    """Tools' answers count as the user's side; both sides together are the whole window, each message once."""
    messages = talk([take()], "u", "a", "u", [clear()], "u")
    assert sides(messages, "both") == [("calm", 3, 8)]
    assert sides(messages, "user") == [("calm", 3, 5), ("calm", 6, 7)]
    assert sides(messages, "assistant") == [("calm", 5, 6), ("calm", 7, 8)]


def test_an_open_window_stays_open_on_the_assistants_side_alone():
    """What is generated is the assistant's: steered at its site, with no steered message before it too, and not at the user's."""
    messages = talk([take()], "u")
    assert sides(messages, "assistant") == [("calm", 5, None)]
    assert sides(messages, "user") == [("calm", 3, 5)]
    assert sides(messages, "both") == [("calm", 3, None)]
    assert sides(talk([take()], "a", "u"), "assistant") == [("calm", 4, 5), ("calm", 6, None)]


def test_a_message_that_is_continued_is_steered_once():
    """Its window stays open through what is generated; no second one begins there."""
    messages = talk([take()], "u", "a")
    assert sides(messages, "assistant") == sides(messages, "answers") == [("calm", 5, None)]
    assert sides(talk([take()], "a", "u", "a", "u", "a"), "assistant") == [
        ("calm", 4, 5),
        ("calm", 6, 7),
        ("calm", 8, None),
    ]


def test_at_the_answers_every_message_that_says_something_has_a_window_of_its_own():
    """One that only calls a tool says nothing; an open window takes in what is generated."""
    messages = talk([take()], "u", "a", "a", [clear()], "u")
    plan = at_site(plan_windows(messages, TREATMENTS), messages, "answers")
    assert [(w.start, w.stop, w.part) for w in plan.windows] == [(5, 6, "answer"), (6, 7, "answer")]
    assert sides(talk([take()], "a", "u"), "answers") == [("calm", 4, 5), ("calm", 6, None)]


def test_at_the_answers_an_empty_turn_is_steered_only_if_it_is_continued():
    """What is generated there is said to the user; of a turn that is over and said nothing, nothing is."""
    empty = ChatMessageAssistant(content=" \n")
    assert sides([*talk([take()], "u"), empty], "answers") == [("calm", 5, None)]
    assert sides([*talk([take()], "u"), empty, ChatMessageUser(content="u")], "answers") == [("calm", 7, None)]
    assert sides(talk([take()], [clear()])[:-1], "answers") == []


def test_a_random_direction_is_called_by_what_it_is():
    """And not by the vector whose norm it has."""
    assert Direction(vector="calm").label == "calm"
    assert Direction(vector="calm", random_seed=0).label == "random direction, norm of calm"


def test_every_window_is_cut_on_its_own_and_keeps_what_it_adds():
    """Stacked windows keep their order, direction, dose and strength."""
    messages = talk([take("calm", 2.0)], [take("proud", -1.0)], "u", "a")
    plan = plan_windows(messages, TREATMENTS)
    cut = at_site(plan, messages, "user")
    assert [(w.label, w.start, w.stop) for w in cut.windows] == [("calm", 3, 4), ("calm", 5, 7), ("proud", 5, 7)]
    for window in cut.windows:
        (whole,) = [w for w in plan.windows if w.label == window.label]
        assert window.model_copy(update={"start": whole.start, "stop": whole.stop}) == whole
    assert cut.messages == plan.messages


def test_a_window_without_messages_of_a_side_steers_nothing_there():
    """The clearing turn right after the taking one leaves the tool's answer and the clearing turn."""
    messages = talk([take()], [clear()])
    assert sides(messages, "user") == [("calm", 3, 4)]
    assert sides(messages, "assistant") == [("calm", 4, 5)]
    outside = at_site(
        plan_windows(talk([take()], "a"), TREATMENTS, outside_clears=[4]), talk([take()], "a"), "assistant"
    )
    assert outside.windows == ()


@pytest.mark.parametrize(
    ("changed", "ok"),
    [
        ({}, True),
        ({"tokens": (2, 3)}, True),
        ({"stop": 3}, False),
        ({"stop": 1}, False),
        ({"stop": None}, False),
        ({"part": "answer"}, False),
        ({"tokens": (0, 0)}, False),
        ({"tokens": (2, 1)}, False),
        ({"tokens": (-1, 1)}, False),
    ],
)
def test_tokens_are_some_of_one_whole_message(changed: dict, ok: bool):
    """At least one, counted from its first; of several messages, or of what is said in one, there are none to count."""
    made = {"label": "c", "direction": Direction(vector="c"), "dose": 1, "strength": 1, "start": 1, "stop": 2}
    made |= {"tokens": (0, 1), **changed}
    if ok:
        assert Window(**made).tokens == made["tokens"]
    else:
        with pytest.raises(ValidationError, match="name one message, and first and last"):
            Window(**made)


def test_only_what_holds_a_projection_has_a_target():
    """And the log of an addition says nothing of operations, as it never did."""
    fixed = {"label": "c", "direction": Direction(vector="c"), "dose": 1, "strength": 1, "start": 0}
    for operation, target in (("clamp", None), ("ablate", None), ("add", 0.0), ("gain", 1.0)):
        with pytest.raises(ValueError, match=f"{operation} with target {target}; give one to ablate and clamp"):
            Window(**fixed, operation=operation, target=target)
    assert {"operation", "target"}.isdisjoint(Window(**fixed).model_dump())
    clamp = Window(**fixed, operation="clamp", target=0.0)
    assert Window.model_validate_json(clamp.model_dump_json()) == clamp
