"""From stories to vectors: the mean activation of each story, and directions made of them.

Three constructions of a state's vector: `difference` (state less neutral narrator, as published), `centred` (the mean over all
states removed), `denoised` (`centred`, with the principal components of the neutral stories removed).
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.forward import SteeredModel
from self_steering.vectors.card import Construction
from self_steering.vectors.files import write_file
from self_steering.vectors.making.corpus import NEUTRAL, Corpus

CONSTRUCTIONS: tuple[Construction, ...] = get_args(Construction)
SKIPPED_TOKENS = 20
BATCH = 8
NEUTRAL_VARIANCE = 0.5  # share of the neutral stories' variance that `denoised` removes


@dataclass(frozen=True)
class Activations:
    """Mean activation of every story at every layer's output.

    Attributes:
        values: For each state and the neutral narrator a tensor [stories, layers, hidden], float32.
        settings: For each of them, the setting of each story.
    """

    values: Mapping[str, torch.Tensor]
    settings: Mapping[str, tuple[str, ...]]

    @property
    def states(self) -> list[str]:
        """Names of the states, without the neutral narrator."""
        return [state for state in self.values if state != NEUTRAL]

    def at(self, layers: Sequence[int]) -> "Activations":
        """Return the same at some layers only."""
        return Activations({state: value[:, list(layers)] for state, value in self.values.items()}, self.settings)

    def within(self, settings: Iterable[str]) -> "Activations":
        """Return the stories of some settings only."""
        wanted = set(settings)
        keep = {
            state: [row for row, setting in enumerate(names) if setting in wanted]
            for state, names in self.settings.items()
        }
        return Activations(
            {state: value[keep[state]] for state, value in self.values.items()},
            {state: tuple(names[row] for row in keep[state]) for state, names in self.settings.items()},
        )

    def mean(self, state: str) -> torch.Tensor:
        """Return the mean over settings of each setting's mean, [layers, hidden]: every setting weighs the same.

        Raises:
            ValueError: There is no story of this state.
        """
        names = self.settings[state]
        if not names:
            raise ValueError(f"no story of {state!r} is left to take a mean of; write stories in more settings")
        settings = list(dict.fromkeys(names))
        weights = torch.tensor([1 / names.count(name) / len(settings) for name in names])
        return torch.einsum("slh,s->lh", self.values[state], weights)


def read_corpus(
    model: SteeredModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    *,
    fingerprint: str,
    work: Path | None = None,
    skip: int = SKIPPED_TOKENS,
    progress: Callable[[int], object] | None = None,
) -> Activations:
    """Read a corpus with the model.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        corpus: The stories.
        fingerprint: The model's fingerprint: means that were saved for another model are not used.
        work: Folder in which each state's means are saved, and found again; None keeps nothing.
        skip: Tokens at the start of each story that do not count.
        progress: Called with the number of stories done.

    Raises:
        ValueError: A story has no token beyond the skipped ones, or the model returned numbers that are not finite.
    """
    values, settings, done = {}, {}, 0
    for state, of_state in corpus.stories.items():
        texts = [text for stories in of_state.values() for text in stories]
        key = hashlib.sha256(repr((fingerprint, str(model.dtype), skip, BATCH, texts)).encode()).hexdigest()[:16]
        # A state of a table may be called what no file can; the key tells apart what looks the same.
        name = f"{re.sub(r'[^a-z0-9]+', '_', state.lower())[:40]}-{key}.safetensors"
        path = work / name if work is not None else None
        means = _saved_means(path)
        if means is None:
            means = story_means(model, tokenizer, texts, skip=skip)
            if not means.isfinite().all():
                raise ValueError(
                    f"the model's activations over the stories of {state!r} are not finite; try --dtype float32"
                )
            if path is not None:
                write_file(path, save({"means": means}))
        values[state] = means
        settings[state] = tuple(setting for setting, stories in of_state.items() for _ in stories)
        done += len(texts)
        if progress is not None:
            progress(done)
    return Activations(values, settings)


def _saved_means(path: Path | None) -> torch.Tensor | None:
    """Return what an earlier run left, if it is whole."""
    if path is None or not path.exists():
        return None
    try:
        return load_file(path)["means"]
    except (SafetensorError, KeyError):
        return None


def story_means(
    model: SteeredModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, skip: int = SKIPPED_TOKENS
) -> torch.Tensor:
    """Return the mean activation of each text at every layer's output.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        texts: The stories.
        skip: Tokens at the start that do not count.

    Returns:
        Tensor [texts, layers, hidden], float32.

    Raises:
        ValueError: A text has no token beyond the skipped ones.
    """
    encoded = [tokenizer(text)["input_ids"] for text in texts]
    short = [texts[i] for i, ids in enumerate(encoded) if len(ids) <= skip]
    if short:
        raise ValueError(f"{len(short)} texts have at most {skip} tokens, the first: {short[0]!r}; write longer ones")
    return token_means(model, encoded, [skip] * len(texts))


def token_means(model: SteeredModel, rows: Sequence[Sequence[int]], firsts: Sequence[int]) -> torch.Tensor:
    """Return the mean activation [rows, layers, hidden] over the tokens of each row from its first one that counts."""
    means = torch.empty(len(rows), model.n_layers, model.hidden)
    # Rows of like length share a batch, so that little is padded.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        ids, mask = padded([rows[i] for i in batch])
        for row, i in enumerate(batch):
            mask[row, : firsts[i]] = 0
        means[batch] = masked_means(model.read(ids).outputs, mask)
    return means


def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of token ids padded on the right, [rows, tokens], and a mask of the same shape: 1 on their tokens."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows])
    return ids, mask


def masked_means(outputs: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Return the mean [rows, layers, hidden] over the tokens where `mask` [rows, tokens] is 1, on the CPU in float32."""
    weights = (mask / mask.sum(1, keepdim=True))[:, :, None]
    return torch.stack([(h.float() * weights.to(h.device)).sum(1).cpu() for h in outputs], dim=1)


