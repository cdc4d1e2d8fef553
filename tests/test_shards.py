"""Sweeps over several engines: every sample once, the same mix in each, shards that resume, and logs that are read as one."""

import re
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from inspect_ai import eval_retry
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log, write_eval_log

from self_steering.analysis.cli import main
from self_steering.analysis.tables import read_tables
from self_steering.evals.shards import block_of, deal
from self_steering.evals.sweep import Planned, condition_of, planned, read_presets
from tests.support.scripted import Tiny

pytestmark = pytest.mark.slow

GRIDS = """
[two]
about = "two evals with the same ids, and one of another task"
[[two.evals]]
task = "introspection"
parameters = { vectors = "calm,anxious,honest", arm = "real,placebo", options = 2, rotations = 1 }
grid = { primer = ["none", "lorem"] }
[[two.evals]]
task = "freeplay"
parameters = { framing = "drugs", vectors = "calm,anxious", rollouts = 2, turns = 1, max_tokens = 4 }
"""
SHARDS = 2


@pytest.fixture(scope="module")
def study() -> list[Planned]:
    """The evals of the study's grid."""
    return planned(read_presets()["study"])


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a small grid."""
    file = tmp_path_factory.mktemp("grids") / "grids.toml"
    file.write_text(GRIDS)
    return file


@pytest.fixture(scope="module")
def sweep(grids: Path, tiny: Tiny):
    """Run the command on the tiny model in a folder; returns its exit code."""

    def run(folder: Path, *arguments: object) -> int:
        options = ("--grids", grids, "--model", str(tiny.model), "--library", tiny.library, "--log-dir", folder)
        return main(["sweep", "two", *map(str, options), "--display", "none", *map(str, arguments)])

    return run


@pytest.fixture(scope="module")
def both(sweep, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small grid in one piece, and in two shards: the folders of their logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSPECT_DISPLAY", "none")
        root = tmp_path_factory.mktemp("sweeps")
        assert sweep(root / "whole") == 0
        for number in range(1, SHARDS + 1):
            assert sweep(root / "dealt", "--shard", f"{number}/{SHARDS}") == 0
    return root / "whole", root / "dealt"


def logs(folder: Path) -> list[EvalLog]:
    return [read_eval_log(info.name) for info in list_eval_logs(str(folder))]


def ids(evals: list[Planned]) -> Counter:
    """Return how often each sample of each eval is there."""
    return Counter((one.name, one.parameters.get("primer"), sample.id) for one in evals for sample in one.dataset)


@pytest.mark.parametrize("shards", [2, 7, 64])
def test_every_sample_of_the_study_is_in_exactly_one_shard(study: list[Planned], shards: int):
    """The union over all shards is the sweep: the same ids of the same evals, none twice."""
    shares = deal(study, shards).shares
    assert ids(list(chain(*shares))) == ids(study)
    assert max(ids(list(chain(*shares))).values()) == 1


@pytest.mark.parametrize("shards", [7, 16])
def test_shares_have_the_same_mix_of_conditions(study: list[Planned], shards: int):
    """In no condition of a task has a shard more than one question over another shard; nor more samples than 3 % over its part."""
    shares = deal(study, shards).shares
    for task in {one.name for one in study}:
        cells = [sum((one.cells for one in share if one.name == task), Counter()) for share in shares]
        questions = {
            (condition, number): {
                block_of(sample)
                for one in share
                if one.name == task
                for sample in one.dataset
                if condition_of(sample) == condition
            }
            for number, share in enumerate(shares)
            for condition in set().union(*cells)
        }
        for condition in set().union(*cells):
            counts = [len(questions[condition, number]) for number in range(shards)]
            assert max(counts) - min(counts) <= 1, (task, condition)
    sizes = [sum(one.samples for one in share) for share in shares]
    assert max(sizes) <= 1.03 * sum(sizes) / shards


def test_arms_of_one_question_stay_together(study: list[Planned]):
    """Samples that differ in arm (and its dose) alone are on one shard, whatever the task."""
    place: dict[tuple, set[int]] = {}
    arms: dict[tuple, set[str]] = {}
    for number, share in enumerate(deal(study, 8).shares):
        for one in share:
            for sample in one.dataset:
                block = (one.name, block_of(sample))
                place.setdefault(block, set()).add(number)
                arms.setdefault(block, set()).add(sample.metadata["arm"])
    assert all(len(numbers) == 1 for numbers in place.values())
    of_task: dict[str, set[frozenset]] = {}
    for (task, _), found in arms.items():
        of_task.setdefault(task, set()).add(frozenset(found))
    assert of_task["freeplay"] == of_task["frustration"] == {frozenset({"real", "placebo"})}
    assert of_task["maths"] == {frozenset({"real", "placebo"}), frozenset({"none"})}
    assert of_task["localisation"] == {frozenset({"real", "placebo", "random"})}
    assert of_task["detection"] == {frozenset({"real", "placebo", "random", "tampered"})}
    assert {len(found) for found in of_task["introspection"]} == {7}


def test_the_same_grid_is_dealt_in_the_same_way(study: list[Planned]):
    """Nodes that deal on their own agree; another number of shards is another deal."""
    again = planned(read_presets()["study"])
    first, second = (deal(some, 8) for some in (study, again))
    assert [ids(share) for share in first.shares] == [ids(share) for share in second.shares]
    assert first.digest == second.digest != deal(study, 7).digest


def test_shards_run_what_the_sweep_runs_with_the_same_seeds(both: tuple[Path, Path]):
    """Same samples in the same condition, same seeds, same text and the same scores as in one piece."""
    whole, dealt = (
        {
            (log.eval.task, log.eval.task_args.get("primer"), sample.id): (
                sample.metadata,
                [message.text for message in sample.messages],
                {name: score.value for name, score in sample.scores.items() if "token" not in str(score.value)},
            )
            for log in logs(folder)
            for sample in log.samples
        }
        for folder in both
    )
    assert len(whole) == 2 * 6 + 4
    assert whole == dealt
    assert {path.name for path in both[1].iterdir()} == {"shards.toml", "shard-1-of-2", "shard-2-of-2"}


def figures(tables) -> dict:
    """Return what tables hold, without where it is from and what chance of the cache decides."""
    apart = ["log", "rollout", "computed_tokens", "reused"]
    found = {}
    for name in ("rollouts", "scores", "takes", "readouts", "receipts"):
        table = getattr(tables, name)
        table = table[~table["score"].isin({"computed_tokens"})] if name == "scores" else table
        kept = table.drop(columns=[column for column in apart if column in table])
        found[name] = sorted(map(repr, kept.to_dict("records")))
    return found


def test_the_tables_of_all_shards_are_those_of_the_whole(both: tuple[Path, Path]):
    """Read together, nothing tells shards from one log: what a report counts and tests is the same."""
    whole, dealt = map(read_tables, both)
    assert figures(whole) == figures(dealt)
    assert list(dealt.left_out["reason"]) == []
    assert sorted(dealt.logs["shard"].unique()) == ["1/2", "2/2"]
    assert set(whole.logs["shard"]) == {""}


def test_a_shard_that_is_missing_is_told(both: tuple[Path, Path]):
    """Tables of a part say of which eval how many samples are not there."""
    reasons = list(read_tables(both[1] / "shard-1-of-2").left_out["reason"])
    assert len(reasons) == 3
    assert any(
        re.match(r"[1-3] of the 4 samples of freeplay, .* over 2 engines \(shards 1/2\)", one) for one in reasons
    )


def shown(capsys: pytest.CaptureFixture, *paths: object) -> list[str]:
    """Return the tables that the command prints, without the cost, which depends on who shared a cache."""
    assert main(["table", *map(str, paths)]) == 0
    parts = capsys.readouterr().out.split("\n\n")
    cost = re.compile(r"Tokens computed|Read every")
    lines = [line for part in parts for line in part.splitlines() if not cost.search(line)]
    return [line for line in lines if "computed_tokens" not in line]


def test_table_pools_shards(both: tuple[Path, Path], capsys: pytest.CaptureFixture):
    """Arms, comparisons, intervals and every metric are those of the whole, computed again over all samples."""
    whole, dealt = (sorted(shown(capsys, folder)) for folder in both)
    assert whole == dealt
    assert any(line.startswith("takes ") for line in whole)


def test_the_table_of_one_shard_says_that_it_is_a_part(both: tuple[Path, Path], capsys: pytest.CaptureFixture):
    """Its figures are not passed off as the whole's; the newest log in logs/ brings its other shards along."""
    one = "\n".join(shown(capsys, both[1] / "shard-2-of-2"))
    assert len(re.findall(r"Only \d of the \d samples of .* \(shards 2/2\)", one)) == 3


