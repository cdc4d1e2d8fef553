"""A library's folder: written, read back, and refused where it is not what it should be."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from self_steering.vectors.card import (
    NEUTRAL_FILE,
    LibraryCard,
    LibraryError,
    card_hash,
    find_library,
    library_folder,
)
from self_steering.vectors.library import Library, content_hash, load_library, serialised
from self_steering.vectors.report import Calibration, VectorCalibration, read_report

VECTORS, CARD, CALIBRATION, REPORT, PAGE = (
    "vectors.safetensors",
    "card.json",
    "calibration.json",
    "report.json",
    "report.html",
)
FINGERPRINT = "weights of this model"
DOSES = {"proud": 0.5, "calm": 0.8409}


def make_library(seed: int = 0, **changes) -> Library:
    """Return a library of two random vectors."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {name: torch.randn(2, 8, generator=generator) for name in DOSES}
    fields = {
        "model": "tiny",
        "revision": None,
        "fingerprint": FINGERPRINT,
        "hidden": 8,
        "layers": [1, 2],
        "construction": "centred",
        "scaled_to": None,
        "skipped_tokens": 20,
        "corpus": "c",
        "norms": {name: vector.norm(dim=-1).tolist() for name, vector in vectors.items()},
        "residual_norms": [1.0, 2.0],
        "default_doses": dict.fromkeys(vectors, 0.6),
        "faults": {},
        "sha256": {VECTORS: content_hash(serialised(vectors))},
    }
    return Library(LibraryCard(**{**fields, **changes}), vectors)


def calibration_of(doses: dict[str, float], sha256: str) -> bytes:
    """Return a record that found `doses` for the vectors with this hash."""
    found = {name: VectorCalibration(dose=dose, holds=True, arrives=True, trials=[]) for name, dose in doses.items()}
    record = Calibration(
        fingerprint=FINGERPRINT,
        vectors_sha256=sha256,
        prompts=["Hello."],
        max_tokens=48,
        temperature=0.9,
        coherent_at_least=0.75,
        surprisal_rise_at_most=1.0,
        arrival_t=2.0,
        unsteered_coherent=1.0,
        unsteered_surprisal=2.0,
        vectors=found,
    )
    return record.model_dump_json().encode()


