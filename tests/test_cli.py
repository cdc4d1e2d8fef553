"""The command `self-steering vectors build`, from stories to a library that the model accepts."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from self_steering.analysis.cli import main
from self_steering.steering.models import load_model
from self_steering.vectors.card import NEUTRAL_FILE, LibraryError
from self_steering.vectors.library import content_hash, load_library
from self_steering.vectors.making.calibration import GRID, Prober, probes
from self_steering.vectors.making.corpus import NEUTRAL, load_corpus
from self_steering.vectors.making.layers import Preset, presets
from self_steering.vectors.report import read_report
from tests.support.models import plain_reading, save_tiny_model
from tests.support.small_library import STATES, small_stories

pytestmark = pytest.mark.slow

UNCALIBRATED = ("--default-dose", "0.6")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), "qwen3")


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A folder with a model's configuration and no weights."""
    folder = tmp_path_factory.mktemp("torn")
    (folder / "config.json").write_text((tiny / "config.json").read_text())
    return folder


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four states in two settings."""
    return small_stories(tmp_path_factory.mktemp("stories"))


def command(model: Path | str, out: Path, stories: Path, *more: str) -> int:
    return main(["vectors", "build", "--model", str(model), "--out", str(out), "--stories", str(stories), *more])


def build(model: Path | str, out: Path, stories: Path, *more: str) -> int:
    """Run the command with a fixed default dose, which takes no generating."""
    return command(model, out, stories, *UNCALIBRATED, *more)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny: Path, stories: Path) -> Path:
    """The folder of the tiny model's library, not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "library"
    assert build(tiny, folder, stories) == 0
    return folder


def test_a_library_is_built_for_a_model_and_refused_by_another(
    tmp_path: Path, library: Path, stories: Path, capsys: pytest.CaptureFixture
):
    """All states of the stories folder become vectors at the default layers, bound to this model's weights."""
    model = save_tiny_model(tmp_path / "model", "gemma3")
    fingerprint = load_model(str(model)).fingerprint
    assert build(model, tmp_path / "made" / "library", stories) == 0
    assert "4 vectors for" in capsys.readouterr().out
    made = load_library(tmp_path / "made" / "library", fingerprint)
    assert sorted(made.vectors) == sorted(STATES)
    assert made.card.layers == [3, 4]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["library"]
    held = ["card.json", "neutral.safetensors", "report.html", "report.json", "vectors.safetensors"]
    assert sorted(contents(library)) == held
    with pytest.raises(LibraryError, match=r"not for this model .*self-steering vectors build"):
        load_library(library, fingerprint)


