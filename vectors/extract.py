"""Vectors from stories: per layer, the difference of mean activations between a state and the neutral narrator.

For every setting, the mean residual-stream activation over the state's story minus that over the neutral story; then the
mean over settings. The first tokens of each story are skipped: they say little of the state yet.
"""

import math
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from self_steering.steering.forward import SteeredModel
from self_steering.vectors.card import Construction, LibraryCard
from self_steering.vectors.corpus import NEUTRAL, Corpus
from self_steering.vectors.library import Library, content_hash, serialised

SKIPPED_TOKENS = 20
BAND = (0.44, 0.67)
BATCH = 8


def default_band(n_layers: int) -> list[int]:
    """Return the layers from 44 to 67 % of the depth, the band that the study and its forks steered."""
    return list(range(round(BAND[0] * n_layers), round(BAND[1] * n_layers) + 1))


def story_means(
    model: SteeredModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    skip: int = SKIPPED_TOKENS,
    progress: Callable[[int], object] | None = None,
) -> torch.Tensor:
    """Return the mean activation of each text at every layer's output.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        texts: The stories.
        skip: Tokens at the start that do not count.
        progress: Called with the number of texts done.

    Returns:
        Tensor [texts, layers, hidden], float32.

    Raises:
        ValueError: A text has no token beyond the skipped ones.
    """
    encoded = [tokenizer(text)["input_ids"] for text in texts]
    short = [texts[i] for i, ids in enumerate(encoded) if len(ids) <= skip]
    if short:
        raise ValueError(f"{len(short)} texts have at most {skip} tokens, the first: {short[0]!r}; write longer ones")
    means = torch.empty(len(texts), model.n_layers, model.hidden)
    # Stories of like length share a batch, so that little is padded.
    order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        means[batch] = _batch_means(model, [encoded[i] for i in batch], skip)
        if progress is not None:
            progress(first + len(batch))
    return means


@torch.no_grad()
def _batch_means(model: SteeredModel, rows: Sequence[list[int]], skip: int) -> torch.Tensor:
    width = max(map(len, rows))
    # Padding on the right: causal attention keeps it from touching what stands before it.
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[0] * skip + [1] * (len(row) - skip) + [0] * (width - len(row)) for row in rows])
    outputs = model.layer_outputs(ids)
    weights = (mask / mask.sum(1, keepdim=True))[:, :, None]
    return torch.stack([(h.float().cpu() * weights).sum(1) for h in outputs], dim=1)


def contrast(means: dict[str, torch.Tensor], construction: Construction) -> dict[str, torch.Tensor]:
    """Return one vector [layers, hidden] a state.

    Args:
        means: For each state and the neutral narrator, story means [settings, layers, hidden] in the same order of
            settings.
        construction: `difference`, or `centred`, which takes the mean over states from each.
    """
    differences = {state: (value - means[NEUTRAL]).mean(0) for state, value in means.items() if state != NEUTRAL}
    if construction == "difference":
        return differences
    if len(differences) < 2:
        raise ValueError("`centred` removes the mean over states and needs two at least; use `difference` for one")
    centre = torch.stack(list(differences.values())).mean(0)
    return {state: value - centre for state, value in differences.items()}


def build_library(
    model: SteeredModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    *,
    name: str,
    revision: str | None,
    fingerprint: str,
    layers: Sequence[int] | None = None,
    construction: Construction = "centred",
    default_dose: float = 1.0,
    skip: int = SKIPPED_TOKENS,
    progress: Callable[[int], object] | None = None,
) -> Library:
    """Extract a library from a corpus.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        corpus: The stories.
        name: The model's name, for the card.
        revision: Its hub commit, for the card.
        fingerprint: Its fingerprint, for the card.
        layers: Decoder layers to steer; default `default_band`.
        construction: How vectors are made from means.
        default_dose: Multiple of each vector that dose 1.0 adds.
        skip: Tokens at the start of each story that do not count.
        progress: Called with the number of stories done.
    """
    band = sorted(layers) if layers is not None else default_band(model.n_layers)
    outside = [layer for layer in band if not 0 <= layer < model.n_layers]
    if outside or not band:
        raise ValueError(f"layers {outside or band} are not in the model; it has 0 to {model.n_layers - 1}")
    if len(set(band)) != len(band):
        raise ValueError(f"layers {band} name one twice; name each layer once")
    if not math.isfinite(default_dose) or default_dose == 0:
        raise ValueError(f"default dose {default_dose} adds nothing or no number; choose a finite number such as 0.6")
    keys = [(state, setting) for state in corpus.stories for setting in corpus.settings]
    texts = [corpus.stories[state][setting] for state, setting in keys]
    all_means = story_means(model, tokenizer, texts, skip=skip, progress=progress)[:, band]
    by_state = all_means.reshape(len(corpus.stories), len(corpus.settings), len(band), model.hidden)
    means = dict(zip(corpus.stories, by_state, strict=True))
    vectors = contrast(means, construction)
    card = LibraryCard(
        model=name,
        revision=revision,
        fingerprint=fingerprint,
        hidden=model.hidden,
        layers=band,
        construction=construction,
        skipped_tokens=skip,
        corpus=corpus.hash(),
        norms={state: _rounded(vector.norm(dim=-1)) for state, vector in vectors.items()},
        residual_norms=_rounded(means[NEUTRAL].norm(dim=-1).mean(0)),
        default_doses=dict.fromkeys(vectors, default_dose),
        calibrated=False,
        sha256=content_hash(serialised(vectors)),
    )
    return Library(card=card, vectors=vectors)


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
