"""The steering timeline of a rollout: what was active when, who ended it, which tokens it steered, and how that is drawn."""

import random
from pathlib import Path

import pandas as pd
import pytest
from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    GenerateConfig,
    get_model,
)
from inspect_ai.solver import Generate, TaskState, solver
from inspect_ai.tool import ToolCall, ToolCallError

from self_steering.analysis.drawing.figures import ReportFigure
from self_steering.analysis.tables import Tables, empty_tables, read_tables
from self_steering.analysis.tasks.timeline import (
    CLEARED,
    SCRIPT,
    SITTER,
    Timeline,
    TimelineError,
    mark_table,
    most_takes,
    read_timeline,
)
from self_steering.analysis.tasks.timeline_figure import timeline_figure, timeline_of_most_takes
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.steering.request import SteeringRequest
from tests.support.drawn_figures import bars, check, draw, tick_labels
from tests.support.hand_made_logs import SITTER_SAYS, asked, said, sample, took, unknown, write_log
from tests.support.shared import PUBLISHED, published_only
from tests.support.stretches import DEFAULT_DOSE, Tiny, make_tiny

pytestmark = pytest.mark.slow

NAMES = ["calm", "creative", "soma", "honest"]


def cleared() -> list[ChatMessage]:
    """Return a clear call and its answer."""
    call = ToolCall(id="call", function="clear_effects", arguments={})
    return [
        ChatMessageAssistant(content="", tool_calls=[call], source="generate"),
        ChatMessageTool(content="Cleared.", tool_call_id="call", function="clear_effects"),
    ]


def shown(tmp_path: Path, messages: list[ChatMessage], **more) -> Timeline:
    """Return the timeline of a hand-made rollout."""
    log = write_log(tmp_path / "play.eval", [sample(messages, **more)])
    tables = read_tables(log)
    return read_timeline(tables, tables.rollouts["rollout"].iloc[0], log)


def drawn(timeline: Timeline) -> ReportFigure:
    """Return a timeline's figure as the report draws it, checked."""
    figure = draw(lambda _: timeline_figure(timeline), None)
    check(figure)
    return figure


def spans(timeline: Timeline) -> list[tuple[str, int, int | None]]:
    """Return what was active from which message to which."""
    return [(effect.name, effect.start, effect.stop) for effect in timeline.effects]


def test_an_effect_lasts_from_the_tools_answer_to_the_end_of_the_clearing_message(tmp_path):
    """A take in message 1 steers from message 2, and a clear in message 4 ends it before message 5; a later take lasts."""
    timeline = shown(tmp_path, [*asked("Begin."), *took("calm", dose=1.5), *said(), *cleared(), *took("soma")])
    assert spans(timeline) == [("calm", 2, 5), ("soma", 7, None)]
    calm, soma = timeline.effects
    assert (calm.dose, calm.category, calm.ended) == (1.5, "emotion", CLEARED)
    assert (soma.category, soma.ended) == ("fictional", "")
    assert timeline.clears == (4,)
    assert timeline.roles == ("user", "assistant", "tool", "assistant", "assistant", "tool", "assistant", "tool")


def test_windows_are_those_of_the_plan(tmp_path):
    """For takes, failed takes and clears in any order, also several in a message, they are what the engine does."""
    rng = random.Random(0)
    treatments = {name: Treatment(direction=Direction(vector=name), unit_strength=1.0) for name in NAMES}
    conversations = [_random_conversation(rng) for _ in range(25)]
    samples = [sample(messages, name=f"s-{place:02d}") for place, messages in enumerate(conversations)]
    log = write_log(tmp_path / "play.eval", samples)
    tables = read_tables(log)
    found = 0
    for place, messages in enumerate(conversations):
        timeline = read_timeline(tables, f"play.eval/s-{place:02d}/1", log)
        plan = plan_windows(messages, treatments)
        assert sorted(spans(timeline), key=str) == sorted(((w.label, w.start, w.stop) for w in plan.windows), key=str)
        found += len(plan.windows)
    assert found > 50


