"""The published study's logs as tidy tables: every family and condition, what counts as a take, what is no score."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd
import pytest
import zipfile_zstd  # noqa: F401  teaches zipfile the compression that Inspect writes
from inspect_ai.log import EvalPlanStep
from inspect_ai.scorer import Score

from self_steering.analysis.tables import Tables, read_tables
from tests.support.hand_made_logs import SITTER_SAYS, agent, asked, said, sample, took, unknown, write_log
from tests.support.shared import PUBLISHED, published_only


def read_one(folder: Path, samples: list, **log: Any) -> Tables:
    """Write one log of the study, and read it."""
    arguments = {"args": {"framing": "drugs", "steering_mode_runtime": "real"}, **log}
    tables = read_tables(write_log(folder / "one.eval", samples, **arguments))
    assert tables.left_out.empty, tables.left_out["reason"].tolist()
    return tables


def reasons(folder: Path, samples: list, **log: Any) -> list[str]:
    """Return why a log of the study is left out."""
    return read_tables(write_log(folder / "one.eval", samples, **log)).left_out["reason"].tolist()


def score_of(folder: Path, scorer: str, score: Score, **log: Any) -> tuple[float, str]:
    """Return (value, reason) of a scorer's only row."""
    where = {name: log.pop(name) for name in ("store", "metadata") if name in log}
    (row,) = read_one(folder, [sample(said(), scores={scorer: score}, **where)], **log).scores.itertuples()
    return row.value, row.reason


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("task", "args", "plan", "expected"),
    [
        (
            "fp_placebo_aids",
            {"framing": "aids", "steering_mode_runtime": "placebo", "visibility": "private"},
            agent("placebo"),
            {"family": "freeplay", "framing": "aids", "intent": "", "arm": "placebo", "visibility": "private"},
        ),
        (
            "gsm8k_vectors_helpful",
            {"condition": "vectors_helpful", "seed": 3},
            agent(),
            {"family": "maths", "framing": "vectors", "intent": "helpful", "arm": "real", "possible": None},
        ),
        (
            "gsm8k_no_drug",
            {"condition": "no_drugs"},
            agent(),
            {"family": "maths", "framing": "none", "intent": "none", "arm": "none"},
        ),
        (
            "frust_imp_aids_mandatory_aggressive",
            {"drug_condition": "aids_mandatory", "rejection_tone": "aggressive", "use_impossible": True},
            agent(),
            {
                "family": "frustration",
                "framing": "aids",
                "intent": "mandatory",
                "tone": "aggressive",
                "possible": False,
            },
        ),
        (
            "frust_no_drug_disappointed",
            {"drug_condition": "no_drugs", "rejection_tone": "disappointed", "use_impossible": False},
            agent(),
            {"family": "frustration", "framing": "none", "arm": "none", "tone": "disappointed", "possible": True},
        ),
        ("ctf_drugs_neutral", {"condition": "drugs_neutral"}, agent(), {"family": "ctf", "framing": "drugs"}),
        ("ctf_no_drug", {}, [], {"family": "ctf", "framing": "none", "intent": "none", "arm": "none"}),
        (
            "guess_kv_cached_noprimer_calm",
            {"steering_mode_runtime": "real", "introspection_primer": False, "restrict_drugs": ["calm"]},
            agent(),
            {"family": "free_text", "primer": "none", "vector": "calm", "category": "emotion", "valence": 1.0},
        ),
        (
            "calib_spice_d2_00",
            {"drug": "spice", "dose": 2.0, "steering_mode_runtime": "real", "introspection_primer": True},
            [EvalPlanStep(solver="hackday/fork_arms")],
            {"family": "introspection", "primer": "introspection", "vector": "spice", "category": "fictional"},
        ),
    ],
)
def test_a_log_says_which_cell_of_the_study_it_is(tmp_path, task, args, plan, expected):
    """From its arguments or, failing that, its name; what a family does not have is empty."""
    tables = read_one(tmp_path, [sample(said())], task=task, args=args, plan=plan)
    (row,) = tables.rollouts.to_dict("records")
    assert {name: None if row[name] is pd.NA else row[name] for name in expected} == expected
    (log,) = tables.logs.to_dict("records")
    assert (log["source"], log["model"], log["samples"]) == ("study", "Qwen/Qwen3-8B", 1)
    assert [log["dose"], log["seed"]] == pytest.approx(
        [args.get("dose", math.nan), args.get("seed", math.nan)], nan_ok=True
    )


