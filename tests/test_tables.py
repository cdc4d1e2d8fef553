"""From log files to tidy tables: which files are read, what our own experiments come to, and that the columns are documented."""

import dataclasses
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from inspect_ai import Task, eval, task  # noqa: A004  Inspect's name for it
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.event import InfoEvent, timeline_build
from inspect_ai.log import EvalLog, EvalSample, list_eval_logs, read_eval_log
from inspect_ai.model import ChatMessageAssistant, ModelOutput, ModelUsage, execute_tools, get_model
from inspect_ai.scorer import Score, ScoreEdit, Target, mean, scorer
from inspect_ai.solver import Generate, TaskState, solver
from inspect_ai.tool import ToolCall

from self_steering.analysis.tables import Tables, empty_tables, read_tables
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.introspection import ARMS, introspection
from self_steering.evals.localisation import localisation
from self_steering.solvers.records import SelfSteerState, Take
from self_steering.steering.tools import steering_tools
from self_steering.vectors.card import VECTORS_FILE, read_card
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.library import Library, content_hash, serialised
from tests.support.hand_made_logs import said, sample, took, write_log
from tests.support.stretches import DEFAULT_DOSE, make_tiny, receipt

FOLDERS = Path(__file__).parents[1]
STATES = ("calm", "goblins", "honest", "lsd")
DOSE = 2.0
KEY = "self_steering"


def read_ok(*paths: Path) -> Tables:
    """Read logs of which none may be left out."""
    tables = read_tables(*paths)
    assert tables.left_out.empty, tables.left_out["reason"].tolist()
    return tables


# ---------------------------------------------------------------- which files


def play(path: Path, name: str = "calm", **log) -> Path:
    """Write a log of one free-play rollout with one take."""
    args = {"framing": "drugs", "steering_mode_runtime": "real"}
    return write_log(path, [sample(took(name))], **{"args": args, **log})


def test_a_folder_is_searched_below_itself(tmp_path):
    """Each log is named by its path below the folder that was given, of either format."""
    for name in ("a.eval", "deep/er/b.eval", "deep/2026-01-01T00-00-00_c.json"):
        play(tmp_path / name, eval_id=name, task_id=name)
    logs = read_ok(tmp_path).logs
    assert sorted(logs["log"]) == ["a.eval", "deep/2026-01-01T00-00-00_c.json", "deep/er/b.eval"]


def test_several_paths_are_read_together(tmp_path):
    """Folders and files; rollouts are told apart although their logs and samples have the same names."""
    paths = [play(tmp_path / name / "log.eval", eval_id=name, task_id=name) for name in ("a", "b", "c")]
    tables = read_ok(paths[0].parent, paths[1].parent, paths[2])
    assert len(tables.logs) == 3
    for table in (tables.rollouts, tables.takes):
        assert table["rollout"].is_unique
        assert table["log"].is_unique


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: folder,
            "no log in the folder .*; run an eval with `--log-dir` first, or name a folder that holds",
        ),
        (lambda folder: folder / "nowhere", "there is no .*nowhere; name a folder of logs"),
        (
            lambda folder: (folder / "a.txt").write_text("x") and folder / "a.txt",
            "a.txt is no log file; logs end in .eval or",
        ),
    ],
)
def test_a_path_without_logs_is_an_error(tmp_path, make, message):
    """It names the path and the remedy."""
    with pytest.raises(ValueError, match=message):
        read_tables(make(tmp_path))


