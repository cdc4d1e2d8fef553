"""Vectors from elsewhere: files of other tools, and what must be known of a tensor before it may be added to a model.

Here a vector is added to the residual stream after decoder layer L, counted from 0: h' = h + strength · v. A tensor in a file is
such a vector only once it is known that it is to be added, where, how its layers are counted, and what its length means. Some say
so: control vectors in .gguf (repeng, llama.cpp), steering-vectors' objects, files that were exported here. Others leave it to
whoever imports them, and are refused with the question until it is answered. Nothing in a file is run.
"""

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch.serialization import safe_globals

from self_steering.vectors.card import CARD_FILE, LibraryError
from self_steering.vectors.catalogue import VectorEntry
from self_steering.vectors.library import load_library
from self_steering.vectors.shown import clipped, in_one_line, shown

Hook = Literal["resid_post", "resid_pre"]
Counting = Literal["blocks", "hidden_states"]
RECORDED = "recorded"
METADATA_KEY = "self_steering"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_LAYER = re.compile(
    r"(?:(?!(?:layers?|blocks?|direction)[./:])(?P<name>.+?)[./:])?(?:(?:layers?|blocks?|direction)[._-]?)?(?P<layer>\d{1,4})"
)
_SAE = {"W_dec": False, "decoder.weight": True}  # whether its features are columns
_SAE_HOOK = re.compile(r"blocks\.(?P<layer>\d+)\.hook_(?P<hook>resid_(?:pre|post))")
_PERSONA = re.compile(r"(?P<name>.+)_(?:response_avg|prompt_avg|prompt_last)_diff")
_INSIDE = ("vectors", "steering_vectors", "directions", "vector", "direction")
_NORMS = "norms"
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MOST_ROWS = 1 << 24

Layered = torch.Tensor | Mapping[int, torch.Tensor]


