"""The adapter's files: its weights, PEFT's configuration, and the card that says how it was trained."""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "adapter_model.safetensors", "adapter_config.json", "card.json"


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file and the remedy."""


class Loss(BaseModel):
    """Loss on dialogues that were not trained on, each a mean over tokens, in nats.

    Attributes:
        form: Cross-entropy of what is learnt as it stands: calls, where prose begins, and where turns end.
        prose: Divergence KL(base ‖ adapted) of the next token in prose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: float
    prose: float


class AdapterCard(BaseModel):
    """How the adapter was trained.

    Attributes:
        format: Version of this format.
        base: Name of the model that it was trained on.
        base_fingerprint: Fingerprint of that model's weights.
        fingerprint: Fingerprint of the weights with the adapter merged in.
        sha256: Hash of the adapter's weights and of its configuration.
        seed: Seed of dialogues, initial weights and order.
        layers: First and last decoder layer that it changes.
        rank: Rank of each change.
        dialogues: Number of dialogues of each kind.
        tokens: Tokens of all dialogues, and of those the ones whose form and whose prose is learnt.
        vectors: For each vector, how many take calls name it.
        labels: The same for opaque labels.
        doses: How many take calls have each dose; `default` where it is left out.
        framings: How many take calls are made in each framing.
        loss_before: Held-out loss of the base model.
        loss_after: Held-out loss with the adapter, as it is saved.
        seconds: What training took.
        versions: Versions of the libraries that trained it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    base: str
    base_fingerprint: str
    fingerprint: str
    sha256: dict[str, str]
    seed: int
    layers: tuple[int, int]
    rank: int
    dialogues: dict[str, int]
    tokens: dict[str, int]
    vectors: dict[str, int]
    labels: dict[str, int]
    doses: dict[str, int]
    framings: dict[str, int]
    loss_before: Loss
    loss_after: Loss
    seconds: int
    versions: dict[str, str]


def shipped_adapter() -> Path:
    """Return the folder of the bundled model's adapter."""
    return Path(str(resources.files(__package__).joinpath("weights")))


def read_card(folder: Path) -> AdapterCard:
    """Read the card of the adapter in `folder`, after a look at whether its files are those that it describes.

    Raises:
        AdapterError: A file is missing, torn, or another than the card's.
    """
    path = folder / CARD_FILE
    try:
        card = AdapterCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise AdapterError(f"{path} is no adapter's card ({error}); {REMEDY}") from error
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        try:
            found = content_hash(folder / name)
        except OSError as error:
            raise AdapterError(f"{folder / name} cannot be read ({error}); {REMEDY}") from error
        if found != card.sha256.get(name):
            raise AdapterError(
                f"{folder / name} is not the file that its card describes (sha256 {found}, expected "
                f"{card.sha256.get(name)}); {REMEDY}"
            )
    return card


def content_hash(path: Path) -> str:
    """Return the hash that a card records of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


REMEDY = "install the package again, or train the adapter again with `self-steering adapter train --out FOLDER`"