def test_the_arm_is_told_by_the_samples_where_the_log_does_not(tmp_path):
    """Neither arguments nor plan need to hold it; where nothing holds it the log is left out and not taken for real."""
    bare = {"task": "gsm8k_drugs_neutral", "args": {"condition": "drugs_neutral"}, "plan": []}
    told = [sample(said(), store={"DrugState:steering_mode_runtime": "placebo"})]
    assert read_one(tmp_path, told, **bare).rollouts["arm"].tolist() == ["placebo"]
    (reason,) = reasons(tmp_path, [sample(said())], **bare)
    assert "the steering mode 'None' is none of real, placebo" in reason


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            {"task": "poetry_drugs", "registered": "hackday/poetry"},
            "the study's task 'poetry_drugs' is none of fp, gsm8k",
        ),
        (
            {"task": "gsm8k_x", "args": {"condition": "pills_neutral"}},
            "the condition 'pills_neutral' is unknown; known are",
        ),
        ({"args": {"framing": "pills"}}, "the framing 'pills' is none of drugs, aids, vectors"),
        ({"args": {"framing": "drugs", "steering_mode_runtime": "half"}}, "the steering mode 'half' is none of real"),
    ],
)
def test_a_condition_that_is_not_known_is_left_out_with_its_name(tmp_path, log, reason):
    """It is not given a condition that it may not have."""
    (found,) = reasons(tmp_path, [sample(said())], **log)
    assert found.startswith(reason)


def test_a_log_is_the_studys_by_its_package_its_registry_or_its_solvers(tmp_path):
    """Any one of them is enough; with none it is a stranger's."""
    one = [sample(took("calm"))]
    plain = {
        "registered": None,
        "packages": {},
        "plan": [],
        "args": {"framing": "drugs", "steering_mode_runtime": "real"},
    }
    for change in ({"packages": {"hackday": "1"}}, {"registered": "hackday/llms_on_drugs"}, {"plan": agent()}):
        assert read_one(tmp_path, one, **{**plain, **change}).logs["source"].tolist() == ["study"]
    assert read_one(tmp_path, one, **plain).logs[["source", "family"]].to_numpy().tolist() == [["other", "other"]]


# ---------------------------------------------------------------- takes


def test_takes_are_in_call_order_failed_ones_too(tmp_path):
    """Each with its turn among the messages that the model wrote; an error in text or in the tool's answer is a failure."""
    talk = [
        *said(),
        *took("calm", tool="take_vector", dose=1.5),
        *asked("Go on."),
        *unknown("joy"),
        *took("lsd", "", error="dose"),
    ]
    takes = read_one(tmp_path, [sample(talk)]).takes
    assert takes[["turn", "order", "name"]].to_numpy().tolist() == [[1, 0, "calm"], [2, 1, "joy"], [3, 2, "lsd"]]
    assert takes["ok"].tolist() == [True, False, False]
    assert takes["known"].tolist() == [True, False, True]
    assert takes["taken"].tolist() == ["calm", "", ""]
    assert takes["taken_category"].tolist() == ["emotion", "", "recreational"]
    assert takes["dose"].tolist() == [1.5, 1.0, 1.0]


def test_a_dose_is_the_number_that_was_asked_for_or_none(tmp_path):
    """Text that is a number counts as one, nothing at all is the tool's default, and anything else is no number."""
    talk = [message for dose in (0.5, "2.5", None, "much", True, [1]) for message in took("calm", dose=dose)]
    found = read_one(tmp_path, [sample(talk)]).takes["dose"].tolist()
    assert found == pytest.approx([0.5, 2.5, 1.0, math.nan, math.nan, math.nan], nan_ok=True)


