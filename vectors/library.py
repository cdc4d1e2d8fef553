"""A library of steering vectors for one model: a safetensors file, and a card that says what it is.

The library is a folder with `vectors.safetensors` (one tensor [layers, hidden] in float32 a vector) and `card.json`.
Loading refuses a library that was made for another model.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from self_steering.vectors.card import CARD_FILE, VECTORS_FILE, LibraryCard, LibraryError, read_card
from self_steering.vectors.catalogue import catalogue


@dataclass(frozen=True)
class Library:
    """Vectors and their card.

    Attributes:
        card: What the library is.
        vectors: For each name a tensor [layers, hidden], float32.
    """

    card: LibraryCard
    vectors: Mapping[str, torch.Tensor]

    @property
    def names(self) -> list[str]:
        """Names of the vectors, in the catalogue's order."""
        order = {name: position for position, name in enumerate(catalogue())}
        return sorted(self.vectors, key=lambda name: (order.get(name, len(order)), name))

    def vector(self, name: str) -> torch.Tensor:
        """Return the vector `name`, [layers, hidden].

        Raises:
            LibraryError: There is none of this name.
        """
        if name not in self.vectors:
            raise LibraryError(f"no vector {name!r} in this library; it has: {', '.join(self.names)}")
        return self.vectors[name]

    def save(self, folder: Path) -> None:
        """Write the library to `folder`, each file complete or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / VECTORS_FILE, serialised(self.vectors))
        card = json.dumps(self.card.model_dump(), indent=1, sort_keys=True) + "\n"
        _write(folder / CARD_FILE, card.encode())


def serialised(vectors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of `vectors.safetensors`; the same vectors give the same bytes."""
    return bytes(save({name: vectors[name].contiguous() for name in sorted(vectors)}))


def content_hash(data: bytes) -> str:
    """Return the hash that a card records of its vectors."""
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def load_library(folder: Path, fingerprint: str | None = None) -> Library:
    """Load a library.

    Args:
        folder: Its folder.
        fingerprint: Fingerprint of the model that is to be steered; None skips the check, for looking at a library only.

    Raises:
        LibraryError: A file is missing or torn, a vector is not finite, or the library was made for another model.
    """
    card = read_card(folder)
    if fingerprint is not None and card.fingerprint != fingerprint:
        raise LibraryError(
            f"the library in {folder} was made for {card.model!r} (weights {card.fingerprint}), not for this model "
            f"(weights {fingerprint}); build one with `self-steering vectors build --model MODEL --out FOLDER`"
        )
    path = folder / VECTORS_FILE
    try:
        data = path.read_bytes()
        vectors = load(data)
    except (OSError, SafetensorError) as error:
        raise LibraryError(f"{path} cannot be read: {error}; build the library again") from error
    found = content_hash(data)
    if found != card.sha256:
        raise LibraryError(f"{path} is not the file that its card describes (sha256 {found}); build the library again")
    _check_vectors(path, card, vectors)
    return Library(card=card, vectors=vectors)


def _check_vectors(path: Path, card: LibraryCard, vectors: Mapping[str, torch.Tensor]) -> None:
    for name, vector in vectors.items():
        if tuple(vector.shape) != (len(card.layers), card.hidden):
            raise LibraryError(
                f"{path}: {name} has shape {tuple(vector.shape)}, expected {(len(card.layers), card.hidden)}"
            )
        norms = vector.norm(dim=-1)
        if not torch.isfinite(norms).all() or (norms == 0).any():
            raise LibraryError(f"{path}: {name} has a layer that is zero or not finite; build the library again")
    if missing := sorted(set(vectors) ^ set(card.default_doses)):
        raise LibraryError(f"{path} and its card disagree about {', '.join(missing)}; build the library again")