def test_without_a_name_the_newest_eval_is_shown_with_all_its_shards(
    both: tuple[Path, Path], capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch
):
    """The newest log in logs/ is a shard: its other shards are found beside it."""
    (tmp_path / "logs").symlink_to(both[1])
    monkeypatch.chdir(tmp_path)
    said = "\n".join(shown(capsys))
    assert "Only" not in said
    assert "4 of 4" in said


def test_the_same_sample_in_two_shards_is_refused(both: tuple[Path, Path], capsys, tmp_path: Path):
    """Two copies of a shard under two names would count twice."""
    log = next(log for log in logs(both[1]) if log.eval.task.endswith("freeplay"))
    for shard in ("1/2", "2/2"):
        log.eval.metadata["sweep_shard"]["shard"] = shard
        write_eval_log(log, tmp_path / f"{shard[0]}.eval")
    assert main(["table", str(tmp_path)]) == 1
    assert "hold the same sample twice" in capsys.readouterr().err


def test_a_shard_goes_on_where_it_stopped(both: tuple[Path, Path], sweep, capsys: pytest.CaptureFixture, monkeypatch):
    """Run again, a finished shard runs nothing and keeps its logs."""
    monkeypatch.setenv("INSPECT_DISPLAY", "none")
    before = {log.location: [sample.uuid for sample in log.samples] for log in logs(both[1])}
    assert sweep(both[1], "--shard", "1/2") == 0
    assert {log.location: [sample.uuid for sample in log.samples] for log in logs(both[1])} == before