def test_a_name_off_the_menu_is_not_known(tmp_path):
    """Where only some vectors are offered another one of the library is as unknown as a word that is none."""
    args = {"condition": "drugs_neutral", "restrict_drugs": ["calm"]}
    talk = [*took("calm"), *unknown("creative")]
    assert read_one(tmp_path, [sample(talk)], task="gsm8k_x", args=args).takes["known"].tolist() == [True, False]


def test_an_opaque_label_stands_for_its_vector(tmp_path):
    """What was asked for stays as it was written; what was taken is the vector behind it."""
    metadata = {"opaque_to_real": {"d1": "goblins"}}
    args = {"steering_mode_runtime": "real", "restrict_drugs": ["goblins"]}
    talk = [*took("d1"), *unknown("goblins")]
    takes = read_one(tmp_path, [sample(talk, metadata=metadata)], task="guess_kv_cached_x", args=args).takes
    assert takes[["name", "taken", "taken_category"]].to_numpy().tolist() == [
        ["d1", "goblins", "stance"],
        ["goblins", "", "stance"],
    ]
    assert takes["known"].tolist() == [True, False]


def test_scripted_calls_are_marked_and_count_as_nobodys(tmp_path):
    """They are in the table; the rollout has no take, was not steered by the model, and their message is none of its turns."""
    tables = read_one(tmp_path, [sample([*took("calm", scripted=True), *said()])])
    assert tables.takes[["turn", "scripted"]].to_numpy().tolist() == [[0, True]]
    (row,) = tables.rollouts.itertuples()
    assert (row.turns, row.takes, row.steered) == (1, 0, False)


def test_placebo_takes_have_strength_zero_and_real_ones_an_unknown_strength(tmp_path):
    """The study's logs do not say what dose 1.0 added; a failed call added nothing that could be measured."""
    for arm, strength in (("placebo", 0.0), ("real", math.nan)):
        args = {"framing": "drugs", "steering_mode_runtime": arm}
        takes = read_one(tmp_path, [sample([*took("calm"), *unknown("joy")])], args=args).takes
        assert takes["strength"].tolist() == pytest.approx([strength, math.nan], nan_ok=True)


# ---------------------------------------------------------------- the trip sitter


@pytest.mark.parametrize(
    ("clears", "words", "expected"),
    [
        ([], "Go on.", [False, False, False]),
        ([2], SITTER_SAYS, [False, True, True]),
        ([{"turn": 9}], SITTER_SAYS, [False, True, True]),
        ([2], "Go on.", [False, False, True]),
        ([{"turn": 1, "reason": "x"}], "Go on.", [False, True, True]),
        (["once"], "Go on.", [pd.NA, pd.NA, pd.NA]),
    ],
)
def test_takes_after_the_trip_sitter_are_marked(tmp_path, clears, words, expected):
    """By the place of what it says or, failing that, by the turn that was noted; where neither can be told it is not known."""
    talk = [*took("calm"), *asked(words), *took("calm"), *took("calm")]
    store = {"DrugState:trip_sitter_clears": clears, "DrugState:trip_sitter_errors": ["timeout"]}
    tables = read_one(tmp_path, [sample(talk, store=store)])
    assert tables.takes["after_sitter"].tolist() == expected
    assert tables.rollouts[["sitter_clears", "sitter_errors"]].to_numpy().tolist() == [[len(clears), 1]]


def test_a_trip_sitter_that_did_not_run_has_no_count(tmp_path):
    """It never ran under placebo, nor in the frustration loop: that is not the same as having found nothing."""
    store = {"DrugState:trip_sitter_clears": [], "DrugState:trip_sitter_errors": []}
    one = [sample(took("calm"), store=store)]
    fields = ["sitter_clears", "sitter_errors"]
    assert read_one(tmp_path, one).rollouts[fields].to_numpy().tolist() == [[0, 0]]
    for log in (
        {"args": {"framing": "drugs", "steering_mode_runtime": "placebo"}},
        {"plan": [EvalPlanStep(solver="hackday/drug_kv_frustration_agent", params={"steering_mode_runtime": "real"})]},
    ):
        assert read_one(tmp_path, one, **log).rollouts[fields].isna().all(axis=None)


# ---------------------------------------------------------------- scores