def construct(activations: Activations, construction: Construction) -> dict[str, torch.Tensor]:
    """Return one vector [layers, hidden] a state.

    Args:
        activations: Of the stories to make them from, at the layers wanted.
        construction: Which of the three.

    Raises:
        ValueError: There are too few states or neutral stories for this construction.
    """
    neutral = activations.mean(NEUTRAL)
    vectors = {state: activations.mean(state) - neutral for state in activations.states}
    if construction == "difference":
        return vectors
    if len(vectors) < 2:
        raise ValueError(
            f"`{construction}` removes the mean over states and needs two at least; use `difference` for one"
        )
    centre = torch.stack(list(vectors.values())).mean(0)
    vectors = {state: value - centre for state, value in vectors.items()}
    if construction == "centred":
        return vectors
    axes = neutral_axes(activations.values[NEUTRAL])
    return {state: _without(value, axes) for state, value in vectors.items()}


def neutral_axes(stories: torch.Tensor, variance: float = NEUTRAL_VARIANCE) -> list[torch.Tensor]:
    """Return for each layer the first principal components [components, hidden] of the neutral stories.

    Args:
        stories: Tensor [stories, layers, hidden].
        variance: As many components are taken as it needs to explain this share of the variance.

    Raises:
        ValueError: There are fewer than three stories, which have no principal components worth the name.
    """
    if len(stories) < 3:
        raise ValueError(f"`denoised` needs three neutral stories at least, found {len(stories)}; use `centred`")
    axes = []
    for layer in (stories - stories.mean(0)).unbind(1):
        _, sizes, directions = torch.linalg.svd(layer, full_matrices=False)
        share = (sizes**2).cumsum(0) / (sizes**2).sum()
        axes.append(directions[: int((share < variance).sum()) + 1])
    return axes


def _without(vector: torch.Tensor, axes: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([v - a.T @ (a @ v) for v, a in zip(vector, axes, strict=True)])
