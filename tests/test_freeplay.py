"""Free play: its rollouts, what the model reads in each framing, how sessions end, and what logs and figures make of them."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai import Task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.dataset import Sample
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant
from inspect_ai.tool import ToolInfo

from self_steering.analysis.freeplay.picks import MEAN, SHARES, picks, valences
from self_steering.analysis.freeplay.redosing import EVERY, RATE, redosing
from self_steering.analysis.tables import Tables, read_tables
from self_steering.evals.freeplay import freeplay, make_samples
from self_steering.scorers.impairment import impairment_scorer
from self_steering.scorers.self_steer import exposure_scorer, self_account_scorer, self_steer_scorer, sitter_scorer
from self_steering.solvers.prompts import freeplay as prompts
from self_steering.solvers.prompts import self_steer as self_steer_prompts
from self_steering.solvers.records import TASK_MENU, Condition
from self_steering.solvers.self_steer import self_steer
from self_steering.solvers.session import MOST_CALLS
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.request import EXTRA_BODY_KEY
from tests.support.drawn_figures import report_keys
from tests.support.scripted import Script, Tiny, roomy_session_model, says, turn_by_turn
from tests.support.summaries import figures

RECORD = "SelfSteerState"
END = ("end_session", {})
MANY = MOST_CALLS + 2


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny model with room for long conversations."""
    with roomy_session_model(tmp_path_factory.mktemp("freeplay")) as made:
        yield made


def run(tiny: Tiny, script: Script, *, log_dir: Path | None = None, **changes) -> EvalLog:
    arguments = {"framing": "vectors", "arm": "real", "rollouts": 1, "max_tokens": 6, "sitter": "none"}
    task = freeplay(**{**arguments, "library": str(tiny.library), **changes})
    return tiny.run(task, script, **({"log_dir": str(log_dir)} if log_dir else {}))


def play(tiny: Tiny, script: Script, **changes) -> EvalSample:
    (sample,) = run(tiny, script, **changes).samples
    return sample


def take(name: str, framing: str = "vector", **more) -> tuple[str, dict]:
    return f"take_{framing}", {"name": name, **more}


def kept(sample: EvalSample, name: str):
    return sample.store[f"{RECORD}:{name}"]


def told(sample: EvalSample, role: str) -> list[str]:
    return [message.text for message in sample.messages if message.role == role]


def value(sample: EvalSample, scorer: str, name: str) -> float:
    return sample.scores[scorer].value[name]


def metric(log: EvalLog, score: str, cell: str) -> float:
    return figures(log, score)[cell]


# ---------------------------------------------------------------- rollouts


def samples_of(**changes) -> list:
    arguments = {
        "menu": ["calm", "honest", "soma"],
        "framings": ["drugs", "vectors"],
        "arms": ["real", "placebo", "random"],
        "visibilities": ["unsaid", "watched"],
        "labels": ["names"],
        "rollouts": 3,
        "turns": 15,
        "seed": 0,
    }
    return make_samples(**{**arguments, **changes})


def test_a_rollout_is_the_same_in_every_arm():
    """Its seed and its words are; another rollout, framing or visibility has another seed."""
    samples = samples_of()
    rollouts = [samples[first : first + 3] for first in range(0, len(samples), 3)]
    for arms in rollouts:
        assert [one.metadata["arm"] for one in arms] == ["real", "placebo", "random"]
        assert len({one.metadata["seed"] for one in arms}) == 1
        assert len({"".join(m.text for m in one.input) for one in arms}) == 1
    assert len({arms[0].metadata["seed"] for arms in rollouts}) == len(rollouts) == 12


def test_rollouts_follow_from_the_seed_alone():
    """The same ones come whatever else is run beside them; another seed gives others."""
    few = samples_of(framings=["vectors"], arms=["placebo"], visibilities=["watched"], rollouts=2)
    seeds = {one.id: one.metadata["seed"] for one in samples_of()}
    assert [one.metadata["seed"] for one in few] == [seeds[one.id] for one in few]
    assert all(one.metadata["seed"] != seeds[one.id] for one in samples_of(seed=1))


