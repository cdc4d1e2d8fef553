"""A library of steering vectors for one model: a safetensors file, and a card that says what it is.

The library is a folder with `vectors.safetensors` (one tensor [layers, hidden] in float32 a vector), `card.json`, and the
evidence for it: `report.json`, `calibration.json` and the page `report.html`. Loading refuses a library that was made for
another model, or whose files are not those that the card describes. `neutral.safetensors` holds the mean of the residual stream
over neutral stories [layers, hidden], from which clamps and ablations are measured; `self-steering vectors neutral` adds it to a
library that lacks it.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from self_steering.vectors.card import (
    CALIBRATION_FILE,
    CARD_FILE,
    NEUTRAL_FILE,
    VECTORS_FILE,
    LibraryCard,
    LibraryError,
    read_card,
)
from self_steering.vectors.catalogue import in_order
from self_steering.vectors.files import naming, replace_folder
from self_steering.vectors.report import Calibration
from self_steering.vectors.shown import in_one_line

_MEAN, _BOUND_TO = "mean", "vectors_sha256"


@dataclass(frozen=True)
class Library:
    """Vectors and their card.

    Attributes:
        card: What the library is.
        vectors: For each name a tensor [layers, hidden], float32.
        neutral: Mean of the residual stream over neutral stories [layers, hidden], float32; None where it was not measured.
    """

    card: LibraryCard
    vectors: Mapping[str, torch.Tensor]
    neutral: torch.Tensor | None = None

    @property
    def names(self) -> list[str]:
        """Names of the vectors, in the catalogue's order."""
        return in_order(self.vectors)

    def vector(self, name: str) -> torch.Tensor:
        """Return the vector `name`, [layers, hidden].

        Raises:
            LibraryError: There is none of this name.
        """
        if name not in self.vectors:
            raise LibraryError(f"no vector {name!r} in this library; it has: {', '.join(self.names)}")
        return self.vectors[name]

    def save(self, folder: Path, evidence: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Write the library to `folder`, complete or not at all; a library that is there is replaced.

        Args:
            folder: Where to.
            evidence: Further files by name, those that the card has hashes of among them.

        Raises:
            LibraryError: `folder` holds something that is no library, or a file is not the one that the card has the hash of.
        """
        check_target(folder)
        card = json.dumps(self.card.model_dump(), indent=1, sort_keys=True) + "\n"
        files = {**evidence, VECTORS_FILE: serialised(self.vectors), CARD_FILE: card.encode()}
        if self.neutral is not None:
            files[NEUTRAL_FILE] = neutral_file(self.neutral, self.card)
        for name, expected in self.card.sha256.items():
            if name not in files or content_hash(files[name]) != expected:
                raise LibraryError(
                    f"{name} is missing or not the file that the card describes; make the card from the files"
                )
        # A name such as `.` has no place beside it.
        folder = folder.resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            scratch.chmod(0o755)
            with naming(folder):
                for name, data in files.items():
                    (scratch / name).write_bytes(data)
            replace_folder(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def check_target(folder: Path) -> None:
    """Raise unless a library can be written to `folder`: it is not there, empty, or a library already.

    Raises:
        LibraryError: It is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise LibraryError(f"{folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD_FILE).exists():
        raise LibraryError(f"{folder} holds files that are no vector library; name another folder")


def serialised(vectors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of `vectors.safetensors`; the same vectors give the same bytes."""
    return bytes(save({name: vectors[name].contiguous() for name in sorted(vectors)}))


def content_hash(data: bytes) -> str:
    """Return the hash that a card records of a file."""
    return hashlib.sha256(data).hexdigest()


def load_library(folder: Path, fingerprint: str | None = None) -> Library:
    """Load a library.

    Args:
        folder: Its folder.
        fingerprint: Fingerprint of the model that is to be steered; None skips the check, for looking at a library only.

    Raises:
        LibraryError: A file is missing or torn, a vector is not finite, or the library was made for another model.

    Example:
        >>> from importlib.resources import files
        >>> shipped = files("self_steering.vectors") / "libraries" / "smollm2-135m-instruct"
        >>> library = load_library(shipped)
        >>> library.card.layers
        [13, 14, 15, 16, 17, 18, 19, 20]
        >>> tuple(library.vector("calm").shape)  # layers, width of the residual stream
        (8, 576)
    """
    card = read_card(folder)
    if fingerprint is not None and card.fingerprint != fingerprint:
        raise LibraryError(
            f"the library in {folder} was made for {card.model!r} (weights {card.fingerprint}), not for this model "
            f"(weights {fingerprint}); build one with `self-steering vectors build --model MODEL --out FOLDER`"
        )
    for name in card.sha256:
        _check_file(folder / name, card.sha256[name])
    path = folder / VECTORS_FILE
    try:
        vectors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise LibraryError(f"{path} cannot be read: {in_one_line(error)}; build the library again") from error
    _check_vectors(path, card, vectors)
    if card.calibrated:
        _check_doses(folder / CALIBRATION_FILE, card)
    return Library(card, vectors, _read_neutral(folder / NEUTRAL_FILE, card))


def neutral_file(neutral: torch.Tensor, card: LibraryCard) -> bytes:
    """Return the bytes of `neutral.safetensors`, bound to the vectors of a card."""
    return bytes(save({_MEAN: neutral.contiguous()}, {_BOUND_TO: card.sha256[VECTORS_FILE]}))


def _read_neutral(path: Path, card: LibraryCard) -> torch.Tensor | None:
    """Return the neutral mean beside a library's vectors; None where there is none.

    Raises:
        LibraryError: It is torn, or beside other vectors than those that it was measured for.
    """
    if not path.exists():
        return None
    remedy = f"write it again with `self-steering vectors neutral {path.parent} --model {card.model}`"
    try:
        with safe_open(path, "pt") as file:
            bound = (file.metadata() or {}).get(_BOUND_TO)
            mean: torch.Tensor = file.get_tensor(_MEAN)
    except (OSError, SafetensorError) as error:
        raise LibraryError(f"{path} cannot be read: {in_one_line(error)}; {remedy}") from error
    if bound != card.sha256[VECTORS_FILE]:
        raise LibraryError(f"{path} was measured for other vectors than are beside it; {remedy}")
    fits = mean.dtype == torch.float32 and tuple(mean.shape) == (len(card.layers), card.hidden)
    if not fits or not mean.isfinite().all():
        raise LibraryError(f"{path} holds no finite float32 [{len(card.layers)}, {card.hidden}]; {remedy}")
    return mean


def _check_file(path: Path, expected: str) -> None:
    try:
        found = content_hash(path.read_bytes())
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {in_one_line(error)}; build the library again") from error
    if found != expected:
        raise LibraryError(f"{path} is not the file that its card describes (sha256 {found}); build the library again")


def _check_vectors(path: Path, card: LibraryCard, vectors: Mapping[str, torch.Tensor]) -> None:
    if missing := sorted({*vectors, *card.default_doses} - (set(vectors) & set(card.default_doses) & set(card.norms))):
        raise LibraryError(f"{path} and its card disagree about {', '.join(missing)}; build the library again")
    for name, vector in vectors.items():
        if vector.dtype != torch.float32:
            raise LibraryError(f"{path}: {name} holds {vector.dtype}, expected torch.float32; build the library again")
        if tuple(vector.shape) != (len(card.layers), card.hidden):
            raise LibraryError(
                f"{path}: {name} has shape {tuple(vector.shape)}, expected {(len(card.layers), card.hidden)}"
            )
        norms = vector.norm(dim=-1)
        nowhere = torch.tensor(card.norms[name]) == 0  # a vector need not be added at every layer of its library
        if not torch.isfinite(norms).all() or nowhere.all() or ((norms == 0) != nowhere).any():
            raise LibraryError(f"{path}: {name} has a layer that is zero or not finite; build the library again")


def _check_doses(path: Path, card: LibraryCard) -> None:
    """Raise unless the card's default doses are those that calibration found for these vectors."""
    try:
        record = Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise LibraryError(f"{path} is not a valid record: {in_one_line(error)}; build the library again") from error
    found = {name: one.dose for name, one in record.vectors.items()}
    given = {name: dose for name, dose in card.default_doses.items() if name in card.origins and name not in found}
    if {**found, **given} != card.default_doses or record.vectors_sha256 != card.sha256[VECTORS_FILE]:
        raise LibraryError(
            f"{path} found other doses, or doses of other vectors, than its card has; build the library again"
        )
