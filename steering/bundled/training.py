"""Training the adapter: dialogues as tokens with what is learnt at each, the trainer, and the folder that comes of it."""

import platform
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
from self_steering.steering.bundled.conversion import BUNDLED_BASE
from self_steering.steering.bundled.dialogues import Sizes, build_dialogues
from self_steering.steering.bundled.prose import shipped_prose
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.identity import fingerprint
from self_steering.steering.models import LoadedModel, load_model
from self_steering.steering.template import ChatError
from self_steering.vectors.catalogue import catalogue
from self_steering.vectors.files import replace_folder

NOTHING, TOKEN, BASE = 0, 1, 2
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HELD_OUT = Sizes(rounds=1, tasks=2, rejected=1, plain=12)
_HELD_OUT_DIALOGUES = 4
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Encoded:
    """A dialogue as tokens.

    Attributes:
        ids: Token ids [tokens].
        learnt: For each token [tokens]: NOTHING, TOKEN (the token itself), or BASE (the base model's distribution there).
    """

    ids: torch.Tensor
    learnt: torch.Tensor


def encode(dialogue: Dialogue, renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Return a dialogue as tokens, up to the last token of its last assistant message.

    Of an assistant message only what the model would generate is learnt, the end of the turn included: its calls, the first
    token of its prose and the end of the turn as they stand, and the prose in between as the base model has it.

    Raises:
        ChatError: The template does not render the conversation's turns as it renders the prompts before them.
    """
    # With a message after it, as the renderer leaves a last assistant message open, to be continued.
    rendered = renderer.render([*dialogue.messages, ChatMessageUser(content="…")], dialogue.tools)
    learnt = torch.full((len(rendered.ids),), NOTHING, dtype=torch.int8)
    last = 0
    for index, what in dialogue.learnt.items():
        prompt = renderer.render(dialogue.messages[:index], dialogue.tools).ids
        if rendered.ids[: len(prompt)] != prompt:
            raise ChatError(f"the template renders message {index} otherwise once it is followed by others")
        first, last = len(prompt), _end(rendered.ids, len(prompt), tokenizer)
        if what == "base":
            learnt[first:last] = BASE
        elif what == "form":
            prose = _prose_tokens(dialogue, index, rendered.ids[first:last], tokenizer)
            learnt[first:last] = TOKEN
            learnt[first + 1 : first + prose] = BASE
    return Encoded(torch.tensor(rendered.ids[:last]), learnt[:last])


def _end(ids: list[int], first: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the position after the end-of-turn token of the turn that starts at `first`."""
    return ids.index(int(tokenizer.eos_token_id), first) + 1


def _prose_tokens(dialogue: Dialogue, index: int, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens of an assistant message are prose, the rest being calls and the end of the turn."""
    message = dialogue.messages[index]
    assert isinstance(message, ChatMessageAssistant)
    if not message.text:
        return 0
    if not message.tool_calls:
        return len(ids) - 1
    return next(n for n, text in _growing(ids, tokenizer) if len(text) > len(message.text)) - 1


def _growing(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, str]]:
    for n in range(1, len(ids) + 1):
        yield n, str(tokenizer.decode(ids[:n]))


@dataclass(frozen=True)
class Recipe:
    """How the adapter is trained.

    Attributes:
        first_layer: First layer that it changes; all below stay as they are.
        rank: Rank of each change.
        alpha: Scale of each change, times the rank.
        epochs: How often each dialogue is seen.
        batch: Dialogues a step.
        rate: Highest learning rate, reached after `warm_up` of the steps and then falling to zero in a line.
        warm_up: Share of the steps.
    """

    first_layer: int = 19
    rank: int = 16
    alpha: int = 32
    epochs: int = 1
    batch: int = 1
    rate: float = 1e-3
    warm_up: float = 0.05


@dataclass(frozen=True)
class Read:
    """What the base model makes of a dialogue.

    Attributes:
        dialogue: The dialogue.
        hidden: What goes into the first layer that is trained, [1, tokens, hidden].
        final: What the base model's last layer makes of the tokens before those whose prose is learnt, [prose, hidden].
    """

    dialogue: Encoded
    hidden: torch.Tensor
    final: torch.Tensor


class Trainer:
    """Trains an adapter on dialogues that the base model has read once.

    Args:
        model: The base model, in float32; it is changed.
        recipe: How.
        seed: Seed of the initial weights and of the order.
        progress: Called with the step, how much of it is done, and how much there is.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, seed: int, progress: Progress = lambda *_: None) -> None:
        self.recipe = recipe
        self._seed = seed
        self._progress = progress
        self._base = model
        self._decoder = model.get_decoder()  # type: ignore[operator]
        self._head = model.get_output_embeddings()  # type: ignore[operator]
        for parameter in model.parameters():
            parameter.requires_grad = False

    @torch.no_grad()
    def read(self, dialogues: Sequence[Encoded]) -> list[Read]:
        """Let the base model read the dialogues; call it before `train`."""
        caught: list[torch.Tensor] = []
        first = self._decoder.layers[self.recipe.first_layer]
        hook = first.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            return [self._read(dialogue, caught, n, len(dialogues)) for n, dialogue in enumerate(dialogues, 1)]
        finally:
            hook.remove()

    def _read(self, dialogue: Encoded, caught: list[torch.Tensor], number: int, of: int) -> Read:
        final = self._decoder(dialogue.ids[None], use_cache=False).last_hidden_state[0]
        self._progress("reading", number, of)
        return Read(dialogue, caught.pop(), final[_before(dialogue, BASE)].clone())

    def train(self, dialogues: Sequence[Read]) -> PeftModel:
        """Return the model with a trained adapter, its weights rounded to half precision."""
        torch.manual_seed(self._seed)
        adapted = get_peft_model(self._base, self._lora())
        trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        batches = self._batches(dialogues)
        optimiser = torch.optim.AdamW(trained, lr=self.recipe.rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self._pace(step, len(batches)))
        for number, batch in enumerate(batches, 1):
            learnt = sum(int((one.dialogue.learnt > 0).sum()) for one in batch)
            for one in batch:
                form, prose = self._losses(one)
                ((form.sum() + prose.sum()) / learnt).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            self._progress("training", number, len(batches))
        with torch.no_grad():
            for parameter in trained:
                parameter.copy_(parameter.half())
        return adapted

    @torch.no_grad()
    def loss(self, dialogues: Sequence[Read]) -> Loss:
        """Return the mean losses over dialogues."""
        pairs = [self._losses(one) for one in dialogues]
        form, prose = (torch.cat([pair[which] for pair in pairs]) for which in (0, 1))
        return Loss(form=round(float(form.mean()), 4), prose=round(float(prose.mean()), 4))

    def _losses(self, one: Read) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of each token whose form is learnt, and KL(base ‖ adapted) of each one in prose."""
        final = self._upper(one.hidden)[0]
        tokens, prose = _before(one.dialogue, TOKEN), _before(one.dialogue, BASE)
        form = cross_entropy(self._head(final[tokens]), one.dialogue.ids[tokens + 1], reduction="none")
        if not len(prose):
            return form, form.new_zeros(0)
        own, base = (log_softmax(self._head(h), -1) for h in (final[prose], one.final))
        return form, kl_div(own, base, reduction="none", log_target=True).sum(-1)

    def _upper(self, hidden: torch.Tensor) -> torch.Tensor:
        """Run the trained layers on what goes into the first of them, [1, tokens, hidden]."""
        positions = torch.arange(hidden.shape[1])[None]
        embeddings = self._decoder.rotary_emb(hidden, position_ids=positions)
        for layer in self._decoder.layers[self.recipe.first_layer :]:
            # Without a mask, attention is causal.
            hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=embeddings)
        return self._decoder.norm(hidden)  # type: ignore[no-any-return]

    def _lora(self) -> LoraConfig:
        layers = list(range(self.recipe.first_layer, len(self._decoder.layers)))
        return LoraConfig(
            r=self.recipe.rank,
            lora_alpha=self.recipe.alpha,
            lora_dropout=0.0,
            target_modules=list(TARGETS),
            layers_to_transform=layers,
            task_type="CAUSAL_LM",
        )

    def _batches(self, dialogues: Sequence[Read]) -> list[list[Read]]:
        draw = random.Random(f"{self._seed}/training order")
        batches = []
        for _ in range(self.recipe.epochs):
            order = list(dialogues)
            draw.shuffle(order)
            batches += [order[at : at + self.recipe.batch] for at in range(0, len(order), self.recipe.batch)]
        return batches

    def _pace(self, step: int, steps: int) -> float:
        warm = max(1, round(self.recipe.warm_up * steps))
        return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _before(dialogue: Encoded, what: int) -> torch.Tensor:
    """Return the positions before the tokens that are learnt in this way."""
    return torch.nonzero(dialogue.learnt == what)[:, 0] - 1


def save_weights(adapted: PeftModel, folder: Path) -> None:
    """Write the adapter's weights in half precision, and PEFT's configuration, to `folder`."""
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half()
    adapted.peft_config["default"].base_model_name_or_path = ""
    adapted.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)


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