class Conventions(BaseModel):
    """How a file's tensors are meant; None where it is not said.

    Attributes:
        operation: `add`: h' = h + strength · v; there is no other here.
        hook: `resid_post`: after the layer; `resid_pre`: before it, which is after the one before.
        counting: `blocks`: layer 0 is the first decoder layer; `hidden_states`: 0 is the embedding, and i is what layer i - 1 (of
            blocks) puts out.
        layers: The layers of the tensor's rows, counted so; or those to take, where the file has all of them or names them.
        scale: Multiple of the stored tensor that is the vector.
        norm: Length that each layer's vector is scaled to; `recorded`: that which the file records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    operation: Literal["add"] | None = None
    hook: Hook | None = None
    counting: Counting | None = None
    layers: tuple[int, ...] | None = None
    scale: float | None = None
    norm: float | Literal["recorded"] | None = None

    def block(self, index: int, depth: int) -> int:
        """Return the decoder layer, counted from 0, after which the vector of layer `index` is added.

        Raises:
            ValueError: The model has none there.
        """
        block = index - 1 if self.counting == "hidden_states" or self.hook == "resid_pre" else index
        if block == -1:
            raise ValueError(f"layer {index} is the embedding, before the first decoder layer; name layers from 1")
        if self.counting == "hidden_states" and index == depth:
            raise ValueError(f"hidden state {index} is that after the final norm, not a decoder layer's output")
        if not 0 <= block < depth:
            raise ValueError(f"layer {index}, of {depth} decoder layers, is not in the model")
        return block


# What the formats say that say it.
_SAID = Conventions(operation="add", hook="resid_post", counting="blocks", scale=1.0)


@dataclass(frozen=True)
class ForeignVector:
    """One vector, at its place in a model.

    Attributes:
        name: Its name.
        layers: For each decoder layer, counted from 0, what is added there at strength 1, [hidden], float32.
        entry: What its file says of it.
        default_dose: Multiple that dose 1.0 adds, as far as it was found for this very model.
    """

    name: str
    layers: Mapping[int, torch.Tensor]
    entry: VectorEntry | None = None
    default_dose: float | None = None


@dataclass(frozen=True)
class _Tensors:
    """What is stored for one vector: [hidden], [layers, hidden], or by layer; and what the file says of it."""

    values: Layered
    norms: Mapping[int, float] = field(default_factory=dict)
    entry: VectorEntry | None = None
    default_dose: float | None = None


@dataclass(frozen=True)
class ForeignFile:
    """An opened file.

    Attributes:
        path: The file.
        tensors: What it holds, by name.
        said: How it is meant: what the file says and what was told.
        fingerprint: The model that its default doses were found for.
    """

    path: Path
    tensors: Mapping[str, _Tensors]
    said: Conventions
    fingerprint: str | None = None

    def place(self, hidden: int, depth: int, fingerprint: str | None = None) -> list[ForeignVector]:
        """Return its vectors at their places in a model.

        Args:
            hidden: Width of the model's residual stream.
            depth: Its number of decoder layers.
            fingerprint: The model's; default doses that were found for another one are left out.

        Raises:
            LibraryError: A tensor does not fit, is zero, or is not finite.
        """
        found = []
        for name, tensors in self.tensors.items():
            try:
                layers = _placed(tensors, self.said, hidden, depth)
            except ValueError as error:
                raise LibraryError(f"{self.path}: {name}: {error}") from error
            dose = tensors.default_dose if self.fingerprint == fingerprint else None
            found.append(ForeignVector(name, layers, tensors.entry, dose))
        return found


def open_foreign(
    path: Path, told: Conventions | None = None, *, rows: Sequence[int] = (), name: str | None = None
) -> ForeignFile:
    """Open a file with vectors from elsewhere, once it is known how they are meant.

    Args:
        path: A .safetensors, .npy, .npz, .pt or .gguf file; a folder of SAELens; or a vector library.
        told: How its tensors are meant, as far as the file does not say.
        rows: Features of a sparse autoencoder's decoder to take.
        name: What to call its one vector; default what the file, or its name, says.

    Raises:
        LibraryError: The file cannot be read, holds no vectors, or it is not said how they are meant; the message has the question.
    """
    told = told or Conventions()
    try:
        tensors, said, fingerprint = _reader(path)(path, rows)
    except LibraryError:
        raise
    except Exception as error:  # readers of six formats fail on torn and hostile files in ways of their own
        raise LibraryError(f"{path} cannot be read as {path.suffix or 'a folder'}: {in_one_line(error)}") from error
    if rows and not any(key.startswith("feature_") for key in tensors):
        raise LibraryError(f"{path} has no decoder of a sparse autoencoder ({', '.join(_SAE)}); leave --sae-rows out")
    if name is not None:
        if len(tensors) != 1:
            raise LibraryError(f"{path} has {len(tensors)} vectors ({_some(tensors)}); a name can be given to one only")
        tensors = {name: next(iter(tensors.values()))}
    for each, stored in tensors.items():
        if not NAME.fullmatch(each):
            raise LibraryError(
                f"{path}: {shown(each)} is no name for a vector: use letters, digits, `_`, `-` and `.`; give one with --name"
            )
        if not _plain(stored.values):
            raise LibraryError(f"{path}: {each} is no plain tensor of floating-point numbers; save it as one")
    return ForeignFile(path, tensors, _agreed(path, tensors, said, told), fingerprint)


def _plain(values: Layered) -> bool:
    """Return whether tensors hold each of their numbers: one that repeats a few by its strides may claim any size."""
    return all(
        one.layout == torch.strided
        and one.device.type == "cpu"
        and one.dtype in _FLOATS
        and one.numel() * one.itemsize <= one.untyped_storage().nbytes()
        for one in (values.values() if isinstance(values, Mapping) else (values,))
    )


def _agreed(path: Path, tensors: Mapping[str, _Tensors], said: Conventions, told: Conventions) -> Conventions:
    """Return what file and user say together.

    Raises:
        LibraryError: They contradict each other, or neither answers a question.
    """
    merged: dict[str, Any] = {}
    for what in Conventions.model_fields:
        ours, theirs = getattr(told, what), getattr(said, what)
        if None not in (ours, theirs) and ours != theirs and what in ("operation", "hook", "counting"):
            raise LibraryError(f"{path} says {what} {theirs}, and {ours} was told; leave --{what} out")
        merged[what] = theirs if ours is None else ours
    if told.norm is not None:
        merged["scale"] = None
    if merged["counting"] == "hidden_states" and merged["hook"] is None:
        merged["hook"] = "resid_post"  # a hidden state is what a layer puts out
    both = Conventions(**merged)
    bare = any(isinstance(one.values, torch.Tensor) for one in tensors.values())
    questions = {
        "is the vector to be added to the residual stream (--operation add)?": both.operation is None,
        "is that after layer L (--hook resid_post) or before it (--hook resid_pre)?": both.hook is None,
        "is layer 0 the first decoder layer (--counting blocks) or the embedding (--counting hidden_states)?": both.counting
        is None,
        "which layers (such as --layers 12, or 10-18)?": both.layers is None and bare,
        "is strength 1 the tensor as it is stored (--scale 1), or scaled to a length in each layer (--norm 4)?": None
        is both.scale
        is both.norm,
    }
    if missing := [question for question, open_ in questions.items() if open_]:
        raise LibraryError(f"{path} does not say how its vectors are meant: {' '.join(missing)}")
    recorded = both.norm == RECORDED
    if recorded and not all(one.norms for one in tensors.values()):
        raise LibraryError(f"{path} records no norms; give a length, such as --norm 4")
    if both.norm is None and (odd := _other_norms(tensors)):
        raise LibraryError(
            f"{path} records norms that are not those of its vectors ({odd}): are these to be scaled to them (--norm recorded), "
            "or to a length (--norm 4)?"
        )
    return both


def _other_norms(tensors: Mapping[str, _Tensors]) -> str:
    for name, one in tensors.items():
        if one.norms and isinstance(one.values, Mapping):
            for layer, norm in one.norms.items():
                held = one.values.get(layer)
                if held is not None and not math.isclose(float(held.float().norm()), norm, rel_tol=1e-2):
                    return f"{name}, layer {layer}: {float(held.float().norm()):g} and {norm:g}"
    return ""


def _placed(tensors: _Tensors, said: Conventions, hidden: int, depth: int) -> dict[int, torch.Tensor]:
    """Return one vector by decoder layer."""
    rows = _by_layer(tensors.values, said, depth)
    if said.layers is not None:
        lacking = [layer for layer in said.layers if layer not in rows]
        if lacking:
            raise ValueError(f"it has no layer {', '.join(map(str, lacking))}; it has {_some(rows)}")
        rows = {layer: rows[layer] for layer in said.layers}
    placed = {}
    for index, stored in sorted(rows.items()):
        if stored.dim() != 1 or len(stored) != hidden:
            raise ValueError(f"layer {index} has shape {tuple(stored.shape)}, the model's residual stream {hidden}")
        vector = stored.detach().to("cpu", torch.float32).clone()
        if said.norm is not None:
            if index not in tensors.norms and said.norm == RECORDED:
                raise ValueError(f"layer {index} has no recorded norm; give a length, such as --norm 4")
            vector *= (tensors.norms[index] if said.norm == RECORDED else float(said.norm)) / vector.norm()
        elif said.scale is not None:
            vector *= said.scale
        if not torch.isfinite(vector.norm()) or not vector.any():
            raise ValueError(f"layer {index} is zero or not finite")
        placed[said.block(index, depth)] = vector
    return placed


def _by_layer(values: Layered, said: Conventions, depth: int) -> Mapping[int, torch.Tensor]:
    if isinstance(values, Mapping):
        return values
    layers = said.layers or ()
    rows = values[None] if values.dim() == 1 else values
    if rows.dim() != 2:
        raise ValueError(f"it has shape {tuple(values.shape)}; expected [hidden] or [layers, hidden]")
    everywhere = depth + 1 if said.counting == "hidden_states" else depth
    if len(rows) == len(layers):
        return dict(zip(layers, rows, strict=True))
    if len(rows) == everywhere:
        return dict(enumerate(rows))
    raise ValueError(
        f"it has {len(rows)} rows for {len(layers)} layers; name a layer for each, or some of all {everywhere} that the model has"
    )


# ---------------------------------------------------------------- readers

_Read = tuple[dict[str, _Tensors], Conventions, str | None]


def _reader(path: Path) -> Callable[[Path, Sequence[int]], _Read]:
    if path.is_dir():
        return _library if (path / CARD_FILE).exists() else _saelens
    if path.suffix not in _READERS:
        raise LibraryError(
            f"{path} is no file that vectors are read from; name a {', '.join(_READERS)} file, a folder of SAELens, or a library"
        )
    if not path.is_file():
        raise LibraryError(f"{path} does not exist; name a file with vectors")
    return _READERS[path.suffix]


def _library(path: Path, _: Sequence[int]) -> _Read:
    """Read a library of this project's own."""
    library = load_library(path)
    card = library.card
    found = {}
    for name in library.names:
        held = {layer: row for layer, row in zip(card.layers, library.vectors[name], strict=True) if row.any()}
        found[name] = _Tensors(held, {}, card.entries.get(name), card.default_doses[name])
    return found, _SAID, card.fingerprint


