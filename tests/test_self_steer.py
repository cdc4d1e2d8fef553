"""The solver that wraps other solvers and agents: what they see, what is steered, and what is taken down."""

from collections.abc import Sequence

import pytest
from inspect_ai import Task
from inspect_ai.agent import AgentState, agent, react
from inspect_ai.dataset import Sample
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, ChatMessageUser, GenerateConfig, execute_tools, get_model
from inspect_ai.solver import (
    Generate,
    TaskState,
    basic_agent,
    chain,
    generate,
    prompt_template,
    solver,
    system_message,
    use_tools,
)
from inspect_ai.tool import Tool, tool

from self_steering.solvers.self_steer import self_steer
from self_steering.solvers.session import session_tools
from self_steering.steering.request import EXTRA_BODY_KEY
from tests.support.scripted import Script, Tiny, says, turn_by_turn

MENU = ["calm", "anxious", "honest"]
TAKE = ("take_vector", {"name": "calm", "dose": 0.5})
ADD = ("adder", {"x": 1, "y": 2})
SUBMIT = ("submit", {"answer": "3"})
STEERING_WORDS = ("vector", "drug", "aid", "steer", "dose", "effect", "activation")


@tool
def adder() -> Tool:
    async def execute(x: int, y: int) -> str:
        """Add two numbers.

        Args:
            x: One.
            y: Another.
        """
        return str(x + y)

    return execute


@agent
def with_its_own_list() -> object:
    """An agent that keeps one list of tools for all samples."""
    tools = [adder()]

    async def execute(state: AgentState) -> AgentState:
        for _ in range(2):
            state.output = await get_model().generate(state.messages, tools)
            state.messages.append(state.output.message)
            state.messages.extend((await execute_tools(state.messages, tools)).messages)
        return state

    return execute


def task(base: object, tiny: Tiny, *samples: Sample, limit: int = 20, **options) -> Task:
    made = self_steer(base=base, vectors=MENU, library=str(tiny.library), **options)
    return Task(dataset=[*samples] or [Sample(id="one", input="Go on.", target="3")], solver=made, message_limit=limit)


def play(tiny: Tiny, script: Script, base: object = None, *, limit: int = 20, **options) -> EvalSample:
    return tiny.play(task(base, tiny, limit=limit, **options), script, max_tokens=6)


def record(sample: EvalSample, name: str) -> object:
    return sample.store[f"SelfSteerState:{name}"]


def generations(sample: EvalSample) -> list[ModelEvent]:
    return [event for event in sample.events if isinstance(event, ModelEvent)]


def windows(event: ModelEvent) -> list[tuple]:
    planned = event.config.extra_body[EXTRA_BODY_KEY]["plan"].get("windows", [])
    return [(w["label"], w["dose"], w["start"], w.get("stop")) for w in planned]


def replayed(messages: Sequence[ChatMessage]) -> list[tuple]:
    """Walk a conversation: what a call takes is active from its answer to the end of a message that clears."""
    refused = {m.tool_call_id for m in messages if m.role == "tool" and m.error is not None}
    found: list[list] = []
    for index, message in enumerate(messages):
        calls = [c for c in getattr(message, "tool_calls", None) or [] if c.id not in refused]
        if any(call.function == "clear_effects" for call in calls):
            found = [[*w[:3], index + 1] if w[3] is None else w for w in found]
        found += [
            [c.arguments["name"], c.arguments.get("dose", 1.0), index + 1, None]
            for c in calls
            if c.function == "take_vector"
        ]
    return [tuple(window) for window in found]


BASES = {
    "generate": generate,
    "chain": lambda: chain(
        prompt_template("Now: {prompt}"), system_message("Be brief."), use_tools(adder()), generate()
    ),
    "basic_agent": lambda: basic_agent(init=system_message("Be brief."), tools=[adder()]),
    "react": lambda: react(tools=[adder(), session_tools()]),
}


@pytest.mark.parametrize("base", BASES)
def test_wrapped_solvers_and_agents_are_steered_from_the_next_message_on(tiny: Tiny, base: str):
    """Whoever generates, each turn's plan is what its own messages say, and the engine steers as many tokens as planned."""
    script = turn_by_turn(
        says("", TAKE),
        says("", ("take_vector", {"name": "honest"}), ("take_vector", {"name": "nothing"})),
        says("", ("clear_effects", {})),
        says("", ("list_vectors", {}), SUBMIT) if base in {"basic_agent", "react"} else says("3"),
    )
    sample = play(tiny, script, BASES[base]())
    seen = generations(sample)
    assert [windows(event) for event in seen] == [replayed(event.input) for event in seen]
    assert [len(windows(event)) for event in seen] == [0, 1, 2, 2]
    assert [(t["name"], t["ok"]) for t in record(sample, "takes")] == [
        ("calm", True),
        ("honest", True),
        ("nothing", False),
    ]
    assert record(sample, "ended") == "base"
    assert all(one["positions"] > 0 for one in record(sample, "exposures"))
    assert sample.messages[-1].text.endswith("3") or sample.output.completion.endswith("3")


