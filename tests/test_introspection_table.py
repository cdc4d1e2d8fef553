"""What `self-steering table` prints and writes of an introspection log, and which logs it refuses."""

import csv
import math
import re
from pathlib import Path

import pytest
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log
from inspect_ai.scorer import Score, Target, mean, scorer
from inspect_ai.solver import Generate, TaskState, solver

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.introspection.arms import primary_effects, scored_table
from self_steering.analysis.introspection.introspection_table import introspection_table, introspection_tables
from self_steering.analysis.report.terminal import metrics_table
from self_steering.evals.introspection import introspection
from self_steering.scorers.identification import identify
from self_steering.solvers.introspection import IntrospectionState, Trial
from self_steering.solvers.readings import Cost, Reading
from self_steering.solvers.records import CORE_VECTORS
from tests.support.summaries import figures, headlines

pytestmark = pytest.mark.slow

ARMS = ("real", "placebo", "random", "other")
VECTORS = CORE_VECTORS
# What the true option gains in log-probability, by arm, and in the real arm on top by vector.
GAINS = {"real": 1.5, "placebo": 0.0, "random": 0.2, "other": -0.3}
DIRECTIONS = 3


def hand_made(trial: Trial, name: str, gain: float, direction: int | None = None) -> Reading:
    """Return a reading of a model that likes the letters alike and the true option by `gain`, its receipt clean."""
    weights = {option: math.exp(gain * (option == trial.vector)) for option in trial.options}
    clean = {"planned": 5, "steered": 5, "strength": 0.9, "projection_before": 2.0, "projection_after": 5.0}
    return Reading(
        name=name,
        shift=0,
        direction=direction,
        logprobs={option: math.log(weight / sum(weights.values()) / 2) for option, weight in weights.items()},
        strengths=[0.9] * (name == "cached"),
        receipts=[{**clean, "expected_shift": 3.0}] * (name == "cached"),
        cost=Cost(computed_tokens=10, prompt_tokens=40),
    )


@solver
def leave_readings(without: str = ""):
    """Leave hand-made readings in every sample but those of one vector, asking no model."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        trial = Trial.model_validate(state.metadata)
        if trial.vector == without:
            return state
        gain = GAINS[trial.arm] + 0.1 * VECTORS.index(trial.vector) * (trial.arm == "real")
        directions = range(DIRECTIONS) if trial.arm == "random" else [None]
        cached = [hand_made(trial, "cached", gain + 0.1 * (number or 0), number) for number in directions]
        result = IntrospectionState(store=state.store)
        result.readings, result.strength = [*cached, hand_made(trial, "uncached", 0.0)], 0.9
        return state

    return solve


def run_offline(task: Task, folder: Path, epochs: int = 1) -> EvalLog:
    (log,) = eval(
        task, model="mockllm/model", log_dir=str(folder), display="none", epochs=epochs, log_realtime=False,
        score_display=False,
    )  # fmt: skip
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def hand_made_task(without: str = "", **changes) -> Task:
    arguments = {"vectors": VECTORS, "arm": ARMS, "options": 5, "rotations": 1, "random_directions": DIRECTIONS}
    task = introspection(**{**arguments, **changes})
    task.solver = leave_readings(without)
    return task


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    """Four arms over ten vectors, two questions each."""
    return run_offline(hand_made_task(n_per_vector=2), tmp_path_factory.mktemp("logs"))


def by_name(rows: list[dict[str, str]], key: str) -> dict[str, dict[str, str]]:
    return {row[key]: row for row in rows}


def test_the_table_has_a_row_an_arm_with_the_logs_own_means(log: EvalLog):
    """Means over an arm's samples, how many there were, and both intervals around the gap."""
    rows = by_name(introspection_tables(log)["arms"], "arm")
    assert tuple(rows) == ARMS
    for arm, row in rows.items():
        of_arm = [s.scores["introspection_scorer"].value for s in log.samples if s.metadata["arm"] == arm]
        average = {
            key: sum(v[key] for v in of_arm) / len(of_arm) for key in ("cached", "uncached", "gap", "letter_mass")
        }
        assert row["n"] == str(len(of_arm))
        gap, low, high, low_by_wording, high_by_wording = map(float, re.findall(r"[+-][\d.]+", row["gap"]))
        assert [float(row["cached"]), float(row["uncached"]), gap] == pytest.approx(
            [average["cached"], average["uncached"], average["gap"]], abs=5.1e-5
        )
        assert float(row["letter mass"]) == pytest.approx(average["letter_mass"], abs=5.1e-4)
        assert low <= gap <= high
        assert low_by_wording <= gap <= high_by_wording
    assert rows["placebo"]["gap"].startswith("+0.0000 [+0.0000, +0.0000]")
    assert rows["real"]["clean receipts"] == "100%"


