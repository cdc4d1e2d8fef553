"""Good files, torn and changed at random: each is refused in one line, or read for what it then says."""

import json
import random
import shutil
import struct
import tempfile
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from inspect_ai.log import EvalLog, write_eval_log
from safetensors.torch import save_file

from self_steering.analysis.cli.vectors import _entries
from self_steering.evals.freeplay import freeplay
from self_steering.steering.bundled.adapter import CONFIG_FILE, WEIGHTS_FILE, merge_adapter
from self_steering.steering.provider import NNsightAPI
from self_steering.vectors.card import CARD_FILE, VECTORS_FILE
from self_steering.vectors.exported import Format, export_vectors
from self_steering.vectors.foreign import open_foreign, told_by
from self_steering.vectors.library import content_hash, load_library
from self_steering.vectors.making.corpus import open_corpus
from self_steering.vectors.making.pairs import read_pairs
from tests.prove.judge import MOST_SECONDS, Case, CommandError, command, fault
from tests.prove.outcome import Outcome
from tests.support.models import save_tiny_model
from tests.support.scripted import says, tiny_session_model, turn_by_turn
from tests.support.small_library import save_library, small_stories

_FINGERPRINT = "0" * 32
_HIDDEN, _DEPTH, _LOGS = 64, 6, 24
_STRANGE = (None, True, -1, 0, 1e308, 2**63, 10**400, "", "a" * 100_000, "\n\x00\u202e", [], {}, [[]] * 3, float("nan"))


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: Writes a good one into a folder, and returns what is opened: the folder, or a file in it.
        use: Opens it, and uses all that is read from it.
        files: Which files of the folder are changed, as patterns.
        times: How often it is changed.
        changed: How many of the files are changed at once.
        seconds: How long it may take to open.
    """

    make: Callable[[Path], Path]
    use: Callable[[Path], object]
    files: tuple[str, ...] = ("*",)
    times: int = 100
    changed: int = 1
    seconds: int = MOST_SECONDS


def run(seed: int = 0) -> Outcome:
    """Try every kind, each in a process of its own, as what breaks a reader may break its process."""
    failures: list[str] = []
    for name in KINDS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                failures += pool.submit(torn_and_tried, name, seed).result()
            except BrokenProcessPool:
                failures.append(f"{name}: the process that read it was killed")
    return Outcome("torn files", sum(kind.times * kind.changed for kind in KINDS.values()), failures)


def torn_and_tried(name: str, seed: int, times: int | None = None) -> list[str]:
    """Return what did not hold for a kind of file, tried so often."""
    kind = KINDS[name]
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        good = Path(temporary) / "good"
        good.mkdir()
        place = kind.make(good).relative_to(good)
        kind.use(good / place)  # what is sound is accepted; and the reader is imported before memory is measured
        for number in range(times or kind.times):
            rng = random.Random(f"torn/{seed}/{name}/{number}")
            folder = Path(temporary) / f"{number}"
            shutil.copytree(good, folder)
            files = sorted({path for pattern in kind.files for path in folder.glob(pattern)})
            title = f"{name} {number}"
            for file in rng.sample(files, kind.changed):
                how, data = torn(file.read_bytes(), rng)
                file.write_bytes(data)
                if file.name == VECTORS_FILE and (file.parent / CARD_FILE).exists():
                    _vouch(file.parent)
                title = f"{name} {number}: {file.name}, {how}"
            failures += _met(kind, folder, place, title)
            shutil.rmtree(folder)
    return failures


def _met(kind: Kind, folder: Path, place: Path, title: str) -> list[str]:
    """Use what was changed; return what is wrong with how that is met."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def attempt() -> None:
        kind.use(folder / place)
        raise CommandError(str(folder))  # what is accepted is as good as what is refused well

    found = fault(Case(title, attempt, (str(folder), place.name), seconds=kind.seconds))
    same = {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return [*([found] if found else []), *([] if same else [f"{title}: files were written or changed"])]


def _vouch(folder: Path) -> None:
    """Let a library's card vouch for its vectors, whatever they are."""
    card = json.loads((folder / CARD_FILE).read_text())
    card["sha256"][VECTORS_FILE] = content_hash((folder / VECTORS_FILE).read_bytes())
    (folder / CARD_FILE).write_text(json.dumps(card))


# ------------------------------------------------------------ changes


def torn(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was done to a file, and the file: bytes of it, a value of its JSON, or the same of a member of an archive."""
    if rng.random() < 0.7:
        for within in (_in_archive, _in_header, _in_json):
            if (found := within(data, rng)) is not None:
                return found
    how, change = rng.choice(list(_CHANGES.items()))
    return how, change(data, rng)


def _in_archive(data: bytes, rng: random.Random) -> tuple[str, bytes] | None:
    if not zipfile.is_zipfile(BytesIO(data)):
        return None
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(sorted(members))
    how, members[name] = torn(members[name], rng)
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for each, held in members.items():
            archive.writestr(each, held)
    return f"{name}, {how}", stream.getvalue()


def _in_header(data: bytes, rng: random.Random) -> tuple[str, bytes] | None:
    """Change the JSON in front of safetensors."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else 0
    changed = _in_json(data[8 : 8 + length], rng) if 0 < length < len(data) else None
    if changed is None:
        return None
    return f"header, {changed[0]}", struct.pack("<Q", len(changed[1])) + changed[1] + data[8 + length :]


def _in_json(data: bytes, rng: random.Random) -> tuple[str, bytes] | None:
    """Take out a value, repeat it, or put something strange in its place."""
    try:
        whole = json.loads(data)
    except ValueError:
        return None
    holder: Any = {"": whole}
    key: Any = ""
    path: list[str] = []
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.85:
        holder = holder[key]
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        path.append(str(key)[:20])
    if not path:
        return None
    how = rng.choice(["gone", "twice", "strange", "strange", "strange", "deep"])
    if how == "gone":
        del holder[key]
    elif how == "twice" and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif how == "deep":
        holder[key] = "@"
    else:
        holder[key] = value = rng.choice(_STRANGE)
        how = f"{value!r:.20}" if not isinstance(value, int) or value < 2**64 else "huge"
    text = json.dumps(whole).replace('"@"', "[" * 20_000 + "]" * 20_000 if how == "deep" else '"@"')
    return f"{'.'.join(path)} {how}", text.encode()


def _place(data: bytes, rng: random.Random) -> int:
    """Return a place, as often as not one at the beginning, where headers are."""
    return rng.randrange(max(1, min(len(data), 256) if rng.random() < 0.5 else len(data)))


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice([1, 1, 2, 8])):
        changed[_place(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _noise(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + rng.randbytes(rng.choice([1, 16, 256])) + data[start + rng.choice([0, 1, 16, 256]) :]


def _gone(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice([1, 8, 64, 512]) :]


def _twice(data: bytes, rng: random.Random) -> bytes:
    start, length = _place(data, rng), rng.choice([1, 8, 64, 512])
    return data[: start + length] + data[start:]


def _claim(data: bytes, rng: random.Random) -> bytes:
    """Put a huge number over eight bytes: the length of something, maybe."""
    start = _place(data, rng)
    return data[:start] + struct.pack("<Q", 2 ** rng.randrange(28, 64)) + data[start + 8 :]


def _digits(data: bytes, rng: random.Random) -> bytes:
    """Make a number that stands in the file as text another."""
    places = [i for i, byte in enumerate(data[:100_000]) if 48 <= byte <= 57]
    if not places:
        return _flipped(data, rng)
    place = rng.choice(places)
    return data[:place] + rng.choice([b"9", b"0", b"-1", b"9" * 12, b"1e999"]) + data[place + 1 :]


_CHANGES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off": _cut,
    "bits flipped": _flipped,
    "noise": _noise,
    "a stretch gone": _gone,
    "a stretch twice": _twice,
    "a huge claim": _claim,
    "another number": _digits,
}


# ------------------------------------------------------------ kinds


def _library(folder: Path) -> Path:
    return Path(save_library(folder / "library", _FINGERPRINT))


def _use_library(place: Path) -> None:
    library = load_library(place, _FINGERPRINT)
    assert all(torch.isfinite(vector).all() for vector in library.vectors.values())
    assert library.card.smallest_dose(library.names, 2.0**-8) >= 0


def _exported(form: Format) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        source = _library(folder)
        (made, *_) = export_vectors(load_library(source), ["calm"], form, folder)
        shutil.rmtree(source)
        return made

    return make


def _arrays(folder: Path) -> Path:
    np.savez(folder / "calm.npz", **{f"layer_{layer}": np.ones(_HIDDEN, np.float32) for layer in (1, 3)})
    return folder / "calm.npz"


def _array(folder: Path) -> Path:
    np.save(folder / "calm.npy", np.ones((_DEPTH, _HIDDEN), np.float16))
    return folder / "calm.npy"


def _nested(folder: Path) -> Path:
    units = {layer: torch.nn.functional.normalize(torch.ones(_HIDDEN), dim=0) for layer in (2, 3)}
    torch.save({"calm": {"vectors": units, "norms": {2: 1.0, 3: 1.0}}}, folder / "study.pt")
    return folder / "study.pt"


def _legacy(folder: Path) -> Path:
    rows = {f"layer_{layer}": torch.ones(_HIDDEN) for layer in (1, 3)}
    torch.save(rows, folder / "old.pt", _use_new_zipfile_serialization=False)
    return folder / "old.pt"


def _autoencoder(folder: Path) -> Path:
    place = folder / "lens"
    place.mkdir()
    save_file({"W_dec": torch.ones(9, _HIDDEN)}, place / "sae_weights.safetensors")
    (place / "cfg.json").write_text(json.dumps({"hook_name": "blocks.2.hook_resid_post", "d_in": _HIDDEN}))
    return place


def _use_vectors(place: Path) -> None:
    layers = tuple(range(_DEPTH)) if place.suffix == ".npy" else None
    told = told_by(operation="add", hook="resid_post", counting="blocks", scale=1.0, layers=layers)
    for vector in open_foreign(place, told, rows=(7,) if place.is_dir() else ()).place(_HIDDEN, _DEPTH):
        assert all(torch.isfinite(one).all() and one.any() for one in vector.layers.values())
        assert vector.default_dose is None or np.isfinite(vector.default_dose)


def _adapter(folder: Path) -> Path:
    place = folder / "adapter"
    place.mkdir()
    (place / CONFIG_FILE).write_text('{"lora_alpha": 16, "r": 2, "peft_type": "LORA"}')
    pair = {"lora_A": torch.ones(2, 4), "lora_B": torch.ones(3, 2)}
    save_file({f"base_model.model.0.{name}.weight": one for name, one in pair.items()}, place / WEIGHTS_FILE)
    return place


def _use_adapter(place: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    merge_adapter(model, place)
    assert all(torch.isfinite(one).all() for one in model.parameters())


@cache
def _log() -> EvalLog:
    """Return the log of rollouts that took something."""
    script = turn_by_turn(
        says("", ("take_vector", {"name": "calm"})), says("", ("take_vector", {"name": "x"})), says("Hm.")
    )
    fixed = {"framing": "vectors", "vectors": "calm,anxious", "sitter": "rules", "debrief": False}
    with tempfile.TemporaryDirectory() as folder, tiny_session_model(Path(folder)) as tiny:
        task = freeplay(rollouts=1, turns=4, max_tokens=8, arm="real,placebo", library=str(tiny.library), **fixed)
        return tiny.run(task, script)


def _logged(ending: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_eval_log(_log(), str(folder / f"log{ending}"))
        return folder / f"log{ending}"

    return make


def _use_log(place: Path) -> None:
    command("table", str(place))


def _logs(folder: Path) -> Path:
    place = folder / "logs"
    for number in range(_LOGS):
        (place / f"{number}").mkdir(parents=True)
        _logged(".eval" if number % 2 else ".json")(place / f"{number}")
    return place


def _use_logs(place: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        command("report", str(place), "--out", out)


def _stories(folder: Path) -> Path:
    return small_stories(folder / "stories", states=("calm",))


def _story_table(ending: str) -> Callable[[Path], Path]:
    rows = [{"emotion": e, "topic": t, "story": f"Once in {t}, {e}."} for e in ("calm", "neutral") for t in ("a", "b")]
    writers = {".csv": "to_csv", ".parquet": "to_parquet", ".jsonl": "to_json"}

    def make(folder: Path) -> Path:
        more = {"orient": "records", "lines": True} if ending == ".jsonl" else {"index": False}
        getattr(pd.DataFrame(rows), writers[ending])(folder / f"stories{ending}", **more)
        return folder / f"stories{ending}"

    return make


def _pairs(folder: Path) -> Path:
    rows = [{"positive": f"I am calm, {n}.", "negative": f"I am not, {n}.", "name": "calm"} for n in range(12)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "pairs.jsonl"


def _described(folder: Path) -> Path:
    (folder / "told.toml").write_text('[calm]\neffect = "stillness"\ncategory = "emotion"\nvalence = 1\n')
    return folder / "told.toml"


def _use_described(place: Path) -> None:
    _entries(Namespace(describe=place))


def _model(folder: Path) -> Path:
    return save_tiny_model(folder / "model")


def _use_model(place: Path) -> None:
    NNsightAPI(str(place), cache_gb=0.001).close()


KINDS: Mapping[str, Kind] = {
    "library": Kind(_library, _use_library, ("library/*",), 200),
    "safetensors": Kind(_exported("safetensors"), _use_vectors),
    "gguf": Kind(_exported("gguf"), _use_vectors, times=200),
    "steering-vectors": Kind(_exported("steering-vectors"), _use_vectors),
    "npz": Kind(_arrays, _use_vectors),
    "npy": Kind(_array, _use_vectors),
    "a study's .pt": Kind(_nested, _use_vectors),
    "an old .pt": Kind(_legacy, _use_vectors),
    "autoencoder": Kind(_autoencoder, _use_vectors, ("lens/*",)),
    "adapter": Kind(_adapter, _use_adapter, ("adapter/*",)),
    ".eval": Kind(_logged(".eval"), _use_log, times=200),
    ".json": Kind(_logged(".json"), _use_log),
    "report": Kind(_logs, _use_logs, ("logs/*/*",), 1, _LOGS - 2, seconds=200),
    "stories": Kind(_stories, open_corpus, ("stories/*",), 100),
    "stories.csv": Kind(_story_table(".csv"), open_corpus, times=100),
    "stories.jsonl": Kind(_story_table(".jsonl"), open_corpus, times=100),
    "stories.parquet": Kind(_story_table(".parquet"), open_corpus, times=100),
    "pairs": Kind(_pairs, read_pairs, times=100),
    "descriptions": Kind(_described, _use_described, times=100),
    "configuration": Kind(_model, _use_model, ("model/*config.json",), 24),
    "tokenizer": Kind(_model, _use_model, ("model/tokenizer*", "model/*.jinja"), 24),
    "weights": Kind(_model, _use_model, ("model/*.safetensors",), 8),
}