@solver
def chat():
    """Say one thing."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.messages.append(ChatMessageAssistant(content="4", source="generate"))
        return state

    return solve


def run(task: Task, folder: Path, model: object = "mockllm/model") -> Path:
    """Run a task, and return its log."""
    (log,) = eval(task, model=model, log_dir=str(folder), display="none")
    assert log.status == "success", log.error
    return Path(log.location)


def test_what_is_no_finished_log_of_ours_or_the_studys_is_listed_with_its_reason(tmp_path):
    """Every kind of it has its own words, and the good log beside them is read all the same."""
    good = play(tmp_path / "good.eval")
    (tmp_path / "empty.eval").touch()
    (tmp_path / "cut.eval").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "words.eval").write_text("not a zip")
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "bad.json").write_text('{"a": ')
    play(tmp_path / "started.eval", status="started")
    play(tmp_path / "cancelled.eval", status="cancelled")
    write_log(tmp_path / "nothing.eval", [])
    write_log(tmp_path / "failed.eval", [sample(error="out of memory")])
    foreign = run(Task(dataset=[Sample(input="2 + 2?")], solver=chat(), name="sums"), tmp_path / "foreign")
    found = dict(read_tables(tmp_path).left_out.to_numpy().tolist())
    expected = {
        "empty.eval": "the file is empty",
        "cut.eval": "no Inspect log, cut off, or broken",
        "words.eval": "no Inspect log, cut off, or broken",
        "other.json": "no Inspect log, some other JSON",
        "bad.json": "no Inspect log, some other JSON",
        "started.eval": r"not finished \(status started\); nothing to do: good.eval holds the same condition",
        "cancelled.eval": r"not finished \(status cancelled\)",
        "nothing.eval": "it holds no sample",
        "failed.eval": "1 of 1 samples failed and are in no table, first s-0: out of memory",
        f"foreign/{foreign.name}": "no task of this suite nor of the published study",
    }
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert re.match(reason, found[name]), (name, found[name])
        assert "\n" not in found[name]
    assert read_tables(tmp_path).logs["log"].tolist() == ["good.eval"]


def test_a_sample_that_is_damaged_leaves_its_log_out(tmp_path):
    """A log whose header can be read but a sample cannot is in no table in part."""
    log = play(tmp_path / "a.eval")
    content = bytearray(log.read_bytes())
    start = content.index(b"samples/")
    content[start + 40 : start + 80] = bytes(40)
    log.write_bytes(content)
    tables = read_tables(tmp_path)
    assert tables.left_out["reason"].str.startswith("broken: a sample cannot be read").tolist() == [True]
    assert tables.rollouts.empty


def test_a_sample_that_failed_is_told_and_the_others_stay(tmp_path):
    """The log counts all of them, the tables hold those that came to an end."""
    samples = [
        sample(took("calm"), name="s-0"),
        sample(took("lsd"), name="s-1", error="the server went away\nat line 3"),
    ]
    write_log(tmp_path / "a.eval", samples, args={"framing": "drugs"})
    tables = read_tables(tmp_path)
    told = "1 of 2 samples failed and are in no table, first s-1: the server went away"
    assert tables.left_out.to_numpy().tolist() == [["a.eval", told]]
    assert tables.takes["name"].tolist() == ["calm"]
    assert tables.logs["samples"].tolist() == [2]


def test_a_run_counts_once(tmp_path):
    """A copy, and the earlier attempt of a retried run, are left out with the name of the log that is kept."""
    shutil.copy(play(tmp_path / "a.eval", eval_id="one", task_id="one"), tmp_path / "copy.eval")
    play(tmp_path / "early.eval", "lsd", eval_id="two", task_id="two", created="2026-01-01T00:00:00+00:00")
    play(tmp_path / "late.eval", "soma", eval_id="three", task_id="two", created="2026-01-02T00:00:00+00:00")
    tables = read_tables(tmp_path)
    assert tables.takes["name"].tolist() == ["calm", "soma"]
    found = dict(tables.left_out.to_numpy().tolist())
    (copied,) = found.keys() - {"early.eval"}
    kept = {"a.eval": "copy.eval", "copy.eval": "a.eval"}[copied]
    assert found == {
        copied: f"the same run as {kept}, which was written later",
        "early.eval": "an earlier attempt of the run in late.eval",
    }


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """Let tables be kept in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.usefixtures("own_cache")
def test_many_logs_come_out_as_they_do_one_by_one_and_are_read_once(tmp_path):
    """In order, each reported; read again they come from what was kept, but for a log that has changed since."""
    names = list(catalogue())[:17]
    for place, name in enumerate(names):
        play(tmp_path / f"{place:02d}.eval", name, eval_id=name, task_id=name)
    reported: list[tuple[int, int]] = []
    tables = read_tables(tmp_path, progress=lambda done, total: reported.append((done, total)))
    assert tables.takes["name"].tolist() == names
    assert reported == [(done, 17) for done in range(1, 18)]
    single = pd.concat([read_ok(tmp_path / f"{place:02d}.eval").takes for place in (0, 16)], ignore_index=True)
    pd.testing.assert_frame_equal(tables.takes.iloc[[0, 16]].reset_index(drop=True), single)
    # Of the same size and time, so that whoever opened it would find it broken.
    first = tmp_path / "00.eval"
    size, written = first.stat().st_size, first.stat().st_mtime_ns
    first.write_bytes(bytes(size))
    os.utime(first, ns=(written, written))
    play(tmp_path / "16.eval", "lsd", eval_id="new", task_id="new")
    again = read_tables(tmp_path)
    assert again.takes["name"].tolist() == [*names[:16], "lsd"]
    for name in ("rollouts", "logs", "scores"):
        pd.testing.assert_frame_equal(getattr(again, name).iloc[:16], getattr(tables, name).iloc[:16])
    assert read_tables(tmp_path, fresh=True).left_out["log"].tolist() == ["00.eval"]


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_a_log_with_timelines_is_read(suffix, tmp_path):
    """Timelines refer to events, which tables are not made of: without these the sample is read all the same."""
    event = InfoEvent(data={"a": 1})
    one = sample(took("calm")).model_copy(update={"events": [event], "timelines": [timeline_build([event])]})
    path = write_log(tmp_path / f"a.{suffix}", [one], args={"framing": "drugs"})
    assert read_eval_log(str(path)).samples[0].timelines
    assert read_ok(path).takes["name"].tolist() == ["calm"]


