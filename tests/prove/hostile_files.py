"""Files that are torn, foreign or made to harm: libraries, models, stories, logs, adapters."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save, save_file

from self_steering.solvers.checks import library_vectors
from self_steering.steering.bundled.adapter import CARD_FILE as ADAPTER_CARD
from self_steering.steering.bundled.adapter import CONFIG_FILE, WEIGHTS_FILE, merge_adapter, read_card
from self_steering.steering.provider import NNsightAPI
from self_steering.vectors.card import CARD_FILE, VECTORS_FILE
from self_steering.vectors.foreign import open_foreign, told_by
from self_steering.vectors.library import content_hash, load_library
from self_steering.vectors.making.corpus import load_corpus, open_corpus
from tests.prove.judge import Case, CommandError, command
from tests.support.hand_made_logs import asked, said, sample, write_log
from tests.support.hostile_vectors import DEPTH, HIDDEN, hostile
from tests.support.models import save_tiny_model
from tests.support.small_library import LAYERS, save_library, small_stories

_FINGERPRINT = "0" * 32
_NOISE = bytes(range(256)) * 8
_DEEP = b"[" * 100_000
_HUGE_HEADER = struct.pack("<Q", 2**62) + b"{}"


class Harm:
    """Runs code when it is unpickled: makes the file `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def unpickles(trace: Path, attempt: Callable[[], object]) -> object:
    """Run `attempt`, and raise AssertionError if it has made the file `trace`."""
    try:
        return attempt()
    finally:
        assert not trace.exists(), "code in the file was run"


# ------------------------------------------------------------ vector libraries


def library_cases(root: Path) -> Iterator[Case]:
    """Yield libraries that must be refused."""
    for name, harm in _LIBRARIES.items():
        folder = root / name.replace(" ", "_").replace("/", "_")
        save_library(folder, _FINGERPRINT)
        harm(folder)
        load = partial(unpickles, folder / "trace", partial(load_library, folder, _FINGERPRINT))
        yield Case(f"library: {name}", load, (str(folder),))
    sound = Path(save_library(root / "sound", _FINGERPRINT))
    yield Case("library: of another model", partial(load_library, sound, "f" * 32), (str(sound),))
    (root / "loop").symlink_to(root / "loop")
    (root / "file").write_bytes(b"")
    for place in ("loop", "file", "nowhere", "sound/card.json"):
        yield Case(
            f"library: -T library is a {place}",
            partial(library_vectors, str(root / place), "all"),
            (str(root / place),),
        )
        yield Case(
            f"library: load from a {place}", partial(load_library, root / place, _FINGERPRINT), (str(root / place),)
        )


def _card(**changes: Any) -> Callable[[Path], None]:
    """Change fields of a card."""

    def harm(folder: Path) -> None:
        card = json.loads((folder / CARD_FILE).read_text())
        (folder / CARD_FILE).write_text(json.dumps({**card, **changes}))

    return harm


def _raw(name: str, data: bytes) -> Callable[[Path], None]:
    """Exchange a file's bytes."""
    return lambda folder: (folder / name).write_bytes(data) and None


def _sealed(change: Callable[[Path], bytes]) -> Callable[[Path], None]:
    """Exchange the vectors' bytes, and let the card vouch for them."""

    def harm(folder: Path) -> None:
        data = change(folder)
        (folder / VECTORS_FILE).write_bytes(data)
        _card(sha256={VECTORS_FILE: content_hash(data)})(folder)

    return harm


def _tensors(change: Callable[[torch.Tensor], torch.Tensor], **more: torch.Tensor) -> Callable[[Path], None]:
    made = torch.ones(len(LAYERS), 64)
    return _sealed(lambda _: save({"calm": change(made.clone()).contiguous(), "proud": made, **more}))


def _filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.index_fill(0, torch.tensor([1]), value)


def _linked(name: str, target: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return harm


def _folder_instead(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return harm


_LIBRARIES: Mapping[str, Callable[[Path], None]] = {
    "card missing": lambda folder: (folder / CARD_FILE).unlink(),
    "card empty": _raw(CARD_FILE, b""),
    "card cut off": lambda folder: (folder / CARD_FILE).write_bytes((folder / CARD_FILE).read_bytes()[:100]) and None,
    "card of noise": _raw(CARD_FILE, _NOISE),
    "card of another schema": _raw(CARD_FILE, b'{"hello": 1}'),
    "card a list": _raw(CARD_FILE, b"[]"),
    "card nested deep": _raw(CARD_FILE, _DEEP),
    "card a folder": _folder_instead(CARD_FILE),
    "card a loop": _linked(CARD_FILE, CARD_FILE),
    "card with an unknown field": _card(run="import os"),
    "card of an older format": _card(format=1),
    "card that names files outside": _card(sha256={VECTORS_FILE: "0", "../../etc/passwd": "0"}),
    "card that names no vectors": _card(sha256={}),
    "card with layers as text": _card(layers="all"),
    "card with negative layers": _card(layers=[-1, *LAYERS[1:]]),
    "card with layers out of order": _card(layers=LAYERS[::-1]),
    "card with a layer twice": _card(layers=[LAYERS[0]] * len(LAYERS)),
    "card with no layers": _card(layers=[]),
    "card with doses as text": _card(default_doses={"calm": "much", "proud": 1.0}),
    "card with doses that are no numbers": _card(default_doses={"calm": float("nan"), "proud": 1.0}),
    "card with infinite doses": _card(default_doses={"calm": float("inf"), "proud": 1.0}),
    "card with doses of other vectors": _card(default_doses={"serene": 1.0}),
    "card with another width": _card(hidden=63),
    "card with a width below zero": _card(hidden=-64),
    "card with a wrong hash": _card(sha256={VECTORS_FILE: "0" * 64}),
    "card that says calibrated": lambda f: _card(
        sha256={VECTORS_FILE: content_hash((f / VECTORS_FILE).read_bytes()), "calibration.json": "0" * 64}
    )(f),
    "vectors missing": lambda folder: (folder / VECTORS_FILE).unlink(),
    "vectors a folder": _folder_instead(VECTORS_FILE),
    "vectors a loop": _linked(VECTORS_FILE, VECTORS_FILE),
    "vectors cut off": lambda f: (f / VECTORS_FILE).write_bytes((f / VECTORS_FILE).read_bytes()[:-9]) and None,
    "vectors cut off and vouched for": _sealed(lambda f: (f / VECTORS_FILE).read_bytes()[:-9]),
    "vectors empty and vouched for": _sealed(lambda _: b""),
    "vectors of noise and vouched for": _sealed(lambda _: _NOISE),
    "vectors with a huge header": _sealed(lambda _: _HUGE_HEADER),
    "vectors that are a pickle": _sealed(lambda folder: pickle.dumps(Harm(folder / "trace"))),
    "vectors with NaN": _tensors(_filled(float("nan"))),
    "vectors with infinity": _tensors(_filled(float("inf"))),
    "vectors with a zero layer": _tensors(_filled(0.0)),
    "vectors too narrow": _tensors(lambda tensor: tensor[:, :63]),
    "vectors with a layer too few": _tensors(lambda tensor: tensor[:-1]),
    "vectors with a dimension more": _tensors(lambda tensor: tensor[None]),
    "vectors of whole numbers": _tensors(lambda tensor: tensor.long()),
    "vectors in half precision": _tensors(lambda tensor: tensor.half()),
    "vectors that the card does not know": _tensors(lambda tensor: tensor, extra=torch.ones(len(LAYERS), 64)),
    "no vectors": _sealed(lambda _: save({})),
}


# ------------------------------------------------------------ vectors from elsewhere


def import_cases(root: Path) -> Iterator[Case]:
    """Yield files of other tools that must be refused."""
    root.mkdir(parents=True)
    told = told_by(operation="add", hook="resid_post", counting="blocks", scale=1.0, layers=(2,))
    for name, path in hostile(root).items():
        use = partial(lambda path: open_foreign(path, told).place(HIDDEN, DEPTH), path)
        yield Case(f"import: {name}", partial(unpickles, Path("harmed"), use), (str(path),))


# ------------------------------------------------------------ models


def model_file_cases(root: Path) -> Iterator[Case]:
    """Yield model folders that must be refused."""
    for name, harm in _MODELS.items():
        folder = save_tiny_model(root / name.replace(" ", "_"))
        harm(folder)
        yield Case(
            f"model: {name}", partial(unpickles, folder / "trace", partial(NNsightAPI, str(folder))), (str(folder),)
        )
    for name in (str(root / "nowhere"), "./nowhere", "no_such_model", "", "nobody/no_such_model\n"):
        yield Case(f"model: named {name!r}", partial(NNsightAPI, name), (repr(name.removeprefix("./"))[1:-1] or "''",))


def _pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(folder / "trace")))


def _own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'trace')!r}, 'w').close()\n")


_MODELS: Mapping[str, Callable[[Path], None]] = {
    "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
    "weights cut off": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-99]) and None,
    "weights with a huge header": _raw("model.safetensors", _HUGE_HEADER),
    "weights of something else": lambda f: save_file({"x": torch.ones(2)}, f / "model.safetensors", {"format": "pt"}),
    "weights a pickle": _pickled_weights,
    "weights a pickle by a safe name": lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Harm(f / "trace"))) and None,
    "code of its own": _own_code,
    "configuration missing": lambda folder: (folder / "config.json").unlink(),
    "configuration of noise": _raw("config.json", _NOISE),
    "configuration of another schema": _raw("config.json", b'{"hello": 1}'),
    "configuration a list": _raw("config.json", b"[]"),
    "tokenizer of noise": _raw("tokenizer.json", _NOISE),
    "tokenizer of another schema": _raw("tokenizer.json", b'{"hello": 1}'),
}  # fmt: skip


# ------------------------------------------------------------ stories


def story_cases(root: Path) -> Iterator[Case]:
    """Yield corpora that must be refused."""
    for name, (file, data) in _STORIES.items():
        folder = small_stories(root / name.replace(" ", "_"))
        if data is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(data)
        yield Case(f"stories: {name}", partial(load_corpus, folder), (str(folder / file),))
    folder = root / "empty"
    folder.mkdir()
    yield Case("stories: an empty folder", partial(load_corpus, folder), (str(folder),))
    sound = small_stories(root / "sound")
    yield Case("stories: unknown state", partial(load_corpus, sound, ["serene"]), ("serene",))
    yield Case("stories: a state twice", partial(load_corpus, sound, ["calm", "calm"]), ("calm",))
    yield Case("stories: a state outside", partial(load_corpus, sound, ["../../etc/passwd"]), ("../../etc/passwd",))
    for name, (ending, data) in _STORY_TABLES.items():
        path = root / f"{name.replace(' ', '_')}{ending}"
        path.write_bytes(data)
        yield Case(f"stories: {name}", partial(open_corpus, path), (str(path),))
    yield Case("stories: no such place", partial(open_corpus, root / "nowhere"), (str(root / "nowhere"),))


_STORIES: Mapping[str, tuple[str, bytes | None]] = {
    "not TOML": ("calm.toml", b"[stories\nferry = "),
    "binary": ("calm.toml", _NOISE),
    "empty file": ("calm.toml", b""),
    "another table": ("calm.toml", b'[tales]\nferry = "a"'),
    "stories that are numbers": ("calm.toml", b"[stories]\nferry = 5\nattic = 6"),
    "stories that are tables": ("calm.toml", b"[stories.ferry]\nx = 1"),
    "a setting missing": ("calm.toml", b'[stories]\nferry = "a"'),
    "a setting too many": ("calm.toml", b'[stories]\nferry = "a"\nattic = "b"\nmoon = "c"'),
    "an empty story": ("calm.toml", b'[stories]\nferry = ""\nattic = "b"'),
    "a story of white space": ("calm.toml", b'[stories]\nferry = " "\nattic = "b"'),
    "a key twice": ("calm.toml", b'[stories]\nferry = "a"\nferry = "b"'),
    "nested deep": ("calm.toml", b"x = " + _DEEP),
    "neutral missing": ("neutral.toml", None),
    "settings missing": ("settings.toml", None),
    "settings of noise": ("settings.toml", _NOISE),
    "no settings": ("settings.toml", b"[settings]\n"),
}
_STORY_TABLES: Mapping[str, tuple[str, bytes]] = {
    "csv of noise": (".csv", _NOISE),
    "empty csv": (".csv", b""),
    "csv without columns": (".csv", b"a,b\n1,2\n"),
    "csv with more fields than a header": (".csv", b"emotion,topic,story\ncalm,x,y,z,w\n"),
    "jsonl of noise": (".jsonl", _NOISE),
    "jsonl of lists": (".jsonl", b"[1]\n"),
    "jsonl of numbers as stories": (".jsonl", b'{"emotion": 1, "topic": 2, "story": 3}\n'),
    "jsonl nested deep": (".jsonl", _DEEP + b"\n"),
    "parquet of noise": (".parquet", _NOISE),
    "a kind of file unknown": (".xlsx", b"x"),
    "a pickle": (".pkl", pickle.dumps(1)),
}


# ------------------------------------------------------------ logs


def log_cases(root: Path) -> Iterator[Case]:
    """Yield logs of which no table and no report may be made."""
    for name, (file, make) in _LOGS.items():
        path = root / "logs" / name.replace(" ", "_") / file
        path.parent.mkdir(parents=True)
        make(path)
        yield Case(f"log: table of {name}", partial(command, "table", str(path)), (str(path), path.name))
    empty = root / "empty"
    empty.mkdir()
    report_file = root / "taken"
    report_file.write_text("mine")
    sound = write_log(root / "logs" / "sound" / "log.eval", [sample([*asked("Hi."), *said()])])
    told = left_out(root / "logs", root / "report")
    for name, (file, _) in _LOGS.items():
        path = f"{name.replace(' ', '_')}/{file}"
        yield Case(f"log: report beside {name}", partial(_say, told.get(path)), (path,))
    loop = root / "loop"
    loop.symlink_to(loop)
    for kind in ("table", "report"):
        for place in (empty, root / "nowhere", loop, report_file):
            yield Case(f"log: {kind} of {place.name}", partial(command, kind, str(place)), (str(place),))
    for out in (report_file, root / "logs", report_file / "below"):
        run = partial(command, "report", str(sound.parent), "--out", str(out))
        yield Case(f"log: report to {out.name}", run, (str(out), str(report_file)))
    csv = partial(command, "table", str(sound), "--csv", str(root / "csv"))
    yield Case("log: csv of another experiment", csv, (str(sound), "--csv"))


def left_out(logs: Path, out: Path) -> dict[str, str]:
    """Return what a report says of each file that it leaves out, by name."""
    command("report", str(logs), "--out", str(out))
    table = pd.read_csv(out / "tables" / "left_out.csv")
    return {str(row.log): f"{row.log}: {row.reason}" for row in table.itertuples()}


def _say(reason: str | None) -> None:
    if reason is not None:
        raise CommandError(reason)


def _log(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _cut(share: float) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        write_log(path, [sample([*asked("Hi. " * 400), *said()])])
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return make


def _zipped(files: Mapping[str, bytes]) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    return make


_LOGS: Mapping[str, tuple[str, Callable[[Path], object]]] = {
    "an empty file": ("log.eval", _log(b"")),
    "noise": ("log.eval", _log(_NOISE)),
    "a log cut in half": ("log.eval", _cut(0.5)),
    "a log that lacks its end": ("log.eval", _cut(0.99)),
    "an empty archive": ("log.eval", _zipped({})),
    "an archive of something else": ("log.eval", _zipped({"hello.txt": b"hello"})),
    "an archive with a torn header": ("log.eval", _zipped({"header.json": b"{"})),
    "an archive with a header of another schema": ("log.eval", _zipped({"header.json": b'{"hello": 1}'})),
    "an archive that unpacks to 64 MiB": ("log.eval", _zipped({"header.json": b" " * (64 << 20)})),
    "an archive that names files outside": ("log.eval", _zipped({"../../outside.json": b"{}"})),
    "a JSON of another schema": ("log.json", _log(b'{"hello": 1}')),
    "a JSON list": ("log.json", _log(b"[]")),
    "a JSON cut off": ("log.json", _log(b'{"version": 2, "status": "succ')),
    "a JSON nested deep": ("log.json", _log(_DEEP)),
    "a pickle": ("log.eval", _log(pickle.dumps(Harm(Path("trace"))))),
    "a log that was never finished": (
        "log.eval",
        lambda path: write_log(path, [sample([*asked("Hi."), *said()])], status="started"),
    ),
}


# ------------------------------------------------------------ adapters


def adapter_cases(root: Path) -> Iterator[Case]:
    """Yield adapters that must be refused, by their card or while they are merged."""
    for name, (file, data) in _ADAPTERS.items():
        folder = root / name.replace(" ", "_")
        folder.mkdir(parents=True)
        (folder / CONFIG_FILE).write_text('{"lora_alpha": 16, "r": 8}')
        save_file({"x": torch.ones(1)}, folder / WEIGHTS_FILE)
        (folder / file).write_bytes(data)
        yield Case(f"adapter: card, {name}", partial(read_card, folder), (str(folder),))
        yield Case(f"adapter: merge, {name}", partial(merge_adapter, torch.nn.Linear(2, 2), folder), (str(folder),))
    out = root / "file"
    out.write_text("mine")
    yield Case("adapter: trained onto a file", partial(command, "adapter", "train", "--out", str(out)), (str(out),))


_ADAPTERS: Mapping[str, tuple[str, bytes]] = {
    "no card": (CONFIG_FILE, b'{"lora_alpha": 16, "r": 8}'),
    "card of noise": (ADAPTER_CARD, _NOISE),
    "card of another schema": (ADAPTER_CARD, b'{"hello": 1}'),
    "weights of noise": (WEIGHTS_FILE, _NOISE),
    "weights with a huge header": (WEIGHTS_FILE, _HUGE_HEADER),
    "weights empty": (WEIGHTS_FILE, b""),
    "configuration of noise": (CONFIG_FILE, _NOISE),
    "configuration a list": (CONFIG_FILE, b"[]"),
    "configuration nested deep": (CONFIG_FILE, _DEEP),
    "configuration of rank zero": (CONFIG_FILE, b'{"lora_alpha": 16, "r": 0}'),
    "configuration with a scale as text": (CONFIG_FILE, b'{"lora_alpha": "much", "r": 8}'),
    "configuration with an infinite scale": (CONFIG_FILE, b'{"lora_alpha": 1e999, "r": 8}'),
}
