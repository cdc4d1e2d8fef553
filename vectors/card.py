"""The card of a vector library: what it is and which model it was made for. Imports no torch."""

import hashlib
import os
from collections.abc import Iterable
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from self_steering.vectors.catalogue import VectorEntry, catalogue, entry_of
from self_steering.vectors.shown import OneLine, clipped, in_one_line, shown

Construction = Literal["difference", "centred", "denoised"]
Origin = Literal[Construction, "pairs", "imported"]

VECTORS_FILE, CARD_FILE, CALIBRATION_FILE = "vectors.safetensors", "card.json", "calibration.json"
REPORT_FILE, PAGE_FILE = "report.json", "report.html"
# Beside a library, bound to its vectors: the card of one that was made before does not know it.
NEUTRAL_FILE = "neutral.safetensors"
NO_NEUTRAL = (
    "clamp, ablate and the gauge start from the neutral stories' mean, which the library of {model} lacks; measure it with "
    "`self-steering vectors neutral FOLDER --model {model}`, or leave them out"
)
_CHANGED = 64  # elements of the residual stream


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
        construction: How vectors are made from activations (`vectors.construct`), or from pairs of texts; or `imported`.
        scaled_to: Norm that each layer's vector is scaled to; None if it is left as it is.
        skipped_tokens: Tokens at the start of each story that do not count.
        corpus: Hash of the stories, or of the pairs.
        norms: For each vector, its norm at each layer; 0 where it is not added.
        residual_norms: Mean norm of the residual stream at each layer over the neutral stories.
        default_doses: For each vector, the multiple of it that dose 1.0 adds.
        faults: For each vector that is marked bad, why.
        origins: For each vector that was imported, from where, and how that was meant.
        entries: What the library says of its vectors; of those that it says nothing of the catalogue's word counts.
        sha256: Hash of each file of the library but this one. With `calibration.json` among them the default doses were
            found by calibration; otherwise they are one fixed number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[2] = 2
    model: OneLine
    revision: OneLine | None
    fingerprint: OneLine
    hidden: int
    layers: list[int]
    construction: Origin
    scaled_to: float | None
    skipped_tokens: int
    corpus: OneLine
    norms: dict[str, list[float]]
    residual_norms: list[float]
    default_doses: dict[str, float]
    faults: dict[str, list[str]]
    origins: dict[str, str] = {}
    entries: dict[str, VectorEntry] = {}
    sha256: dict[str, str]

    @field_validator("sha256")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - {VECTORS_FILE, REPORT_FILE, CALIBRATION_FILE})
        if unknown or VECTORS_FILE not in value:
            raise ValueError(
                f"hashes of {', '.join(sorted(value)) or 'no file'}; expected {VECTORS_FILE} and its evidence"
            )
        return value

    @field_validator("layers")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if not value or value[0] < 0 or any(after <= before for before, after in pairwise(value)):
            raise ValueError(f"layers {value}; expected whole numbers from 0 on, each larger than the one before")
        return value

    @model_validator(mode="after")
    def _described(self) -> Self:
        if odd := sorted(set(self.entries) - set(self.default_doses)):
            raise ValueError(f"the card describes {', '.join(odd)}, which it lacks")
        norms = {**self.norms, "the residual stream": self.residual_norms}
        if odd := sorted(name for name, by_layer in norms.items() if len(by_layer) != len(self.layers)):
            raise ValueError(f"norms of {', '.join(odd)} are not those of the {len(self.layers)} layers")
        return self

    @property
    def own(self) -> dict[str, VectorEntry]:
        """What is to be said of the vectors that the catalogue lacks, or that this library tells otherwise."""
        names = [name for name in self.default_doses if name in self.entries or name not in catalogue()]
        return {name: entry_of(name, self.entries) for name in names}

    @property
    def calibrated(self) -> bool:
        """Whether the default doses were found by calibration."""
        return CALIBRATION_FILE in self.sha256

    def smallest_dose(self, names: Iterable[str], rounding: float) -> float:
        """Return the smallest dose that has an effect, whichever of `names` is taken.

        A smaller one is lost where it is added: of h + dose·u·v, u being the multiple that dose 1.0 adds, nearly all elements
        are rounded back to h. An element changes if what is added to it is not much less than its unit of rounding. Where the
        norms are in the ratio r = dose·u·‖v‖ / (rounding·‖h‖) below 1, a share of about r of the elements do: enough of them are
        `_CHANGED` of all. One number for all names, so that it does not tell which vector a label stands for.

        Args:
            names: Vectors.
            rounding: Half the distance from 1 to the next number in the model's precision.
        """
        share = min(1.0, _CHANGED / self.hidden)
        doses = [
            share * rounding * held / (abs(self.default_doses[name]) * norm)
            for name in names
            for held, norm in zip(self.residual_norms, self.norms[name], strict=True)
            if norm and self.default_doses[name]
        ]
        return max(doses, default=0.0)


def library_folder(name: str) -> Path:
    """Return the absolute folder of a library that a user named.

    Inspect changes into a task file's folder before it runs the task, so a relative name is looked up where the shell is
    (`PWD`) too.

    Raises:
        LibraryError: There is no such folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise LibraryError(f"library={shown(name)}; name a folder, or leave it out for the shipped library")
    path = Path(name).expanduser()
    places = [Path.cwd(), Path(os.environ.get("PWD", "."))]
    for place in places:
        if _is_folder(place / path):
            return (place / path).resolve()
    tried = ", ".join(dict.fromkeys(clipped(str((place / path).absolute())) for place in places))
    raise LibraryError(
        f"no library folder {shown(name)} (looked for {tried}); build one with `self-steering vectors build`"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long for a file system
        return False


def read_card(folder: Path) -> LibraryCard:
    """Read the card of the library in `folder`.

    Raises:
        LibraryError: There is no card, or it is torn.
    """
    path = folder / CARD_FILE
    try:
        return LibraryCard.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise LibraryError(
            f"{folder} holds no library: {CARD_FILE} is missing; build one there, or name another"
        ) from None
    except OSError as error:
        raise LibraryError(
            f"{path} cannot be read: {in_one_line(error)}; build the library again, or name another"
        ) from error
    except ValidationError as error:
        raise LibraryError(f"{path} is not a valid card: {in_one_line(error)}; build the library again") from error


def card_hash(folder: Path) -> str | None:
    """Return a hash of the card in `folder`, which holds those of the library's other files; None where it cannot be read.

    Where the library has neutral means, they are in it too.
    """
    try:
        digest = hashlib.sha256((folder / CARD_FILE).read_bytes())
        neutral = folder / NEUTRAL_FILE
        digest.update(neutral.read_bytes() if neutral.exists() else b"")
    except OSError:
        return None
    return digest.hexdigest()


def find_library(fingerprint: str) -> Path:
    """Return the shipped library that was made for the model with this fingerprint.

    Raises:
        LibraryError: There is none; the message says how to build it.
    """
    root = Path(str(resources.files(__package__).joinpath("libraries")))
    folders = sorted(path.parent for path in root.glob(f"*/{CARD_FILE}"))
    for folder in folders:
        if read_card(folder).fingerprint == fingerprint:
            return folder
    shipped = ", ".join(read_card(folder).model for folder in folders) or "none"
    raise LibraryError(
        f"no shipped library fits this model (weights {fingerprint}; shipped: {shipped}); build one with `self-steering "
        "vectors build --model MODEL --out FOLDER` and pass -T library=FOLDER"
    )