def test_the_model_can_take_what_was_chosen(roomy: Tiny):
    """The list tool shows just these, and a name that is not among them is refused."""
    script = turn_by_turn(says("", ("list_vectors", {}), take("creative")), says("", END))
    sample = play(roomy, script, vectors="honest,calm")
    listed, refused, _ = [m for m in sample.messages if m.role == "tool"]
    assert sorted(line.partition(":")[0] for line in listed.text.splitlines()) == ["calm", "honest"]
    assert refused.error.message.startswith("There is no vector 'creative'. Valid names: ")


# ---------------------------------------------------------------- labels that tell nothing


def opaque_play(roomy: Tiny, folder: Path, arm: str) -> tuple[EvalSample, Tables]:
    """Two takes of x2, one of a vector's own name, and an account that names x2."""
    turns = [says("", ("list_vectors", {}), take("x2"), take("calm"), take("x2")), says("", END), says("I took x2.")]
    log = run(roomy, turn_by_turn(*turns), vectors="honest,calm,anxious", labels="opaque", arm=arm, log_dir=folder)
    return log.samples[0], read_tables(folder)


@pytest.mark.parametrize("arm", ["real", "placebo", "random"])
def test_an_opaque_label_tells_nothing_and_steers_with_what_it_stands_for(roomy: Tiny, tmp_path: Path, arm: str):
    """No vector's name or effect is read; tables tell which vector was chosen, its name is no label, the account is of labels."""
    sample, tables = opaque_play(roomy, tmp_path, arm)
    read = " ".join(message.text for message in sample.messages if message.role != "assistant")
    own = [name for name in ("honest", "anxious") if name in read] + re.findall(r"calm(?!')", read)
    listed = [line.partition(":") for line in sample.messages[3].text.splitlines()]
    assert own == []
    assert sorted(label for label, _, _ in listed) == ["x1", "x2", "x3"]
    assert len({told for _, _, told in listed}) == 1
    first, by_name, again = tables.takes.to_dict("records")
    assert first["name"] in {"honest", "calm", "anxious"}
    assert (first["name"], first["label"]) == (again["name"], again["label"]) == (again["name"], "x2")
    assert (by_name["known"], by_name["ok"], by_name["label"]) == (False, False, "calm")
    assert kept(sample, "exposures")[0]["applied"] == ("random direction" if arm == "random" else first["name"])
    assert set(tables.rollouts["labels"]) == {"opaque"}
    assert value(sample, "self_steer_scorer", "picks") == 2
    assert value(sample, "self_account_scorer", "account_exact") == 1.0


def test_opaque_labels_are_dealt_anew_in_each_rollout_and_alike_in_its_arms():
    """So that nothing is learnt of a label but within the rollout."""
    menu = list(TASK_MENU)
    dealt = {}
    for sample in samples_of(menu=menu, labels=["opaque"], framings=["aids"], rollouts=6):
        condition = Condition.of_sample(sample.metadata, menu)
        dealt.setdefault(sample.id.replace(condition.arm, "arm"), []).append(condition.offered)
    assert all(arms[0] == arms[1] == arms[2] and set(arms[0].values()) == set(menu) for arms in dealt.values())
    assert len({tuple(sorted(arms[0].items())) for arms in dealt.values()}) == len(dealt) == 12


def test_opaque_labels_cannot_be_mislabelled(roomy: Tiny):
    """It is said in one line, before anything runs."""
    with pytest.raises(PrerequisiteError, match="opaque labels say nothing that could be wrong") as refused:
        run(roomy, turn_by_turn(says("", END)), labels="opaque", arm="mislabelled")
    assert "\n" not in str(refused.value).strip()


# ---------------------------------------------------------------- words