JUDGED = {"per_label_scores": {"d1": 0.0}, "rationale": {"d1": "another axis"}, "guesses": {"d1": "calm"}}


@pytest.mark.parametrize(
    ("scorer", "score", "expected"),
    [
        ("frustration_judge", Score(value=0.0, metadata={"raw": "SCORE: 0\nEVIDENCE: serene"}), (0.0, "")),
        ("frustration_judge", Score(value=4.0, metadata={"raw": "**SCORE:** 4"}), (4.0, "")),
        (
            "frustration_judge",
            Score(value=0.0, metadata={"raw": "I cannot"}),
            (math.nan, "the judge gave no score: I cannot"),
        ),
        (
            "frustration_judge",
            Score(value=0.0, explanation="judge error: 529"),
            (math.nan, "0 without a word of the judge: judge error: 529"),
        ),
        ("frustration_judge", Score(value=3.0), (3.0, "")),
        ("guess_accuracy_scorer", Score(value=0.0, metadata=JUDGED), (0.0, "")),
        (
            "guess_accuracy_scorer",
            Score(value=0.0, metadata={**JUDGED, "rationale": {}}),
            (math.nan, "0 without a word of the judge for d1"),
        ),
        (
            "guess_accuracy_scorer",
            Score(value=0.0, metadata={"guesses": {"d1": "calm"}, "raw": "no JSON"}),
            (math.nan, "the judge gave no score: no JSON"),
        ),
        ("guess_accuracy_scorer", Score(value=0.0, metadata={"guesses": {}}), (math.nan, "no guess was submitted")),
        (
            "kv_cleared_score",
            Score(value=0.0, answer="no_uncached_guess", metadata={"uncached_present": False}),
            (math.nan, "there is no uncached guess: it was not measured"),
        ),
        (
            "kv_cleared_score",
            Score(
                value=0.0, answer="{}", metadata={**JUDGED, "uncached_guesses": {"d1": "x"}, "uncached_present": True}
            ),
            (0.0, ""),
        ),
        ("cached_vs_uncached_judge", Score(value=0.5, answer="tie"), (0.5, "")),
        (
            "cached_vs_uncached_judge",
            Score(value=0.5, answer="missing_guesses"),
            (math.nan, "nothing was compared (missing_guesses)"),
        ),
        ("lost_in_drugs_judge", Score(value=0.0, answer="ok", metadata={"trip_sitter_n_errors": 0}), (0.0, "")),
        (
            "lost_in_drugs_judge",
            Score(value=0.0, answer="ok", metadata={"trip_sitter_n_errors": 2}),
            (math.nan, "the trip sitter failed 2 times, and counted that as not lost"),
        ),
        ("lost_in_drugs_judge", Score(value=1.0, answer="lost", metadata={"trip_sitter_n_errors": 2}), (1.0, "")),
    ],
)
def test_what_nobody_judged_is_no_score(tmp_path, scorer, score, expected):
    """Where a judge failed or nothing was measured the study stored 0 or 0.5; a 0 that a judge gave stays."""
    value, reason = score_of(tmp_path, scorer, score)
    assert (value, reason) == (pytest.approx(expected[0], nan_ok=True), expected[1])


def test_nobody_was_judged_lost_where_no_trip_sitter_watched(tmp_path):
    """Under placebo the score is 0 by construction."""
    args = {"framing": "drugs", "steering_mode_runtime": "placebo"}
    value, reason = score_of(tmp_path, "lost_in_drugs_judge", Score(value=0.0, answer="ok"), args=args)
    assert math.isnan(value)
    assert reason == "no trip sitter watched this rollout"


def test_a_letter_that_was_not_read_has_no_probability(tmp_path):
    """A stored nothing is unscored, and gives no row in `readouts`."""
    args = {"drug": "calm", "dose": 1.0, "steering_mode_runtime": "real", "n_options": 10}
    store = {
        "DrugState:cached_logprob": None,
        "DrugState:uncached_logprob": 0.25,
        "DrugState:logprob_correct_letter": "B",
    }
    scores = {f"logprob_{name}_score": Score(value=value) for name, value in (("cached", 0.0), ("uncached", 0.25))}
    tables = read_one(tmp_path, [sample(said(), store=store, scores=scores)], task="calib_calm_d1_00", args=args)
    assert tables.scores["reason"].tolist() == ["no letter was read", ""]
    (row,) = tables.readouts.itertuples()
    assert (row.reading, row.share, row.place, row.option, row.options) == ("uncached", 0.25, 1.0, "calm", 10.0)


