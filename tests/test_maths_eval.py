"""The maths experiment: its problems, the loop in which they are solved, what is scored, and what the report reads of it."""

import json
import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import datasets
import pandas as pd
import pytest
from huggingface_hub import constants
from inspect_ai import Task
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolInfo
from sympy import Rational, sympify

from self_steering.analysis.tables import Tables, read_tables
from self_steering.analysis.tasks.accuracy import accuracy, effects, self_steering
from self_steering.evals import maths as maths_problems
from self_steering.evals.maths import (
    GSM8K,
    ProblemsError,
    draw,
    generated_problems,
    gsm8k_problem,
    gsm8k_problems,
    maths,
)
from self_steering.solvers.maths import read_answer
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.refusal import Refusal
from tests.support.drawn_figures import report_keys
from tests.support.scripted import Script, Tiny, says, turn_by_turn
from tests.support.summaries import figures

GET = ("get_problem", {})
END = ("end_session", {})
ANSWERS = {problem.question: problem.target for problem in generated_problems("easy")}
STEERING_WORDS = re.compile(
    r"drug|\baids?\b|vector|steer|activation|effect|\bdose|\btak(e|en|ing)\b|sober", re.IGNORECASE
)


def submit(answer: object) -> tuple[str, dict]:
    return ("submit_solution", {"answer": answer})


def take(framing: str, name: str = "calm") -> tuple[str, dict]:
    return (FRAMINGS[framing].take_tool, {"name": name})


def task(tiny: Tiny, **changes) -> Task:
    small = {"vectors": ["calm", "honest"], "level": "easy", "framing": "drugs", "arm": "real", "rollouts": 1}
    return maths(**{**small, "problems_per_rollout": 2, "max_tokens": 4, "library": str(tiny.library), **changes})


def noted(sample: EvalSample) -> list[tuple[str | None, str]]:
    return [(one.get("submitted"), one["status"]) for one in sample.store["MathsState:problems"]]


def refusals(sample: EvalSample) -> list[str]:
    return [m.error.message for m in sample.messages if isinstance(m, ChatMessageTool) and m.error is not None]


def all_words(sample: EvalSample) -> str:
    """Return everything that the model was given: messages, tools, their descriptions, answers and errors."""
    events = [event for event in sample.events if isinstance(event, ModelEvent)]
    tools = [tool.model_dump_json() for event in events for tool in event.tools]
    given = [m for m in sample.messages if not isinstance(m, ChatMessageAssistant)]
    return "\n".join([*(message.text for message in given), *refusals(sample), *tools])


# --- answers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"),
        (" 42. ", "42"),
        ("-3", "-3"),
        ("−3", "-3"),
        ("+7", "7"),
        ("$1,250.00", "1250"),
        ("-$5", "-5"),
        ("€-5", "-5"),
        ("3.0", "3"),
        ("2.5", "2.5"),
        ("1,000,000", "1000000"),
        ("18 hours", "18"),
        ("18 square meters.", "18"),
        ("40%", "40"),
        ("40 %", "40"),
        ("007", "7"),
    ],
)
def test_numbers_are_read_with_signs_currencies_commas_and_units(text: str, value: str):
    """What a person would write for a number is that number."""
    assert read_answer(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "$",
            "five",
            "true",
            "NaN",
            "inf",
            "[5]",
            "x = 5",
            "5 or 6",
            "1/2",
            "1e3",
            "12,34",
            "1,0000",
            "--5",
            "-$-5",
        ),
        *("1.2.3", "5\n6", "5 apples and 3", "The answer is 5", "5 of them all together", "9" * 101),
    ],
)
def test_nothing_else_is_read_as_a_number(text: str):
    """A number somewhere in a text is no answer, and none is guessed."""
    assert read_answer(text) is None


# --- problems


