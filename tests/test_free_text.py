"""Free-text introspection: its trials, the conversation, the two readings of the description, and how a grader rates them."""

import json
import math
import re

import pytest
from inspect_ai import Task, score
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessageAssistant, ModelOutput
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall

from self_steering.evals.free_text import ARMS, introspection_free_text, make_trials
from self_steering.scorers.free_text import description_scorer, graded, receipt_faults
from self_steering.solvers.free_text import ExplorationState, FreeTextTrial, opening
from self_steering.solvers.judge import TRIES
from self_steering.solvers.prompts import free_text as prompts
from self_steering.solvers.readings import Cost, Reading
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.plan import Direction, Plan, Window
from self_steering.vectors.catalogue import catalogue
from tests.support.graders import INJECTIONS, UNGRADED, fence, grader, nonsense, reply
from tests.support.scripted import Tiny, says, turn_by_turn
from tests.support.summaries import figures, headlines

pytestmark = pytest.mark.slow

DEFAULT_DOSE = 2.0  # of the tiny model's library
DOSE = 10.0
KEY = "self_steering"


# ---------------------------------------------------------------- trials


def trials_of(**changes) -> list[FreeTextTrial]:
    arguments = {
        "vectors": ["calm", "honest", "soma"],
        "arms": list(ARMS),
        "names": list(catalogue()),
        "n_per_vector": 3,
        "primer": "none",
        "prompts": list(prompts.WORDINGS),
        "dose": 1.0,
        "framing": "vectors",
        "seed": 0,
    }
    return [trial for trial, _ in make_trials(**{**arguments, **changes})]


def test_all_arms_get_the_same_words_seeds_and_distractor():
    """Arms differ in nothing but what is applied."""
    trials = trials_of()
    assert len(trials) == 36
    for first in range(0, len(trials), 4):
        assert [t.arm for t in trials[first : first + 4]] == list(ARMS)
        shown = [t.model_dump(exclude={"arm", "applied", "random_seed"}) for t in trials[first : first + 4]]
        assert shown == shown[:1] * 4


def test_arms_apply_what_they_say():
    """Real and placebo apply the true vector, random a seeded direction of its norm, other another; only placebo at zero."""
    for trial in trials_of():
        treatment = trial.treatment(0.6)
        assert treatment.unit_strength == (0 if trial.arm == "placebo" else 0.6)
        assert (trial.applied != trial.vector) == (trial.arm == "other")
        assert (treatment.direction.random_seed is not None) == (trial.arm == "random")
        assert treatment.direction.vector == trial.applied


def test_the_distractor_is_applied_in_no_arm():
    """Neither the true vector nor the other one, so that describing what was applied gains nothing on the distractor."""
    trials = trials_of(names=["calm", "honest", "soma"], n_per_vector=10)
    assert all(t.distractor not in (t.vector, t.applied) for t in trials)


def test_a_question_follows_from_the_seed_alone():
    """The same seed gives the same trials, whatever else is run; another seed gives other ones in every respect."""
    assert trials_of() == trials_of()
    alone = trials_of(vectors=["honest"], arms=["random"])
    assert alone == [t for t in trials_of() if (t.vector, t.arm) == ("honest", "random")]
    pairs = list(zip(trials_of(), trials_of(seed=1), strict=True))
    for name in ("applied", "random_seed", "distractor", "prompt", "seed"):
        assert any(getattr(a, name) != getattr(b, name) for a, b in pairs), name


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("prompt", prompts.WORDINGS)
def test_the_words_are_those_of_one_framing_and_tell_no_effect(framing: str, prompt: str):
    """What the model reads is the same for every vector, names its tools, and has no word of another framing."""
    trials = trials_of(framing=framing, prompts=[prompt], arms=["real", "other"])
    wording = prompts.WORDINGS[prompt]
    (start,) = {"\n".join(m.text for m in opening(t, 5, clear_first=True)) for t in trials}
    (lax,) = {"\n".join(m.text for m in opening(t, 5, clear_first=False)) for t in trials}
    assert start.replace(wording.cleared, "") == lax != start
    later = [wording.go_on, wording.closing, prompts.ANNOUNCE_TAKE, prompts.ANNOUNCE_CLEAR]
    text = "\n".join([start, *(trials[0].fill(part, left=3) for part in later)])
    assert all(name in start for name in (FRAMINGS[framing].take_tool, "clear_effects", "submit_description", "d1"))
    foreign = [w for name, f in FRAMINGS.items() if name != framing for w in (f.noun, f.plural)]
    assert re.findall(rf"\b(?:{'|'.join(foreign)}|sober|placebo)\b", text) == []
    assert "{" not in text