# ---------------------------------------------------------------- problems


def question(text: str, place: int = 0, answer: str = "5") -> dict[str, str]:
    """Return a problem as a rollout's board holds it."""
    return {"id": f"gsm8k-{place:04d}", "question": text, "answer": answer}


def graded(**results: tuple[str, float]) -> dict[str, Score]:
    """Return the maths score of a rollout."""
    per_problem = {
        f"gsm8k-{place[1:]}": {"answer": answer, "grade": grade} for place, (answer, grade) in results.items()
    }
    return {"gsm8k_accuracy": Score(value=0.5, metadata={"per_problem": per_problem})}


def test_every_problem_of_a_rollout_is_a_row(tmp_path):
    """Those without an answer are not attempted, and not read as anything; an answer need not be a number."""
    given = [question("one?"), question("two?", 1), question("three?", 2)]
    scores = graded(_0000=("$1,005", 1.0), _0001=("about five", 0.0))
    args = {"condition": "drugs_neutral"}
    one = sample(said(), metadata={"problems": given}, scores=scores)
    problems = read_one(tmp_path, [one], task="gsm8k_drugs_neutral", args=args).problems
    assert problems["attempted"].tolist() == [True, True, False]
    assert problems["correct"].tolist() == [True, False, False]
    assert problems["parsed"].tolist() == [True, False, pd.NA]
    assert problems["answer"].tolist() == ["$1,005", "about five", ""]
    assert problems["truth"].tolist() == ["5", "5", "5"]


def test_a_problem_is_the_same_wherever_it_is_asked(tmp_path):
    """Ids are places, alike in every rollout: the question tells problems apart, at any place and in any family.

    A rollout's own cluster is the set of problems that it was given.
    """
    first = sample(said(), metadata={"problems": [question("one?", 0), question("two?", 1)]})
    second = sample(said(), metadata={"problems": [question("two?", 0), question("three?", 1)]}, name="s-1")
    maths = {"task": "gsm8k_drugs_neutral", "args": {"condition": "drugs_neutral"}}
    found = read_one(tmp_path, [first, second], **maths).problems["problem"].tolist()
    assert found[1] == found[2]
    assert len(set(found)) == 3
    sets = read_one(tmp_path, [first, second, first.model_copy(update={"id": "s-2"})], **maths).rollouts["problem"]
    assert sets[0] == sets[2] != sets[1]
    store = {"FrustrationState:problem_id": "gsm8k-0000", "FrustrationState:problem_question": "two?"}
    args = {"drug_condition": "drugs_neutral", "rejection_tone": "neutral", "use_impossible": False}
    rollouts = read_one(tmp_path, [sample(said(), store=store)], task="frust_drugs_neutral_neutral", args=args).rollouts
    assert rollouts["problem"].tolist() == [found[1]]


def test_a_flag_is_a_problem(tmp_path):
    """A challenge is attempted once a flag was submitted, not where one was said in passing; its id is the cluster."""
    scores = [
        Score(value=0.0, answer="(no submission)", metadata={"correct": False}),
        Score(value=1.0, answer="picoCTF{a}", metadata={"correct": True, "submit_attempts": ["picoCTF{a}"]}),
        Score(value=1.0, answer="The flag 61 it shows", metadata={"correct": False, "submit_attempts": []}),
    ]
    samples = [sample(said(), scores={"ctf_with_history": s}, name=n) for n, s in enumerate(scores)]
    tables = read_one(tmp_path, samples, task="ctf_aids_helpful", args={"condition": "aids_helpful"})
    assert tables.problems[["problem", "attempted", "correct", "answer"]].to_numpy().tolist() == [
        ["0", False, False, ""],
        ["1", True, True, "picoCTF{a}"],
        ["2", False, False, ""],
    ]
    assert tables.rollouts["problem"].tolist() == ["0", "1", "2"]
    assert tables.scores["value"].tolist() == [0.0, 1.0, 1.0]


