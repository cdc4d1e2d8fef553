"""A library's folder: written, read back, and refused where it is not what it should be."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from self_steering.vectors.card import LibraryCard, LibraryError, find_library, library_folder
from self_steering.vectors.library import Library, content_hash, load_library, serialised

VECTORS, CARD = "vectors.safetensors", "card.json"
FINGERPRINT = "weights of this model"


def make_library(seed: int = 0, **changes) -> Library:
    """Return a library of two random vectors."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {name: torch.randn(2, 8, generator=generator) for name in ("proud", "calm")}
    fields = {
        "model": "tiny",
        "revision": None,
        "fingerprint": FINGERPRINT,
        "hidden": 8,
        "layers": [1, 2],
        "construction": "centred",
        "skipped_tokens": 20,
        "corpus": "c",
        "norms": {name: vector.norm(dim=-1).tolist() for name, vector in vectors.items()},
        "residual_norms": [1.0, 2.0],
        "default_doses": dict.fromkeys(vectors, 0.6),
        "calibrated": False,
        "sha256": content_hash(serialised(vectors)),
    }
    return Library(LibraryCard(**{**fields, **changes}), vectors)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound library's folder, to be spoilt."""
    make_library().save(tmp_path / "library")
    return tmp_path / "library"


def replace_vectors(folder: Path, vectors: dict[str, torch.Tensor]) -> None:
    """Write other vectors with a card that has their hash."""
    save_file(vectors, folder / VECTORS)
    card = json.loads((folder / CARD).read_text())
    card["sha256"] = content_hash((folder / VECTORS).read_bytes())
    (folder / CARD).write_text(json.dumps(card))


def test_a_round_trip_gives_the_same_bytes(folder: Path, tmp_path: Path):
    """What is loaded equals what was saved, and saved again gives the same files, and no others."""
    loaded = load_library(folder, FINGERPRINT)
    assert loaded.card == make_library().card
    assert all(torch.equal(loaded.vectors[name], value) for name, value in make_library().vectors.items())
    loaded.save(tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [CARD, VECTORS]
    for file in (VECTORS, CARD):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_the_order_in_which_vectors_were_made_does_not_show():
    """The same vectors in another order are the same bytes."""
    vectors = dict(make_library().vectors)
    assert serialised(vectors) == serialised(dict(reversed(vectors.items())))


def test_names_are_in_the_catalogues_order(folder: Path):
    """Whatever order a file has, calm comes before proud as in the catalogue."""
    assert load_library(folder).names == ["calm", "proud"]


def test_saving_over_a_library_replaces_it(folder: Path):
    """The second library is what is read back."""
    other = make_library(seed=1)
    other.save(folder)
    assert torch.equal(load_library(folder).vector("calm"), other.vector("calm"))


def test_another_models_library_is_refused(folder: Path):
    """The message names both models and how to build the right library."""
    with pytest.raises(LibraryError, match=r"made for 'tiny' .* not for this model .*self-steering vectors build"):
        load_library(folder, "weights of another model")
    assert load_library(folder).names == ["calm", "proud"], "looking at a library needs no model"


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_torn_vectors_file_is_refused(folder: Path, kept: int):
    """Cut anywhere, the file is named with the remedy."""
    data = (folder / VECTORS).read_bytes()
    (folder / VECTORS).write_bytes(data[:kept])
    with pytest.raises(LibraryError, match=rf"{re.escape(VECTORS)} cannot be read: .*build the library again"):
        load_library(folder)


def test_a_missing_vectors_file_is_refused(folder: Path):
    """A card alone is no library."""
    (folder / VECTORS).unlink()
    with pytest.raises(LibraryError, match=rf"{re.escape(VECTORS)} cannot be read"):
        load_library(folder)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 2}', "[]"])