def test_of_two_files_of_a_run_the_one_that_is_scored_further_counts(tmp_path):
    """Also where both were written at the same time: `inspect score` leaves the run and its graded copy."""
    graded = {"grade": Score(value=7)}
    plain = {"grade": Score.unscored(reason="grader_failed")}
    edited = Score(value=5, history=[ScoreEdit(value=5)])
    for place, scores in enumerate(({}, plain, graded, {"grade": edited})):
        path = write_log(
            tmp_path / f"{place}.eval", [sample(took("calm"), scores=scores)], eval_id="one", task_id="one"
        )
        os.utime(path, ns=(10**18, 10**18))
    found = read_tables(tmp_path)
    assert found.scores["value"].tolist() == [5.0]
    reasons = dict(found.left_out.to_numpy().tolist())
    assert reasons["2.eval"] == "the same run as 3.eval, in which scores were edited later (1 edits, 0 here)"
    assert reasons["1.eval"] == "the same run as 3.eval, which has more scores (1 figures, 0 here)"


def test_what_to_do_about_an_unfinished_log_depends_on_a_finished_one_of_its_condition(tmp_path):
    """Where it ran makes no other condition."""
    for name, status, args in (
        ("done.eval", "success", {"framing": "drugs", "base_url": "http://a"}),
        ("again.eval", "error", {"framing": "drugs", "base_url": "http://b"}),
        ("missing.eval", "started", {"framing": "aids"}),
    ):
        write_log(tmp_path / name, [sample(took("calm"))], args=args, status=status, eval_id=name, task_id=name)
    reasons = dict(read_tables(tmp_path).left_out.to_numpy().tolist())
    assert reasons["again.eval"].endswith("nothing to do: done.eval holds the same condition, finished")
    assert 'no finished log has its condition (fp_real_drugs, Qwen3-8B, framing "aids")' in reasons["missing.eval"]


# ---------------------------------------------------------------- columns


def test_tables_have_the_documented_columns_in_order_also_when_empty(tmp_path):
    """Filled and empty, and of the same types, so that code that runs on one runs on the other."""
    filled = read_ok(play(tmp_path / "a.eval"))
    for tables in (filled, empty_tables()):
        assert {name: list(frame) for name, frame in vars(tables).items()} == {n: list(c) for n, c in COLUMNS.items()}
    for field in dataclasses.fields(Tables):
        assert getattr(filled, field.name).dtypes.to_dict() == getattr(empty_tables(), field.name).dtypes.to_dict()


# ---------------------------------------------------------------- our own experiments