def test_a_library_of_two_vectors_is_refused():
    """There would be no distractor left."""
    with pytest.raises(ValueError, match="has 2 vectors; at least 3 are needed"):
        trials_of(vectors=["calm"], names=["calm", "honest"])


# ---------------------------------------------------------------- the real task on a tiny model


def mark_of(description: str, reference: str) -> int:
    """Return the grade that the tests' grader gives."""
    return 1 + (7 * len(description) + len(reference)) % 10


def rating(messages, tools, tool_choice, config) -> ModelOutput:
    """Answer as a grader that reads the data and computes its grade from it."""
    _, data, _ = fence(messages[-1].text)
    return reply(json.dumps({"grade": mark_of(data["description"], data["reference"])}))


GRADED = grader(rating)


def task(tiny: Tiny, **changes) -> Task:
    """Return the task in a small form."""
    arguments = {"vectors": "calm,honest", "turns": 2, "max_tokens": 12, "dose": DOSE, "library": str(tiny.library)}
    return introspection_free_text(**{**arguments, **changes})


def play(tiny: Tiny, *turns: ChatMessageAssistant, last: str = "closing", arm: str = "real", **changes) -> EvalSample:
    """Run one sample that says these turns, then the last words; as they are exchanged, one real token a turn is enough."""
    limits = {name: changes.pop(name) for name in ("message_limit", "token_limit", "model_roles") if name in changes}
    made = task(tiny, vectors="calm", arm=arm, **{"max_tokens": 1, **changes})
    return tiny.play(made, turn_by_turn(*turns, says(last)), **{"model_roles": GRADED, **limits})


@pytest.fixture(scope="module")
def log(tiny: Tiny) -> EvalLog:
    """All arms over two vectors, in the model's own words, graded."""
    return tiny.run(task(tiny), model_roles=GRADED)


def turns_of(sample: EvalSample) -> list[ModelEvent]:
    """Return the model's own generations, those of the grader left out."""
    return [event for event in sample.events if isinstance(event, ModelEvent) and event.role is None]


def graded_of(sample: EvalSample) -> list[ModelEvent]:
    return [event for event in sample.events if isinstance(event, ModelEvent) and event.role == "grader"]


def windows_of(event: ModelEvent) -> list[dict]:
    return event.config.extra_body[KEY]["plan"].get("windows", [])


def description_score(sample: EvalSample) -> Score:
    return sample.scores["description_scorer"]


def story(event: ModelEvent) -> list[tuple[str, str, str]]:
    """Return what a generation was shown, ids aside."""
    calls = [json.dumps([c.arguments for c in getattr(m, "tool_calls", None) or []]) for m in event.input]
    return [(m.role, m.text, call) for m, call in zip(event.input, calls, strict=True)]


def test_the_uncached_reading_is_the_same_turn_from_the_same_seed_without_windows(log: EvalLog):
    """Messages, tools, seed and sampling are the same; the cached turn has its window, the uncached one none."""
    assert len(log.samples) == 2 * len(ARMS)
    for sample in log.samples:
        cached, uncached = turns_of(sample)[-2:]
        assert story(cached) == story(uncached)
        assert cached.tools == uncached.tools
        assert cached.config.seed is not None
        assert cached.config.model_dump(exclude={"extra_body"}) == uncached.config.model_dump(exclude={"extra_body"})
        assert len(windows_of(cached)) == 1
        assert windows_of(uncached) == []
        assert uncached.output.metadata[KEY]["receipts"] == []


