"""Sweeps: what presets hold, what a command line changes in them, and a run that goes on where it stopped."""

from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from self_steering.analysis.cli import main
from self_steering.evals.sweep import read_presets
from tests.support.scripted import Tiny, says

GRIDS = """
[two]
about = "two evals of a task without generation, and one of another"
[[two.evals]]
task = "introspection"
parameters = { vectors = "calm,anxious", arm = "real,placebo", options = 2, rotations = 1 }
grid = { primer = ["none", "lorem"] }
[[two.evals]]
task = "freeplay"
parameters = { framing = "drugs", rollouts = 3, turns = 2, max_tokens = 6 }
"""


@pytest.fixture
def grids(tmp_path: Path) -> Path:
    """A file with a small grid."""
    file = tmp_path / "grids.toml"
    file.write_text(GRIDS)
    return file


def sweep(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run the command, which must succeed, and return what it says."""
    code = main(["sweep", *map(str, arguments)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run the command, which must fail with one line, and return the line."""
    assert main(["sweep", *map(str, arguments)]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("self-steering: ")
    return said


def logs(folder: Path) -> dict[str, tuple]:
    return {
        Path(info.name).name: (log.status, log.eval.task.rpartition("/")[2], [s.uuid for s in log.samples])
        for info in list_eval_logs(str(folder))
        for log in [read_eval_log(info.name)]
    }


# The study's own, slow to make, is below.
@pytest.mark.parametrize("name", [name for name in read_presets() if name != "study"])
def test_every_preset_that_ships_is_accepted_by_its_tasks(name: str, capsys: pytest.CaptureFixture):
    """All tasks, parameters and values exist."""
    assert "evals, " in sweep(capsys, name, "--dry-run")


def test_the_studys_cells_are_all_there(capsys: pytest.CaptureFixture):
    """Free play has 60 rollouts in each framing and arm; maths and frustration have every framing, intent, tone and kind."""
    lines = [line.split() for line in sweep(capsys, "study", "--dry-run").splitlines() if line.startswith(" ")]
    said = {cell: int(samples) for samples, cell in lines}
    for framing in ("drugs", "aids", "vectors"):
        for arm in ("real", "placebo"):
            assert said[f"{framing}/{arm}/neutral/unsaid"] == 60
            assert all(said[f"{framing}/{arm}/{intent}"] for intent in ("neutral", "helpful", "mandatory"))
            for tone in ("neutral", "aggressive", "sarcastic", "disappointed"):
                assert all(said[f"{framing}/{arm}/neutral/{tone}/{possible}"] for possible in ("True", "False"))
    assert said["none/none/none"] == 25
    assert {cell.split("/")[-1] for cell in said} >= {"none", "introspection", "length_matched"}


def test_a_dry_run_shows_what_would_be_run_and_writes_nothing(
    grids: Path, capsys: pytest.CaptureFixture, tmp_path: Path
):
    """Each combination of a grid is an eval; cells and samples are counted."""
    said = sweep(
        capsys, "two", "--grids", grids, "--dry-run", "--log-dir", tmp_path / "logs", "-T", "freeplay.rollouts=5"
    )
    assert "rollouts=5" in said
    assert "5 drugs/placebo/neutral/unsaid" in said
    assert said.count("introspection (") == 2
    assert said.strip().endswith("3 evals, 18 samples")
    assert not (tmp_path / "logs").exists()


def test_overrides_and_cuts(grids: Path, capsys: pytest.CaptureFixture):
    """A value for one task wins over one for all, one for a grid's parameter takes the grid's place, and tasks can be left out."""
    both = ("-T", "freeplay.seed=2", "-T", "seed=1", "-T", "primer=none")
    said = sweep(capsys, "two", "--grids", grids, "--dry-run", *both)
    assert "seed=1, primer=none" in said
    assert "max_tokens=6, seed=2" in said
    assert said.strip().endswith("2 evals, 10 samples")
    assert "freeplay" not in sweep(capsys, "two", "--grids", grids, "--dry-run", "--only", "introspection")


def test_presets_are_listed(grids: Path, capsys: pytest.CaptureFixture):
    """Without a name the command tells which grids there are."""
    assert "small: " in sweep(capsys)
    assert sweep(capsys, "--grids", grids).startswith("two: two evals")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["three"], "'three' is unknown; choose from two"),
        (["two", "-T", "rollout=2"], "no parameter 'rollout'; choose from arm, "),
        (["two", "-T", "freeplay.primer=none"], "no parameter 'primer'; choose from arm, "),
        (["two", "-T", "maths.rollouts=2"], "the task one of introspection, freeplay"),
        (["two", "-T", "rollouts"], "give NAME=VALUE or TASK.NAME=VALUE"),
        (["two", "-T", "framing=drug"], "framing='drug' is unknown; choose from drugs, aids, vectors"),
        (["two", "--only", "maths"], "no such task; choose from introspection, freeplay"),
        (["two", "-M", "dtype", "--log-dir", "{folder}"], "-M dtype: give NAME=VALUE"),
        (["two", "--library", "nowhere"], "no library folder 'nowhere'"),
    ],
)
def test_mistakes_are_named_with_what_can_be_chosen(
    grids: Path, arguments: list[str], said: str, capsys, tmp_path: Path
):
    """One line, before anything is run."""
    given = [part.format(folder=tmp_path / "logs") for part in arguments]
    assert said in refused(capsys, *given, "--grids", grids)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nabout = 'x'\n[[a.evals]]\ntask = 'mathz'", "the task 'mathz', which is unknown; choose from freeplay"),
        (
            "[a]\nabout = 'x'\n[[a.evals]]\ntask = 'maths'\ngrid = {tone = ['x']}",
            "maths has no parameter 'tone'; choose from",
        ),
        ("[a]\nabout = 'x'\n[[a.evals]]\ntask = 'maths'\nparams = {}", "evals.0.params: Extra inputs"),
        ("[a]\nabout = 'x'\nevals = []", "at least 1 item"),
        ("[a", "not TOML"),
    ],
)
def test_broken_grids_are_named(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    """The line says which file, where in it, and what is valid."""
    file = tmp_path / "broken.toml"
    file.write_text(text)
    assert said in refused(capsys, "a", "--dry-run", "--grids", file)


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_stopped(
    grids: Path, tiny: Tiny, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch
):
    """What failed is run again by the same command; what was finished is not, and its logs stay as they were."""
    monkeypatch.setenv("INSPECT_DISPLAY", "none")
    folder = tmp_path / "logs"
    broken = tmp_path / "broken"

    def script(messages: list, tools: list) -> object:
        if not any(tool.name == "end_session" for tool in tools):
            return None  # not free play
        if broken.exists():
            raise RuntimeError("injected")
        return says("I am done.", ("end_session", {}))

    monkeypatch.setattr(type(tiny.model.api), "script", staticmethod(script))
    more = ("-T", "vectors=calm,anxious", "--library", tiny.library, "--log-dir", folder, "--display", "none")
    command = ("two", "--grids", grids, "--model", str(tiny.model), *more)
    broken.touch()
    assert "1 of 3 evals did not finish (freeplay)" in refused(capsys, *command)
    first = {name: log for name, log in logs(folder).items() if log[0] == "success"}
    assert sorted(task for _, task, _ in first.values()) == ["introspection", "introspection"]
    broken.unlink()
    assert "all 3 evals are finished" in sweep(capsys, *command)
    second = logs(folder)
    assert {name: second[name] for name in first} == first
    assert sorted(task for status, task, _ in second.values() if status == "success") == [
        "freeplay",
        *["introspection"] * 2,
    ]
    sweep(capsys, *command)
    assert logs(folder) == second
