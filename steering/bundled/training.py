"""Training the adapter: examples as tokens with what is learnt at each, the trainer, and the folder that comes of it."""

import platform
import random
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from statistics import fmean

import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from self_steering.steering.bundled.adapter import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterCard,
    content_hash,
    merge_adapter,
)
from self_steering.steering.bundled.conversation import Among, Dialogue
from self_steering.steering.bundled.conversion import BUNDLED_BASE
from self_steering.steering.bundled.dialogues import Script, Sizes, build_dialogues, build_scripts
from self_steering.steering.bundled.planted import planted
from self_steering.steering.bundled.prose import shipped_prose
from self_steering.steering.chat import ChatRenderer
from self_steering.steering.identity import fingerprint
from self_steering.steering.models import load_model
from self_steering.steering.plan import Direction, Treatment, plan_windows
from self_steering.steering.template import ChatError
from self_steering.vectors.card import VECTORS_FILE, find_library
from self_steering.vectors.directions import resolve_direction
from self_steering.vectors.files import replace_folder
from self_steering.vectors.library import Library, load_library

NOTHING, TOKEN, BASE = 0, 1, 2
FORM, SHARE, PROSE = "form", "share", "prose"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HELD_OUT = Sizes(free_play=1, opaque=0, tasks=1, rejected=0, plain=4, scripts=14)
_CURVE_POINTS = 10
# What a token of each kind counts; of shares and answers there are few.
_WEIGHTS = {FORM: 1.0, SHARE: 3.0, PROSE: 1.0}
_ASKED_WEIGHT = 5.0
# A token weighs the same in a script of twenty as in a dialogue of five hundred: losses are summed, and divided by this.
_TOKENS_A_STEP = 50.0
_PROSE_EVERY = 3  # of so many dialogues one learns the prose between calls, which takes a fifth longer
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Addition:
    """What is added to the residual stream of a training script.

    Attributes:
        values: For each decoder layer what is added to its output, [hidden].
        first: First token that it is added at.
        stop: First token that it is not.
    """

    values: Mapping[int, torch.Tensor]
    first: int
    stop: int


@dataclass(frozen=True)
class Encoded:
    """A dialogue, or a script with its questions, as tokens.

    Attributes:
        ids: Token ids [tokens].
        learnt: For each token [tokens]: NOTHING, TOKEN (the shares of what could stand there), or BASE (the base model's
            distribution there).
        targets: For each token that is TOKEN, in order, the share of each token id that could stand there.
        kinds: For each of them what it is: `form` (one token can stand there), `share` (several can), or what is asked.
        branch: For each token [tokens] the number of the branch to which it belongs, 0 for the trunk. A branch (a question at a
            script's end, a call beside a message) continues the trunk where it leaves it, and sees no other branch.
        leaves: For each branch, in order, how many tokens of the trunk stand before it.
        addition: What is injected; None for nothing.
    """

    ids: torch.Tensor
    learnt: torch.Tensor
    targets: Sequence[Mapping[int, float]]
    kinds: Sequence[str]
    branch: torch.Tensor
    leaves: Sequence[int] = ()
    addition: Addition | None = None

    @property
    def positions(self) -> torch.Tensor:
        """Position of each token, [tokens]: every branch starts where it leaves the trunk."""
        places = torch.arange(len(self.ids))
        for number, before in enumerate(self.leaves, 1):
            own = torch.nonzero(self.branch == number)[:, 0]
            places[own] = before + torch.arange(len(own))
        return places

    def mask(self) -> torch.Tensor | None:
        """Return what is added to the attention scores, [1, 1, tokens, tokens]; None where attention is simply causal."""
        if not self.branch.any():
            return None
        before = torch.tensor([len(self.ids), *self.leaves])[self.branch.long()]
        trunk = (self.branch[None] == 0) & (torch.arange(len(self.ids))[None] < before[:, None])
        seen = trunk | (self.branch[None] == self.branch[:, None])
        blocked = ~(seen & torch.ones(len(self.ids), len(self.ids), dtype=torch.bool).tril())
        return torch.zeros(blocked.shape).masked_fill(blocked, float("-inf"))[None, None]