@pytest.mark.parametrize("base", ["generate", "react"])
@pytest.mark.parametrize("arm", ["real", "placebo"])
def test_operators_are_handed_over_with_the_tools(tiny: Tiny, base: str, arm: str):
    """Each that is asked for is told of, offered and carried out; receipts name it, and placebo's move nothing."""
    calls = says("", ("clamp_vector", {"name": "calm", "dose": 1.5}), ("ablate_vector", {"name": "honest"}))
    end = says("", SUBMIT) if base == "react" else says("3")
    sample = play(tiny, turn_by_turn(calls, end), BASES[base](), operators="ablate,clamp", arm=arm)
    first, last = generations(sample)[0], generations(sample)[-1]
    names = {one.name for one in first.tools} & {f"{verb}_vector" for verb in ("take", "clamp", "ablate", "scale")}
    assert names == {"clamp_vector", "ablate_vector"}
    assert "ablate_vector holds the effect of one at the level of ordinary text" in sample.messages[0].text
    receipts = last.output.metadata["self_steering"]["receipts"]
    assert [one["operation"] for one in receipts] == ["clamp", "ablate"]
    moved = [abs(one["projection_after"] - one["projection_before"]) > 1e-3 for one in receipts]
    assert moved == [arm == "real"] * 2
    # What is called last acts on what the other has left.
    last_called = receipts[-1]
    assert (last_called["projection_after"] == pytest.approx(last_called["target"], abs=1e-3)) == (arm == "real")
    assert sample.metadata["operators"] == "clamp,ablate"


def test_a_baseline_knows_of_no_operators(tiny: Tiny):
    """Nor does its cell."""
    sample = play(tiny, turn_by_turn(says("3")), framing="none", operators="all")
    assert "operators" not in f"{sample.metadata} {record(sample, 'condition')}"


@pytest.mark.parametrize("base", ["chain", "react"])
def test_a_baseline_mentions_steering_nowhere(tiny: Tiny, base: str):
    """Without tools the wrapped solver's conversation and tools are those of the solver alone."""
    script = turn_by_turn(says("", SUBMIT) if base == "react" else says("3"))
    sample = play(tiny, script, BASES[base](), framing="none", opt_in=True, debrief=True)
    alone = tiny.play(
        Task(dataset=[Sample(id="one", input="Go on.", target="3")], solver=BASES[base]()), script, max_tokens=6
    )
    (steered,), (plain,) = generations(sample), generations(alone)
    assert [(m.role, m.text) for m in steered.input] == [(m.role, m.text) for m in plain.input]
    assert steered.tools == plain.tools
    assert not [w for w in STEERING_WORDS if w in str([(m.text, steered.tools) for m in steered.input]).lower()]


def test_an_agent_that_keeps_its_tools_for_all_samples_gets_none_of_another_sample(tiny: Tiny):
    """What is offered in a sample is of its own framing alone, whatever was run before it with the same agent."""
    samples = [Sample(id=f, input="Go on.", metadata={"framing": f}) for f in ("drugs", "none", "aids")]
    log = tiny.run(task(with_its_own_list(), tiny, *samples), turn_by_turn(says("3")), max_samples=1, max_tokens=6)
    offered = {s.id: {t.name for e in generations(s) for t in e.tools} for s in log.samples}
    assert offered == {
        "drugs": {"adder", "list_drugs", "take_drug", "clear_effects"},
        "none": {"adder"},
        "aids": {"adder", "list_aids", "take_aid", "clear_effects"},
    }


@pytest.mark.parametrize("base", [with_its_own_list, lambda: react(tools=[adder()])])
def test_an_agent_that_cannot_carry_a_take_out_is_an_error_that_says_how_to_mend_it(tiny: Tiny, base):
    """It would tell the model that there is no such tool; the rollout is no evidence then."""
    with pytest.raises(AssertionError, match=r"carries calls out from a list of its own.*session_tools\(\)"):
        play(tiny, turn_by_turn(says("", TAKE), says("", SUBMIT)), base())