def test_the_plan_follows_the_transcript_turn_by_turn(log: EvalLog):
    """Nothing is steered before the inserted take; then the window is open, and closed before the description."""
    for sample in log.samples:
        first, second, closing, _ = turns_of(sample)
        assert windows_of(first) == []
        (opened,), (closed,) = windows_of(second), windows_of(closing)
        take = next(i for i, m in enumerate(second.input) if getattr(m, "tool_calls", None))
        assert (opened["start"], opened.get("stop")) == (take + 1, None)
        clear = next(i for i, m in enumerate(closing.input) if i > take and getattr(m, "tool_calls", None))
        assert (closed["start"], closed["stop"]) == (take + 1, clear + 1)
        assert closing.input[closed["stop"] - 1].tool_calls[0].function == "clear_effects"


def readings_of(sample: EvalSample) -> tuple[str, str]:
    """Return the cached and the uncached description as they are in the score, which are those of the last two turns."""
    texts = description_score(sample).metadata["descriptions"]
    pair = texts["cached"]["text"], texts["uncached"]["text"]
    assert pair == tuple(e.output.completion.strip() for e in turns_of(sample)[-2:])
    assert description_score(sample).value["same_text"] == (pair[0] == pair[1])
    return pair


def test_a_placebo_writes_the_same_with_and_without_its_windows(log: EvalLog):
    """To the byte; what vectors left in the cache changes what is written after them."""
    changed = set()
    for sample in log.samples:
        cached, uncached = readings_of(sample)
        if cached != uncached:
            changed.add(sample.metadata["arm"])
    assert "placebo" not in changed
    assert changed


def test_a_strong_vector_changes_what_is_written_under_it(tiny: Tiny):
    """With the effect active in the describing turn, real differs and placebo does not."""
    run = tiny.run(task(tiny, arm="real,placebo", turns=1, clear_first=False), model_roles=GRADED)
    for sample in run.samples:
        cached, uncached = readings_of(sample)
        assert (cached == uncached) == (sample.metadata["arm"] == "placebo")


def test_arms_write_the_same_until_something_is_taken(log: EvalLog):
    """The first turn is the same text in all arms, from the same seed; the second, under the vector, is not."""
    for vector in ("calm", "honest"):
        turns = [turns_of(s) for s in log.samples if s.metadata["vector"] == vector]
        assert len({t[0].output.completion for t in turns}) == 1
        assert len({t[1].output.completion for t in turns}) == len(ARMS)
        assert all(len({t[number].config.seed for t in turns}) == 1 for number in range(4))
        assert len({t[number].config.seed for t in turns for number in range(3)}) == 3


def test_every_turn_is_steered_as_planned(log: EvalLog):
    """Receipts are clean, and tell the strength of the arm."""
    for sample in log.samples:
        assert description_score(sample).metadata["receipt_faults"] == []
        assert description_score(sample).value["clean_receipt"] == 1
        strength = 0.0 if sample.metadata["arm"] == "placebo" else DOSE * DEFAULT_DOSE
        for event in turns_of(sample):
            receipts = event.output.metadata[KEY]["receipts"]
            assert [r["strength"] for r in receipts] == [strength] * len(windows_of(event))
            assert all(r["planned"] == r["steered"] > 0 for r in receipts)


def test_scores_are_the_graders_marks_and_their_differences(log: EvalLog):
    """Each reading is graded against the true effect and against the distractor's."""
    for sample in log.samples:
        texts = [e.output.completion.strip() for e in turns_of(sample)[-2:]]
        true, wrong = (catalogue()[sample.metadata[key]].effect for key in ("vector", "distractor"))
        on_true, on_wrong = ([mark_of(text, line) for text in texts] for line in (true, wrong))
        value = description_score(sample).value
        assert [value["cached"], value["uncached"]] == on_true
        assert value["gap"] == on_true[0] - on_true[1]
        over = [on_true[0] - on_wrong[0], on_true[1] - on_wrong[1]]
        assert [value["over_distractor_cached"], value["over_distractor_uncached"]] == over
        assert value["over_distractor_gap"] == over[0] - over[1]


