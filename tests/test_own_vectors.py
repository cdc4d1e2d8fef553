"""A library of one's own in every eval: its names, its lines, its size."""

from pathlib import Path

import pytest
import torch
from inspect_ai import Task

from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.solvers.checks import library_vectors
from self_steering.solvers.records import CORE_VECTORS, TASK_MENU, Condition
from self_steering.vectors.card import VECTORS_FILE, LibraryCard, LibraryError, read_card
from self_steering.vectors.catalogue import VectorEntry, catalogue, in_order
from self_steering.vectors.library import Library, content_hash, serialised

REFUSAL = VectorEntry(effect="declining whatever is asked, with regret", category="safety", valence=-1)
EVALS = (comparison, detection, introspection_free_text, freeplay, frustration, introspection, localisation, maths)


def library_of(folder: Path, names: list[str], entries: dict[str, VectorEntry] | None = None) -> str:
    """Save a library of random vectors with these names."""
    vectors = {name: torch.randn(2, 8, generator=torch.Generator().manual_seed(1)) for name in names}
    card = LibraryCard(
        model="own",
        revision=None,
        fingerprint="0" * 32,
        hidden=8,
        layers=[1, 2],
        construction="difference",
        scaled_to=None,
        skipped_tokens=0,
        corpus="",
        norms={name: vector.norm(dim=-1).tolist() for name, vector in vectors.items()},
        residual_norms=[1.0, 1.0],
        default_doses=dict.fromkeys(names, 1.0),
        faults={},
        entries=entries or {},
        sha256={VECTORS_FILE: content_hash(serialised(vectors))},
    )
    Library(card, vectors).save(folder)
    return str(folder)


def samples_of(task: Task) -> list:
    return list(task.dataset)


@pytest.mark.parametrize("size", [2, 100])
@pytest.mark.parametrize("make", EVALS, ids=lambda make: make.__name__)
def test_every_eval_takes_a_library_of_any_size(make, size: int, tmp_path: Path):
    """Two vectors of one's own are enough for each, and a hundred are not too many; all are asked about, or on the menu."""
    names = [f"own_{number:03}" for number in range(size)]
    library = library_of(tmp_path / "own", names)
    arms = {"arm": "real"} if make is introspection_free_text and size == 2 else {}
    samples = samples_of(make(library=library, vectors="all", **arms))
    asked = {sample.metadata["vector"] for sample in samples if "vector" in sample.metadata}
    assert asked == set(names) or (not asked and library_vectors(library, "all").picked == names)


@pytest.mark.parametrize(("size", "options"), [(2, 2), (3, 3), (40, 10)])
def test_chance_follows_the_librarys_size(size: int, options: int, tmp_path: Path):
    """A small library is asked about with as many options as it has."""
    library = library_of(tmp_path / "own", [f"own_{number}" for number in range(size)])
    assert {len(sample.metadata["options"]) for sample in samples_of(introspection(library=library))} == {options}


def test_one_vector_has_no_other_to_be_told_from(tmp_path: Path):
    """A choice needs two."""
    with pytest.raises(ValueError, match="has 1 vector; at least 2 are needed"):
        introspection(library=library_of(tmp_path / "own", ["refusal"]))


def test_a_vector_of_ones_own_is_told_by_its_card(tmp_path: Path):
    """Its line stands among the options and in the list tool, its category and valence in the sample's metadata."""
    library = library_of(tmp_path / "own", ["calm", "refusal", "slow_haste"], {"refusal": REFUSAL})
    (sample,) = samples_of(introspection(library=library, vectors="refusal", arm="real"))
    assert (sample.metadata["category"], sample.metadata["valence"]) == ("safety", -1)
    assert sample.metadata["own"]["refusal"]["effect"] == REFUSAL.effect
    condition = Condition(menu=("calm", "refusal", "slow_haste"), own=read_card(Path(library)).own)
    shown = {"calm": catalogue()["calm"].effect, "refusal": REFUSAL.effect, "slow_haste": "slow haste"}
    assert condition.effects == shown


def test_a_library_may_tell_a_vector_of_the_catalogue_otherwise(tmp_path: Path):
    """What the card says counts, and the catalogue where it says nothing."""
    library = library_of(tmp_path / "own", ["calm", "proud"], {"calm": REFUSAL})
    (calm,) = samples_of(detection(library=library, vectors="calm", arm="placebo"))
    (proud,) = samples_of(detection(library=library, vectors="proud", arm="placebo"))
    assert calm.metadata["category"] == "safety"
    assert proud.metadata["category"] == "emotion"


def test_words_for_several_vectors_mean_the_same_everywhere(tmp_path: Path):
    """The published ten where a library has them, else its first ten, in the catalogue's order."""
    whole = library_of(tmp_path / "whole", [*catalogue(), "refusal"])
    assert library_vectors(whole, "core").picked == list(CORE_VECTORS)
    assert library_vectors(whole, "menu").picked == list(TASK_MENU)
    names = ["zeal", "refusal", "proud", *(f"own_{number:02}" for number in range(20))]
    own = library_of(tmp_path / "own", names)
    for word in ("core", "menu"):
        assert library_vectors(own, word).picked == in_order(names)[:10]
    assert library_vectors(own, "all").names == ["proud", *sorted(set(names) - {"proud"})]


def test_a_card_describes_its_own_vectors_only(tmp_path: Path):
    """A line for a vector that is not there would be shown nowhere."""
    folder = Path(library_of(tmp_path / "own", ["calm"]))
    text = (folder / "card.json").read_text().replace('"entries": {}', '"entries": {"soma": {"effect": "x"}}')
    (folder / "card.json").write_text(text)
    with pytest.raises(LibraryError, match="describes soma, which it lacks"):
        read_card(folder)