@pytest.fixture(scope="module")
def own_logs(tmp_path_factory) -> Path:
    """A folder with a small log of each of our experiments, run on a tiny model with a library of four vectors."""
    folder = tmp_path_factory.mktemp("own")
    tiny = make_tiny(folder / "tiny")
    card = read_card(tiny.library)
    generator = torch.Generator().manual_seed(0)
    vectors = {name: 3 * torch.randn(len(card.layers), card.hidden, generator=generator) for name in STATES}
    changes = {
        "norms": {name: vector.norm(dim=-1).tolist() for name, vector in vectors.items()},
        "default_doses": dict.fromkeys(vectors, DEFAULT_DOSE),
        "sha256": {VECTORS_FILE: content_hash(serialised(vectors))},
    }
    library = folder / "library"
    Library(card.model_copy(update=changes), vectors).save(library)
    small = {"vectors": "calm", "library": str(library)}
    model = get_model(f"nnsight/{tiny.model}", memoize=False)
    tasks = [
        introspection(**small, arm="all", options=3, random_directions=2, dose=DOSE),
        introspection_free_text(**small, arm="real,placebo,random", turns=1, max_tokens=8, dose=DOSE, framing="aids"),
        detection(**small, doses=DOSE, controls=1),
        localisation(**small, sentences=2, dose=DOSE),
        comparison(**small, n_per_vector=1, weaker=0.5, stronger=DOSE),
    ]
    try:
        quiet = {"display": "none", "log_realtime": False, "score_display": False}
        logs = eval(tasks, model=model, log_dir=str(folder / "logs"), **quiet)
    finally:
        model.api.close()
    assert [log.status for log in logs] == ["success"] * len(tasks)
    return folder / "logs"


@pytest.fixture(scope="module")
def own(own_logs) -> Tables:
    """The same as tables."""
    return read_ok(own_logs)


def own_samples(folder: Path) -> Iterator[tuple[EvalLog, EvalSample]]:
    """Yield every sample of a folder of logs with its log."""
    for info in list_eval_logs(str(folder)):
        log = read_eval_log(info.name)
        for one in log.samples or []:
            yield log, one


def test_our_logs_say_what_was_run(own):
    """Family, arms and conditions of each experiment; what it does not offer is none, what it does not have is empty."""
    logs = own.logs.set_index("task")[["source", "family", "framing", "primer", "dose", "seed"]]
    assert logs.to_dict("index") == {
        task: {
            "source": "self_steering",
            "family": family,
            "framing": framing,
            "primer": primer,
            "dose": dose,
            "seed": 0.0,
        }
        for task, family, framing, primer, dose in [
            ("introspection", "introspection", "vectors", "none", DOSE),
            ("introspection_free_text", "free_text", "aids", "none", DOSE),
            ("detection", "detection", "vectors", "", pytest.approx(math.nan, nan_ok=True)),
            ("localisation", "localisation", "none", "", DOSE),
            ("comparison", "comparison", "none", "", pytest.approx(math.nan, nan_ok=True)),
        ]
    }
    assert set(own.rollouts[own.rollouts["family"] == "introspection"]["arm"]) == set(ARMS)
    assert set(own.rollouts["vector"]) == {"calm"}
    assert set(own.rollouts["category"]) == {"emotion"}
    assert (own.rollouts["problem"] != "").all()


def test_our_scores_are_the_stored_ones(own, own_logs):
    """Each figure of each scorer in a row of its own; those that were not given are unscored and say why."""
    stored = {
        (log.eval.task.rpartition("/")[2], str(one.id), scorer_, name): value
        for log, one in own_samples(own_logs)
        for scorer_, score in one.scores.items()
        for name, value in (score.value.items() if isinstance(score.value, dict) else [("value", score.value)])
    }
    rows = {(r.task, r.sample, r.scorer, r.score): (r.value, r.reason) for r in own.scores.itertuples()}
    assert rows.keys() == stored.keys()
    for key, (value, reason) in rows.items():
        assert value == pytest.approx(stored[key], nan_ok=True), key
        assert (reason != "") == math.isnan(value), key
    ungraded = own.scores[own.scores["scorer"] == "description_scorer"]
    assert set(ungraded["reason"]) <= {"no_grader", "no_response"}
    assert len(ungraded) == 3


@pytest.mark.parametrize(
    ("family", "reading"), [("introspection", "cached"), ("introspection", "uncached"), ("localisation", "cached")]
)
def test_readouts_give_the_scorers_figure_back(own, family, reading):
    """The mean share of the right option is what the scorer says, rollout by rollout."""
    readouts = own.readouts[(own.readouts["family"] == family) & (own.readouts["reading"] == reading)]
    found = readouts[readouts["is_true"]].groupby("rollout")["share"].mean()
    scores = own.scores[(own.scores["family"] == family) & (own.scores["score"] == reading)].set_index("rollout")[
        "value"
    ]
    assert len(found) == len(scores) > 0
    assert found.to_dict() == pytest.approx(scores.to_dict())