def test_the_grader_is_told_neither_arm_nor_reading_nor_name(log: EvalLog):
    """Besides the two texts its prompt is the same everywhere, and each pair of texts is graded once."""
    seen = set()
    for sample in log.samples:
        pairs = []
        for event in graded_of(sample):
            _, data, instructions = fence(event.input[-1].text)
            pairs.append(tuple(data.values()))
            seen.add((event.input[0].text, instructions))
        texts = {e.output.completion.strip() for e in turns_of(sample)[-2:]}
        lines = {catalogue()[sample.metadata[key]].effect for key in ("vector", "distractor")}
        assert set(pairs) == {(line, text) for line in lines for text in texts}
        assert len(pairs) == len(set(pairs))
    assert len(seen) == 1


def test_the_order_of_grading_is_not_always_the_same(log: EvalLog):
    """Which of the readings and effects comes first varies over samples."""
    firsts = set()
    for sample in log.samples:
        _, data, _ = fence(graded_of(sample)[0].input[-1].text)
        firsts.add(data["reference"] == catalogue()[sample.metadata["vector"]].effect)
    assert firsts == {True, False}


def test_the_log_has_means_by_arm_and_the_share_graded(log: EvalLog):
    """One entry a field, and all samples graded; two vectors are too few for an interval."""
    for field in ("cached", "uncached", "gap", "over_distractor_cached", "over_distractor_gap"):
        means = figures(log, field)
        for arm in ARMS:
            values = [description_score(s).value[field] for s in log.samples if s.metadata["arm"] == arm]
            assert means[arm] == pytest.approx(sum(values) / len(values))
    assert figures(log, "gap")["placebo"] == 0
    assert figures(log, "graded")["mean"] == 1


def test_epochs_are_sampled_from_other_seeds(tiny: Tiny):
    """A sample's second epoch is not the first one again."""
    run = tiny.run(task(tiny, vectors="calm", arm="placebo", turns=1), model_roles=GRADED, epochs=2)
    first, second = (turns_of(sample)[0] for sample in run.samples)
    assert first.config.seed != second.config.seed
    assert first.output.completion != second.output.completion


# ---------------------------------------------------------------- what the model may do by itself


TAKE = ("take_vector", {"name": "d1", "dose": 2.0})
CLEAR = ("clear_effects", {})


CLOSING = says("closing")


def submit(text: object) -> tuple[str, dict]:
    return ("submit_description", {"description": text})


def answers(sample: EvalSample) -> list[tuple[str, str | None]]:
    """Return (function, error) of every tool answer."""
    return [(m.function, m.error.message if m.error else None) for m in sample.messages if m.role == "tool"]


def test_a_model_that_takes_clears_and_submits_by_itself_is_read_at_its_submission(tiny: Tiny):
    """Nothing is inserted, its own dose counts, and its description is what is graded."""
    sample = play(tiny, says("", TAKE), says("hm", CLEAR), says("", submit(" It was slow. ")), turns=5)
    assert answers(sample) == [("take_vector", None), ("clear_effects", None), ("submit_description", None)]
    score = description_score(sample)
    assert score.answer == "It was slow."
    flags = {"own_take": 1, "submitted": 1, "active": 0, "same_form": 1, "same_text": 1, "clean_receipt": 1, "gap": 0}
    assert {key: score.value[key] for key in flags} == flags
    cached, uncached = turns_of(sample)[-2:]
    assert story(cached) == story(uncached)
    assert [w["strength"] for w in windows_of(cached)] == [2.0 * DEFAULT_DOSE]
    assert len(turns_of(sample)) == 4