def _safetensors(path: Path, rows: Sequence[int]) -> _Read:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
    except SafetensorError as error:
        raise LibraryError(f"{path} is no whole safetensors file: {in_one_line(error)}") from error
    return _told(_content(path, content, rows), metadata.get(METADATA_KEY))


def _numpy(path: Path, rows: Sequence[int]) -> _Read:
    if path.suffix == ".npy":
        return _content(path, _array(path.read_bytes()), rows)
    with zipfile.ZipFile(path) as archive:
        if any(info.file_size > 100 * max(info.compress_size, 1) for info in archive.infolist()):
            raise LibraryError(f"{path} would unpack to far more than it holds")
        content = {info.filename.removesuffix(".npy"): _array(archive.read(info)) for info in archive.infolist()}
    return _content(path, content, rows)


def _array(data: bytes) -> torch.Tensor:
    """Return an array, once its header is known to claim no more than there is."""
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if dtype.hasobject or dtype.kind != "f" or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"its header claims {shape} of {dtype}, which it does not hold")
    stream.seek(0)
    return torch.from_numpy(np.load(stream, allow_pickle=False).astype(dtype.newbyteorder("=")))


class _SteeringVector:
    """Takes the place of steering-vectors' object of this name, whose package need not be installed; only its fields are read."""

    layer_activations: Mapping[int, torch.Tensor]
    layer_type: str