def test_the_comparisons_are_those_of_the_statistics(log: EvalLog):
    """Each primary comparison that the arms allow, with its difference, its p and the effect that could be found."""
    rows = by_name(introspection_tables(log)["comparisons"], "comparison")
    effects = {effect["comparison"]: effect for effect in primary_effects(scored_table(log))}
    assert list(rows) == list(effects) == ["real", "real - random", "real - other"]
    for name, row in rows.items():
        assert float(row["difference"].split()[0]) == pytest.approx(effects[name]["difference"], abs=5.1e-5)
        assert (row["pairs"], row["vectors"]) == ("20", "10")
        assert float(row["found with 80 % power"]) == pytest.approx(effects[name]["detectable"], abs=5.1e-5)
        assert row["p (Holm)"] == "<0.001" or float(row["p (Holm)"]) == pytest.approx(
            effects[name]["p_holm"], abs=5.1e-4
        )


def test_the_printed_page_says_chance_identification_rank_power_and_cost(log: EvalLog):
    """Everything of one log on one page."""
    page = introspection_table(log)
    assert "among 5 (chance 0.20)" in page
    assert re.findall(r"^(real|placebo|random|other) +20 ", page, re.MULTILINE) == list(ARMS)
    assert "Of 3 random directions, 0 have a mean gap at least as large as the real one (p 0.250)." in page
    # Two readings in three arms of twenty, four in the random one.
    assert "Tokens computed: 2,000; every reading alone would take 8,000 (0.25)." in page
    assert "found with 80 % power" in page
    assert "unscored" not in page


def test_a_log_carries_a_few_headlines_whose_names_say_what_they_are(log: EvalLog):
    """The real arm's gap comes first, its interval is that of the table, and nothing is NaN."""
    found = headlines(log)
    names = ["gap_real", "gap_real_lower", "gap_real_upper", "gap_random", "gap_placebo", "recognition_corrected"]
    assert list(found) == names
    assert not any(map(math.isnan, found.values()))
    gap = figures(log, "gap")
    assert [found[name] for name in names[:3]] == [gap["real"], gap["real_lower"], gap["real_upper"]]


def test_a_score_that_some_questions_do_not_allow_is_averaged_over_the_others(tmp_path: Path):
    """With one distractor a question has a near or a far one, and never both."""
    log = run_offline(hand_made_task(arm="real", options=2), tmp_path)
    (row,) = introspection_tables(log)["arms"]
    for column in ("near", "far"):
        of = [s.scores["introspection_scorer"].value[f"gap_{column}"] for s in log.samples]
        known = [value for value in of if not math.isnan(value)]
        assert 0 < len(known) < len(of)
        assert float(row[column]) == pytest.approx(sum(known) / len(known), abs=5.1e-5)


def test_epochs_are_scored_where_a_score_is_no_number(tmp_path: Path):
    """The questions are asked again, and all readings count."""
    log = run_offline(hand_made_task(arm="real"), tmp_path, epochs=2)
    assert by_name(introspection_tables(log)["arms"], "arm")["real"]["n"] == "20"
    gap = figures(log, "gap")
    assert gap["real"] == pytest.approx(
        sum(s.scores["introspection_scorer"].value["gap"] for s in log.samples) / len(log.samples)
    )