def make_calibrated(seed: int = 0, **changes) -> tuple[Library, dict[str, bytes]]:
    """Return a library whose doses were calibrated, and its evidence."""
    vectors_hash = make_library(seed).card.sha256[VECTORS]
    evidence = {CALIBRATION: calibration_of(DOSES, vectors_hash), REPORT: f"a report {seed}".encode()}
    hashes = {VECTORS: vectors_hash, **{name: content_hash(data) for name, data in evidence.items()}}
    library = make_library(seed, **{"default_doses": DOSES, "sha256": hashes, **changes})
    return library, {**evidence, PAGE: b"a page"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound library's folder, to be spoilt."""
    make_library().save(tmp_path / "library")
    return tmp_path / "library"


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    """A sound library's folder with all evidence, to be spoilt."""
    library, evidence = make_calibrated()
    library.save(tmp_path / "calibrated", evidence)
    return tmp_path / "calibrated"


def change_card(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the card that lies in `folder`."""
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def describe(folder: Path, name: str) -> None:
    """Have the card describe a file as it is now."""
    change_card(folder, lambda card: card["sha256"].update({name: content_hash((folder / name).read_bytes())}))


def replace_vectors(folder: Path, vectors: dict[str, torch.Tensor]) -> None:
    """Write other vectors with a card that has their hash."""
    save_file(vectors, folder / VECTORS)
    describe(folder, VECTORS)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_round_trip_gives_the_same_bytes(folder: Path, tmp_path: Path):
    """What is loaded equals what was saved, and saved again gives the same files, and no others."""
    loaded = load_library(folder, FINGERPRINT)
    assert loaded.card == make_library().card
    assert all(torch.equal(loaded.vectors[name], value) for name, value in make_library().vectors.items())
    loaded.save(tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [CARD, VECTORS]
    for file in (VECTORS, CARD):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_a_neutral_mean_is_bound_to_the_vectors_beside_it(tmp_path: Path):
    """It comes back as it was and is part of what a cached reply depends on; torn, or beside other vectors, it is refused."""
    library = make_library()
    mean = torch.randn(len(library.card.layers), library.card.hidden)
    library.save(tmp_path / "without")
    replace(library, neutral=mean).save(tmp_path / "with")
    assert torch.equal(load_library(tmp_path / "with").neutral, mean)
    assert load_library(tmp_path / "without").neutral is None
    assert card_hash(tmp_path / "with") != card_hash(tmp_path / "without")
    make_library(seed=1).save(tmp_path / "other")
    for spoilt, message in (("other", "measured for other vectors"), ("without", "cannot be read")):
        data = (tmp_path / "with" / NEUTRAL_FILE).read_bytes()
        (tmp_path / spoilt / NEUTRAL_FILE).write_bytes(data if spoilt == "other" else data[:50])
        with pytest.raises(LibraryError, match=f"{message}.*self-steering vectors neutral"):
            load_library(tmp_path / spoilt)
    replace(library, neutral=mean[:1]).save(tmp_path / "short")
    with pytest.raises(LibraryError, match="holds no finite float32"):
        load_library(tmp_path / "short")


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
    with pytest.raises(LibraryError, match=rf"{re.escape(VECTORS)} is not the file .*build the library again"):
        load_library(folder)
    describe(folder, VECTORS)
    with pytest.raises(LibraryError, match=rf"{re.escape(VECTORS)} cannot be read: .*build the library again"):
        load_library(folder)


def test_a_missing_vectors_file_is_refused(folder: Path):
    """A card alone is no library."""
    (folder / VECTORS).unlink()
    with pytest.raises(LibraryError, match=rf"{re.escape(VECTORS)} cannot be read"):
        load_library(folder)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 2}', '{"format": 1}', "[]"])
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "format"),
        ({"scaled_to": "absent"}, "scaled_to"),
        ({"calibrated": True}, "calibrated"),
        ({"sha256": {}}, "hashes of no file"),
        ({"sha256": {REPORT: "0"}}, rf"hashes of report\.json; expected {re.escape(VECTORS)}"),
        ({"sha256": {VECTORS: "0", "notes.txt": "0"}}, r"hashes of notes\.txt, vectors"),
        ({"sha256": {VECTORS: "0", "../../secret": "0"}}, r"hashes of \.\./\.\./secret"),
        ({"sha256": "0"}, "sha256"),
        ({"norms": {"proud": [1.0], "calm": [1.0, 2.0]}}, "norms of proud are not those of the 2 layers"),
        ({"residual_norms": [float("nan"), 1.0]}, r"residual_norms\.0: .*finite"),
    ],
)
def test_a_card_of_another_kind_is_refused(folder: Path, change: dict, message: str):
    """Another format, a field too few or too many, or hashes of files that no library has."""
    ((field, value),) = change.items()
    change_card(folder, lambda card: card.pop(field) if value == "absent" else card.update(change))
    with pytest.raises(
        LibraryError, match=rf"card\.json is not a valid card: [\s\S]*{message}[\s\S]*build the library again"
    ):
        load_library(folder)


@pytest.mark.parametrize("field", ["model", "revision", "fingerprint", "corpus"])
@pytest.mark.parametrize("text", ["a" * 100_000, "tiny\nand more"], ids=["long", "of two lines"])
def test_what_a_card_says_of_itself_is_one_short_line(folder: Path, field: str, text: str):
    """Messages print it as it is."""
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, field: text}))
    with pytest.raises(LibraryError) as refused:
        load_library(folder, FINGERPRINT)
    assert field in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert "\n" not in str(refused.value)


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


# ------------------------------------------------------------ evidence


def test_a_calibrated_library_is_read_back_with_its_evidence(calibrated: Path):
    """The card says that doses were calibrated because it describes the record; a fixed dose has none."""
    library, evidence = make_calibrated()
    assert load_library(calibrated, FINGERPRINT).card == library.card
    assert library.card.calibrated is True
    assert make_library().card.calibrated is False
    files = contents(calibrated)
    assert set(files) == {VECTORS, CARD, CALIBRATION, REPORT, PAGE}
    assert {name: files[name] for name in evidence} == evidence


@pytest.mark.parametrize("name", [CALIBRATION, REPORT, VECTORS])
@pytest.mark.parametrize("spoil", ["missing", "torn", "altered", "empty"])
def test_evidence_that_is_not_what_the_card_describes_is_refused(calibrated: Path, name: str, spoil: str):
    """The file is named, with the remedy, and each by itself is enough."""
    path = calibrated / name
    data = path.read_bytes()
    if spoil == "missing":
        path.unlink()
    else:
        path.write_bytes({"torn": data[:-3], "altered": data[:-1] + b"!", "empty": b""}[spoil])
    problem = "cannot be read" if spoil == "missing" else "is not the file that its card describes"
    with pytest.raises(LibraryError, match=rf"{re.escape(str(path))} {problem}.*build the library again"):
        load_library(calibrated)


@pytest.mark.parametrize("change", [{"calm": 0.9}, {"calm": -0.8409}])
def test_doses_that_are_not_those_of_the_record_are_refused(calibrated: Path, change: dict[str, float]):
    """A dose that was changed on the card is no calibrated one."""
    change_card(calibrated, lambda card: card["default_doses"].update(change))
    with pytest.raises(LibraryError, match=rf"{CALIBRATION} found other doses, or doses of other vectors"):
        load_library(calibrated)


@pytest.mark.parametrize(
    ("doses", "sha256"), [({"calm": 0.8409}, None), ({**DOSES, "soma": 1.0}, None), (DOSES, "of other vectors")]
)
def test_a_record_of_other_vectors_is_refused(calibrated: Path, doses: dict[str, float], sha256: str | None):
    """Though the card describes the record, it is about fewer, more, or other vectors."""
    known = sha256 or make_library().card.sha256[VECTORS]
    (calibrated / CALIBRATION).write_bytes(calibration_of(doses, known))
    describe(calibrated, CALIBRATION)
    with pytest.raises(LibraryError, match=rf"{CALIBRATION} found other doses, or doses of other vectors"):
        load_library(calibrated)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_record_that_is_none_is_refused(calibrated: Path, content: str):
    """Though the card describes it, it does not parse."""
    (calibrated / CALIBRATION).write_text(content)
    describe(calibrated, CALIBRATION)
    with pytest.raises(LibraryError, match=rf"{CALIBRATION} is not a valid record: [\s\S]*build the library again"):
        load_library(calibrated)


def test_a_report_that_is_none_is_refused(calibrated: Path, tmp_path: Path):
    """Missing or torn, the file is named with the remedy."""
    with pytest.raises(
        LibraryError, match=rf"{re.escape(str(calibrated / REPORT))} is not a valid report: [\s\S]*build"
    ):
        read_report(calibrated)
    with pytest.raises(LibraryError, match=rf"has no {re.escape(REPORT)}; build the library again"):
        read_report(tmp_path)


# ------------------------------------------------------------ saving


@pytest.mark.parametrize("name", [CALIBRATION, REPORT])
def test_a_library_without_the_evidence_that_its_card_describes_is_not_saved(tmp_path: Path, name: str):
    """What could not be loaded is not written, and nothing is left."""
    library, evidence = make_calibrated()
    lacking = {key: data for key, data in evidence.items() if key != name}
    for given in (lacking, {**evidence, name: b"other"}):
        with pytest.raises(LibraryError, match=f"{name} is missing or not the file that the card describes"):
            library.save(tmp_path / "library", given)
    assert list(tmp_path.iterdir()) == []


def test_evidence_cannot_take_the_place_of_vectors_or_card(tmp_path: Path):
    """Whatever it is called, vectors and card are the library's own."""
    make_library().save(tmp_path / "library", {CARD: b"{}", VECTORS: b""})
    assert load_library(tmp_path / "library").card == make_library().card


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    """It might be anyone's; an empty one may be used."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(LibraryError, match="notes holds files that are no vector library; name another folder"):
        make_library().save(tmp_path / "notes")
    with pytest.raises(LibraryError, match=r"thesis\.txt is a file; name a folder"):
        make_library().save(tmp_path / "notes" / "thesis.txt")
    assert contents(tmp_path / "notes") == {"thesis.txt": b"years of work"}
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    (tmp_path / "empty").mkdir()
    make_library().save(tmp_path / "empty")
    assert load_library(tmp_path / "empty").names == ["calm", "proud"]


@pytest.mark.parametrize("existing", [True, False])
def test_a_save_that_fails_leaves_what_was_there(calibrated: Path, existing: bool):
    """Whether a library is there or none, and although the vectors had been written already; no scratch is left."""
    target = calibrated if existing else calibrated.parent / "new"
    before = contents(calibrated)
    library, evidence = make_calibrated(seed=1)
    with pytest.raises(TypeError):
        library.save(target, {**evidence, PAGE: "text and not bytes"})
    assert contents(calibrated) == before
    assert load_library(calibrated).card == make_calibrated()[0].card
    assert [path.name for path in calibrated.parent.iterdir()] == [calibrated.name]


def test_a_replaced_library_leaves_nothing_behind(calibrated: Path):
    """Evidence of the old one does not stay beside the new one, nor a folder beside it."""
    make_library(seed=1).save(calibrated)
    assert set(contents(calibrated)) == {VECTORS, CARD}
    assert [path.name for path in calibrated.parent.iterdir()] == [calibrated.name]


def test_a_library_can_be_saved_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder `.` is as good as its full name."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_library().save(Path())
    assert load_library(tmp_path / "here").names == ["calm", "proud"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


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


def test_readme_names_the_vectors_that_the_shipped_card_marks_bad():
    """Prose that says which vectors are bad says what the files say."""
    root = Path(__file__).parent.parent
    card = json.loads((root / "vectors/libraries/smollm2-135m-instruct/card.json").read_text(encoding="utf-8"))
    bad = {name for name, faults in card["faults"].items() if faults}
    text = (root / "README.md").read_text(encoding="utf-8")
    said = re.search(r"are marked bad\s*\(([^)]*)\)", text)
    assert said is not None
    assert {name for name in card["faults"] if re.search(rf"\b{name}\b", said[1])} == bad