def test_the_introduction_joins_the_tasks_own_system_message(tiny: Tiny):
    """A conversation has as many system messages as the task gives it: templates may take one only, in front."""
    sample = play(tiny, turn_by_turn(says("3")), BASES["chain"]())
    first = generations(sample)[0].input
    assert [m.role for m in first] == ["system", "user"]
    assert first[0].text.startswith("Be brief.\n\n")
    assert "take_vector" in first[0].text


def test_arms_differ_in_what_is_added_and_in_nothing_that_can_be_read(tiny: Tiny):
    """Messages, tools and seeds of all arms are the same; only placebo's strength is zero, only random's direction is drawn."""
    script = turn_by_turn(says("", TAKE), says("3"))
    _, mislabelled = generations(play(tiny, script, arm="mislabelled"))
    for arm, strength in (("placebo", 0.0), ("real", 1.0), ("random", 1.0)):
        sample = play(tiny, script, arm=arm)
        _, steered = generations(sample)
        assert [m.text for m in steered.input] == [m.text for m in mislabelled.input]
        assert steered.tools == mislabelled.tools
        assert steered.config.seed == mislabelled.config.seed
        (window,) = steered.config.extra_body[EXTRA_BODY_KEY]["plan"]["windows"]
        assert window["strength"] == strength
        assert (window["direction"].get("random_seed") is not None) == (arm == "random")
        assert [t["strength"] for t in record(sample, "takes")] == [strength]


def test_random_directions_differ_by_sample(tiny: Tiny):
    """Each sample has a draw of its own, the same one whenever it is run."""
    samples = [Sample(id=name, input="Go on.") for name in ("one", "two")]

    def drawn() -> list[int]:
        log = tiny.run(task(None, tiny, *samples, arm="random"), turn_by_turn(says("", TAKE), says("3")), max_tokens=6)
        plans = [generations(s)[-1].config.extra_body[EXTRA_BODY_KEY]["plan"] for s in log.samples]
        return [plan["windows"][0]["direction"]["random_seed"] for plan in plans]

    first = drawn()
    assert len(set(first)) == 2
    assert drawn() == first


@pytest.mark.parametrize(("answer", "wants"), [("No.", False), ("Yes, please.", True), ("Yes or no?", None)])
def test_only_a_yes_gets_the_tools(tiny: Tiny, answer: str, wants: bool | None):
    """A no, and an answer that is neither, is offered nothing; the log tells them apart."""
    sample = play(tiny, turn_by_turn(says(answer), says("3")), BASES["chain"](), opt_in=True)
    assert record(sample, "opted_in") is wants
    names = {t.name for t in generations(sample)[-1].tools}
    assert names == {"adder", *(("list_vectors", "take_vector", "clear_effects") if wants else ())}


@solver
def forgetful(turns: int, kept: int) -> object:
    """Send only the last messages, after some turns."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        for _ in range(turns):
            state = await generate(state, tool_calls="single")
        output = await get_model().generate(state.messages[-kept:], state.tools)
        state.messages.append(output.message)
        return state

    return solve


@solver
def best_of_two() -> object:
    """Write a turn twice, and go on from the second."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        await get_model().generate(state.messages, state.tools)
        state.messages.append(ChatMessageUser(content="Be brief."))
        state = await generate(state)
        state.messages.append(ChatMessageUser(content="And now?"))
        return await generate(state)

    return solve


@pytest.mark.parametrize(("turns", "kept"), [(1, 1), (2, 2)])
def test_a_history_cut_under_an_active_effect_is_an_error(tiny: Tiny, turns: int, kept: int):
    """The effect would end unseen, at the very next turn or later, whether a trace of it is left or not."""
    turn_of_both = says("", TAKE, ("list_vectors", {})) if kept == 2 else says("", TAKE)
    script = turn_by_turn(*[turn_of_both, says("", ("list_vectors", {}))][:turns], says("3"))
    with pytest.raises(AssertionError, match=r"calm is active, but the message that took it is no longer sent"):
        play(tiny, script, forgetful(turns, kept))


def test_turns_that_an_agent_throws_away_took_nothing(tiny: Tiny):
    """Of two candidates the one that takes is dropped before its call is carried out: no effect, and no error."""
    script = turn_by_turn(says("", TAKE))
    sample = play(tiny, lambda m, t: script(m, t) if m[-1].text == "Go on." else says("3"), best_of_two())
    assert [windows(event) for event in generations(sample)] == [[], [], []]
    assert record(sample, "takes") == []


