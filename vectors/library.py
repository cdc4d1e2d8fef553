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
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from self_steering.vectors.catalogue import catalogue

Construction = Literal["difference", "centred"]

_VECTORS_FILE, _CARD_FILE = "vectors.safetensors", "card.json"


class LibraryError(ValueError):
    """A library that cannot be used; the message names the file and the remedy."""


class LibraryCard(BaseModel):
    """What a library is.

    Attributes:
        format: Version of this format.
        model: Name of the model it was made with.
        revision: Hub commit of that model, if it came from a hub.
        fingerprint: Fingerprint of the model's weights (`steering.models.fingerprint`).
        hidden: Width of the residual stream.
        layers: Decoder layers whose outputs the vectors are added to.
        construction: `difference` (state minus neutral, paired by setting) or `centred` (the mean over states removed).
        skipped_tokens: Tokens at the start of each story that do not count.
        corpus: Hash of the stories.
        norms: For each vector, its norm at each layer.
        residual_norms: Mean norm of the residual stream at each layer over the neutral stories.
        default_doses: For each vector, the multiple of it that dose 1.0 adds.
        calibrated: Whether the default doses were found by calibration; otherwise they are one fixed number.
        sha256: Hash of `vectors.safetensors`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    revision: str | None
    fingerprint: str
    hidden: int
    layers: list[int]
    construction: Construction
    skipped_tokens: int
    corpus: str
    norms: dict[str, list[float]]
    residual_norms: list[float]
    default_doses: dict[str, float]
    calibrated: bool
    sha256: str


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
        _write(folder / _VECTORS_FILE, serialised(self.vectors))
        card = json.dumps(self.card.model_dump(), indent=1, sort_keys=True) + "\n"
        _write(folder / _CARD_FILE, card.encode())


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


def library_folder(name: str) -> Path:
    """Return the absolute folder of a library that a user named.

    Inspect changes into a task file's folder before it runs the task, so a relative name is looked up where the shell is
    (`PWD`) too.

    Raises:
        LibraryError: There is no such folder.
    """
    path = Path(name).expanduser()
    places = [Path.cwd(), Path(os.environ.get("PWD", "."))]
    for place in places:
        if (place / path).is_dir():
            return (place / path).resolve()
    tried = ", ".join(dict.fromkeys(str((place / path).absolute()) for place in places))
    raise LibraryError(f"no library folder {name!r} (looked for {tried}); build one with `self-steering vectors build`")


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
    path = folder / _VECTORS_FILE
    try:
        vectors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LibraryError(f"{path} cannot be read: {error}; build the library again") from error
    found = content_hash(path.read_bytes())
    if found != card.sha256:
        raise LibraryError(f"{path} is not the file that its card describes (sha256 {found}); build the library again")
    _check_vectors(path, card, vectors)
    return Library(card=card, vectors=vectors)


def read_card(folder: Path) -> LibraryCard:
    """Read the card of the library in `folder`.

    Raises:
        LibraryError: There is no card, or it is torn.
    """
    path = folder / _CARD_FILE
    try:
        return LibraryCard.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise LibraryError(
            f"{folder} holds no library: {_CARD_FILE} is missing; build one there, or name another"
        ) from None
    except ValidationError as error:
        raise LibraryError(f"{path} is not a valid card: {error}; build the library again") from error


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


def find_library(fingerprint: str) -> Path:
    """Return the shipped library that was made for the model with this fingerprint.

    Raises:
        LibraryError: There is none; the message says how to build it.
    """
    root = Path(str(resources.files(__package__).joinpath("libraries")))
    folders = sorted(path.parent for path in root.glob(f"*/{_CARD_FILE}"))
    for folder in folders:
        if read_card(folder).fingerprint == fingerprint:
            return folder
    shipped = ", ".join(read_card(folder).model for folder in folders) or "none"
    raise LibraryError(
        f"no shipped library fits this model (weights {fingerprint}; shipped: {shipped}); build one with `self-steering "
        "vectors build --model MODEL --out FOLDER` and pass -T library=FOLDER"
    )