def _torch(path: Path, rows: Sequence[int]) -> _Read:
    with safe_globals([(_SteeringVector, "steering_vectors.steering_vector.SteeringVector")]):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception as error:
            raise LibraryError(
                f"{path} is torn, or holds more than tensors, which could run code; save its tensors alone with torch.save"
            ) from error
    if isinstance(content, _SteeringVector):
        content = vars(content)
    if isinstance(content, Mapping) and {"layer_activations", "layer_type"} <= content.keys():
        if content["layer_type"] != "decoder_block":
            raise LibraryError(
                f"{path} is added to {shown(content['layer_type'])}; only vectors of the residual stream, decoder_block, are taken"
            )
        return _one(path.stem, _checked(content["layer_activations"])), _SAID, None
    if (persona := _PERSONA.fullmatch(path.stem)) and isinstance(content, torch.Tensor):
        said = Conventions(operation="add", counting="hidden_states", scale=1.0)
        return _one(persona["name"], content), said, None
    return _content(path, content, rows)


def _gguf(path: Path, _: Sequence[int]) -> _Read:
    reader = GGUFReader(path)
    kind = reader.get_field("general.architecture")
    if kind is None or kind.contents() != "controlvector":
        raise LibraryError(f"{path} is no control vector: its architecture is {kind and shown(kind.contents())}")
    layers = {}
    for tensor in reader.tensors:
        match = re.fullmatch(r"direction\.(\d+)", tensor.name)
        if not match:
            continue
        if tensor.tensor_type not in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            raise LibraryError(f"{path}: {tensor.name} is quantised; export it in F32")
        layers[int(match[1])] = torch.from_numpy(np.array(tensor.data))
    note = reader.get_field(f"{METADATA_KEY}.vectors")
    return _told((_one(path.stem, layers), _SAID, None), None if note is None else str(note.contents()))