class Encoder:
    """Turns dialogues and scripts into tokens.

    Args:
        renderer: Renders with the template of the model that is trained.
        tokenizer: Its tokenizer.
        library: The vectors that scripts inject.
    """

    def __init__(
        self, renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase, library: Library | None = None
    ) -> None:
        self._renderer, self._tokenizer, self._library = renderer, tokenizer, library
        self._known: dict[str, list[int]] = {}

    def dialogue(self, dialogue: Dialogue, prose: bool = True) -> Encoded:
        """Return a dialogue as tokens, up to the last token of its last assistant message.

        Of an assistant message only what the model would generate is learnt, the end of the turn included: its calls, the first
        token of its prose and the end of the turn as they stand or as their shares are, and the prose in between as the base
        model has it.

        Args:
            dialogue: The dialogue.
            prose: Whether the prose between calls is learnt too, for which the base model is run once more.

        Raises:
            ChatError: The template does not render the conversation's turns as it renders the prompts before them.
        """
        # With a message after it, as the renderer leaves a last assistant message open, to be continued.
        rendered = self._renderer.render([*dialogue.messages, ChatMessageUser(content="…")], dialogue.tools)
        learnt = torch.full((len(rendered.ids),), NOTHING, dtype=torch.int8)
        targets: list[dict[int, float]] = []
        last = 0
        leaves: dict[int, int] = {}
        for index, what in dialogue.learnt.items():
            prompt = self._renderer.render(dialogue.messages[:index], dialogue.tools).ids
            if rendered.ids[: len(prompt)] != prompt:
                raise ChatError(f"the template renders message {index} otherwise once it is followed by others")
            leaves[index] = first = len(prompt)
            last = rendered.ids.index(self._end, first) + 1
            own = rendered.ids[first:last]
            if what == "base":
                learnt[first:last] = BASE
            elif what == "form":
                learnt[first:last] = TOKEN
                learnt[first + 1 : first + self._prose_tokens(dialogue, index, own)] = BASE if prose else NOTHING
                shares = self._shares(own, dialogue.among.get(index, ()))
                targets += [share for place, share in enumerate(shares) if learnt[first + place] == TOKEN]
        ids, branch, all_learnt = rendered.ids[:last], [0] * last, learnt[:last].tolist()
        for number, aside in enumerate(dialogue.asides, 1):
            own = self._tokens(aside.among[0][1])
            given = next(n for n, text in self._growing(own) if len(text) > len(aside.given)) - 1
            ids += own
            branch += [number] * len(own)
            all_learnt += [NOTHING] * given + [TOKEN] * (len(own) - given)
            targets += self._shares(own, aside.among)[given:]
        return Encoded(
            torch.tensor(ids),
            torch.tensor(all_learnt, dtype=torch.int8),
            targets,
            [SHARE if len(shares) > 1 else FORM for shares in targets],
            torch.tensor(branch),
            [leaves[aside.index] for aside in dialogue.asides],
        )

    def script(self, script: Script) -> Encoded:
        """Return a script and its questions as tokens: what they share once, then each question and its answer.

        Raises:
            LibraryError: The library has not the script's vector.
        """
        prompts = [
            self._renderer.render([*script.messages, ChatMessageUser(content=one.text)], script.tools)
            for one in script.asked
        ]
        shared = list(takewhile(lambda same: len(set(same)) == 1, zip(*(one.ids for one in prompts), strict=False)))
        ids, branch = [token for token, *_ in shared], [0] * len(shared)
        learnt, targets, kinds = [NOTHING] * len(shared), list[dict[int, float]](), list[str]()
        for number, (prompt, one) in enumerate(zip(prompts, script.asked, strict=True), 1):
            own = prompt.ids[len(shared) :]
            answer = self._tokens(one.among[0][1])
            ids += own + answer
            branch += [number] * (len(own) + len(answer))
            learnt += [NOTHING] * len(own) + [TOKEN] * len(answer)
            targets += self._shares(answer, one.among)
            # What follows the first token, the rest of a name and the end of the turn, is form.
            kinds += [one.kind] + [FORM] * (len(answer) - 1)
        return Encoded(
            torch.tensor(ids),
            torch.tensor(learnt, dtype=torch.int8),
            targets,
            kinds,
            torch.tensor(branch),
            [len(shared)] * len(prompts),
            self._addition(script, prompts[0].starts),
        )

    def _addition(self, script: Script, starts: Sequence[int]) -> Addition | None:
        if script.vector is None or self._library is None:
            return None
        card = self._library.card
        relative = fmean(n / r for n, r in zip(card.norms[script.vector], card.residual_norms, strict=True))
        treatment = Treatment(direction=Direction(vector=script.vector), unit_strength=script.length / relative)
        (window,) = plan_windows(script.messages, {script.label: treatment}).windows
        assert window.stop is not None
        direction = resolve_direction(self._library, script.vector)
        values = {layer: treatment.unit_strength * direction.at(layer) for layer in direction.layers}
        return Addition(values, starts[window.start], starts[window.stop])

    @property
    def _end(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def _tokens(self, text: str) -> list[int]:
        """Return the tokens of an assistant message, its end of turn included."""
        if text not in self._known:
            self._known[text] = [*self._tokenizer.encode(text, add_special_tokens=False), self._end]
        return self._known[text]

    def _shares(self, ids: Sequence[int], among: Among) -> list[dict[int, float]]:
        """Return for each token of a message the share of each that could stand there, given those before it."""
        alive = [(share, self._tokens(text)) for share, text in among if share] or [(1.0, list(ids))]
        shares = []
        for place, token in enumerate(ids):
            following: defaultdict[int, float] = defaultdict(float)
            for share, others in alive:
                following[others[place]] += share
            if token not in following:
                raise ChatError(
                    f"a message is none of those that could stand there: {self._tokenizer.decode(list(ids))!r}"
                )
            total = sum(following.values())
            shares.append({other: share / total for other, share in following.items()})
            alive = [(share, others) for share, others in alive if others[place] == token]
        return shares

    def _prose_tokens(self, dialogue: Dialogue, index: int, ids: list[int]) -> int:
        """Return how many tokens of an assistant message are prose, the rest being calls and the end of the turn."""
        message = dialogue.messages[index]
        assert isinstance(message, ChatMessageAssistant)
        if not message.text:
            return 0
        if not message.tool_calls:
            return len(ids) - 1
        return next(n for n, text in self._growing(ids) if len(text) > len(message.text)) - 1

    def _growing(self, ids: list[int]) -> Iterator[tuple[int, str]]:
        for n in range(1, len(ids) + 1):
            yield n, str(self._tokenizer.decode(ids[:n]))


@dataclass(frozen=True)
class Recipe:
    """How the adapter is trained.

    Attributes:
        first_layer: First layer that it changes; all below stay as they are, those that are steered among them: the base model's
            vectors are the adapted model's.
        rank: Rank of each change.
        alpha: Scale of each change, times the rank.
        batch: Dialogues or scripts a step.
        passes: How often each is seen.
        rate: Highest learning rate, reached after `warm_up` of the steps and then falling to zero in a line.
        warm_up: Share of the steps.
    """

    first_layer: int = 21
    rank: int = 16
    alpha: int = 32
    batch: int = 1
    passes: int = 2
    rate: float = 5e-4
    warm_up: float = 0.05


@dataclass
class _Losses:
    """Mean losses by kind, over the tokens that were added."""

    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kinds: Sequence[str], losses: torch.Tensor) -> None:
        for kind, loss in zip(kinds, losses.tolist(), strict=True):
            self.sums[kind] += loss
            self.counts[kind] += 1

    def means(self) -> dict[str, float]:
        return {kind: round(self.sums[kind] / self.counts[kind], 4) for kind in sorted(self.sums)}