def test_detections_readouts_give_its_figures_back(own):
    """Log-odds of yes on the detection question, and the share of controls that were answered rightly."""
    of_family = own.readouts[(own.readouts["family"] == "detection") & (own.readouts["reading"] == "cached")]
    asked = of_family[of_family["question"].str.startswith("detection: ")]
    yes, no = (asked[asked["option"] == word].groupby("rollout")["logprob"].mean() for word in ("yes", "no"))
    scores = own.scores[own.scores["family"] == "detection"].set_index(["score", "rollout"])["value"]
    assert (yes - no).to_dict() == pytest.approx(scores["log_odds"].to_dict())
    right = asked[asked["is_true"]].groupby("arm")["option"].unique()
    said = {"placebo": "no", "tampered": "no", "random": "yes", "real": "yes"}
    assert {arm: list(words) for arm, words in right.items()} == {arm: [word] for arm, word in said.items()}
    controls = of_family[of_family["question"].str.startswith("always ") & of_family["is_true"]]
    kinds = controls["question"].str.partition(":")[0]
    assert set(zip(kinds, controls["option"], strict=True)) == {("always no", "no"), ("always yes", "yes")}
    strength = of_family[of_family["question"].str.startswith("strength: ")]
    assert strength["is_true"].isna().all()
    assert set(strength["option"]) == set("0123456789")


def test_an_option_stands_where_it_was_shown(own):
    """Rotating options moves every one of them; both orders of an answer are two rotations."""
    fields = ["rollout", "reading", "number"]
    for _, shown in own.readouts.groupby(fields):
        assert sorted(shown["place"]) == list(range(len(shown)))
        assert shown["share"].sum() == pytest.approx(1)
        assert shown["probability"].tolist() == pytest.approx([math.exp(p) for p in shown["logprob"]])
    options = own.readouts[own.readouts["family"] == "introspection"]
    for _, of_rollout in options[options["arm"] == "real"].groupby(["rollout", "reading"]):
        first, second = (rows.set_index("option")["place"] for _, rows in of_rollout.groupby("rotation"))
        (shift,) = set(of_rollout["rotation"]) - {0}
        assert ((second - first + shift) % 3 == 0).all()
    orders = own.readouts[own.readouts["question"].str.startswith("detection")].groupby([*fields[:2], "rotation"])
    assert {key[2]: tuple(rows.sort_values("place")["option"]) for key, rows in orders} == {
        0: ("yes", "no"),
        1: ("no", "yes"),
    }


def test_strengths_are_what_was_added(own):
    """Dose times default dose where something was, turned in the opposite arm, nothing under placebo and when uncached."""
    expected = dict.fromkeys(ARMS, DOSE * DEFAULT_DOSE) | {
        "opposite": -DOSE * DEFAULT_DOSE,
        "placebo": 0.0,
        "prompt_only": 0.0,
    }
    readouts = own.readouts[own.readouts["family"] == "introspection"]
    cached = readouts[readouts["reading"] == "cached"].groupby("arm")["strength"].unique()
    assert {arm: list(found) for arm, found in cached.items()} == {arm: [value] for arm, value in expected.items()}
    assert set(own.readouts[own.readouts["reading"] == "uncached"]["strength"]) == {0.0}
    for row in own.takes.itertuples():
        wanted = {"real": DOSE * DEFAULT_DOSE, **expected, "random": DOSE * DEFAULT_DOSE, "tampered": 0.0}[row.arm]
        assert row.strength == pytest.approx(wanted), row
    compared = own.readouts[(own.readouts["family"] == "comparison") & (own.readouts["arm"] != "placebo")]
    harder = compared[compared["reading"] != "uncached"]
    assert set(zip(harder["dose"], harder["strength"], strict=True)) == {(DOSE, DOSE * DEFAULT_DOSE)}
    random = readouts[(readouts["arm"] == "random") & (readouts["reading"] == "cached")]
    assert set(random["direction"]) == {0.0, 1.0}