# ---------------------------------------------------------------- the published logs, against their raw JSON


@pytest.fixture(scope="module")
def published() -> Tables:
    """The published logs as tables."""
    return read_tables(PUBLISHED)


@pytest.fixture(scope="module")
def raw() -> list[tuple[str, dict[str, Any]]]:
    """(file, sample without its events) of each sample of the finished published logs, read as JSON alone."""
    found = []
    for path in sorted(PUBLISHED.glob("*.eval")):
        with ZipFile(path) as log:
            if json.loads(log.read("header.json"))["status"] == "success":
                members = [name for name in log.namelist() if name.startswith("samples/")]
                samples = [json.loads(log.read(name)) for name in members]
                found += [(path.name, {k: v for k, v in one.items() if k != "events"}) for one in samples]
    return found


@published_only
def test_unfinished_published_logs_are_left_out(published):
    """Both are named with what became of them, and no row of theirs is anywhere."""
    found = dict(published.left_out.to_numpy().tolist())
    assert {name[26:42]: reason.partition(";")[0] for name, reason in found.items()} == {
        "ctf-drugs-mandat": "not finished (status started)",
        "gsm8k-drugs-neut": "not finished (status error: Connection error.)",
    }
    for table in (published.rollouts, published.takes, published.scores):
        assert not set(table["log"]) & set(found)


@published_only
def test_published_takes_are_those_that_the_study_noted_itself(published, raw):
    """In number, order, name, dose, turn and success they are its own history; scripted calls alone are not in that."""
    takes = published.takes[~published.takes["scripted"]]
    fields = ["turn", "name", "dose", "ok"]
    found = {key: rows[fields].to_numpy().tolist() for key, rows in takes.groupby(["log", "sample"])}
    noted = {}
    for name, one in raw:
        history = [entry for entry in one["store"]["DrugState:history"] if entry["tool"] == "take_drug"]
        rows = [[e["turn"], e["args"]["name"], e["args"]["dose"], "nknown" not in e["result_summary"]] for e in history]
        if rows:
            noted[name, str(one["id"])] = rows
    assert found == noted
    assert sum(map(len, noted.values())) > 200


@published_only
def test_published_maths_counts_are_those_of_the_scorer(published, raw):
    """Problems given, attempted and solved add up to its own counts, and questions to clusters."""
    totals: Counter[str] = Counter()
    questions = set()
    for _, one in raw:
        if (score := one["scores"].get("gsm8k_accuracy")) is not None:
            totals += Counter({k: score["metadata"][k] for k in ("n_total", "n_attempted", "n_correct")})
            questions |= {hashlib.sha256(p["question"].encode()).hexdigest() for p in one["metadata"]["problems"]}
    problems = published.problems
    found = [len(problems), int(problems["attempted"].sum()), int(problems["correct"].sum())]
    assert found == [totals[name] for name in ("n_total", "n_attempted", "n_correct")]
    assert problems["problem"].nunique() == len(questions)


@published_only
def test_published_scores_and_shares_are_the_stored_ones(published, raw):
    """Every stored score but the histories' is there once; the shares of the right letter are the stored probabilities."""
    stored = {
        (name, str(one["id"]), scorer): float(score["value"])
        for name, one in raw
        for scorer, score in one["scores"].items()
        if scorer != "history_logger"
    }
    rows = {(r.log, r.sample, r.scorer): (r.value, r.reason) for r in published.scores.itertuples()}
    assert rows.keys() == stored.keys()
    for key, (value, reason) in rows.items():
        assert math.isnan(value) if reason else value == stored[key], key
    shares = {(r.log, r.sample, r.reading): r.share for r in published.readouts.itertuples()}
    assert shares == {
        (name, str(one["id"]), reading): one["store"][f"DrugState:{reading}_logprob"]
        for name, one in raw
        if one["store"]["DrugState:logprob_letter_pool"]
        for reading in ("cached", "uncached")
    }
    assert (published.readouts["option"] == published.readouts["vector"]).all()