def _random_conversation(rng: random.Random) -> list[ChatMessage]:
    messages: list[ChatMessage] = asked("Begin.")
    for _ in range(8):
        answers: list[ChatMessage] = []
        calls = []
        for number in range(rng.choice([0, 1, 1, 2, 3])):
            take = rng.random() < 0.6
            function = "take_drug" if take else "clear_effects"
            arguments = {"name": rng.choice(NAMES), "dose": rng.choice([0.5, 1.0, -2.0])} if take else {}
            calls.append(ToolCall(id=f"{number}", function=function, arguments=arguments))
            error = ToolCallError("unknown", "no") if rng.random() < 0.2 else None
            answers.append(ChatMessageTool(content="", tool_call_id=f"{number}", function=function, error=error))
        # Ids of one message must not be taken for those of another.
        unique = len(messages)
        for call, answer in zip(calls, answers, strict=True):
            call.id = answer.tool_call_id = f"{unique}-{call.id}"
        messages += [ChatMessageAssistant(content="Hm.", tool_calls=calls, source="generate"), *answers]
    return messages


def test_the_trip_sitters_clear_ends_all_effects(tmp_path):
    """What it says tells where it cleared; effects end before its message, and are marked as ended by it."""
    messages = [*asked("Begin."), *took("calm"), *took("soma"), *said(), *asked(SITTER_SAYS), *said(), *took("honest")]
    timeline = shown(tmp_path, messages, store={"DrugState:trip_sitter_clears": [{"turn": 3}]})
    assert spans(timeline) == [("calm", 2, 6), ("soma", 4, 6), ("honest", 9, None)]
    assert [effect.ended for effect in timeline.effects] == [SITTER, SITTER, ""]
    assert timeline.sitter == (6,)
    assert "1 clear by the trip sitter" in drawn(timeline).finding


def test_the_rollout_with_the_most_takes_of_its_own_is_chosen(tmp_path):
    """Takes that a task inserted count only among equals, and the first name wins; without takes there is none."""
    log = write_log(
        tmp_path / "play.eval",
        [
            sample([*took("calm"), *took("soma", scripted=True), *took("soma", scripted=True)], name="a"),
            sample([*took("calm"), *unknown("math")], name="c"),
            sample([*took("calm"), *took("calm")], name="b"),
        ],
    )
    assert most_takes(read_tables(log)) == "play.eval/b/1"
    assert most_takes(empty_tables()) is None
    figure = draw(timeline_of_most_takes(log), read_tables(log))
    assert "play.eval/b/1" in figure.finding
    assert draw(timeline_of_most_takes(log), empty_tables()) is None


def test_what_is_not_there_is_told(tmp_path):
    """An unknown rollout, a log that is elsewhere and one that changed since are errors with the name in them."""
    log = write_log(tmp_path / "logs" / "play.eval", [sample(took("calm"))])
    other = write_log(tmp_path / "other" / "another.eval", [sample(took("calm"))])
    tables = read_tables(log)
    with pytest.raises(TimelineError, match="no rollout 'x'"):
        read_timeline(tables, "x", log)
    with pytest.raises(TimelineError, match=r"no log .play\.eval."):
        read_timeline(tables, "play.eval/s-0/1", other)
    write_log(log, [sample([*took("calm"), *took("calm")])])
    with pytest.raises(TimelineError, match="2 take calls in its log and 1 in the table"):
        read_timeline(tables, "play.eval/s-0/1", log)
    write_log(log, [sample(took("calm"), name="s-1")])
    with pytest.raises(TimelineError, match="no sample 's-0'"):
        read_timeline(tables, "play.eval/s-0/1", log)


# ---------------------------------------------------------------- our own logs


@solver
def watched_play(library: str):
    """Play a fixed conversation in which effects are cleared from outside before its last user message."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.messages = [
            *asked("Begin."),
            *took("calm"),
            *took("goblins", dose=2.0),
            *said(),
            *asked("Take a breath."),
        ]
        treatments = {
            name: Treatment(direction=Direction(vector=name), unit_strength=0.5) for name in ("calm", "goblins")
        }
        plan = plan_windows(state.messages, treatments, outside_clears=[6])
        request = SteeringRequest(plan=plan, library=library, show_tokens=True)
        output = await get_model().generate(state.messages, config=request.config(GenerateConfig(max_tokens=2)))
        state.messages.append(output.message)
        state.store.set("SelfSteerState:sitter_clears", 1)
        return state

    return solve


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    """A tiny model with its library."""
    return make_tiny(tmp_path_factory.mktemp("timeline"))


def only_rollout(log: EvalLog) -> tuple[Tables, Timeline]:
    """Return a log's tables, and the timeline of its first rollout."""
    tables = read_tables(log.location)
    return tables, read_timeline(tables, tables.rollouts["rollout"].iloc[0], log.location)


