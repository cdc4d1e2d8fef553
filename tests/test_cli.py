"""The command `self-steering vectors build`, from stories to a library that the model accepts."""

import json
from pathlib import Path

import pytest
import torch

from self_steering.steering.models import load_model
from self_steering.vectors.cli import main
from self_steering.vectors.library import load_library
from tests.models import save_tiny_model
from tests.small_library import STATES, small_stories


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


def build(model: Path | str, out: Path, stories: Path, *more: str) -> int:
    return main(["vectors", "build", "--model", str(model), "--out", str(out), "--stories", str(stories), *more])


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3"])
def test_a_library_is_built_for_a_model_from_its_folder(
    architecture: str, tmp_path: Path, stories: Path, capsys: pytest.CaptureFixture
):
    """All states of the stories folder become vectors at the default layers, bound to this model's weights."""
    model = save_tiny_model(tmp_path / "model", architecture)
    assert build(model, tmp_path / "made" / "library", stories) == 0
    library = load_library(tmp_path / "made" / "library", load_model(str(model)).fingerprint)
    assert sorted(library.vectors) == sorted(STATES)
    assert library.card.layers == [3, 4]
    assert "4 vectors for" in capsys.readouterr().out


@pytest.mark.parametrize(("layers", "meant"), [("1,4", [1, 4]), ("1-3", [1, 2, 3])])
def test_options_reach_the_library(layers: str, meant: list[int], tmp_path: Path, tiny: Path, stories: Path):
    """States, layers (a range includes both ends), construction and dose are the ones that were asked for."""
    options = ["--states", "calm, honest", "--layers", layers, "--construction", "difference", "--default-dose", "2.5"]
    assert build(tiny, tmp_path, stories, *options) == 0
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["default_doses"] == {"calm": 2.5, "honest": 2.5}
    assert (card["layers"], card["construction"], card["model"]) == (meant, "difference", str(tiny))


def test_the_vectors_are_those_of_the_weights_in_another_precision(tmp_path: Path, tiny: Path, stories: Path):
    """In bfloat16 the same model gives nearly the same directions, and a library that fits it in float32 too."""
    assert build(tiny, tmp_path / "full", stories) == 0
    assert build(tiny, tmp_path / "half", stories, "--dtype", "bfloat16") == 0
    fingerprint = load_model(str(tiny)).fingerprint
    full, half = (load_library(tmp_path / name, fingerprint).vectors for name in ("full", "half"))
    for name, vector in full.items():
        assert (torch.nn.functional.cosine_similarity(vector, half[name]) > 0.9).all()
        assert not torch.equal(vector, half[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "./nowhere"], "nowhere is no model folder: it has no config.json"),
        (["--model", "{torn}"], "cannot be loaded"),
        (["--stories", "./nowhere"], "does not exist; write it"),
        (["--states", "calm,soma"], "soma.toml does not exist; write it, or leave this state out"),
        (["--states", "calm,calm"], "states named twice: calm; name each state once"),
        (["--states", "calm"], "use `difference` for one"),
        (["--layers", "4-7"], "layers [6, 7] are not in the model; it has 0 to 5"),
        (["--layers", "3,3"], "name one twice; name each layer once"),
        (["--dtype", "float8"], "dtype 'float8' is unknown; choose one of float32"),
        (["--default-dose", "nan"], "choose a finite number"),
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
    (tmp_path / "file").write_text("kept")
    filled = [option.format(file=tmp_path / "file", torn=torn) for option in options]
    assert build(tiny, tmp_path / "library", stories, *filled) == 1
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("self-steering: ")
    assert message in last
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("layers", ["x", "3-", "5-4", "1;2", ""])
def test_layers_that_cannot_be_read_are_refused_with_an_example(
    layers: str, tmp_path: Path, tiny: Path, stories: Path, capsys: pytest.CaptureFixture
):
    """A wrong word on the command line is answered before anything is loaded."""
    with pytest.raises(SystemExit) as stopped:
        build(tiny, tmp_path / "library", stories, "--layers", layers)
    assert stopped.value.code == 2
    assert f"{layers!r} names no layers; write a range such as 13-20" in capsys.readouterr().err