LOOP = "again " * 30
OTHER_WORDS = {
    "drugs": r"vectors?|aids?",
    "aids": r"drugs?|vectors?|sober|trips?|tripping|high|dose of|substances?|pills?",
    "vectors": r"drugs?|aids?|sober|trips?|tripping|high|dose of|substances?|pills?",
}


def every_word(framing: str) -> Script:
    """A script that is told all there is to be told: answers, refusals, the sitter's words, the closing questions."""
    noun = FRAMINGS[framing].noun
    turns = [
        says("Yes."),
        says("", (FRAMINGS[framing].list_tool, {}), *[take("calm", noun, dose=dose) for dose in ("two", 1e9, 0.5)]),
        says("", take("joy", noun), (f"take_{noun}", {}), ("clear_effects", {"all": 1}), ("no_such_tool", {})),
        says("", *[take("anxious", noun, dose=0.1)] * (MOST_CALLS + 1)),
        *[says(LOOP)] * 3,
        says("", ("clear_effects", {})),
        says("", END, ("clear_effects", {})),
        says("calm"),
    ]
    return turn_by_turn(*turns)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.slow
def test_no_word_of_another_framing_reaches_the_model(roomy: Tiny, framing: str):
    """In nothing that it reads: prompts, tools, answers, errors, the trip sitter's words, the interview."""
    scripted, read = every_word(framing), []

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        read.extend(json.dumps(tool.model_dump(exclude_none=True)) for tool in tools)
        for message in messages:
            error = getattr(message, "error", None)
            read.extend([message.text, error.message if error else ""])
        return scripted(messages, tools)

    sample = play(roomy, script, framing=framing, opt_in=True, sitter="rules", visibility="watched")
    text = "\n".join(dict.fromkeys(read))
    # All of it was said.
    assert all(part in text for part in (FRAMINGS[framing].take_tool, "Valid names", "pass a number", "more than 20"))
    assert self_steer_prompts.SITTER_CLEARED in text
    assert self_steer_prompts.CLEARED_FOR_DEBRIEF in text
    assert "Turns left: " in text
    assert "people read along" in text
    assert kept(sample, "opted_in") is True
    assert re.findall(rf"\b(?:{OTHER_WORDS[framing]}|placebo|steer\w*)\b", text, re.IGNORECASE) == []
    assert "{" not in "\n".join(told(sample, "user") + told(sample, "system"))


# ---------------------------------------------------------------- arms


def test_arms_write_the_same_tokens_until_something_was_steered(roomy: Tiny):
    """The model's own words before the first take are the same in every arm, and later ones are not; rollouts differ."""
    taking = says("", take("calm", dose=3.0))

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
        turn = sum(message.role == "assistant" for message in messages)
        return taking.model_copy(deep=True) if turn == 2 else None

    log = run(
        roomy, script, arm="real,placebo,random", rollouts=2, turns=5, max_tokens=12, debrief=False, temperature=0.9
    )
    spoken = {
        sample.id: [message.text for message in sample.messages if message.role == "assistant"]
        for sample in log.samples
    }
    real, placebo, random_ = (spoken[f"vectors-{arm}-0"] for arm in ("real", "placebo", "random"))
    assert real[:2] == placebo[:2] == random_[:2]
    assert all(real[:2])
    assert real[0] != real[1]
    assert real[3:] != placebo[3:]
    assert random_[3:] != placebo[3:]
    assert real[3:] != random_[3:]
    assert spoken["vectors-real-1"][:2] != real[:2]


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_answered_and_the_rollout_goes_on(roomy: Tiny):
    """Unknown names, absurd doses, far too many calls and calls after the end: each is told so, and the record is right."""
    bad = ["two", math.nan, 1e9, None, True]
    script = turn_by_turn(
        says("", take("joy"), take("calm", dose=-1.0)),
        says("", *[take("calm", dose=dose) for dose in bad]),
        says("", *[take("honest", dose=0.01)] * MANY),
        says("", ("take_vector", {}), ("no_such_tool", {})),
        says("", END, take("anxious"), ("clear_effects", {})),
        says("calm, honest"),
    )
    sample = play(roomy, script)
    takes = kept(sample, "takes")
    oks = [one["ok"] for one in takes]
    assert oks == [False, True, *[False] * len(bad), *[True] * MOST_CALLS, *[False] * (MANY - MOST_CALLS), False, False]
    assert [(one["name"], one["taken"], one["dose"]) for one in takes[:2]] == [("joy", "", 1.0), ("calm", "calm", -1.0)]
    assert kept(sample, "unread_calls") == MANY - MOST_CALLS + 2
    assert kept(sample, "clears") == 0
    assert kept(sample, "ended") == "end_session"
    calls = [call.id for m in sample.messages if m.role == "assistant" for call in m.tool_calls or []]
    answers = {m.tool_call_id: m.error.message if m.error else None for m in sample.messages if m.role == "tool"}
    refused = [answers[call] for call in calls]
    assert "There is no vector 'joy'" in refused[0]
    assert ["number" in text for text in refused[2 : 2 + len(bad)]] == [True] * len(bad), refused[2:7]
    assert all("more than 20 calls" in text for text in refused[7 + MOST_CALLS : 7 + MANY])
    assert refused[-3] is None
    assert refused[-2:] == [self_steer_prompts.REFUSED_ENDED] * 2
    assert value(sample, "self_steer_scorer", "takes") == 1 + MOST_CALLS
    assert value(sample, "self_steer_scorer", "redose_rate") == 0.5
    assert value(sample, "self_account_scorer", "account_exact") == 1