def test_our_timelines_have_the_tokens_of_the_receipts(tiny):
    """A scripted take is steered over the tokens that the receipt names, and drawn over them."""
    task = introspection(vectors="calm", arm="real", options=2, library=str(tiny.library))
    tables, timeline = only_rollout(tiny.run(task))
    (effect,) = timeline.effects
    receipt = tables.receipts[tables.receipts["reading"] == "cached"].iloc[0]
    assert effect.tokens == (receipt["start"], receipt["stop"])
    assert (effect.name, effect.vector, effect.strength, effect.ended) == ("d1", "calm", DEFAULT_DOSE, CLEARED)
    assert timeline.starts[effect.start] == effect.tokens[0]
    assert timeline.starts[effect.stop] == effect.tokens[1]
    figure = drawn(timeline)
    turns, tokens = figure.pictures
    for picture, (start, stop) in ((turns, (effect.start, effect.stop)), (tokens, effect.tokens)):
        (bar,) = bars(picture.figure)
        assert (bar.get_x(), bar.get_x() + bar.get_width()) == (start, stop)
        assert tick_labels(picture.figure, "y") == ["d1 = calm (1)"]


def test_a_task_that_steers_without_takes_is_shown_by_its_plan(tiny):
    """Localisation steers one sentence: its window is shown, as ended by the task."""
    task = localisation(vectors="calm", arm="real", sentences=2, library=str(tiny.library))
    _, timeline = only_rollout(tiny.run(task))
    assert [(effect.vector, effect.ended) for effect in timeline.effects] == [("calm", SCRIPT)]
    assert timeline.effects[0].stop == timeline.effects[0].start + 1
    drawn(timeline)


def test_our_trip_sitters_clear_is_found_in_the_engines_plan(tiny):
    """Effects that were cleared from outside end where the plan has it, in messages and in tokens."""
    task = Task(
        dataset=MemoryDataset([Sample(input="Begin.")]),
        solver=watched_play(str(tiny.library)),
        name="freeplay",
        metadata={"experiment": "freeplay"},
    )
    _, timeline = only_rollout(tiny.run(task))
    assert spans(timeline) == [("calm", 2, 6), ("goblins", 4, 6)]
    assert {effect.ended for effect in timeline.effects} == {SITTER}
    assert timeline.sitter == (6,)
    assert [effect.tokens for effect in timeline.effects] == [
        (timeline.starts[start], timeline.starts[6]) for start in (2, 4)
    ]
    assert len(drawn(timeline).pictures) == 2


# ---------------------------------------------------------------- the figure


def test_the_picture_shows_what_the_table_says(tmp_path):
    """One row a take in call order with its dose, bars over the messages of the table, a cross for a failed call."""
    messages = [*asked("Begin."), *took("calm", dose=-1.5), *unknown("math"), *took("soma"), *cleared(), *said()]
    timeline = shown(tmp_path, messages)
    figure = drawn(timeline)
    (picture,) = figure.pictures
    assert tick_labels(picture.figure, "y") == ["calm (−1.5)", "math (1)", "soma (1)"]
    effects = figure.table[figure.table["mark"] == "effect"]
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars(picture.figure)] == [
        (row.from_message, row.to_message) for row in effects.itertuples()
    ]
    assert list(figure.table["mark"]) == ["effect", "failed take", "effect", CLEARED]
    pd.testing.assert_frame_equal(figure.table, mark_table(timeline))
    words = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert words == ["emotion", "fictional", "failed", CLEARED]


def test_forty_takes_of_long_names_are_legible(tmp_path):
    """No words upon words, however many takes and however long their names."""
    messages = asked("Begin.")
    for number in range(40):
        messages += took(f"{number} a name that is longer than any figure has room for", dose=0.123456)
    figure = drawn(shown(tmp_path, messages))
    assert len(bars(figure.pictures[0].figure)) == 40


@published_only
def test_the_studys_longest_rollout_is_shown():
    """In the published free play under placebo one rollout has eleven takes, one of a name that there is not."""
    tables = read_tables(*PUBLISHED.glob("*fp-placebo*.eval"))
    rollout = most_takes(tables)
    assert rollout.endswith("private-vectors-32/1")
    timeline = read_timeline(tables, rollout, PUBLISHED)
    assert (len(timeline.effects), len(timeline.failed)) == (10, 1)
    assert {effect.strength for effect in timeline.effects} == {0}
    drawn(timeline)