def test_unscored_samples_count_in_no_mean_and_no_n(tmp_path: Path):
    """An arm's row counts the samples that were scored, and a note says how many were not."""
    log = run_offline(hand_made_task(without="honest", arm="real"), tmp_path)
    (row,) = introspection_tables(log)["arms"]
    assert row["n"] == "9"
    assert "1 samples are unscored and count nowhere" in introspection_table(log)


# ---------------------------------------------------------------- the command


def test_the_command_prints_the_table_of_a_log(log: EvalLog, capsys: pytest.CaptureFixture):
    """The page, and how to read the transcripts of that very folder."""
    assert self_steering_command(["table", log.location]) == 0
    printed = capsys.readouterr().out
    assert introspection_table(log) in printed
    assert f"--log-dir {Path(log.location).parent}" in printed


def test_the_command_takes_the_newest_log_by_default(log: EvalLog, tmp_path: Path, monkeypatch, capsys):
    """Without a log's name, it is the newest in `logs/`; without any, the message says how to make one."""
    monkeypatch.chdir(tmp_path)
    assert self_steering_command(["table"]) == 1
    assert "no log in logs/; run `inspect eval" in capsys.readouterr().err
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / Path(log.location).name).write_bytes(Path(log.location).read_bytes())
    assert self_steering_command(["table"]) == 0
    assert "--log-dir logs\n" in capsys.readouterr().out


def test_the_command_writes_the_tables(log: EvalLog, tmp_path: Path):
    """One CSV file a table, row by row what the tables hold; the confusion matrix counts every corrected answer."""
    assert self_steering_command(["table", log.location, "--csv", str(tmp_path / "new")]) == 0
    tables = introspection_tables(log)
    assert {path.stem for path in (tmp_path / "new").iterdir()} == set(tables)
    for name, rows in tables.items():
        with (tmp_path / "new" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            assert list(csv.DictReader(file)) == rows
    for arm in ARMS:
        counted = sum(int(row["questions"]) for row in tables["confusion"] if row["arm"] == arm)
        assert counted == identify(scored_table(log).query("arm == @arm")["answered"].tolist()).n_corrected > 0


@pytest.mark.parametrize("status", ["started", "cancelled", "error"])
def test_an_unfinished_log_is_refused(status: str, log: EvalLog, tmp_path: Path, capsys):
    """Half a result is none: the message says how to finish it."""
    path = str(tmp_path / "log.eval")
    write_eval_log(log.model_copy(update={"status": status}), path)
    assert self_steering_command(["table", path]) == 1
    said = capsys.readouterr()
    assert f"is not finished (status {status}); finish it with `inspect eval-retry`" in said.err
    assert said.out.strip() == ""


@scorer(metrics=[mean()])
def always_right():
    """Score every sample 1."""

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=1)

    return score


def test_another_experiments_log_is_shown_by_its_metrics(tmp_path: Path, capsys):
    """Its scores' metrics are printed as they are; there are no introspection tables to write of it."""
    dataset = MemoryDataset([Sample(input="i", metadata={"arm": "real", "vector": "calm"})])
    foreign = run_offline(Task(dataset=dataset, solver=[], scorer=always_right()), tmp_path)
    assert self_steering_command(["table", foreign.location]) == 0
    assert metrics_table(foreign) in (printed := capsys.readouterr().out)
    assert re.search(r"^always_right +mean +1\.0000 +1 of 1$", printed, re.MULTILINE)
    assert self_steering_command(["table", foreign.location, "--csv", str(tmp_path / "csv")]) == 1
    assert "--csv writes the tables of an introspection log" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no scored introspection sample"):
        introspection_tables(foreign)


@pytest.mark.parametrize("name", ["absent.eval", "torn.eval"])
def test_a_file_that_is_no_log_is_refused(name: str, tmp_path: Path, capsys):
    """A file that is missing or torn ends in one line."""
    (tmp_path / "torn.eval").write_bytes(b"PK\x03\x04 torn")
    assert self_steering_command(["table", str(tmp_path / name)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("self-steering: ")