def test_a_calibrated_library_has_its_doses_from_the_record(
    tmp_path: Path, tiny: Path, stories: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a default dose each is found on the shipped prompts, and the report shows what it does."""
    monkeypatch.setattr("self_steering.vectors.making.build.Prober", partial(Prober, max_tokens=20))
    out = tmp_path / "library"
    assert command(tiny, out, stories, "--states", "calm", "--construction", "difference") == 0
    library, report = load_library(out, load_model(str(tiny)).fingerprint), read_report(out)
    assert library.card.calibrated
    assert "calibration.json" in contents(out)
    assert report.calibration is not None
    found = report.calibration.vectors["calm"]
    assert json.loads((out / "calibration.json").read_text())["vectors"]["calm"]["dose"] == found.dose
    assert library.card.default_doses == {"calm": found.dose}
    assert report.calibration.prompts == list(probes().calibration)
    tried = [trial.dose for trial in found.trials]
    assert len(tried) == len(set(tried)) == 5
    assert found.dose in tried
    assert set(tried) <= set(GRID)
    effects = report.vectors["calm"].effects
    assert [effect.nominal for effect in effects] == [-1, 1, 2]
    assert [effect.trial.dose for effect in effects] == pytest.approx([n * found.dose for n in (-1, 1, 2)], abs=1e-4)
    answers = [report.unsteered, *(effect.answers for effect in effects)]
    assert {len(of_one) for of_one in answers} == {len(probes().report)}
    assert len({tuple(of_one) for of_one in answers}) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["library"]


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, tiny: Path, stories: Path, library: Path):
    """Every file, when the second library replaces the first."""
    shutil.copytree(library, tmp_path / "library")
    assert build(tiny, tmp_path / "library", stories) == 0
    assert contents(tmp_path / "library") == contents(library)
    assert len(contents(tmp_path)) == len(contents(library))


def test_a_library_that_lacks_the_neutral_mean_is_given_it(
    tmp_path: Path, tiny: Path, library: Path, capsys: pytest.CaptureFixture
):
    """That of the stories that ship, at its own layers; another model's is refused, and nothing else of it changes."""
    shutil.copytree(library, tmp_path / "library")
    made = load_library(tmp_path / "library")
    (tmp_path / "library" / NEUTRAL_FILE).unlink()
    other = save_tiny_model(tmp_path / "model", "gemma3")
    before = contents(tmp_path / "library")
    assert main(["vectors", "neutral", str(tmp_path / "library"), "--model", str(other)]) == 1
    assert "name its model" in capsys.readouterr().err
    assert contents(tmp_path / "library") == before
    assert main(["vectors", "neutral", str(tmp_path / "library"), "--model", str(tiny)]) == 0
    found = load_library(tmp_path / "library")
    assert found.card == made.card
    loaded = load_model(str(tiny))
    stories = [text for of_setting in load_corpus(states=[]).stories[NEUTRAL].values() for text in of_setting]
    read = [plain_reading(loaded.model, loaded.tokenizer(text)["input_ids"])[0] for text in stories]
    means = [torch.stack([outputs[layer][20:].mean(0) for layer in made.card.layers]) for outputs in read]
    assert torch.allclose(found.neutral, torch.stack(means).mean(0), atol=1e-4)


def test_what_the_card_describes_is_what_was_measured(library: Path):
    """Norms are those of the very vectors, faults those of the report, and hashes those of the files."""
    made, report = load_library(library), read_report(library)
    card = made.card
    for name, vector in made.vectors.items():
        assert card.norms[name] == pytest.approx(vector.norm(dim=-1).tolist(), abs=1e-4)
        assert [report.vectors[name].norms[layer] for layer in card.layers] == card.norms[name]
        assert card.faults.get(name, []) == report.vectors[name].faults
    assert card.faults, "a random model tells no state, and its library must say so"
    assert card.residual_norms == [report.residual_norms[layer] for layer in card.layers]
    assert (report.depth, report.stories, report.settings, report.corpus) == (6, 10, 2, card.corpus)
    assert report.calibration is None
    for name, expected in card.sha256.items():
        assert content_hash((library / name).read_bytes()) == expected


def test_options_reach_the_library(tmp_path: Path, tiny: Path, stories: Path):
    """States, layers (a range includes both ends), construction and dose are the ones that were asked for."""
    options = ["--states", "calm, honest", "--layers", "1-3", "--construction", "difference", "--default-dose", "2.5"]
    assert build(tiny, tmp_path, stories, *options) == 0
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["default_doses"] == {"calm": 2.5, "honest": 2.5}
    assert (card["layers"], card["construction"], card["model"]) == ([1, 2, 3], "difference", str(tiny))


@pytest.fixture
def fitting_preset(monkeypatch: pytest.MonkeyPatch) -> Preset:
    """A preset that fits the tiny model, beside the published ones."""
    preset = Preset(model="tiny/tiny", depth=6, layers=(2, 4), norm=3.0)
    known = {**presets(), "tiny": preset}
    for module in ("vectors.making.layers", "analysis.cli.vectors"):
        monkeypatch.setattr(f"self_steering.{module}.presets", lambda: known)
    return preset


def test_a_preset_scales_vectors_and_doses_as_published(
    tmp_path: Path, tiny: Path, stories: Path, fitting_preset: Preset
):
    """Its layers and norm, plain differences, and dose 1.0."""
    assert command(tiny, tmp_path / "library", stories, "--preset", "tiny") == 0
    library = load_library(tmp_path / "library")
    assert (library.card.layers, library.card.construction, library.card.scaled_to) == ([2, 3, 4], "difference", 3.0)
    assert set(library.card.default_doses.values()) == {1.0}
    assert build(tiny, tmp_path / "raw", stories, "--layers", "2-4", "--construction", "difference") == 0
    raw = load_library(tmp_path / "raw")
    for name, vector in library.vectors.items():
        assert vector.norm(dim=-1).tolist() == pytest.approx([3.0] * 3, rel=1e-5)
        assert torch.cosine_similarity(vector, raw.vectors[name], dim=-1).tolist() == pytest.approx([1.0] * 3)


# ------------------------------------------------------------ interruptions


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, tiny: Path, stories: Path) -> Path:
    """The folder of a build that stopped when all states but one had been read."""
    # Stories that are too short stop a build when their turn comes.
    tmp_path = tmp_path_factory.mktemp("stopped")
    broken = tmp_path / "broken"
    shutil.copytree(stories, broken)
    (broken / "honest.toml").write_text('[stories]\nferry = "too short"\nattic = "too short"\n')
    folder = tmp_path / "new"
    folder.mkdir()
    assert build(tiny, folder / "library", broken) == 1
    assert [path.name for path in folder.iterdir()] == [".library.work"]
    return folder