def test_scripted_takes_tell_label_and_vector_apart(own):
    """Every take call of these logs is inserted; what was applied is not what it was called."""
    assert own.takes["scripted"].all()
    assert own.rollouts["takes"].eq(0).all()
    assert not own.rollouts["steered"].any()
    taken = {
        row.arm: (row.name, row.taken)
        for row in own.takes[own.takes["family"] == "introspection"].itertuples(name="Take", index=False)
    }
    assert taken["real"] == ("d1", "calm")
    assert taken["mislabelled"][0] in set(STATES) - {"calm"}
    assert taken["mislabelled"][1] == "calm"
    assert taken["other"][1] in set(STATES) - {"calm"}
    assert taken["random"] == ("d1", "random direction")
    assert set(own.takes["family"]) == {"introspection", "free_text", "detection"}


def test_receipts_are_all_that_the_engine_wrote(own, own_logs):
    """As many as the stores hold, each with as many tokens steered as planned, and the tokens that it all took."""
    stored = [
        (one["label"], one["strength"], one["planned"], one["steered"])
        for _, sample_ in own_samples(own_logs)
        for key in ("IntrospectionState:readings", "StretchState:readings", "ExplorationState:turns")
        for part in sample_.store.get(key, [])
        for one in part["receipts"]
    ]
    rows = own.receipts[["label", "strength", "planned", "steered"]].to_numpy().tolist()
    assert sorted(map(tuple, rows)) == sorted(stored)
    assert (own.receipts["planned"] == own.receipts["steered"]).all()
    assert set(own.receipts["layers"]) == {"2 3"}
    assert set(own.receipts[own.receipts["family"] == "free_text"]["reading"]) <= {"turn 0", "turn 1", "uncached"}
    totals = own.scores[own.scores["score"].isin(["computed_tokens", "prompt_tokens"])]
    for row in totals.itertuples():
        (rollout,) = own.rollouts[own.rollouts["rollout"] == row.rollout].to_dict("records")
        assert rollout[row.score] == row.value
    assert (own.rollouts["prompt_tokens"] >= own.rollouts["computed_tokens"]).all()


# ---------------------------------------------------------------- a model that takes by itself


def output(call: dict | None, turn: int) -> ModelOutput:
    """Return a model's turn with a take call or none, and a receipt; with usage, as counting tokens needs the network."""
    made = ModelOutput.from_content("model", "So be it.")
    if call is not None:
        made.message.tool_calls = [ToolCall(id="c", function="take_vector", arguments=call)]
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    clean = receipt(label=f"turn {turn}'s", direction="abc", layers=[2, 3], start=turn, stop=None, reused=1)
    made.metadata = {KEY: {"receipts": [clean] * (turn > 0), "computed_tokens": 3, "reused_tokens": 4}}
    return made


@solver
def steer_freely(turns: int, note: list[dict] | None = None):
    """Let the model use the steering tools."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        tools = steering_tools("vectors", dict.fromkeys(STATES, "an effect"))
        for _ in range(turns):
            state.output = await get_model().generate(state.messages, tools=tools)
            state.messages.append(state.output.message)
            state.messages.extend((await execute_tools(state.messages, tools)).messages)
        if note is not None:
            record = SelfSteerState(store=state.store)
            record.condition, record.takes = {"arm": "placebo"}, [Take.model_validate(one) for one in note]
        return state

    return solve


@scorer(metrics=[mean()])
def letter():
    """Give the letter that stands for a right answer."""

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value="C")

    return score


CALLS: list[dict | None] = [{"name": "calm", "dose": 2.0}, None, {"name": "joy"}, {"name": "lsd", "dose": 99}]


@task
def freeplay(note: list[dict] | None = None) -> Task:
    """Steer freely for as many turns as there are scripted calls."""
    about = {"arm": "placebo", "framing": "vectors", "visibility": "private"}
    return Task(
        dataset=MemoryDataset([Sample(input="Explore.", id="p", metadata=about)]),
        solver=steer_freely(len(CALLS), note),
        scorer=letter(),
        metadata={"experiment": "freeplay"},
    )


def played(folder: Path, made: Task) -> Tables:
    """Run free play on a model that makes the scripted calls, and read it."""
    outputs = [output(call, turn) for turn, call in enumerate(CALLS)]
    return read_ok(run(made, folder, get_model("mockllm/model", custom_outputs=outputs, memoize=False)))


def test_what_a_model_takes_by_itself_is_read_from_the_conversation(tmp_path):
    """In any task that hands it our tools: the call's turn, and whether the tool took it."""
    tables = played(tmp_path, freeplay())
    takes = tables.takes
    assert takes[["turn", "name", "dose"]].to_numpy().tolist() == [[0, "calm", 2.0], [2, "joy", 1.0], [3, "lsd", 99.0]]
    assert takes["ok"].tolist() == [True, False, False]
    assert takes["known"].tolist() == [True, False, True]
    assert takes["taken"].tolist() == ["calm", "", ""]
    assert takes["strength"].tolist() == pytest.approx([0.0, math.nan, math.nan], nan_ok=True)
    (row,) = tables.rollouts.to_dict("records")
    expected = {"family": "freeplay", "arm": "placebo", "framing": "vectors", "visibility": "private"}
    assert {name: row[name] for name in expected} == expected
    assert (row["turns"], row["takes"], row["steered"]) == (4, 3, True)
    assert tables.scores[["scorer", "value"]].to_numpy().tolist() == [["letter", 1.0]]