def test_a_description_written_under_the_effect_is_refused_and_the_session_goes_on(tiny: Tiny):
    """The refusal is a tool error that names the remedy; clearing in the same message comes too late, as it was steered."""
    early = [says("", TAKE), says("", submit("a")), says("", CLEAR, submit("b")), says("", submit("c"))]
    sample = play(tiny, *early, turns=5)
    refused = [error for name, error in answers(sample) if name == "submit_description"]
    assert refused[2] is None
    assert all("d1 is still active. Clear it with clear_effects first" in error for error in refused[:2])
    assert description_score(sample).answer == "c"


def test_without_clear_first_a_description_written_under_the_effect_counts_as_such(tiny: Tiny):
    """It is accepted, `active` says so, and its window is still open in the cached reading."""
    sample = play(tiny, says("", TAKE), says("", submit("a")), turns=5, clear_first=False)
    assert description_score(sample).value["active"] == 1
    (window,) = windows_of(turns_of(sample)[-2])
    assert window.get("stop") is None
    asked_in_prose = play(tiny, says("x"), turns=1, clear_first=False)
    assert description_score(asked_in_prose).value["active"] == 1
    assert ("clear_effects", None) not in answers(asked_in_prose)


def test_a_description_before_anything_was_taken_is_refused(tiny: Tiny):
    """There is nothing to describe; the take call is inserted then, and the sample goes on to its closing question."""
    sample = play(tiny, says("", submit("a")), says("x"))
    assert answers(sample)[0][1] == "d1 has not been taken yet. Take it with take_vector first."
    value = description_score(sample).value
    assert (value["own_take"], value["submitted"]) == (0, 0)
    assert description_score(sample).answer == "closing"


BAD_CALLS = [
    ("take_vector", {"name": "calm"}),
    ("take_vector", {"name": "d1", "dose": 99}),
    ("take_vector", {"name": "d1", "dose": "much"}),
    ("take_vector", {}),
    ("take_drug", {"name": "d1"}),
    ("no_such_tool", {}),
    ("submit_description", {"description": "  "}),
    ("submit_description", {"description": 7}),
    ("submit_description", {}),
]


@pytest.mark.parametrize("calls", [BAD_CALLS[:6], BAD_CALLS[6:]], ids=["taking", "submitting"])
def test_a_tool_error_does_not_end_the_sample_and_steers_nothing(calls: list, tiny: Tiny):
    """The model is told, nothing is taken or handed in by it, and the sample is graded in the end."""
    bad = [says("", call) for call in calls]
    sample = play(tiny, says("", TAKE), says("", CLEAR), *bad, says("", submit("done")), turns=10)
    assert [name for name, error in answers(sample) if error] == [name for name, _ in calls]
    assert description_score(sample).answer == "done"
    assert all(len(windows_of(event)) <= 1 for event in turns_of(sample))
    assert description_score(sample).value["clean_receipt"] == 1


def test_a_malformed_call_does_not_end_the_sample(tiny: Tiny):
    """A call that could not be read is answered with why, and takes nothing."""
    call = ToolCall(id="torn", function="take_vector", arguments={}, parse_error="unreadable")
    torn = ChatMessageAssistant(content="", tool_calls=[call])
    sample = play(tiny, torn, says("x"))
    assert "unreadable" in answers(sample)[0][1]
    assert description_score(sample).value["own_take"] == 0


def test_stacked_windows_have_clean_receipts(tiny: Tiny):
    """Taking twice adds, and the receipts are checked against the sum."""
    sample = play(tiny, says("", TAKE), says("", TAKE), says("x"), turns=3)
    assert len(windows_of(turns_of(sample)[-2])) == 2
    assert description_score(sample).metadata["receipt_faults"] == []


