"""Default doses: the highest dose of each vector at which short answers still hold together, found by bisection.

An answer is read back by the unsteered model: its mean activation tells whether the text moved along the vector, its surprisal
whether it is still text. No outcome that is measured with a dose later has a part in finding it.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path

import torch
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from scipy.stats import ttest_1samp

from self_steering.steering.chat import ChatRenderer, RenderedChat
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.requests import EngineRequest, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from self_steering.vectors.directions import DirectionTensor
from self_steering.vectors.files import write_file
from self_steering.vectors.making.coherence import coherent
from self_steering.vectors.making.extraction import BATCH, masked_means, padded
from self_steering.vectors.report import Calibration, DoseTrial, VectorCalibration

MAX_TOKENS = 40
TEMPERATURE = 0.9
COHERENT_AT_LEAST = 0.75
SURPRISAL_RISE_AT_MOST = 1.0
ARRIVAL_T = 2.0
# 31 doses from 0.07 to 13.5 in quarter octaves: five halvings find one among them.
GRID = tuple(round(2 ** ((step - 15) / 4), 4) for step in range(31))
_ROUND = TypeAdapter(dict[str, DoseTrial])


class CalibrationError(ValueError):
    """Doses cannot be calibrated with this model."""


class Probes(BaseModel):
    """The prompts of `probes.toml`.

    Attributes:
        opening: Messages of user and assistant that come before each prompt.
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
        text: The text.
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
        first = model.step(torch.tensor([prompt]), before).logits.cpu()
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


@dataclass(frozen=True)
class Meter:
    """Measures answers against the unsteered ones.

    Attributes:
        units: Unit vectors of the library [vectors, layers, hidden], zero where one is not added.
        names: Their names.
        layers: Decoder layers that they belong to.
        unsteered: The unsteered answers, one a prompt.
    """

    units: torch.Tensor
    names: Sequence[str]
    layers: Sequence[int]
    unsteered: Sequence[Answer]

    @classmethod
    def of(cls, directions: Mapping[str, DirectionTensor], unsteered: Sequence[Answer]) -> "Meter":
        """Return a meter of these vectors; one that some layer lacks is measured at its own layers alone."""
        layers = sorted({layer for direction in directions.values() for layer in direction.layers})
        units = torch.zeros(len(directions), len(layers), next(iter(directions.values())).values.shape[-1])
        for row, direction in enumerate(directions.values()):
            at = [layers.index(layer) for layer in direction.layers]
            units[row, at] = direction.values / direction.values.norm(dim=-1, keepdim=True)
        return cls(units, list(directions), layers, unsteered)

    def trial(self, name: str, dose: float, answers: Sequence[Answer]) -> DoseTrial:
        """Return what a dose of the vector `name` did to the answers."""
        pairs = [
            (answer, before)
            for answer, before in zip(answers, self.unsteered, strict=True)
            if answer.activation is not None and before.activation is not None
        ]
        shares = sum(coherent(answer.text) for answer in answers) / len(answers)
        if len(pairs) < 2:
            return DoseTrial(
                dose=dose, coherent=shares, surprisal_rise=None, shift=None, t=None, rank=None, answers=len(pairs)
            )
        shifts = self._shifts(pairs)
        place = self.names.index(name)
        own, means = shifts[:, place], shifts.mean(0)
        t = float(ttest_1samp(own.numpy(), 0.0).statistic)
        rises = [(answer.surprisal or 0.0) - (before.surprisal or 0.0) for answer, before in pairs]
        return DoseTrial(
            dose=dose,
            coherent=round(shares, 4),
            surprisal_rise=round(sum(rises) / len(rises), 4),
            shift=round(float(means[place]), 4),
            t=round(t, 2) if t == t else None,  # noqa: PLR0124  not a number where no answer moved
            rank=1 + int((means > means[place]).sum()),
            answers=len(pairs),
        )

    def _shifts(self, pairs: Sequence[tuple[Answer, Answer]]) -> torch.Tensor:
        """Return shifts [prompts, vectors] in units of the residual stream's norm, averaged over the layers."""
        band = list(self.layers)
        after = torch.stack([answer.activation[band] for answer, _ in pairs if answer.activation is not None])
        before = torch.stack([answer.activation[band] for _, answer in pairs if answer.activation is not None])
        relative = (after - before) / before.norm(dim=-1).mean(0)[:, None]
        return torch.einsum("plh,vlh->pv", relative, self.units) / self.units.any(dim=-1).sum(-1)


