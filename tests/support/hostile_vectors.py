"""Files of vectors that are torn, lie, claim a terabyte, or do harm."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file

HIDDEN, DEPTH = 64, 6
_TOLD_NAN = '{"model": "", "fingerprint": "", "vectors": {"v": {"default_dose": NaN}}}'


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def control_vector(path: Path, layers: dict[int, torch.Tensor], architecture: str = "controlvector") -> None:
    """Write a .gguf file as repeng does."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(layers))
    for layer, row in layers.items():
        writer.add_tensor(f"direction.{layer}", row.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Harmful:
    """Runs code when it is unpickled: makes the file `harmed` where it is run."""

    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def hostile(folder: Path) -> dict[str, Path]:
    """Write files that are torn, lie, or do harm."""
    huge = json.dumps({"v": {"dtype": "F32", "shape": [250_000_000_000], "data_offsets": [0, 10**12]}}).encode()
    (folder / "huge.safetensors").write_bytes(struct.pack("<Q", len(huge)) + huge)
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 10**12) + b"{}")
    save_file({"v": drawn(HIDDEN)}, folder / "whole.safetensors")
    (folder / "torn.safetensors").write_bytes((folder / "whole.safetensors").read_bytes()[:-9])
    np.save(folder / "whole.npy", drawn(HIDDEN).numpy())
    whole = (folder / "whole.npy").read_bytes()
    (folder / "torn.npy").write_bytes(whole[:-9])
    (folder / "huge.npy").write_bytes(whole.replace(b"(64,), ", b"(250000000000,), ").replace(b" " * 10, b"", 1))
    np.save(folder / "pickle.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    np.savez(folder / "pickle.npz", v=np.array([Harmful()], dtype=object), allow_pickle=True)
    np.savez_compressed(folder / "bomb.npz", v=np.zeros(10_000_000, dtype=np.float32))
    torch.save(Harmful(), folder / "code.pt")
    (folder / "code2.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save(drawn(1).expand(10**12), folder / "endless.pt")
    torch.save(drawn(DEPTH, HIDDEN), folder / "whole.pt")
    (folder / "torn.pt").write_bytes((folder / "whole.pt").read_bytes()[:-99])
    control_vector(folder / "whole.gguf", {2: drawn(HIDDEN)})
    (folder / "torn.gguf").write_bytes((folder / "whole.gguf").read_bytes()[:-99])
    (folder / "lies.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60))
    control_vector(folder / "llama.gguf", {2: drawn(HIDDEN)}, architecture="llama")
    torch.save(torch.full((HIDDEN,), torch.nan), folder / "nan.pt")
    torch.save(torch.zeros(HIDDEN), folder / "zero.pt")
    torch.save(drawn(HIDDEN + 1), folder / "wide.pt")
    torch.save(torch.ones(HIDDEN, dtype=torch.int64), folder / "whole_numbers.pt")
    torch.save(["words"], folder / "words.pt")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "v.txt").write_text("1 2 3")
    few = torch.ones(1).half().expand(1 << 38)
    torch.save({"calm": {"vectors": {2: few}, "norms": {2: 1.0}}}, folder / "endless_norms.pt")
    control_vector(folder / "huge.gguf", {2: drawn(HIDDEN)})
    told = (folder / "huge.gguf").read_bytes()
    (folder / "huge.gguf").write_bytes(told.replace(struct.pack("<Q", HIDDEN), struct.pack("<Q", 1 << 38)))
    torch.save({"layer_2": drawn(HIDDEN).to_sparse()}, folder / "sparse.pt")
    torch.save({"layer_2": torch.ones(HIDDEN, device="meta")}, folder / "nowhere.pt")
    save_file({"v": drawn(HIDDEN)}, folder / "told.safetensors", {"self_steering": _TOLD_NAN})
    torch.save({"v": drawn(HIDDEN)}, folder / "whole.pth")
    with zipfile.ZipFile(folder / "whole.pth") as whole_file, zipfile.ZipFile(folder / "inside.pth", "w") as made:
        for name in whole_file.namelist():
            made.writestr(name, pickle.dumps(Harmful()) if name.endswith("data.pkl") else whole_file.read(name))
    return {path.name: path for path in folder.iterdir() if path.stem != "whole"}