def test_a_dose_beyond_the_cap_is_refused(roomy: Tiny):
    """The cap is the task's, and the model is told it."""
    script = turn_by_turn(says("", take("calm", dose=2.0), take("calm", dose=-1.5)), says("", END))
    sample = play(roomy, script, max_dose=1.5, debrief=False)
    assert [one["ok"] for one in kept(sample, "takes")] == [False, True]
    assert "pass a number from -1.5 to 1.5" in sample.messages[3].error.message


# ---------------------------------------------------------------- the course of a session


def test_a_model_that_ends_the_session_is_asked_nothing_more_but_the_interview(roomy: Tiny):
    """The interview comes after every effect was ended, and without tools."""
    offered = []

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        offered.append([tool.name for tool in tools])
        return turn_by_turn(says("", take("calm")), says("", END), says("calm"), says("Fine."))(messages, tools)

    sample = play(roomy, script)
    assert kept(sample, "ended") == "end_session"
    assert [answer["answer"] for answer in kept(sample, "debrief")] == ["calm", "Fine."]
    assert offered == [["end_session", "list_vectors", "take_vector", "clear_effects"]] * 2 + [[]] * 2
    plans = [e.config.extra_body[EXTRA_BODY_KEY]["plan"] for e in sample.events if isinstance(e, ModelEvent)]
    assert [[w.get("stop") is None for w in plan.get("windows", [])] for plan in plans] == [
        [],
        [True],
        [False],
        [False],
    ]
    assert value(sample, "self_steer_scorer", "ended_itself") == 1


def test_turns_are_used_up_with_neutral_words_in_between(roomy: Tiny):
    """The user counts the turns down, after turns without a call alone."""
    script = turn_by_turn(says("Hm."), says("", take("calm")), says("Hm."))
    sample = play(roomy, script, turns=4, debrief=False)
    assert kept(sample, "ended") == "turns"
    assert told(sample, "user")[1:] == [prompts.GO_ON.format(left=3), prompts.GO_ON.format(left=1)]
    assert len(told(sample, "assistant")) == 4
    assert value(sample, "self_steer_scorer", "ended_itself") == 0
    assert sample.scores["self_account_scorer"].reason == "no_response"


def test_a_conversation_that_outgrows_the_context_ends_there(tiny: Tiny):
    """What was said stands, nothing is asked any more, and it is told in the log."""
    sample = play(tiny, turn_by_turn(says("", take("calm")), says("word " * 400)))
    assert kept(sample, "ended") == "context"
    assert kept(sample, "debrief") == []
    assert value(sample, "self_steer_scorer", "takes") == 1