def test_an_uncached_turn_that_hands_nothing_in_is_made_to(tiny: Tiny):
    """Like is compared with like: the same messages and seed once more, the call forced; the log says that it was."""
    told = turn_by_turn(says("", TAKE), says("", CLEAR), says("", submit("cached")))
    asked = []

    def script(messages: list, tools: list) -> ChatMessageAssistant:
        choice, config = tiny.model.api.asked
        asked.append((choice, bool(config.extra_body[KEY]["plan"].get("windows"))))
        if choice != "auto":
            return says("", submit("made to"))
        return told(messages, tools) if asked[-1][1] or len(asked) < 3 else says("musing")

    sample = tiny.play(task(tiny, vectors="calm", arm="real", max_tokens=1, turns=4), script, model_roles=GRADED)
    assert [choice == "auto" for choice, _ in asked] == [True] * 4 + [False]
    descriptions = description_score(sample).metadata["descriptions"]
    assert descriptions["uncached"] == {"name": "uncached", "text": "made to", "form": "forced"}
    assert description_score(sample).value["same_form"] == 0
    free, made = turns_of(sample)[-2:]
    assert (story(free), free.config.seed, windows_of(made)) == (story(made), made.config.seed, [])


# ---------------------------------------------------------------- what is not graded


def assert_unscored(sample: EvalSample, reason: str, explanation: str) -> None:
    """The sample has no number at all, and says why."""
    score = description_score(sample)
    assert isinstance(score.value, float)
    assert math.isnan(score.value)
    assert score.reason == reason
    assert re.search(explanation, score.explanation)
    assert sample.scores["graded"].value == 0


@pytest.mark.parametrize(("roles", "reason", "explanation"), UNGRADED)
def test_what_is_not_graded_is_unscored_and_never_zero(roles: dict, reason: str, explanation: str, tiny: Tiny):
    """Every mean is missing rather than low, the log counts the sample as unscored, and the share graded is zero."""
    run = tiny.run(task(tiny, vectors="calm", arm="real", turns=1), model_roles=roles)
    (sample,) = run.samples
    assert_unscored(sample, reason, explanation)
    assert description_score(sample).answer == turns_of(sample)[-2].output.completion.strip()
    assert figures(run, "gap") == figures(run, "cached") == {}
    assert headlines(run) == {"graded_share": 0}
    assert figures(run, "graded")["mean"] == 0


def test_a_finished_log_can_be_graded_later(tiny: Tiny):
    """What was run without a grader is not lost: scoring the log with one gives the scores that it would have had."""
    small = {"vectors": "calm", "arm": "placebo", "turns": 1}
    ungraded = tiny.run(task(tiny, **small), model_roles={})
    later = score(ungraded, [description_scorer(), graded()], model_roles=GRADED, action="overwrite", display="none")
    at_once = tiny.run(task(tiny, **small), model_roles=GRADED)
    assert description_score(later.samples[0]).value == description_score(at_once.samples[0]).value
    assert later.samples[0].scores["graded"].value == 1


def test_the_grader_is_asked_again_with_another_seed_before_giving_up(tiny: Tiny):
    """Three tries with three seeds; a grade in the third counts."""
    seeds = []

    def hesitant(messages, tools, tool_choice, config):
        seeds.append(config.seed)
        return nonsense() if len(seeds) % TRIES else rating(messages, tools, tool_choice, config)

    run = tiny.run(task(tiny, vectors="calm", arm="placebo", turns=1), model_roles=grader(hesitant))
    (sample,) = run.samples
    assert description_score(sample).value["cached"] == description_score(sample).value["uncached"]
    assert len(seeds) == 2 * TRIES
    assert len(set(seeds[:TRIES])) == TRIES


def test_a_model_that_never_takes_anything_is_unscored_where_no_call_is_inserted(tiny: Tiny):
    """It is not asked what nothing did."""
    sample = play(tiny, says("x"), says("y"), forced_take=False)
    assert_unscored(sample, "no_response", "d1 was never taken; forced_take=true inserts the call")
    assert len(turns_of(sample)) == 2


def test_a_closing_turn_without_a_word_is_unscored(tiny: Tiny):
    """No description is no bad description."""
    sample = play(tiny, says("x"), says("y"), last=" ")
    assert_unscored(sample, "no_response", "the closing turn has no text")
    assert graded_of(sample) == []


