"""The base model's own prose, which the training dialogues contain; `prose.json` has it as it was once written."""

import json
import platform
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from inspect_ai.model import ChatMessageUser
from transformers import PreTrainedModel

from self_steering.steering.bundled.adapter import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterCard,
    Loss,
    content_hash,
    merge_adapter,
)
from self_steering.steering.bundled.conversation import Dialogue
from self_steering.steering.bundled.dialogues import Prose, Sizes, build_dialogues
from self_steering.steering.bundled.training import (
    BASE,
    TOKEN,
    Encoded,
    Progress,
    Recipe,
    Trainer,
    encode,
    save_weights,
)
from self_steering.steering.bundled.wordings import wordings
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.forward import SteeredModel
from self_steering.steering.engine.row import EngineRequest
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.models import BUNDLED_BASE, LoadedModel, fingerprint, load_model
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.files import replace_folder

PROSE_FILE = "prose.json"
ANSWERS_A_PROMPT = 3
_MAX_TOKENS = 48
_TEMPERATURE = 0.9
_BATCH = 64
_ENDS = ".!?"


def write_prose(loaded: LoadedModel, seed: int, each: int = ANSWERS_A_PROMPT) -> Prose:
    """Let the base model answer every prose prompt and plain prompt, in at most a few sentences.

    Args:
        loaded: The base model.
        seed: Seed of the sampling.
        each: Answers to each prompt.
    """
    renderer = ChatRenderer(loaded.tokenizer, loaded.end_ids)
    prompts = [prompt for prompt in (*wordings().prose.prompts, *wordings().plain.prompts) for _ in range(each)]
    requests = [
        EngineRequest(
            ids=tuple(renderer.render([ChatMessageUser(content=prompt)], []).ids),
            sampling=Sampling(max_tokens=_MAX_TOKENS, temperature=_TEMPERATURE, seed=seed * len(prompts) + number),
        )
        for number, prompt in enumerate(prompts)
    ]
    engine = Engine(
        SteeredModel(loaded.model, loaded.tokenizer),
        loaded.tokenizer,
        end_ids=loaded.end_ids,
        context=loaded.context,
        max_batch=_BATCH,
        cache_budget=1 << 28,
    )
    try:
        written = [future.result().text for future in engine.submit_all(requests)]
    finally:
        engine.close()
    answers: defaultdict[str, list[str]] = defaultdict(list)
    for prompt, text in zip(prompts, written, strict=True):
        answers[prompt].append(whole_sentences(text))
    return Prose(answers)


def shipped_prose() -> Prose:
    """Return what the base model wrote."""
    return Prose(json.loads(resources.files(__package__).joinpath(PROSE_FILE).read_text(encoding="utf-8")))


def encoded(prose: Prose) -> bytes:
    """Return the bytes of a file of prose."""
    return (json.dumps(prose.answers, indent=1, ensure_ascii=False) + "\n").encode()


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; one without any, as it is."""
    text = text.strip()
    end = max(text.rfind(mark) for mark in _ENDS)
    return text[: end + 1] if end > 0 else text or "…"


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