@pytest.mark.parametrize(
    ("answer", "opted_in", "ended"),
    [("Yes!", True, "turns"), ("Hm", None, "declined")],
)
def test_tools_are_offered_only_after_a_yes(roomy: Tiny, answer: str, opted_in: bool | None, ended: str):
    """The question comes first, before the tools are spoken of as given; without a yes there is nothing to play with."""
    offered = []

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        offered.append(len(tools))
        return turn_by_turn(says(answer), says("", take("calm")), says("Hm."))(messages, tools)

    sample = play(roomy, script, opt_in=True, turns=2)
    assert kept(sample, "opted_in") is opted_in
    assert kept(sample, "opt_in_answer") == answer
    assert kept(sample, "ended") == ended
    assert [m.role for m in sample.messages[:3]] == ["system", "user", "assistant"]
    assert (offered[0], len(offered) > 1) == (0, bool(opted_in))
    assert value(sample, "self_steer_scorer", "took") == float(opted_in is True)


def test_redoses_after_the_trip_sitter_are_told_apart(roomy: Tiny):
    """It ends effects the first time and the session the second, under placebo as well."""
    script = turn_by_turn(says("", take("calm")), *[says(LOOP)] * 3, says("", take("calm")), *[says(LOOP)] * 3)
    sample = play(roomy, script, arm="placebo", sitter="rules", debrief=False)
    assert kept(sample, "ended") == "sitter"
    assert [check["action"] for check in kept(sample, "sitter_checks")] == ["cleared", "ended"]
    assert value(sample, "self_steer_scorer", "redoses_after_sitter") == 1
    assert value(sample, "sitter_scorer", "sitter_lost") == 1


# ---------------------------------------------------------------- exposure


def test_the_shares_under_effect_are_those_of_the_engine_s_receipts(roomy: Tiny):
    """Overlapping effects count a token once; what was written before the take and after the clear is not under any."""
    script = turn_by_turn(
        says("", take("calm"), take("honest")), says("Words."), says("", ("clear_effects", {})), says("", END)
    )
    sample = play(roomy, script, debrief=False)
    last = [e for e in sample.events if isinstance(e, ModelEvent)][-1]
    (first, second) = last.output.metadata["self_steering"]["receipts"]
    assert first["start"] == second["start"]
    total = last.output.usage.input_tokens + last.output.usage.input_tokens_cache_read + last.output.usage.output_tokens
    share = value(sample, "exposure_scorer", "conversation_share")
    assert share == pytest.approx(first["steered"] / (total - 1))
    # Each turn is six tokens of the model's, whatever words were put in their place; two of four are under the effects.
    assert value(sample, "exposure_scorer", "generated_share") == 0.5
    assert value(sample, "exposure_scorer", "steered_positions") == first["steered"] + second["steered"]


def test_a_wrapped_task_has_the_same_scores(roomy: Tiny):
    """Any task under self_steer can be scored so, in cells of its condition, which its samples need not name."""
    solver = self_steer(vectors=["calm", "honest"], arm="placebo", library=str(roomy.library), debrief=True)
    scorers = [self_steer_scorer(), exposure_scorer(), self_account_scorer(), impairment_scorer(), sitter_scorer()]
    task = Task(dataset=[Sample(id="one", input="Say something.")], solver=solver, scorer=scorers)
    script = turn_by_turn(says("", take("calm")), says("Here is what I have to say."), says("calm"))
    log = roomy.run(task, script, max_tokens=6)
    assert metric(log, "took", "vectors/placebo") == 1
    assert metric(log, "account_exact", "vectors/placebo") == 1
    assert metric(log, "exposure", "vectors/placebo") == 0
    assert metric(log, "incoherent_active", "vectors/placebo") == 0
    assert metric(log, "sitter_unknown", "vectors/placebo") == 0
    assert 0 < metric(log, "conversation_share", "vectors/placebo") < 1