@pytest.fixture
def interrupted(tmp_path: Path, stopped: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(stopped, tmp_path / "new")


def test_a_build_that_goes_on_gives_what_one_without_interruption_gives(
    interrupted: Path, library: Path, tiny: Path, stories: Path
):
    """The same files; and the folder with what was saved on the way is gone."""
    assert build(tiny, interrupted / "library", stories) == 0
    assert contents(interrupted / "library") == contents(library)
    assert [path.name for path in interrupted.iterdir()] == ["library"]


def spoil(work: Path) -> None:
    """Make what was saved on the way recognisable: every number is another one."""
    for path in work.iterdir():
        save_file({"means": 2 * load_file(path)["means"]}, path)


def test_what_was_put_by_is_used_unless_asked_for_a_fresh_start(
    interrupted: Path, library: Path, tmp_path: Path, tiny: Path, stories: Path
):
    """Numbers that were changed between two builds are in the library, and with --fresh they are not."""
    spoil(interrupted / ".library.work")
    shutil.copytree(interrupted, tmp_path / "second")
    assert build(tiny, interrupted / "library", stories) == 0
    assert build(tiny, tmp_path / "second" / "library", stories, "--fresh") == 0
    assert contents(tmp_path / "second" / "library") == contents(library)
    mean = load_library(interrupted / "library").card.residual_norms[0]
    assert mean == pytest.approx(2 * load_library(library).card.residual_norms[0], rel=1e-3)
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["library"]


# ------------------------------------------------------------ mistakes


def test_the_vectors_are_those_of_the_weights_in_another_precision(
    tmp_path: Path, tiny: Path, stories: Path, library: Path
):
    """In bfloat16 the same model gives nearly the same directions, and a library that fits it in float32 too."""
    assert build(tiny, tmp_path / "half", stories, "--dtype", "bfloat16") == 0
    fingerprint = load_model(str(tiny)).fingerprint
    full, half = (load_library(folder, fingerprint).vectors for folder in (library, tmp_path / "half"))
    for name, vector in full.items():
        assert (torch.nn.functional.cosine_similarity(vector, half[name]) > 0.9).all()
        assert not torch.equal(vector, half[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "./nowhere"], "nowhere is no model folder: it has no config.json"),
        (["--model", "{torn}"], "cannot be loaded"),
        (
            ["--stories", "./nowhere"],
            "does not exist; name a folder of stories, a .parquet, .csv or .jsonl file, or a hub",
        ),
        (["--states", "calm,soma"], "soma.toml does not exist; write it, or leave this state out"),
        (["--states", "calm,calm"], "states named twice: calm; name each state once"),
        (["--states", "calm"], "use `difference` for one"),
        (["--construction", "denoised"], "needs neutral stories in 6 settings"),
        (["--preset", "qwen3-8b"], "the preset for Qwen/Qwen3-8B is for 36 layers, this model has 6; use --layers"),
        (["--default-dose", "0"], "choose a finite number"),
        (["--max-batch", "0"], "batches of 0 answers; choose 1 or more"),
        (["--out", "{folder}"], "holds files that are no vector library; name another folder"),
        (["--layers", "4-7"], "layers [6, 7] are not in the model; it has 0 to 5"),
        (["--layers", "3,3"], "name one twice; name each layer once"),
        (["--dtype", "float8"], "dtype 'float8' is unknown; choose one of float32"),
        (["--out", "{file}"], "is a file; name a folder"),
    ],
)
def test_a_mistake_ends_in_one_line_and_leaves_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    tiny: Path,
    torn: Path,
    stories: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """Exit code 1, the last line says what is wrong and what to do, and no library is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("kept")
    places = {"file": tmp_path / "folder" / "file", "folder": tmp_path / "folder", "torn": torn}
    filled = [option.format(**places) for option in options]
    assert build(tiny, tmp_path / "library", stories, *filled) == 1
    assert_one_line(capsys, message)
    assert contents(tmp_path) == {"folder/file": b"kept"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def assert_one_line(capsys: pytest.CaptureFixture, *messages: str) -> None:
    """Assert that the command ended in one line that says all this."""
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("self-steering: ")
    for message in messages:
        assert message in last
    assert captured.out == ""
    assert "Traceback" not in captured.err


def one_setting(folder: Path) -> None:
    (folder / "settings.toml").write_text('[settings]\nferry = "a place"\n')
    for path in folder.glob("*.toml"):
        if path.stem != "settings":
            path.write_text("\n".join(path.read_text().splitlines()[:2]))


def same_stories(folder: Path) -> None:
    for path in folder.glob("*.toml"):
        if path.stem not in {"settings", "neutral"}:
            path.write_text((folder / "neutral.toml").read_text())


SPOILT: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a state is missing": (lambda f: (f / "calm.toml").unlink(), ("calm.toml does not exist", "leave this state out")),
    "neutral is missing": (lambda f: (f / "neutral.toml").unlink(), ("neutral.toml does not exist", "write it")),
    "torn": (
        lambda f: (f / "calm.toml").write_text((f / "calm.toml").read_text()[:-9]),
        ("calm.toml cannot be read as TOML", "mend the file"),
    ),
    "a story is empty": (
        lambda f: (f / "calm.toml").write_text('[stories]\nferry = "water"\nattic = "  "\n'),
        ("calm.toml: missing or empty settings: attic", "write exactly one story"),
    ),
    "one setting only": (
        one_setting,
        ("1 setting; held-out figures need two at least", "write stories in more settings"),
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_stories_with_a_fault_end_in_one_line_and_leave_nothing(
    spoilt: str, tmp_path: Path, tiny: Path, stories: Path, capsys: pytest.CaptureFixture
):
    """The file and the remedy are named before the model reads anything, and nothing is saved or written."""
    change, messages = SPOILT[spoilt]
    folder = tmp_path / "stories"
    shutil.copytree(stories, folder)
    change(folder)
    assert build(tiny, tmp_path / "made" / "library", folder, "--states", ",".join(STATES)) == 1
    assert_one_line(capsys, *messages)
    assert [path.name for path in tmp_path.iterdir()] == ["stories"]


def test_states_that_tell_the_same_stories_have_no_vectors(
    tmp_path: Path, tiny: Path, stories: Path, capsys: pytest.CaptureFixture
):
    """A vector of zeros would be refused when it is loaded; so it is when it is made."""
    shutil.copytree(stories, tmp_path / "stories")
    same_stories(tmp_path / "stories")
    assert build(tiny, tmp_path / "library", tmp_path / "stories") == 1
    assert_one_line(capsys, "anxious, calm, golden_gate, honest are zero at some layer")
    assert not (tmp_path / "library").exists()


def test_a_library_that_is_there_survives_a_build_that_fails(
    tmp_path: Path, tiny: Path, stories: Path, library: Path, capsys: pytest.CaptureFixture
):
    """It is replaced by a finished one only."""
    shutil.copytree(library, tmp_path / "library")
    before = contents(tmp_path)
    assert build(tiny, tmp_path / "library", stories, "--layers", "9") == 1
    assert_one_line(capsys, "not in the model")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("layers", ["x", "3-", "5-4", "1;2", ""])
def test_layers_that_cannot_be_read_are_refused_with_an_example(
    layers: str, tmp_path: Path, tiny: Path, stories: Path, capsys: pytest.CaptureFixture
):
    """A wrong word on the command line is answered before anything is loaded."""
    with pytest.raises(SystemExit) as stopped:
        build(tiny, tmp_path / "library", stories, "--layers", layers)
    assert stopped.value.code == 2
    assert f"{layers!r} names no layers; write a range such as 13-20" in capsys.readouterr().err