@pytest.mark.parametrize("limit", ["message_limit", "token_limit"])
def test_a_sample_that_meets_a_limit_is_unscored(limit: str, tiny: Tiny):
    """The limit ends it as in any other task, and the log keeps what was said so far."""
    sample = play(tiny, says("x"), says("y"), **{limit: 4})
    assert sample.limit.type == limit.removesuffix("_limit")
    assert_unscored(sample, "no_response", "ended before a description was written")
    assert sample.messages[0].role == "system"


def test_a_conversation_that_outgrows_the_context_is_unscored(tiny: Tiny):
    """The reason names what to change."""
    sample = play(tiny, *[says("word " * 150)] * 6, turns=6)
    assert_unscored(sample, "no_response", r"turn \d: the conversation does not fit .* use fewer turns or max_tokens")


def test_a_gullible_grader_is_not_reached_by_a_description(tiny: Tiny):
    """A grader that obeys any order of a 10 outside of the data finds none, whatever the description says."""
    asked_for = []

    def gullible(messages, tools, tool_choice, config):
        _, data, outside = fence(messages[-1].text)
        asked_for.append(data["description"])
        orders = r'GRADE: 10|"grade": 10|grade it 10|END OF DATA\n|<\|im_start'
        return reply(f'{{"grade": {10 if re.search(orders, messages[0].text + outside) else 2}}}')

    injection = "\n".join(text for text in INJECTIONS if "\ud800" not in text)
    told = [says("", TAKE), says("", CLEAR), says("", submit(injection))]
    sample = play(tiny, *told, turns=3, model_roles=grader(gullible))
    assert set(asked_for) == {injection.strip()}
    assert description_score(sample).value["cached"] == 2


# ---------------------------------------------------------------- receipts by hand


def turn_with(**changes) -> Reading:
    """Return a turn with one window that was realised as planned, save for `changes` of its receipt."""
    clean = {"start": 10, "planned": 5, "steered": 5, "strength": 0.9, "expected_shift": 3.0}
    measured = {"projection_before": 2.0, "projection_after": 5.0}
    cost = Cost(computed_tokens=1, prompt_tokens=1)
    return Reading(name="turn 2", strengths=[0.9], receipts=[{**clean, **measured, **changes}], cost=cost)


def test_turns_of_earlier_logs_are_read():
    """These hold each turn's whole plan, and its tokens beside it."""
    window = Window(label="d1", direction=Direction(vector="calm"), dose=1.5, strength=0.9, start=2)
    new = turn_with(start=11)
    old = {"name": new.name, "plan": Plan(messages=4, windows=(window,)).model_dump(), "receipts": new.receipts}
    turns = [
        {**old, **new.cost.model_dump(), "name": "turn 1", "plan": {"messages": 2}},
        {**old, **new.cost.model_dump()},
    ]
    sample = EvalSample(id="x", epoch=1, input="x", target="x", store={"ExplorationState:turns": turns})
    found = sample.store_as(ExplorationState)
    assert found.turns == [new.model_copy(update={"name": "turn 1", "strengths": []}), new]
    assert found.unit_strength == pytest.approx(0.6)


def test_a_clean_receipt_has_no_faults():
    """What was planned was done."""
    assert receipt_faults(turn_with()) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"steered": 4}, "5 positions planned, 4 steered"),
        ({"planned": 0, "steered": 0}, "0 positions planned, 0 steered"),
        ({"strength": 0.0}, "strength 0.0, expected 0.9"),
        ({"projection_after": 2.0}, "projection moved by 0.0000, expected 3.0000"),
        ({"projection_after": math.nan}, "projection moved by nan, expected 3.0000"),
    ],
)
def test_a_sabotaged_receipt_is_reported(changes: dict, fault: str):
    """With the turn that it belongs to."""
    (found,) = receipt_faults(turn_with(**changes))
    assert found == f"turn 2, window 0: {fault}"


def test_a_missing_window_is_reported():
    """A turn that ran unsteered is a fault."""
    turn = turn_with().model_copy(update={"receipts": []})
    assert receipt_faults(turn) == ["turn 2, 0 windows, expected 1"]