_READERS: Mapping[str, Callable[[Path, Sequence[int]], _Read]] = {
    ".safetensors": _safetensors,
    ".npy": _numpy,
    ".npz": _numpy,
    ".pt": _torch,
    ".pth": _torch,
    ".gguf": _gguf,
}


def _saelens(path: Path, rows: Sequence[int]) -> _Read:
    """Read a folder of SAELens: `cfg.json` beside the weights says where the autoencoder's input is taken."""
    weights = next((path / name for name in ("sae_weights.safetensors",) if (path / name).is_file()), None)
    if weights is None:
        raise LibraryError(f"{path} is no library, and no folder of SAELens with sae_weights.safetensors; name a file")
    found, said, fingerprint = _safetensors(weights, rows)
    settings = json.loads((path / "cfg.json").read_text(encoding="utf-8"))
    name = (settings.get("metadata") or {}).get("hook_name") or settings.get("hook_name")
    match = _SAE_HOOK.fullmatch(str(name))
    if match is None:
        raise LibraryError(f"{path} is of {shown(name)}; only autoencoders of the residual stream are taken")
    hook: Hook = "resid_pre" if match["hook"] == "resid_pre" else "resid_post"
    update = {"hook": hook, "counting": "blocks", "layers": (int(match["layer"]),)}
    return found, said.model_copy(update=update), fingerprint


def _told(read: _Read, note: str | None) -> _Read:
    """Return what was read with what an export from here says of it."""
    if note is None:
        return read
    told = Note.model_validate_json(note)
    found = dict(zip(told.vectors, read[0].values(), strict=False)) if len(read[0]) == 1 else read[0]
    if set(found) != set(told.vectors):
        raise LibraryError(f"it holds {_some(found)}, and says that it holds {_some(told.vectors)}")
    tensors = {
        name: replace(found[name], entry=one.entry, default_dose=one.default_dose) for name, one in told.vectors.items()
    }
    return tensors, told.conventions, told.fingerprint


class NotedVector(BaseModel):
    """What an export says of one vector."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    default_dose: float
    entry: VectorEntry | None = None


class Note(BaseModel):
    """What an export from here says beside its tensors.

    Attributes:
        model: Name of the model.
        fingerprint: Its fingerprint: that for which the default doses were found.
        conventions: How the tensors are meant.
        vectors: What is said of each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    fingerprint: str
    conventions: Conventions = _SAID
    vectors: dict[str, NotedVector]


def _content(path: Path, content: object, rows: Sequence[int]) -> _Read:
    """Return the vectors among what a file without a format of its own holds."""
    if isinstance(content, torch.Tensor):
        return _one(path.stem, content), Conventions(), None
    if not isinstance(content, Mapping):
        raise LibraryError(f"{path} holds {type(content).__name__}, no tensors; save a tensor, or a dict of tensors")
    sae = next((key for key in _SAE if isinstance(content.get(key), torch.Tensor)), None)
    if sae is not None:
        return _features(path, content[sae].T if _SAE[sae] else content[sae], rows), Conventions(), None
    found = _nested(path.stem, content)
    if not found:
        raise LibraryError(f"{path} holds no vectors; it has {_some(content)}")
    return found, Conventions(), None