class Trainer:
    """Trains an adapter.

    Args:
        model: The base model, in float32; it is changed.
        recipe: How.
        seed: Seed of the initial weights and of the order.
        progress: Called with the step, how much of it is done, and how much there is.

    Attributes:
        curve: Mean losses by kind over each tenth of the training, before the step that each example led to.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, seed: int, progress: Progress = lambda *_: None) -> None:
        self.recipe = recipe
        self.curve: list[dict[str, float]] = []
        self._seed = seed
        self._progress = progress
        self._model = model
        self._adapted: PeftModel | None = None
        self._known_below: dict[int, torch.Tensor] = {}
        self._decoder = model.get_decoder()  # type: ignore[operator]
        self._head = model.get_output_embeddings()  # type: ignore[operator]
        for parameter in model.parameters():
            parameter.requires_grad = False

    def train(self, examples: Sequence[Encoded]) -> PeftModel:
        """Return the model with a trained adapter, its weights rounded to half precision."""
        torch.manual_seed(self._seed)
        self._adapted = get_peft_model(self._model, self._lora())
        trained = [parameter for parameter in self._adapted.parameters() if parameter.requires_grad]
        batches = self._batches(examples)
        optimiser = torch.optim.AdamW(trained, lr=self.recipe.rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self._pace(step, len(batches)))
        seen = _Losses()
        for number, batch in enumerate(batches, 1):
            for one in batch:
                kinds, losses = self._losses(one, keep=self.recipe.passes > 1)
                weights = torch.tensor([_WEIGHTS.get(kind, _ASKED_WEIGHT) for kind in kinds])
                ((weights * losses).sum() / _TOKENS_A_STEP / len(batch)).backward()  # type: ignore[no-untyped-call]
                seen.add(kinds, losses.detach())
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            if number * _CURVE_POINTS // len(batches) > len(self.curve):
                self.curve.append(seen.means())
                seen = _Losses()
            self._progress("training", number, len(batches))
        self._known_below.clear()
        with torch.no_grad():
            for parameter in trained:
                parameter.copy_(parameter.half())
        return self._adapted

    @torch.no_grad()
    def loss(self, examples: Sequence[Encoded]) -> dict[str, float]:
        """Return the mean losses by kind: cross-entropy less the shares' entropy, and KL(base ‖ adapted) in `prose`, in nats."""
        found = _Losses()
        for number, one in enumerate(examples, 1):
            found.add(*self._losses(one))
            self._progress("held out", number, len(examples))
        return found.means()

    def _losses(self, one: Encoded, *, keep: bool = False) -> tuple[list[str], torch.Tensor]:
        """Return what each learnt token is, and KL(shares, or base model ‖ adapted) there.

        Args:
            one: The example.
            keep: Whether what the layers that are not trained make of it is kept for the next pass.
        """
        mask = one.mask()
        hidden = self._known_below.get(id(one))
        if hidden is None:
            hidden = self._below(one, mask)
            if keep:
                self._known_below[id(one)] = hidden
        tokens, prose = _before(one, TOKEN), _before(one, BASE)
        final = self._above(one, hidden, mask)
        own = log_softmax(self._head(final[tokens]), -1)
        rows = torch.tensor([row for row, shares in enumerate(one.targets) for _ in shares], dtype=torch.long)
        ids = torch.tensor([token for shares in one.targets for token in shares], dtype=torch.long)
        shares = torch.tensor([share for shares in one.targets for share in shares.values()])
        divergence = torch.zeros(len(tokens)).index_add(0, rows, shares * (shares.log() - own[rows, ids]))
        if not len(prose):
            return list(one.kinds), divergence
        with torch.no_grad(), self._without_adapter():
            base = log_softmax(self._head(self._above(one, hidden, mask)[prose]), -1)
        kept = kl_div(log_softmax(self._head(final[prose]), -1), base, reduction="none", log_target=True).sum(-1)
        return [*one.kinds, *[PROSE] * len(prose)], torch.cat([divergence, kept])

    def _without_adapter(self) -> AbstractContextManager[object]:
        return nullcontext() if self._adapted is None else self._adapted.disable_adapter()

    @torch.no_grad()
    def _below(self, one: Encoded, mask: torch.Tensor | None) -> torch.Tensor:
        """Return what goes into the first layer that is trained, [1, tokens, hidden], with what is injected below."""
        hidden = self._decoder.get_input_embeddings()(one.ids[None])
        return self._through(one, hidden, range(self.recipe.first_layer), mask)

    def _above(self, one: Encoded, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return what the last layer makes of it, normalised: [tokens, hidden]."""
        layers = range(self.recipe.first_layer, len(self._decoder.layers))
        return self._decoder.norm(self._through(one, hidden, layers, mask))[0]  # type: ignore[no-any-return]

    def _through(
        self, one: Encoded, hidden: torch.Tensor, layers: Sequence[int], mask: torch.Tensor | None
    ) -> torch.Tensor:
        positions = one.positions[None]
        embeddings = self._decoder.rotary_emb(hidden, position_ids=positions)
        for number in layers:
            layer = self._decoder.layers[number]
            # Without a mask, attention is causal.
            hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=embeddings)
            added = one.addition
            if added is not None and number in added.values:
                hidden = hidden.clone()
                hidden[0, added.first : added.stop] += added.values[number]
        return hidden

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

    def _batches(self, examples: Sequence[Encoded]) -> list[list[Encoded]]:
        draw = random.Random(f"{self._seed}/training order")
        batches = []
        for _ in range(self.recipe.passes):
            order = draw.sample(examples, len(examples))
            batches += [order[at : at + self.recipe.batch] for at in range(0, len(order), self.recipe.batch)]
        return batches

    def _pace(self, step: int, steps: int) -> float:
        warm = max(1, round(self.recipe.warm_up * steps))
        return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _before(one: Encoded, what: int) -> torch.Tensor:
    """Return the positions before the tokens that are learnt in this way."""
    return torch.nonzero(one.learnt == what)[:, 0] - 1


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
        sizes: How many dialogues and scripts of which kind.
        recipe: How it is trained.
        progress: Called with the step, how much of it is done, and how much there is.

    Raises:
        LibraryError: There is no library of the base model's.
    """
    started = time.monotonic()
    loaded = load_model(BUNDLED_BASE, dtype="float32", device="cpu")
    library = load_library(find_library(loaded.fingerprint), loaded.fingerprint)
    encoder = Encoder(ChatRenderer(loaded.tokenizer, loaded.end_ids), loaded.tokenizer, library)
    dialogues, scripts = _material(seed, sizes)
    examples, tests = (
        [*(encoder.dialogue(one, n % _PROSE_EVERY == 0) for n, one in enumerate(d)), *map(encoder.script, s)]
        for d, s in ((dialogues, scripts), _material(seed + 1, HELD_OUT))
    )
    trainer = Trainer(loaded.model, recipe, seed, progress)
    before = trainer.loss(tests)
    adapted = trainer.train(examples)
    after = trainer.loss(tests)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        save_weights(adapted, scratch)
        base: PreTrainedModel = load_model(BUNDLED_BASE, dtype="float32", device="cpu").model
        merge_adapter(base, scratch)
        card = AdapterCard(
            base=BUNDLED_BASE,
            base_fingerprint=loaded.fingerprint,
            fingerprint=fingerprint(base),
            vectors=library.card.sha256[VECTORS_FILE],
            sha256={name: content_hash(scratch / name) for name in (WEIGHTS_FILE, CONFIG_FILE)},
            seed=seed,
            layers=(recipe.first_layer, base.config.num_hidden_layers - 1),
            rank=recipe.rank,
            planted=planted(),
            examples=dict(sorted(Counter([*(one.kind for one in dialogues), *["script"] * len(scripts)]).items())),
            tokens=_counted(examples),
            loss_before=before,
            loss_after=after,
            curve=trainer.curve,
            seconds=round(time.monotonic() - started),
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "peft")},
            },
        )
        (scratch / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        replace_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return card


def _material(seed: int, sizes: Sizes) -> tuple[list[Dialogue], list[Script]]:
    prose = shipped_prose()
    return build_dialogues(seed, sizes, prose), build_scripts(seed, sizes.scripts, prose)


def _counted(examples: Sequence[Encoded]) -> dict[str, int]:
    """Return how many tokens there are, and how many of each kind are learnt."""
    kinds = Counter(kind for one in examples for kind in one.kinds)
    kinds[PROSE] = sum(int((one.learnt == BASE).sum()) for one in examples)
    return {"all": sum(len(one.ids) for one in examples), **dict(sorted(kinds.items()))}