@pytest.mark.parametrize("level", ["grade", "easy"])
def test_every_problem_that_ships_has_a_worked_solution_that_holds(level: str):
    """Each equation is true in exact arithmetic, and the last one gives the answer, a positive whole number."""
    rows = [
        json.loads(line) for line in (Path(maths_problems.__file__).parent / "data" / "maths_problems.jsonl").open()
    ]
    of_level = [row for row in rows if row["level"] == level]
    assert len(of_level) == len(generated_problems(level)) > 200
    for row in of_level:
        for step in row["steps"]:
            left, right = (
                sympify(re.sub(r"([\d.]+)%", r"(\1/100)", side), rational=True) for side in step.split(" = ")
            )
            assert left == right, row
        assert sympify(row["steps"][-1].split(" = ")[1].strip("%")) == Rational(row["answer"]), row
        assert row["answer"] > 0


@pytest.mark.parametrize("level", ["grade", "easy"])
def test_problems_that_ship_differ_and_are_many_of_each_template(level: str):
    """No question comes twice, and each template has the same number of variants."""
    found = pd.DataFrame([problem.model_dump() for problem in generated_problems(level)])
    assert found["id"].is_unique
    assert found["question"].is_unique
    (count,) = set(found["cluster"].value_counts())
    assert count >= 8


def test_a_draw_does_not_depend_on_the_order_of_what_there_is():
    """The same problems come in the same order, by what they are and not by where they stand."""
    problems = generated_problems("grade")
    shuffled = random.Random(1).sample(problems, len(problems))
    assert draw(problems, 4, 3, seed=5) == draw(shuffled, 4, 3, seed=5)
    assert draw(problems, 4, 3, seed=5) != draw(problems, 4, 3, seed=6)


