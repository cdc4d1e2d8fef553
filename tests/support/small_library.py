"""Small folders of stories, cut out of the ones that ship, and libraries made of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from self_steering.vectors.card import VECTORS_FILE, LibraryCard
from self_steering.vectors.catalogue import NO_OWN, VectorEntry
from self_steering.vectors.library import Library, content_hash, serialised
from self_steering.vectors.making.corpus import NEUTRAL, Corpus, load_corpus

STATES = ("calm", "anxious", "golden_gate", "honest")
SETTINGS = ("ferry", "attic")


def write_stories(folder: Path, stories: Mapping[str, Mapping[str, str]], settings: Sequence[str]) -> Path:
    """Write `stories`, one a state and setting, as a folder that `load_corpus` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'{name} = "a place"' for name in settings]
    (folder / "settings.toml").write_text("\n".join(["[settings]", *lines]), encoding="utf-8")
    for state, of_state in stories.items():
        lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in of_state.items()]
        (folder / f"{state}.toml").write_text("\n".join(["[stories]", *lines]), encoding="utf-8")
    return folder


def small_corpus(states: Sequence[str] = STATES, settings: Sequence[str] = SETTINGS) -> Corpus:
    """Return the shipped stories of a few states in a few settings."""
    full = load_corpus(states=states).stories
    return Corpus(tuple(settings), {s: {name: full[s][name] for name in settings} for s in (NEUTRAL, *states)})


def small_stories(folder: Path, states: Sequence[str] = STATES, settings: Sequence[str] = SETTINGS) -> Path:
    """Write the shipped stories of a few states in a few settings to `folder`."""
    stories = small_corpus(states, settings).stories
    single = {state: {name: text for name, (text,) in told.items()} for state, told in stories.items()}
    return write_stories(folder, single, settings)


LAYERS = [1, 2, 4]


def save_library(
    folder: Path,
    fingerprint: str,
    *,
    names: Sequence[str] = ("calm", "proud"),
    layers: Sequence[int] = LAYERS,
    size: float = 1.0,
    default_dose: float = 1.0,
    residual: float = 1.0,
    neutral: bool = False,
    entries: Mapping[str, VectorEntry] = NO_OWN,
) -> str:
    """Save a library of random vectors, `size` times a standard normal in each dimension, for a tiny model.

    Its card says that the residual stream has the norm `residual`, from which follows the smallest dose that is not lost in it, and
    what `entries` say of vectors. With `neutral`, a random mean of neutral text lies beside them.
    """
    generator = torch.Generator().manual_seed(3)
    vectors = {name: size * torch.randn(len(layers), 64, generator=generator) for name in names}
    card = LibraryCard(
        model="tiny",
        revision=None,
        fingerprint=fingerprint,
        hidden=64,
        layers=list(layers),
        construction="difference",
        scaled_to=None,
        skipped_tokens=0,
        corpus="",
        norms={name: vector.norm(dim=-1).tolist() for name, vector in vectors.items()},
        residual_norms=[residual] * len(layers),
        default_doses=dict.fromkeys(vectors, default_dose),
        faults={},
        entries=dict(entries),
        sha256={VECTORS_FILE: content_hash(serialised(vectors))},
    )
    mean = 2 * torch.randn(len(layers), 64, generator=generator) if neutral else None
    Library(card, vectors, mean).save(folder)
    return str(folder)