def test_receipts_of_a_models_own_turns_are_read_from_its_events(tmp_path):
    """Each under the number of the message that it belongs to, with the tokens of all of them."""
    tables = played(tmp_path, freeplay())
    assert tables.receipts[["reading", "start"]].to_numpy().tolist() == [["turn 1", 1], ["turn 2", 2], ["turn 3", 3]]
    assert tables.receipts["stop"].isna().all()
    assert tables.rollouts[["computed_tokens", "prompt_tokens"]].to_numpy().tolist() == [[12, 28]]


def test_takes_that_the_solver_noted_itself_go_before_the_conversation(tmp_path):
    """It knows what was taken, how strongly, and what the trip sitter did; what it does not say stays unknown."""
    note = [
        {
            "turn": 2,
            "order": 0,
            "name": "calm",
            "taken": "goblins",
            "dose": 1.5,
            "strength": 0.75,
            "ok": True,
            "scripted": False,
            "after_sitter": True,
        },
        {"turn": 3, "order": 1, "name": "joy", "taken": "", "ok": False, "scripted": False, "after_sitter": False},
    ]
    takes = played(tmp_path, freeplay(note)).takes
    fields = ["turn", "order", "name", "taken", "taken_category", "dose", "strength"]
    first, second = takes[fields].to_numpy().tolist()
    assert first == [2, 0, "calm", "goblins", "stance", 1.5, 0.75]
    assert second[:5] == [3, 1, "joy", "", ""]
    assert all(math.isnan(value) for value in second[5:])
    assert takes["after_sitter"].tolist() == [True, False]
    assert takes["known"].tolist() == [True, False]


def test_scores_that_are_no_numbers_are_unscored(tmp_path):
    """Letters of Inspect's count as it defines them; a word, nothing and an unscored sample give no number."""
    values = ["C", "I", "P", "N", "fine", True, "0.5", [1.0, "x"], {"a": 2, "b": math.nan}]
    scores = {f"s{place}": Score(value=value) for place, value in enumerate(values)}
    scores["none"] = Score.unscored(reason="refusal")
    one = [sample(said(), scores=scores)]
    found = read_ok(write_log(tmp_path / "a.eval", one, args={"framing": "drugs"})).scores
    rows = {(row.scorer, row.score): (row.value, row.reason) for row in found.itertuples()}
    numbers = {key: value for key, (value, reason) in rows.items() if not reason}
    assert numbers == {
        ("s0", "value"): 1.0,
        ("s1", "value"): 0.0,
        ("s2", "value"): 0.5,
        ("s5", "value"): 1.0,
        ("s6", "value"): 0.5,
        ("s7", "0"): 1.0,
        ("s8", "a"): 2.0,
    }
    assert {key: reason for key, (_, reason) in rows.items() if reason} == {
        ("s3", "value"): "no answer",
        ("s4", "value"): "the score 'fine' is no number",
        ("s7", "1"): "the score 'x' is no number",
        ("s8", "b"): "the scorer gave no figure",
        ("none", "value"): "refusal",
    }