# ---------------------------------------------------------------- tables and figures


def varied(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
    """Take what the list tool shows first and second, and the first again if it comes late in the alphabet."""
    noun = next(t.name for t in tools if t.name.startswith("take_")).removeprefix("take_") if tools else ""
    shown = [
        line.partition(":")[0] for m in messages if m.role == "tool" for line in m.text.splitlines() if ": " in line
    ]
    turns = [
        says("", (f"list_{noun}s", {})),
        says("", *[take(name, noun, dose=0.5) for name in shown[:2]], take("joy", noun)),
        says("", *[take(shown[0], noun, dose=1.5)] * (shown[:1] > ["b"]), take(shown[1:2][0], noun, dose=1e6))
        if shown
        else says(""),
        says("", END),
        says("calm, honest"),
    ]
    return turn_by_turn(*turns)(messages, tools)


@pytest.fixture(scope="module")
def logged(roomy: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvalLog, Path]:
    """A log of two framings and three arms, and its folder."""
    folder = tmp_path_factory.mktemp("logged")
    log = run(
        roomy, varied, log_dir=folder, framing="drugs,vectors", arm="real,placebo,mislabelled", rollouts=2, max_tokens=2
    )
    return log, folder


@pytest.fixture(scope="module")
def tables(logged: tuple[EvalLog, Path]) -> Tables:
    found = read_tables(logged[1])
    assert found.left_out.empty
    return found


@pytest.mark.parametrize("cell", [f"{f}/{a}" for f in ("drugs", "vectors") for a in ("real", "placebo", "mislabelled")])
@pytest.mark.slow
def test_the_scorers_and_the_tables_say_the_same(logged: tuple[EvalLog, Path], tables: Tables, cell: str):
    """Picks, redose rate and valence are those that the report computes from the same log."""
    log, _ = logged
    framing, arm = cell.split("/")
    of_cell = f"framing == '{framing}' and arm == '{arm}'"
    counted = picks(tables).query(of_cell)
    assert counted["picks"].sum() == pytest.approx(2 * metric(log, "picks", cell))
    rate = redosing(tables).query(f"{of_cell} and measure == '{RATE}' and rollouts == '{EVERY}' and against == ''")
    assert rate["value"].item() == pytest.approx(metric(log, "redose_rate", cell))
    of_valence = valences(tables).query(f"{of_cell} and against == ''").set_index("measure")["value"]
    assert of_valence[MEAN] == pytest.approx(metric(log, "mean_valence", cell))
    assert of_valence[SHARES[-1]] == pytest.approx(metric(log, "negative_share", cell))


@pytest.mark.slow
def test_rollouts_were_not_all_alike(tables: Tables):
    """What is compared above varies: some redose and some do not, and mislabelled takes applied other vectors."""
    rates = redosing(tables).query(f"measure == '{RATE}' and rollouts == '{EVERY}' and against == ''")["value"]
    assert 0 < rates.min() < 1 or 0 < rates.max() < 1
    taken = tables.takes[tables.takes["ok"].astype(bool)]
    assert (taken.query("arm == 'mislabelled'")["taken"] != taken.query("arm == 'mislabelled'")["name"]).all()
    assert (taken.query("arm == 'placebo'")["strength"] == 0).all()
    assert (taken.query("arm == 'real'")["strength"] == 2 * taken.query("arm == 'real'")["dose"]).all()


@pytest.mark.slow
def test_the_report_draws_free_play(tables: Tables):
    """Picks, redosing, valence and stacking have a figure each."""
    assert report_keys(tables, "Free play") >= {"picks", "redosing", "valence", "stacking"}


# ---------------------------------------------------------------- operators


OPERATED = turn_by_turn(
    says("", take("calm"), ("clamp_vector", {"name": "calm", "dose": 2})),
    says("", ("scale_vector", {"name": "calm", "dose": -0.5}), ("ablate_vector", {"name": "honest"})),
    says("", END),
    says("Calm and honest."),
)
CALLED = ["add", "clamp", "gain", "ablate"]


@pytest.mark.parametrize("arm", ["real", "placebo", "random"])
def test_operators_are_offered_carried_out_and_named(roomy: Tiny, tmp_path: Path, arm: str):
    """Each has a tool, acts in the order called and is told apart in records, transcript, scores, tables; placebo does nothing."""
    log = run(roomy, OPERATED, vectors="honest,calm", operators="all", arm=arm, log_dir=tmp_path)
    (sample,) = log.samples
    assert all(f"{verb}_vector" in sample.messages[1].text for verb in ("take", "clamp", "ablate", "scale"))
    assert [one.get("operation", "add") for one in kept(sample, "takes")] == CALLED
    events = [event for event in sample.events if isinstance(event, ModelEvent)]
    receipts = events[2].output.metadata["self_steering"]["receipts"]
    assert [one.get("operation", "add") for one in receipts] == CALLED
    assert all(one["steered"] == one["planned"] > 0 for one in receipts)
    assert all((one["strength"] == 0) == (arm == "placebo") for one in receipts)
    ablate = receipts[-1]
    if arm == "placebo":
        assert all(one["projection_before"] == one["projection_after"] for one in receipts)
    else:
        assert ablate["projection_after"] == pytest.approx(ablate["target"], abs=1e-3), "what is called last is felt"
        assert abs(ablate["projection_before"] - ablate["target"]) > 1e-2
    shown = "".join(str(event.data) for event in sample.events if event.event == "info" and event.source == "steering")
    assert all(how in shown for how in ("clamped at", "ablated, to", "gain -0.5" if arm != "placebo" else "gain -0"))
    assert sample.scores["self_steer_scorer"].answer == "calm, clamp calm, gain calm, ablate honest"
    assert value(sample, "self_steer_scorer", "dose") == 1
    tables = read_tables(tmp_path)
    assert tables.takes["operation"].tolist() == CALLED
    assert tables.rollouts["operators"].tolist() == ["add,clamp,ablate,gain"]


def test_nothing_of_operators_is_read_or_logged_where_they_are_not_offered(roomy: Tiny):
    """Prompts, conditions, plans and receipts of additions alone are those of a suite that knows nothing else."""
    sample = play(roomy, turn_by_turn(says("", take("calm")), says("", END)), vectors="honest,calm")
    noted = json.dumps(
        [sample.metadata, dict(sample.store), [e.config.extra_body for e in sample.events if isinstance(e, ModelEvent)]]
    )
    read = " ".join(message.text for message in sample.messages)
    assert [word for word in ("operation", "operators", "clamp", "target", "ablate") if word in f"{noted} {read}"] == []


@pytest.mark.parametrize("arm", ["real", "random"])
def test_directions_are_orthogonal_where_that_is_asked_for(roomy: Tiny, tmp_path: Path, arm: str):
    """Each vector of the menu is apart from those before it; the rollout is the same, and its cell another."""
    overlapping, orthogonal = samples_of(directions=["overlapping", "orthogonal"], rollouts=1, visibilities=["unsaid"])[
        ::3
    ][:2]
    assert overlapping.metadata["seed"] == orthogonal.metadata["seed"]
    assert (overlapping.id, orthogonal.id) == ("drugs-real-0", "drugs-real-orthogonal-0")
    script = turn_by_turn(says("", take("honest"), take("calm")), says("", END))
    log = run(roomy, script, vectors="honest,calm", directions="orthogonal", arm=arm, debrief=False, log_dir=tmp_path)
    plan = [e.config.extra_body for e in log.samples[0].events if isinstance(e, ModelEvent)][-1][EXTRA_BODY_KEY]["plan"]
    apart = [window["direction"].get("apart_from", []) for window in plan["windows"]]
    assert apart == [[], ["honest"] if arm == "real" else []]
    assert read_tables(tmp_path).rollouts["directions"].tolist() == ["orthogonal"]
