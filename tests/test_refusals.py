"""What the proof found: inputs that were accepted in silence, or refused in words that nobody could use."""

import errno
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from self_steering.analysis.cli import main as self_steering_command
from self_steering.analysis.tables import read_tables
from self_steering.evals.comparison import comparison
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.steering.plan import PlanError, check_dose
from self_steering.vectors.card import CARD_FILE, VECTORS_FILE, LibraryError, library_folder
from self_steering.vectors.files import naming, write_file
from self_steering.vectors.library import content_hash, load_library
from self_steering.vectors.making.corpus import CorpusError, load_corpus, open_corpus
from tests.support.small_library import LAYERS, save_library, small_stories

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(introspection, vectors=5), "vectors=5; give names"),
        (partial(introspection, arm=["real", 3]), r"arm=\['real', 3\]; give names"),
        (partial(introspection, framing=["drugs"]), r"framing=\['drugs'\] is unknown"),
        (partial(introspection, rotations="three"), "rotations='three'; choose 1 to 10"),
        (partial(introspection, no_vector_option=2), "no_vector_option=2; choose true or false"),
        (partial(comparison, weaker="warm"), "weaker 'warm' is not a finite number"),
        (partial(localisation, library="x" * 10_000), "no library folder 'xxx"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_parameters_name(make: Callable[[], object], message: str):
    """The message begins with what to change, whatever was passed."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "refuse",
    [
        partial(introspection, vectors="x" * 100_000),
        partial(introspection, framing="x" * 100_000),
        partial(library_folder, "x" * 100_000),
        partial(check_dose, 10**600),
    ],
)
def test_a_long_value_is_shown_in_part(refuse: Callable[[], object]):
    """Nobody reads, and no context holds, a message of 100,000 letters."""
    with pytest.raises(ValueError, match=r"letters\) …") as caught:
        refuse()
    assert len(str(caught.value)) < 2_000


def test_a_dose_of_more_digits_than_python_prints_is_refused():
    """A whole number of int of 5,000 digits is out of range, and no error of Python's."""
    with pytest.raises(PlanError, match="int of 5,000 digits is out of range"):
        check_dose(10**5_000)


def changed_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps({**card, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [-1, *LAYERS[1:]]}, "each larger than the one before"),
        ({"layers": LAYERS[::-1]}, "each larger than the one before"),
        ({"layers": [LAYERS[0]] * len(LAYERS)}, "each larger than the one before"),
        ({"default_doses": {"calm": float("nan"), "proud": 1.0}}, "default doses of calm"),
        ({"default_doses": {"calm": 1.0, "proud": float("inf")}}, "default doses of proud"),
    ],
)
def test_a_card_whose_layers_or_doses_make_no_sense_is_refused(changes: dict, message: str, tmp_path: Path):
    """Vectors would go to the wrong layers, or nothing that is a number would be added."""
    folder = Path(save_library(tmp_path / "library", "f"))
    changed_card(folder, **changes)
    with pytest.raises(LibraryError, match=message):
        load_library(folder, "f")


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_vectors_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path):
    """Even where the card vouches for the file."""
    folder = Path(save_library(tmp_path / "library", "f"))
    data = save({name: torch.ones(len(LAYERS), 64).to(dtype) for name in ("calm", "proud")})
    (folder / VECTORS_FILE).write_bytes(data)
    changed_card(folder, sha256={VECTORS_FILE: content_hash(data)})
    with pytest.raises(LibraryError, match=f"holds {dtype}, expected torch.float32"):
        load_library(folder, "f")


@pytest.mark.parametrize("how", ["folder", "loop"])
def test_a_card_that_is_no_file_is_refused(how: str, tmp_path: Path):
    """A folder or a link to itself in its place is told by its path."""
    folder = Path(save_library(tmp_path / "library", "f"))
    card = folder / CARD_FILE
    card.unlink()
    if how == "folder":
        card.mkdir()
    else:
        card.symlink_to(card)
    with pytest.raises(LibraryError, match=f"{card} cannot be read"):
        load_library(folder, "f")


def test_stories_that_are_nested_too_deep_are_refused(tmp_path: Path):
    """In TOML as in JSON."""
    folder = small_stories(tmp_path / "stories")
    (folder / "calm.toml").write_text(f"x = {DEEP}")
    with pytest.raises(CorpusError, match=r"calm\.toml cannot be read"):
        load_corpus(folder)
    (tmp_path / "deep.jsonl").write_text(f"{DEEP}\n")
    with pytest.raises(CorpusError, match=r"deep\.jsonl cannot be read: row 1"):
        open_corpus(tmp_path / "deep.jsonl")


@pytest.mark.parametrize("data", [b"", b"noise", b"PK\x05\x06" + bytes(18)])
def test_a_table_of_what_is_no_log_is_refused_by_name(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture):
    """An empty file, noise, and an archive without anything in it end in one line that names the file."""
    path = tmp_path / "some.eval"
    path.write_bytes(data)
    assert self_steering_command(["table", str(path)]) == 1
    assert f"self-steering: {path} is no Inspect log" in capsys.readouterr().err


def test_a_log_that_is_nested_too_deep_is_left_out_at_once(tmp_path: Path):
    """A kilobyte of brackets a level of depth would otherwise fill the memory of whoever reads it; brackets in texts do no harm."""
    (tmp_path / "deep.json").write_text('{"version": 2, "samples": ' + "[" * 2_000 + "]" * 2_000 + "}")
    (tmp_path / "words.json").write_text(json.dumps({"version": 2, "said": '\\"' + "[{" * 2_000}))
    reasons = read_tables(tmp_path).left_out.set_index("log").reason
    assert reasons["deep.json"] == "nested 2,001 deep, which no Inspect log is"
    assert reasons["words.json"].startswith("no Inspect log")


def test_a_report_of_a_link_to_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    """It names the link."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert self_steering_command(["report", str(loop), "--out", str(tmp_path / "out")]) == 1
    assert f"{loop} is a link to itself" in capsys.readouterr().err


def test_a_full_disk_is_named_and_nothing_is_left_on_it(tmp_path: Path):
    """The error of a full disk names no file by itself."""
    with pytest.raises(OSError, match=str(tmp_path)) as caught, naming(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="/dev/full"):
        write_full(tmp_path)


def write_full(folder: Path) -> None:
    write_file(folder / "whole", b"kept")
    with naming(Path("/dev/full")), Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