def _features(path: Path, decoder: torch.Tensor, rows: Sequence[int]) -> dict[str, _Tensors]:
    if not rows:
        raise LibraryError(
            f"{path} is a sparse autoencoder of {len(decoder)} features; which are to be vectors (such as --sae-rows 1234,77)?"
        )
    outside = [row for row in rows if not 0 <= row < min(len(decoder), _MOST_ROWS)]
    if outside or decoder.dim() != 2:
        raise LibraryError(f"{path} has no features {outside}; its decoder has shape {tuple(decoder.shape)}")
    return {f"feature_{row}": _Tensors(decoder[row]) for row in rows}


def _nested(name: str, content: Mapping[Any, Any]) -> dict[str, _Tensors]:
    """Return the vectors in a dict: by layer, by name, or by name and layer, with or without norms beside them."""
    inside = next((key for key in _INSIDE if isinstance(content.get(key), Mapping)), None)
    if inside is not None:
        norms = content.get(_NORMS)
        within = _nested(name, content[inside])
        return {
            each: replace(one, norms=_numbers(norms.get(each, norms))) if isinstance(norms, Mapping) else one
            for each, one in within.items()
        }
    found: dict[str, _Tensors] = {}
    by_layer: dict[str, dict[int, torch.Tensor]] = {}
    norms_of: dict[str, dict[int, float]] = {}
    for key, value in content.items():
        match = _LAYER.fullmatch(str(key))
        tensor = (
            next((value[k] for k in ("vector", "direction") if k in value), None)
            if isinstance(value, Mapping)
            else value
        )
        if match and isinstance(tensor, torch.Tensor):
            whose, layer = match["name"] or name, int(match["layer"])
            by_layer.setdefault(whose, {})[layer] = tensor
            if isinstance(value, Mapping) and isinstance(value.get("norm"), int | float):
                norms_of.setdefault(whose, {})[layer] = float(value["norm"])
        elif isinstance(value, torch.Tensor):
            found[str(key)] = _Tensors(value)
        elif isinstance(value, Mapping):
            found |= _nested(str(key), value)
    return found | {each: _Tensors(layers, norms_of.get(each, {})) for each, layers in by_layer.items()}


def _numbers(norms: object) -> dict[int, float]:
    if not isinstance(norms, Mapping):
        return {}
    pairs = [(_LAYER.fullmatch(str(key)), value) for key, value in norms.items()]
    return {int(match["layer"]): float(value) for match, value in pairs if match and isinstance(value, int | float)}


def _one(name: str, values: Layered) -> dict[str, _Tensors]:
    return {name: _Tensors(values)}


def _checked(layers: object) -> dict[int, torch.Tensor]:
    if not isinstance(layers, Mapping) or not all(
        isinstance(layer, int) and isinstance(tensor, torch.Tensor) for layer, tensor in layers.items()
    ):
        raise LibraryError("layer_activations is no dict of tensors by layer")
    return {layer: tensor.squeeze() for layer, tensor in layers.items()}


def _some(names: Any) -> str:
    listed = [str(name) for name in names]
    return clipped(", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")) or "nothing"


def told_by(**options: object) -> Conventions:
    """Return conventions that a user told.

    Raises:
        LibraryError: A value is unknown.
    """
    try:
        return Conventions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        valid = {"operation": "add", "hook": ", ".join(get_args(Hook)), "counting": ", ".join(get_args(Counting))}
        what = str(first["loc"][0])
        raise LibraryError(f"{what}={shown(first['input'])}; choose {valid.get(what, 'a number')}") from error
