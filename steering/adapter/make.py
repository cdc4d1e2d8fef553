"""From a seed to a finished adapter: dialogues, training, and the card."""

import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel

from self_steering.steering.adapter.card import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, AdapterCard, Loss, content_hash
from self_steering.steering.adapter.conversation import Dialogue
from self_steering.steering.adapter.dialogues import Sizes, build_dialogues
from self_steering.steering.adapter.encode import BASE, TOKEN, Encoded, encode
from self_steering.steering.adapter.merge import merge_adapter
from self_steering.steering.adapter.prose import shipped_prose
from self_steering.steering.adapter.train import Progress, Recipe, Trainer, save_weights
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.framings import FRAMINGS
from self_steering.steering.models import BUNDLED_BASE, LoadedModel, fingerprint, load_model
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.files import replace_folder

HELD_OUT = Sizes(rounds=1, tasks=2, rejected=1, plain=12)
_HELD_OUT_DIALOGUES = 4


def make_adapter(
    out: Path, *, seed: int = 0, sizes: Sizes = Sizes(), recipe: Recipe = Recipe(), progress: Progress = lambda *_: None
) -> AdapterCard:
    """Train an adapter for the bundled model and write it to a folder.

    Args:
        out: The folder; what is there is replaced once the new one is complete.
        seed: All choices follow from it.
        sizes: How many dialogues of which kind.
        recipe: How it is trained.
        progress: Called with the step, how much of it is done, and how much there is.
    """
    started = time.monotonic()
    prose = shipped_prose()
    loaded = load_model(BUNDLED_BASE, dtype="float32", device="cpu")
    dialogues = build_dialogues(seed, sizes, prose)
    held_out = build_dialogues(seed + 1, HELD_OUT, prose)[:_HELD_OUT_DIALOGUES]
    encoded, tests = _encoded(dialogues, loaded), _encoded(held_out, loaded)
    trainer = Trainer(loaded.model, recipe, seed, progress)
    read, read_tests = trainer.read(encoded), trainer.read(tests)
    before = trainer.loss(read_tests)
    adapted = trainer.train(read)
    after = trainer.loss(read_tests)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        save_weights(adapted, scratch)
        seconds = round(time.monotonic() - started)
        card = _card(scratch, loaded, dialogues, encoded, recipe, seed, (before, after), seconds)
        (scratch / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        replace_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return card


def _encoded(dialogues: Sequence[Dialogue], loaded: LoadedModel) -> list[Encoded]:
    renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)
    return [encode(dialogue, renderer, loaded.tokenizer) for dialogue in dialogues]


def _card(
    folder: Path,
    loaded: LoadedModel,
    dialogues: Sequence[Dialogue],
    encoded: Sequence[Encoded],
    recipe: Recipe,
    seed: int,
    losses: tuple[Loss, Loss],
    seconds: int,
) -> AdapterCard:
    takes = [call for dialogue in dialogues for call in dialogue.calls if call.function.startswith("take_")]
    named = Counter(str(call.arguments["name"]) for call in takes)
    base: PreTrainedModel = load_model(BUNDLED_BASE, dtype="float32", device="cpu").model
    merge_adapter(base, folder)
    return AdapterCard(
        base=BUNDLED_BASE,
        base_fingerprint=loaded.fingerprint,
        fingerprint=fingerprint(base),
        sha256={name: content_hash(folder / name) for name in (WEIGHTS_FILE, CONFIG_FILE)},
        seed=seed,
        layers=(recipe.first_layer, base.config.num_hidden_layers - 1),
        rank=recipe.rank,
        dialogues=dict(sorted(Counter(dialogue.kind for dialogue in dialogues).items())),
        tokens={
            "all": sum(len(one.ids) for one in encoded),
            "form": sum(int((one.learnt == TOKEN).sum()) for one in encoded),
            "prose": sum(int((one.learnt == BASE).sum()) for one in encoded),
        },
        vectors={name: named[name] for name in sorted(named) if name in catalogue()},
        labels={name: named[name] for name in sorted(named) if name not in catalogue()},
        doses=dict(sorted(Counter(str(call.arguments.get("dose", "default")) for call in takes).items())),
        framings={name: sum(call.function == words.take_tool for call in takes) for name, words in FRAMINGS.items()},
        loss_before=losses[0],
        loss_after=losses[1],
        seconds=seconds,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "peft")},
        },
    )