def test_a_retry_of_a_shard_is_of_the_shard(both: tuple[Path, Path], tiny: Tiny, tmp_path: Path):
    """`inspect eval-retry` runs the shard's samples and none of the others', and the log stays a shard's."""
    log = next(log for log in logs(both[1] / "shard-1-of-2") if log.eval.task.endswith("freeplay"))
    kept = log.samples[1:]
    log.samples, log.status = kept, "cancelled"
    place = tmp_path / "cancelled.eval"
    write_eval_log(log, place)
    (again,) = eval_retry(str(place), log_dir=str(tmp_path), display="none")
    assert {s.id for s in read_eval_log(again.location).samples} == set(again.eval.dataset.sample_ids)
    assert len(again.eval.dataset.sample_ids) == len(kept) + 1 < 4
    assert again.eval.metadata["sweep_shard"] == log.eval.metadata["sweep_shard"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "0/8"], "--shard 0/8: give K/N, the K-th of N shards, K from 1 to N, such as 1/8"),
        (["--shard", "9/8"], "--shard 9/8: give K/N"),
        (["--shard", "1/0"], "--shard 1/0: give K/N"),
        (["--shard", "x"], "--shard x: give K/N"),
        (["--shard", ""], "--shard : give K/N"),
        (["--shard", "1/99"], "the sweep has 5 blocks of samples; choose a number from 1 to 5"),
        (["--shard", "1/2", "--limit", "1"], "cut the grid with --only or -T instead"),
    ],
)
def test_shards_that_are_none_are_refused(sweep, arguments: list[str], said: str, capsys, tmp_path: Path):
    """One line, before anything is run or written."""
    assert sweep(tmp_path / "logs", *arguments) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("folder", "arguments", "said"),
    [
        ("dealt", ["--shard", "1/3"], "is dealt over 2 shards; go on with K/2, or name another --log-dir"),
        (
            "dealt",
            ["--shard", "1/2", "-T", "seed=1"],
            "was dealt from another grid: give the same preset, -T and --only",
        ),
        ("dealt", [], "holds a sweep in shards (shards.toml); go on with --shard, or name another --log-dir"),
        ("whole", ["--shard", "1/2"], "go on without --shard, or name another --log-dir"),
    ],
)
def test_a_folder_holds_one_deal(
    both: tuple[Path, Path], sweep, folder: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture
):
    """Another number of shards, another grid, or the whole beside shards would run samples twice: refused, with the remedy."""
    root = dict(zip(("whole", "dealt"), both, strict=True))[folder]
    assert sweep(root, *arguments) == 1
    assert said in capsys.readouterr().err


def test_a_note_that_is_broken_is_named(sweep, capsys: pytest.CaptureFixture, tmp_path: Path):
    """The folder's note is data: what it does not say is an error that names it."""
    (tmp_path / "shards.toml").write_text("shards = 2\n")
    assert sweep(tmp_path, "--shard", "1/2") == 1
    assert "does not say how the sweep was dealt" in capsys.readouterr().err


def test_a_dry_run_shows_a_shards_share(sweep, capsys: pytest.CaptureFixture, tmp_path: Path):
    """Its evals, its cells, and its samples of all."""
    assert sweep(tmp_path / "logs", "--shard", "2/2", "--dry-run") == 0
    assert re.search(r"shard 2/2: \d+ of 16 samples, \d\d\.\d%", capsys.readouterr().out)
    assert not (tmp_path / "logs").exists()