def holds(trial: DoseTrial) -> bool:
    """Tell whether the text holds at a dose."""
    if trial.surprisal_rise is None:
        return False
    return trial.coherent >= COHERENT_AT_LEAST and trial.surprisal_rise <= SURPRISAL_RISE_AT_MOST


def arrives(trial: DoseTrial) -> bool:
    """Tell whether a dose moves the text along its vector."""
    return trial.t is not None and abs(trial.t) >= ARRIVAL_T


def calibrate(
    prober: Prober,
    directions: Mapping[str, DirectionTensor],
    *,
    fingerprint: str,
    vectors_sha256: str,
    work: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Calibration:
    """Find the default dose of every vector.

    Args:
        prober: Asks the calibration prompts.
        directions: The vectors.
        fingerprint: The model's, for the record.
        vectors_sha256: Hash of the vectors, for the record; rounds that were saved for others are not used.
        work: Folder in which each round is saved, and found again after an interruption.
        progress: Called with the rounds done and the rounds at most.

    Raises:
        CalibrationError: The model's own answers do not hold together.
    """
    unsteered = prober.ask([None])[0]
    share = sum(coherent(answer.text) for answer in unsteered) / len(unsteered)
    known = [answer.surprisal for answer in unsteered if answer.surprisal is not None]
    if share < COHERENT_AT_LEAST or len(known) < 2:
        raise CalibrationError(
            f"only {share:.0%} of the unsteered answers are coherent, {COHERENT_AT_LEAST:.0%} are needed: this model cannot be "
            "calibrated on these prompts; use an instruction-tuned model, or --default-dose"
        )
    meter = Meter.of(directions, unsteered)
    searches = {name: _Search() for name in directions}
    rounds = len(GRID).bit_length()
    conditions = (fingerprint, vectors_sha256, probes().opening, prober.prompts, prober.max_tokens, TEMPERATURE, GRID)
    key = hashlib.sha256(repr(conditions).encode()).hexdigest()[:16]
    for number in range(rounds):
        asked = {name: step for name, search in searches.items() if (step := search.next) is not None}
        path = work / f"round-{number}-{key}.json" if work is not None else None
        trials = _finished_round(path, asked) or _round(prober, directions, asked, meter)
        if path is not None:
            write_file(path, json.dumps({name: trial.model_dump() for name, trial in trials.items()}).encode())
        for name, step in asked.items():
            searches[name].learn(step, trials[name])
        if progress is not None:
            progress(number + 1, rounds)
    return Calibration(
        fingerprint=fingerprint,
        vectors_sha256=vectors_sha256,
        prompts=prober.prompts,
        max_tokens=prober.max_tokens,
        temperature=TEMPERATURE,
        coherent_at_least=COHERENT_AT_LEAST,
        surprisal_rise_at_most=SURPRISAL_RISE_AT_MOST,
        arrival_t=ARRIVAL_T,
        unsteered_coherent=round(share, 4),
        unsteered_surprisal=round(sum(known) / len(known), 4),
        vectors={name: search.result() for name, search in searches.items()},
    )


@dataclass
class _Search:
    """A bisection: doses up to `low` hold, those from `high` on do not."""

    low: int = -1
    high: int = len(GRID)
    trials: dict[int, DoseTrial] = field(default_factory=dict)

    @property
    def next(self) -> int | None:
        return (self.low + self.high) // 2 if self.high - self.low > 1 else None

    def learn(self, step: int, trial: DoseTrial) -> None:
        self.trials[step] = trial
        if holds(trial):
            self.low = step
        else:
            self.high = step

    def result(self) -> VectorCalibration:
        step = max(self.low, 0)
        final = self.trials[step]
        return VectorCalibration(
            dose=final.dose, holds=holds(final), arrives=arrives(final), trials=list(self.trials.values())
        )


def _round(
    prober: Prober, directions: Mapping[str, DirectionTensor], asked: Mapping[str, int], meter: Meter
) -> dict[str, DoseTrial]:
    answers = prober.ask([(directions[name], GRID[step]) for name, step in asked.items()])
    return {
        name: meter.trial(name, GRID[step], of_name)
        for (name, step), of_name in zip(asked.items(), answers, strict=True)
    }


def _finished_round(path: Path | None, asked: Mapping[str, int]) -> dict[str, DoseTrial] | None:
    """Return the trials of a round that an earlier run finished, if they are those that are asked now."""
    if path is None or not path.exists():
        return None
    try:
        trials = _ROUND.validate_json(path.read_bytes())
    except ValidationError:
        return None
    doses = {name: GRID[step] for name, step in asked.items()}
    return trials if {name: trial.dose for name, trial in trials.items()} == doses else None
