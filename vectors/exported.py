"""Vectors of a library as files of other tools."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import torch
from gguf import GGUFWriter
from safetensors.torch import save

from self_steering.vectors.card import LibraryError
from self_steering.vectors.files import write_file
from self_steering.vectors.foreign import METADATA_KEY, Note, NotedVector
from self_steering.vectors.library import Library

Format = Literal["safetensors", "gguf", "steering-vectors"]
_SUFFIX: dict[Format, str] = {"safetensors": ".safetensors", "gguf": ".gguf", "steering-vectors": ".pt"}


def export_vectors(library: Library, names: Sequence[str], form: Format, out: Path) -> list[Path]:
    """Write vectors of a library for other tools; strength 1 there is the vector itself, and dose 1.0 here its default dose.

    `safetensors`: one file `vectors.safetensors` with a tensor [hidden] called NAME.LAYER for each layer, and in its metadata how
    they are meant. `gguf`: a control vector a name, as repeng and llama.cpp read it. `steering-vectors`: a dict a name, of which
    `SteeringVector(**torch.load(path))` is that package's object; it has no place for a default dose.

    Args:
        library: The library.
        names: Its vectors.
        form: Of which kind.
        out: Folder to write to; files of these names are replaced.

    Returns:
        The files, each complete.

    Raises:
        LibraryError: The library has no such vector, or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise LibraryError(f"{out} is a file; name a folder")
    if form == "safetensors":
        files = {f"vectors{_SUFFIX[form]}": _safetensors(library, names)}
    else:
        made = _gguf if form == "gguf" else _torch
        files = {f"{name}{_SUFFIX[form]}": made(library, name, out) for name in names}
    for file, data in files.items():
        write_file(out / file, data)
    return [out / file for file in files]


def _layers(library: Library, name: str) -> dict[int, torch.Tensor]:
    rows = zip(library.card.layers, library.vector(name), strict=True)
    return {layer: row.clone() for layer, row in rows if row.any()}


def _note(library: Library, names: Sequence[str]) -> str:
    card = library.card
    said = {name: NotedVector(default_dose=card.default_doses[name], entry=card.own.get(name)) for name in names}
    return Note(model=card.model, fingerprint=card.fingerprint, vectors=said).model_dump_json()


def _safetensors(library: Library, names: Sequence[str]) -> bytes:
    tensors = {f"{name}.{layer}": row for name in names for layer, row in _layers(library, name).items()}
    return save(tensors, {METADATA_KEY: _note(library, names)})


def _torch(library: Library, name: str, _: Path) -> bytes:
    stream = BytesIO()
    torch.save({"layer_activations": _layers(library, name), "layer_type": "decoder_block"}, stream)
    return stream.getvalue()


def _gguf(library: Library, name: str, out: Path) -> bytes:
    layers = _layers(library, name)
    out.mkdir(parents=True, exist_ok=True)
    scratch = out / f".{name}.gguf"
    try:
        writer = GGUFWriter(scratch, "controlvector")
        writer.add_string("controlvector.model_hint", library.card.model)
        writer.add_uint32("controlvector.layer_count", len(layers))
        writer.add_string(f"{METADATA_KEY}.vectors", _note(library, [name]))
        for layer, row in layers.items():
            writer.add_tensor(f"direction.{layer}", row.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return scratch.read_bytes()
    finally:
        scratch.unlink(missing_ok=True)