@solver
def of_its_own_model(model: object) -> object:
    """Generate with a model that it was made with."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state, tool_calls="single")
        output = await model.generate(state.messages, state.tools, config=GenerateConfig(max_tokens=6))
        state.messages.append(output.message)
        state.messages.extend((await execute_tools(state.messages, state.tools)).messages)
        return state

    return solve


def test_an_agent_that_takes_with_a_model_of_its_own_is_an_error(tiny: Tiny):
    """Its turns bypass the session, so that nothing would be steered."""
    with pytest.raises(AssertionError, match="by a model that the agent names itself"):
        play(tiny, turn_by_turn(says("", TAKE)), of_its_own_model(tiny.model))


@solver
def silent() -> object:
    """Go on without the tools' answers."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state, tool_calls="none")
        state.messages.append(ChatMessageUser(content="Go on."))
        return await generate(state)

    return solve


def test_a_take_that_the_model_was_never_told_of_fails_the_sample(tiny: Tiny):
    """What it was told, what is planned and what is done are one, or the sample is no evidence; the reason names all."""
    with pytest.raises(AssertionError, match=r"told that it took nothing, and what is planned is calm at dose 0\.5"):
        play(tiny, turn_by_turn(says("", TAKE), says("3")), silent())


@solver
def consulting(then: bool) -> object:
    """Hold the conversation, then ask something on the side."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state)
        await get_model().generate([ChatMessageUser(content="Something else: is water wet?")])
        if then:
            state.messages.append(ChatMessageUser(content="And now?"))
            state = await generate(state)
        return state

    return solve


@pytest.mark.parametrize("then", [False, True])
def test_a_question_on_the_side_neither_is_steered_nor_wipes_the_record(tiny: Tiny, then: bool):
    """What was taken in the main conversation stays in the record, and is active there and nowhere else."""
    script = turn_by_turn(says("", TAKE), says("3"))
    sample = play(tiny, lambda m, t: says("yes") if m[-1].text.endswith("wet?") else script(m, t), consulting(then))
    seen = [windows(event) for event in generations(sample)]
    assert [len(planned) for planned in seen] == [0, 1, 0, 1][: len(seen)]
    assert len(seen) == 3 + then
    (take,), (exposure,) = record(sample, "takes"), record(sample, "exposures")
    assert take["name"] == exposure["name"] == "calm"
    assert exposure["positions"] > 0


@agent
def with_a_conversation_of_its_own() -> object:
    """An agent whose messages never reach the sample's state."""

    async def execute(state: AgentState) -> AgentState:
        messages: list[ChatMessage] = [ChatMessageUser(content="Work.")]
        tools = session_tools()
        for _ in range(2):
            output = await get_model().generate(messages, tools)
            messages.append(output.message)
            messages.extend((await execute_tools(messages, tools)).messages)
        state.output = output
        return state

    return execute


def test_takes_in_a_conversation_that_an_agent_keeps_to_itself_are_recorded(tiny: Tiny):
    """The record holds what was taken, though the sample's messages do not show it."""
    sample = play(tiny, turn_by_turn(says("", TAKE), says("3")), with_a_conversation_of_its_own())
    assert [t["name"] for t in record(sample, "takes")] == ["calm"]
    assert [e["name"] for e in record(sample, "exposures")] == ["calm"]


@pytest.mark.parametrize("base", ["generate", "react"])
def test_a_limit_keeps_the_record(tiny: Tiny, base: str):
    """Cut off by the message limit, the log still tells what was taken and what that did."""
    sample = play(tiny, turn_by_turn(says("", TAKE), says("", ("list_vectors", {}))), BASES[base](), limit=8)
    assert sample.limit is not None
    assert [t["name"] for t in record(sample, "takes")] == ["calm"]
    assert record(sample, "exposures")[0]["positions"] > 0
    assert record(sample, "ended") == ""
    assert record(sample, "turns") >= 2


def test_a_debrief_is_held_without_effects_and_tools(tiny: Tiny):
    """After the task's work every effect ends, and the questions are answered in words."""
    sample = play(tiny, turn_by_turn(says("", TAKE), says("3"), says("calm"), says("fine")), debrief=True)
    *_, first, second = generations(sample)
    assert first.tools == second.tools == []
    assert all(stop is not None for event in (first, second) for *_, stop in windows(event))
    assert [a["answer"] for a in record(sample, "debrief")] == ["calm", "fine"]
    assert sample.output.message.text == "3"