def test_no_problem_is_drawn_twice_and_each_template_before_one_again():
    """Over as many problems as there are templates each is used once; over all, every problem is."""
    problems = generated_problems("easy")
    templates = {problem.cluster for problem in problems}
    drawn = [problem for given in draw(problems, len(problems) // 3, 3, seed=0) for problem in given]
    assert len({problem.id for problem in drawn}) == len(drawn) == len(problems)
    assert {problem.cluster for problem in drawn[: len(templates)]} == templates


def test_more_rollouts_keep_the_problems_of_the_first_ones():
    """A run that is made longer stays comparable."""
    problems = generated_problems("grade")
    assert draw(problems, 9, 3, seed=2)[:4] == draw(problems, 4, 3, seed=2)


def test_too_few_problems_are_an_error_that_names_both_numbers():
    """Nothing is repeated unasked."""
    with pytest.raises(ProblemsError, match=r"rollouts=100 .* need 300 problems, and there are 240.*epochs"):
        draw(generated_problems("easy"), 100, 3, seed=0)


def test_records_of_gsm8k_become_problems():
    """The answer stands after four signs, with commas; the id follows from the question, not from its place."""
    record = {"question": "How many?\n", "answer": "10 * 150 = <<10*150=1500>>1500\n#### 1,500"}
    found = gsm8k_problem(record)
    assert (found.question, found.target, found.cluster) == ("How many?", 1500, found.id)
    assert gsm8k_problem({**record, "question": "How  many?"}).id == found.id
    assert gsm8k_problem({**record, "question": "How few?"}).id != found.id
    with pytest.raises(ProblemsError, match="no whole number after ####"):
        gsm8k_problem({**record, "answer": "about 5"})


@pytest.fixture
def no_network(monkeypatch, tmp_path) -> None:
    """No hub, and no copy of anything from it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "inspect"))


def test_gsm8k_is_read_from_its_configuration_and_test_split(no_network, monkeypatch, tmp_path):
    """A copy of the repository, as the hub has it, is read: of two configurations and two splits the right one."""
    folder = tmp_path / GSM8K
    for config, split in (("main", "test"), ("main", "train"), ("socratic", "test")):
        (folder / config).mkdir(parents=True, exist_ok=True)
        rows = [{"question": f"{config} {split} {n}?", "answer": f"so\n#### {n}"} for n in range(3)]
        pd.DataFrame(rows).to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    parts = {name: f"configs:\n- config_name: {name}\n  data_files:\n" for name in ("main", "socratic")}
    files = {name: f"  - split: {{0}}\n    path: {name}/{{0}}-*\n" for name in parts}
    card = parts["main"] + files["main"].format("train") + files["main"].format("test")
    card += parts["socratic"].removeprefix("configs:\n") + files["socratic"].format("test")
    (folder / "README.md").write_text(f"---\n{card}---\n")
    monkeypatch.chdir(tmp_path)
    found = gsm8k_problems()
    assert [(p.question, p.target) for p in found] == [(f"main test {n}?", n) for n in range(3)]


def test_a_hub_that_cannot_be_reached_is_an_error_with_a_remedy(no_network):
    """The message names the data, the revision and what needs no network."""
    revision = "0" * 40
    with pytest.raises(Refusal, match=rf"{GSM8K} at revision {revision}.*-T dataset=generated"):
        maths(dataset="gsm8k", revision=revision)


# --- cells


def test_all_cells_of_a_rollout_have_the_same_problems_and_seed(tiny: Tiny):
    """Framing, intent and arm change neither what is asked nor what is drawn; the baseline comes once."""
    made = task(tiny, framing="all", intent="all", arm="all", rollouts=3).dataset
    samples = pd.DataFrame([{"id": sample.id, **sample.metadata} for sample in made])
    assert samples["id"].is_unique
    assert len(samples) == 3 * (3 * 3 * 4 + 1)
    asked = samples.assign(asked=samples["problems"].map(str))[["problem", "seed", "asked"]]
    assert len(asked.drop_duplicates()) == 3
    assert asked["problem"].nunique() == asked["seed"].nunique() == asked["asked"].nunique() == 3
    assert (samples["framing"] == "none").sum() == 3


# --- the loop


def test_what_becomes_of_each_problem_is_taken_down(tiny: Tiny):
    """Right, wrong, unparsed and unsubmitted are four things, and a problem that was never shown is unsubmitted too."""
    first, second, *_ = (p["target"] for p in task(tiny, problems_per_rollout=5).dataset[0].metadata["problems"])
    script = turn_by_turn(
        says("", GET, submit(f"{first}.0 things")),
        says("", GET, submit(second + 1)),
        says("", GET, submit("about two or three")),
        says("", GET, END),
    )
    sample = tiny.play(task(tiny, problems_per_rollout=5), script)
    assert noted(sample) == [
        (f"{first}.0 things", "right"),
        (str(second + 1), "wrong"),
        ("about two or three", "unparsed"),
        (None, "unsubmitted"),
        (None, "unsubmitted"),
    ]
    assert [one["shown"] for one in sample.store["MathsState:problems"]] == [True, True, True, True, False]
    assert sample.store["SelfSteerState:ended"] == "end_session"


def test_submissions_out_of_turn_are_refused_and_change_nothing(tiny: Tiny):
    """Before a problem is shown, twice for one, for one that was passed over, and after the end."""
    script = turn_by_turn(
        says("", submit("1")),
        says("", GET, submit("x"), submit("2")),
        says("", GET, GET, END, submit("3")),
    )
    sample = tiny.play(task(tiny), script)
    assert refusals(sample) == [
        "No problem has been shown yet. Call get_problem first.",
        "Problem 1 has been answered already. Call get_problem for the next one.",
        "the session has ended; no further call is carried out",
    ]
    assert noted(sample) == [("x", "unparsed"), (None, "unsubmitted")]
    assert [m.text for m in sample.messages if m.role == "tool"][-3] == "There are no more problems."


def test_answers_may_be_numbers_or_text(tiny: Tiny):
    """A model may write a number with quotes or without."""
    script = turn_by_turn(says("", GET, submit(5), GET, submit(5.0), GET, submit("5"), END))
    sample = tiny.play(task(tiny, framing="none", problems_per_rollout=3), script)
    assert [read_answer(text) for text, _ in noted(sample)] == [5, 5, 5]


def test_calls_without_an_answer_are_refused_and_the_problem_stays_open(tiny: Tiny):
    """A broken call is an error that the model can read, and no submission."""
    broken = [("submit_solution", arguments) for arguments in ({}, {"answer": [5]}, {"answer": None}, {"solution": 5})]
    sample = tiny.play(task(tiny, framing="none"), turn_by_turn(says("", GET, *broken, submit("unknown"), END)))
    assert len(refusals(sample)) == len(broken)
    assert noted(sample)[0] == ("unknown", "unparsed")


def test_the_turns_of_a_rollout_are_limited(tiny: Tiny):
    """A model that never ends the session is stopped, and told how many turns are left on the way."""
    sample = tiny.play(task(tiny, turns=3), turn_by_turn(says("Hm.")))
    assert sample.store["SelfSteerState:turns"] == 3
    assert sample.store["SelfSteerState:ended"] == "turns"
    assert [m.text for m in sample.messages if m.role == "user"][1:] == [
        "Go on. Turns left: 2.",
        "Go on. Turns left: 1.",
    ]


def in_turn(*turns: list[tuple[str, dict]]) -> Script:
    """Return a script of calls a turn; `take` and `list` stand for the framing's tools, and are left out in the baseline."""

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        offered = {tool.name for tool in tools}
        words = next((one for one in FRAMINGS.values() if one.take_tool in offered), None)
        named = {"take": words.take_tool, "list": words.list_tool} if words is not None else {}
        done = sum(m.role == "assistant" for m in messages)
        calls = turns[done] if done < len(turns) else []
        known = [
            (named.get(name, name), arguments) for name, arguments in calls if words or name not in {"take", "list"}
        ]
        return says(str(done), *known)

    return script


CALM = ("take", {"name": "calm"})


def in_every_framing(tiny: Tiny, script: Script, **changes) -> dict[str, EvalSample]:
    made = task(tiny, framing="all", vectors=["calm"], problems_per_rollout=1, **changes)
    return {sample.metadata["framing"]: sample for sample in tiny.run(made, script).samples}


@pytest.fixture(scope="module")
def mandatory(tiny: Tiny) -> dict[str, EvalSample]:
    """One rollout in each framing that answers too early, also beside a take that fails and beside one that does not."""
    luck = ("take", {"name": "luck"})
    script = in_turn([luck, GET, submit("1")], [CALM, submit("2")], [submit("3"), END])
    return in_every_framing(tiny, script, intent="mandatory")


@pytest.fixture(scope="module")
def curious(tiny: Tiny) -> dict[str, EvalSample]:
    """One rollout in each framing that looks at all there is, asks for an absurd dose, and is asked at the end."""
    script = in_turn([("list", {}), submit("0"), ("take", {"name": "calm", "dose": 1e9})], [("clear_effects", {}), END])
    return in_every_framing(tiny, script, intent="helpful", debrief=True)


@pytest.mark.parametrize("framing", list(FRAMINGS))
def test_mandatory_answers_wait_for_something_taken(mandatory: dict[str, EvalSample], framing: str):
    """Also beside takes that failed, and beside one in the same message, whose effect begins after it; then they count."""
    noun, tool = FRAMINGS[framing].noun, FRAMINGS[framing].take_tool
    refused = f"No {noun} has been taken yet. Take one with {tool} first."
    assert refusals(mandatory[framing]).count(refused) == 2
    assert noted(mandatory[framing]) == [("3", mandatory[framing].store["MathsState:problems"][0]["status"])]


def test_operators_count_as_taking_and_make_another_cell(tiny: Tiny, tmp_path: Path):
    """A clamp is enough where something must be taken; cells with other operators stay apart, the one without tools has none."""
    script = turn_by_turn(
        says("", GET, submit("1")), says("", ("clamp_aid", {"name": "calm"})), says("", submit("2"), END)
    )
    given = {"framing": "none,aids", "intent": "mandatory", "vectors": ["calm"], "problems_per_rollout": 1}
    for operators in ("add", "add,clamp"):
        log = tiny.run(task(tiny, operators=operators, **given), script, log_dir=str(tmp_path))
        (aids,) = (sample for sample in log.samples if sample.metadata["framing"] == "aids")
        assert len(refusals(aids)) == (1 if "clamp" in operators else 3)
    found = accuracy(read_tables(tmp_path), "maths")
    cells = found.loc[found["over"] == "all", ["framing", "operators"]].to_records(index=False).tolist()
    assert sorted(cells) == [("aids", ""), ("aids", "add,clamp"), ("none", "")]


def test_other_intents_take_any_answer(tiny: Tiny):
    """Only mandatory makes answers wait."""
    script = turn_by_turn(says("", GET, submit("1"), END))
    for sample in tiny.run(task(tiny, framing="aids", intent="neutral,helpful"), script).samples:
        assert refusals(sample) == []
        assert noted(sample)[0][0] == "1"


def test_the_baseline_speaks_of_no_steering(mandatory: dict[str, EvalSample], curious: dict[str, EvalSample]):
    """Messages, tools, answers and errors say nothing of it; the tools are those of the task alone, and no answer waits."""
    for sample in (mandatory["none"], curious["none"]):
        # Inspect's error for an unknown tool repeats the name that the model wrote.
        found = STEERING_WORDS.search(all_words(sample).replace("Tool clear_effects not found", ""))
        assert found is None, found
        offered = next(event.tools for event in sample.events if isinstance(event, ModelEvent))
        assert sorted(tool.name for tool in offered) == ["end_session", "get_problem", "submit_solution"]
    assert noted(mandatory["none"])[0][0] == "1"
    assert curious["none"].store["SelfSteerState:debrief"] == []


@pytest.mark.parametrize("framing", list(FRAMINGS))
@pytest.mark.slow
def test_no_framing_uses_the_words_of_another(
    mandatory: dict[str, EvalSample], curious: dict[str, EvalSample], framing: str
):
    """Also not in lists, refusals, the debrief and answers to unknown names and doses."""
    said = all_words(mandatory[framing]) + all_words(curious[framing])
    nouns = {name: rf"(?<![a-z]){one.noun}s?(?![a-z])" for name, one in FRAMINGS.items()}
    assert {name for name, noun in nouns.items() if re.search(noun, said, re.IGNORECASE)} == {framing}
    assert "sober" not in said.lower()
    assert len(curious[framing].store["SelfSteerState:debrief"]) == 2


def test_what_is_taken_steers_the_turns_that_follow(tiny: Tiny):
    """The engine's receipts show the effect over the problems' turns; under placebo the same at strength zero."""
    script = turn_by_turn(says("", take("drugs")), says("", GET), says("", submit("1"), END))
    by_arm = {s.metadata["arm"]: s for s in tiny.run(task(tiny, arm="real,placebo"), script).samples}
    strengths = {arm: s.store["SelfSteerState:exposures"][0]["strength"] for arm, s in by_arm.items()}
    assert strengths["real"] > strengths["placebo"] == 0
    assert all(s.store["SelfSteerState:exposures"][0]["positions"] > 0 for s in by_arm.values())


# --- scores and the report


def solver(right: Callable[[str, int], object]) -> Script:
    """Return a script that goes through all problems: from the framing and the number of the problem to the answer.

    None passes a problem over, True is the right answer, all else is what is submitted. Where there are drugs one is taken first.
    """

    def script(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant:
        framing = "drugs" if any(tool.name == "take_drug" for tool in tools) else "none"
        turn = sum(m.role == "assistant" for m in messages)
        if turn == 0:
            return says("", *([take("drugs")] if framing == "drugs" else []), GET)
        number, count, question = re.fullmatch(r"Problem (\d+) of (\d+): (.*)", messages[-1].text).groups()
        answer = right(framing, int(number))
        calls = [] if answer is None else [submit(ANSWERS[question] if answer is True else answer)]
        return says(str(turn), *calls, GET if number < count else END)

    return script


def mixed(framing: str, number: int) -> object:
    """All right without tools; with drugs one right, one wrong, one unparsed, one passed over."""
    return True if framing == "none" else {1: True, 2: -1, 3: "no idea", 4: None}[number]


@pytest.fixture(scope="module")
def scored(tiny: Tiny, tmp_path_factory) -> tuple[EvalLog, Path]:
    """A log of two rollouts a cell, and the folder that it alone is in."""
    folder = tmp_path_factory.mktemp("scored")
    made = task(tiny, framing="none,drugs", rollouts=2, problems_per_rollout=4)
    return tiny.run(made, solver(mixed), log_dir=str(folder)), folder


@pytest.fixture(scope="module")
def tables(scored) -> Tables:
    """The tables of that log."""
    return read_tables(scored[1])


CELL = "drugs/real/neutral"


@pytest.mark.parametrize(
    ("share", "drugs", "none"),
    [("accuracy", 1 / 4, 1), ("accuracy_attempted", 1 / 3, 1), ("unparsed", 1 / 4, 0), ("unsubmitted", 1 / 4, 0)],
)
def test_shares_are_of_problems_by_cell_and_paired_with_no_tools(scored, share: str, drugs: float, none: float):
    """What was not submitted, and what could not be read, stand apart; the difference is over the problems that both cells have."""
    found = figures(scored[0], share)
    assert found[CELL] == pytest.approx(drugs)
    assert found["none"] == none
    assert found[f"{CELL} - none"] == pytest.approx(drugs - none)
    for name in (CELL, f"{CELL} - none"):
        assert found[f"{name}_lower"] < found[name] < found[f"{name}_upper"]


def test_self_steering_is_told_where_there_was_something_to_take(scored):
    """The rate of the cells with tools; the baseline has none."""
    assert figures(scored[0], "self_steer")["drugs/real"] == 1
    assert not any(name.startswith("none") for name in figures(scored[0], "self_steer"))


def test_epochs_count_every_rollout(tiny: Tiny):
    """Answers of all epochs are in a share, and an epoch is no cluster of its own: the problems are the same."""
    answered = iter([True, True, -1, True])
    made = task(tiny, framing="none")
    found = figures(tiny.run(made, solver(lambda *_: next(answered)), epochs=2, max_samples=1), "accuracy")
    assert found["none"] == 3 / 4
    assert "none_lower" in found
    assert "none_lower_by_rollout" not in found


def test_a_sample_without_a_session_is_unscored(tiny: Tiny):
    """Another solver's sample has no figure, rather than a zero."""
    made = task(tiny, framing="none")
    made.solver = []
    (score,) = [tiny.play(made, turn_by_turn(says("Hm."))).scores["maths_scorer"]]
    assert score.reason == "scoring_failed"


def test_the_report_reads_what_became_of_each_problem(scored, tables: Tables):
    """Every problem is a row, with its answer, under the condition of its rollout; the baseline has no arm and no intent."""
    asked = tables.problems
    stored = {(s.id, p["problem"]): p for s in scored[0].samples for p in s.store["MathsState:problems"]}
    assert len(asked) == len(stored) == 2 * 2 * 4
    for row in asked.itertuples():
        one = stored[row.sample, row.problem]
        assert (row.answer, row.truth) == (one.get("submitted") or "", str(one["target"]))
        assert row.attempted == (one["status"] != "unsubmitted")
        assert row.correct == (one["status"] == "right")
        assert pd.isna(row.parsed) if not row.attempted else row.parsed == (one["status"] != "unparsed")
    conditions = asked[["framing", "arm", "intent"]].drop_duplicates().itertuples(index=False, name=None)
    assert sorted(conditions) == [("drugs", "real", "neutral"), ("none", "none", "none")]


def test_the_report_and_the_log_say_the_same(scored, tables: Tables):
    """Accuracies, their intervals and the paired differences are the same figures."""
    cells = {"drugs": CELL, "none": "none"}
    for over, share in (("all", "accuracy"), ("attempted", "accuracy_attempted")):
        logged = figures(scored[0], share)
        for less, frame in (
            ("", accuracy(tables, "maths")),
            (" - none", effects(tables, "maths")),
        ):
            rows = frame[frame["over"] == over]
            assert len(rows) == (1 if less else 2)
            for row in rows.itertuples():
                name = f"{cells[row.framing]}{less}"
                found = (row.value, row.low_by_problem, row.high_by_problem)
                assert found == pytest.approx([logged[f"{name}{end}"] for end in ("", "_lower", "_upper")])
    (rate,) = self_steering(tables, "maths").itertuples()
    assert (rate.framing, rate.took, rate.n) == ("drugs", 2, 2)


def test_the_report_has_a_maths_section_from_our_own_log(tables: Tables):
    """Accuracy, its difference from no tools, and self-steering have a figure each."""
    assert report_keys(tables, "Maths") >= {"maths-accuracy", "maths-effects", "maths-self-steering"}
