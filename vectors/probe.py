"""Short answers under steering, and what the unsteered model makes of them: the measurements behind doses and samples."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources

import torch
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser
from pydantic import BaseModel, ConfigDict, Field

from self_steering.steering.chat import ChatRenderer, RenderedChat
from self_steering.steering.direction import DirectionTensor
from self_steering.steering.engine import Engine
from self_steering.steering.row import EngineRequest, TokenWindow
from self_steering.steering.sampling import Sampling
from self_steering.vectors.activations import BATCH, masked_means, padded

MAX_TOKENS = 40
TEMPERATURE = 0.9


class Probes(BaseModel):
    """The prompts of `probes.toml`.

    Attributes:
        opening: What user and assistant have said before.
        calibration: Prompts on which doses are found.
        report: Prompts on which effects are shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    opening: tuple[str, str]
    calibration: tuple[str, ...] = Field(min_length=2)
    report: tuple[str, ...] = Field(min_length=1)


@cache
def probes() -> Probes:
    """Return the prompts that ship with the package."""
    text = resources.files(__package__).joinpath("probes.toml").read_text(encoding="utf-8")
    return Probes.model_validate(tomllib.loads(text))


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: What was said.
        activation: Mean activation [layers, hidden] over the answer's tokens when the unsteered model reads them; None if
            there is no token.
        surprisal: Mean of -log p a token, in nats, under the unsteered model; None if there is no token.
    """

    text: str
    activation: torch.Tensor | None
    surprisal: float | None


class Prober:
    """Asks a model the same prompts under different steering.

    Args:
        engine: Runs the model.
        renderer: Renders its chats.
        prompts: What is asked. An answer's random numbers depend on its prompt alone, so that doses are compared on the
            same draws.
        max_tokens: Longest answer.
    """

    def __init__(
        self, engine: Engine, renderer: ChatRenderer, prompts: Sequence[str], max_tokens: int = MAX_TOKENS
    ) -> None:
        self.prompts = list(prompts)
        self.max_tokens = max_tokens
        self._engine = engine
        user, assistant = probes().opening
        opening: list[ChatMessage] = [ChatMessageUser(content=user), ChatMessageAssistant(content=assistant)]
        self._chats = [renderer.render([*opening, ChatMessageUser(content=prompt)], []) for prompt in prompts]
        self._seeds = [int(hashlib.sha256(prompt.encode()).hexdigest()[:12], 16) for prompt in prompts]

    def ask(self, steering: Sequence[tuple[DirectionTensor, float] | None]) -> list[list[Answer]]:
        """Return the answers to all prompts under each steering.

        Args:
            steering: Direction and strength; None steers nothing.
        """
        requests = [
            self._request(chat, seed, what)
            for what in steering
            for chat, seed in zip(self._chats, self._seeds, strict=True)
        ]
        made = [future.result() for future in self._engine.submit_all(requests)]
        count = len(self._chats)
        answers: list[Answer] = [Answer(generation.text, None, None) for generation in made]
        for prompt, chat in enumerate(self._chats):
            # Answers to one prompt are read together after one reading of the prompt.
            rows = [row for row in range(prompt, len(made), count) if made[row].tokens]
            tokens = [made[row].tokens for row in rows]
            found = self._engine.call(partial(self._read, chat.ids, tokens)).result()
            for row, (activation, surprisal) in zip(rows, found, strict=True):
                answers[row] = Answer(made[row].text, activation, surprisal)
        return [answers[first : first + count] for first in range(0, len(answers), count)]

    def _request(self, chat: RenderedChat, seed: int, steering: tuple[DirectionTensor, float] | None) -> EngineRequest:
        windows: tuple[TokenWindow, ...] = ()
        if steering is not None:
            direction, strength = steering
            windows = (TokenWindow("probe", direction, strength, chat.starts[2], None),)
        return EngineRequest(
            ids=tuple(chat.ids),
            sampling=Sampling(max_tokens=self.max_tokens, temperature=TEMPERATURE, seed=seed),
            windows=windows,
            cuts=tuple(chat.starts[:-1]),
        )

    def _read(self, prompt: list[int], answers: Sequence[list[int]]) -> list[tuple[torch.Tensor, float]]:
        """Return mean activation and mean surprisal of each answer when the unsteered model reads it."""
        model = self._engine.model
        before = model.new_arena(1)
        before.past = (0,)
        first = model.step(torch.tensor([prompt]), before).logits
        block = before.view(0, 0, len(prompt))
        found: list[tuple[torch.Tensor, float]] = []
        for start in range(0, len(answers), BATCH):
            batch = answers[start : start + BATCH]
            arena = model.new_arena(len(batch))
            for row in range(len(batch)):
                arena.load(row, 0, block)
            arena.past = (len(prompt),) * len(batch)
            ids, mask = padded(batch)
            reading = model.read(ids, arena, logits=True)
            assert reading.logits is not None
            logits = torch.cat([first.expand(len(batch), 1, -1), reading.logits[:, :-1].float().cpu()], 1)
            surprisal = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
            means = masked_means(reading.outputs, mask)
            found += list(zip(means, ((surprisal * mask).sum(1) / mask.sum(1)).tolist(), strict=True))
        return found