def test_a_torn_card_is_refused(folder: Path, content: str):
    """A card that does not parse, lacks fields or has another format is named with the remedy."""
    (folder / CARD).write_text(content)
    with pytest.raises(LibraryError, match=r"card\.json is not a valid card: [\s\S]*build the library again"):
        load_library(folder)


def test_a_folder_without_a_card_is_refused(folder: Path):
    """Any other folder, or a file, is told that it holds no library."""
    for path in (folder.parent, folder / VECTORS):
        with pytest.raises(LibraryError, match=r"holds no library: card\.json is missing"):
            load_library(path)


def test_vectors_of_another_library_are_refused(folder: Path, tmp_path: Path):
    """A sound file that the card does not describe, such as one left by an interrupted save, is refused."""
    make_library(seed=1).save(tmp_path / "other")
    (folder / VECTORS).write_bytes((tmp_path / "other" / VECTORS).read_bytes())
    with pytest.raises(LibraryError, match="not the file that its card describes"):
        load_library(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_vector_that_is_not_finite_is_refused(folder: Path, value: float):
    """One odd number is enough."""
    vectors = {name: tensor.clone() for name, tensor in make_library().vectors.items()}
    vectors["calm"][1, 3] = value
    replace_vectors(folder, vectors)
    with pytest.raises(LibraryError, match="calm has a layer that is zero or not finite"):
        load_library(folder)


def test_a_vector_of_zeros_is_refused(folder: Path):
    """It would steer nothing under a name that promises something."""
    vectors = {name: tensor.clone() for name, tensor in make_library().vectors.items()}
    vectors["proud"][0] = 0
    replace_vectors(folder, vectors)
    with pytest.raises(LibraryError, match="proud has a layer that is zero"):
        load_library(folder)


@pytest.mark.parametrize("shape", [(3, 8), (2, 7), (8,), (2, 8, 1)])
def test_a_vector_of_another_shape_is_refused(folder: Path, shape: tuple[int, ...]):
    """One vector a layer, as wide as the residual stream."""
    replace_vectors(folder, {"calm": torch.ones(shape), "proud": torch.ones(2, 8)})
    with pytest.raises(LibraryError, match=rf"calm has shape {re.escape(str(shape))}, expected \(2, 8\)"):
        load_library(folder)


@pytest.mark.parametrize("names", [("calm",), ("calm", "proud", "honest")])
def test_vectors_that_the_card_does_not_list_are_refused(folder: Path, names: tuple[str, ...]):
    """A vector too many or too few is named."""
    replace_vectors(folder, {name: torch.ones(2, 8) for name in names})
    (odd,) = set(names) ^ {"calm", "proud"}
    with pytest.raises(LibraryError, match=f"disagree about {odd}"):
        load_library(folder)


def test_an_unknown_vector_is_named_with_the_known_ones():
    """Asking for a vector that is not there lists those that are."""
    with pytest.raises(LibraryError, match="no vector 'soma' in this library; it has: calm, proud"):
        make_library().vector("soma")


def test_a_relative_folder_is_found_from_the_shells_place(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Inspect runs a task in the task file's folder; the name is meant from where the user stands."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PWD", str(folder.parent))
    assert library_folder("./library") == folder.resolve()
    assert library_folder(str(folder)) == folder.resolve()


def test_a_folder_that_is_not_there_is_refused_with_the_places_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both places where it was looked for are in the message, and how to build one."""
    (tmp_path / "task").mkdir()
    monkeypatch.chdir(tmp_path / "task")
    monkeypatch.setenv("PWD", str(tmp_path))
    with pytest.raises(LibraryError, match="self-steering vectors build") as caught:
        library_folder("absent")
    for place in (tmp_path / "absent", tmp_path / "task" / "absent"):
        assert str(place) in str(caught.value)


def test_a_model_without_a_shipped_library_is_told_how_to_build_one():
    """The message names the weights and the command."""
    with pytest.raises(LibraryError, match=r"no shipped library fits this model \(weights 123; .*vectors build"):
        find_library("123")
