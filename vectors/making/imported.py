"""From files of other tools to a library: their vectors at their places, measured against the model and given doses like ours."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from self_steering.steering.engine.self_check import checked_model
from self_steering.steering.models import LoadedModel
from self_steering.vectors.card import LibraryError
from self_steering.vectors.catalogue import VectorEntry
from self_steering.vectors.foreign import ForeignFile, ForeignVector
from self_steering.vectors.library import Library
from self_steering.vectors.making.build import Material, Progress, Recipe, finish_library
from self_steering.vectors.making.pairs import Pair, ReadAt, neutral_activations, pair_means
from self_steering.vectors.making.quality import told_apart
from self_steering.vectors.report import LibraryReport


def import_library(
    loaded: LoadedModel,
    files: Sequence[ForeignFile],
    recipe: Recipe,
    *,
    entries: Mapping[str, VectorEntry] | None = None,
    texts: Mapping[str, Sequence[Pair]] | None = None,
    read_at: ReadAt = "mean",
    work: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Library, LibraryReport]:
    """Make a library of vectors from elsewhere.

    A default dose that a file has for this very model is kept; the others are the recipe's, or found by calibration.

    Args:
        loaded: The model.
        files: The opened files.
        recipe: How; its layers and construction do not count.
        entries: What is said of the vectors, beside what the files say.
        texts: Pairs of texts by vector, which it is to tell apart; they show what it has to do with what it is called.
        read_at: How these are read.
        work: Folder in which finished steps are saved; None saves nothing.
        progress: Called with the step, how much of it is done, and how much there is.

    Raises:
        LibraryError: A vector does not fit the model, comes twice, or texts are given for one that is not there.
        ModelError: The model is of a kind that is not supported.
    """
    model = checked_model(loaded)
    origins: dict[str, str] = {}
    found: dict[str, ForeignVector] = {}
    for file in files:
        for vector in file.place(model.hidden, model.n_layers, loaded.fingerprint):
            if vector.name in found:
                raise LibraryError(
                    f"{vector.name} comes twice, in {origins[vector.name]} and in {file.path}; leave one out"
                )
            found[vector.name] = vector
            origins[vector.name] = _origin(file)
    if odd := sorted(set(texts or {}) - set(found)):
        raise LibraryError(f"there are texts for {', '.join(odd)}, which is not imported; vectors: {', '.join(found)}")
    band = sorted({layer for vector in found.values() for layer in vector.layers})
    neutral = neutral_activations(loaded, model)
    residual = neutral.norm(dim=-1).mean(0)
    everywhere = {name: torch.zeros(model.n_layers, model.hidden) for name in found}
    separations = {}
    for name, vector in found.items():
        for layer, values in vector.layers.items():
            everywhere[name][layer] = values
        if texts and name in texts:
            positive, negative = pair_means(loaded, model, texts[name], read_at)
            separations[name] = told_apart(everywhere[name][band], positive[:, band], negative[:, band], residual[band])
    said = {name: vector.entry for name, vector in found.items() if vector.entry is not None}
    count = sum(len(of_name) for of_name in (texts or {}).values())
    material = Material(
        construction="imported",
        everywhere=everywhere,
        separations=separations,
        neutral=neutral,
        corpus=hashlib.sha256(repr(sorted((texts or {}).items())).encode()).hexdigest() if texts else "",
        stories=2 * count,
        settings=count,
        doses={name: vector.default_dose for name, vector in found.items() if vector.default_dose is not None},
        origins=origins,
        entries={**said, **(entries or {})},
    )
    return finish_library(loaded, model, material, band, recipe, work=work, progress=progress)


def _origin(file: ForeignFile) -> str:
    """Return a line on where a vector came from and how that was meant."""
    path = file.path
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "a folder"
    said = ", ".join(f"{what} {value}" for what, value in file.said.model_dump(exclude_none=True).items())
    return f"{path.name} ({digest}): {said}"
