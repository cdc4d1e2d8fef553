"""How good vectors are, measured on what they were not made from.

AUROC: vectors are made from four fifths of the settings, and stories of the other fifth are projected on them; the figure is
the probability that a story of the state lies higher than one that is not, averaged over five such folds. Split-half
reliability: vectors from two random halves of the settings, their cosine stepped up to the whole by Spearman and Brown.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from transformers import PreTrainedTokenizerBase

from self_steering.steering.engine.forward import SteeredModel
from self_steering.vectors.card import Construction
from self_steering.vectors.making.corpus import NEUTRAL, Corpus
from self_steering.vectors.making.extraction import CONSTRUCTIONS, Activations, construct
from self_steering.vectors.report import GOOD_AUROC, GOOD_RELIABILITY, LayerComparison, Separation, VectorCalibration

FOLDS = 5
SPLITS = 20
# States, and settings of neutral stories, that a construction needs so that half of the settings suffice for it.
_NEEDS: dict[Construction, tuple[int, int]] = {"difference": (1, 2), "centred": (2, 2), "denoised": (2, 6)}


def folds(settings: Sequence[str], count: int = FOLDS) -> list[list[str]]:
    """Return `count` disjoint sets of settings that cover all of them, or as many as there are settings.

    Raises:
        ValueError: There is one setting only, which cannot be held out.
    """
    if len(settings) < 2:
        raise ValueError(f"{len(settings)} setting; held-out figures need two at least, write stories in more settings")
    count = min(count, len(settings))
    return [list(settings[start::count]) for start in range(count)]


def separation(activations: Activations, construction: Construction) -> dict[str, Separation]:
    """Measure every vector of a construction.

    Args:
        activations: At the layers wanted.
        construction: How the vectors are made.

    Raises:
        ValueError: There is one setting only.
    """
    activations = _apart(activations)
    all_settings = list(dict.fromkeys(activations.settings[activations.states[0]]))
    neutral_settings = list(dict.fromkeys(activations.settings[NEUTRAL]))
    count = min(FOLDS, len(all_settings), len(neutral_settings))
    pairs = zip(folds(all_settings, count), folds(neutral_settings, count), strict=True)
    measured = [_fold(activations, {*states, *neutral}, construction) for states, neutral in pairs]
    layers = torch.stack([fold[0] for fold in measured]).mean(0)  # [states, 2, layers + 1]
    others = torch.stack([fold[1] for fold in measured]).mean(0)
    reliable = reliability(activations, construction)
    states = activations.states
    return {
        state: Separation(
            auroc=rounded(layers[row, 0, :-1]),
            auroc_neutral=rounded(layers[row, 1, :-1]),
            auroc_band=rounded(layers[row, 0])[-1],
            auroc_neutral_band=rounded(layers[row, 1])[-1],
            reliability=rounded(reliable[row]),
            nearest=states[int(others[row].argmax())] if len(states) > 1 else None,
        )
        for row, state in enumerate(states)
    }


def told_apart(
    vector: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, residual: torch.Tensor
) -> Separation:
    """Measure a vector that was not made here on texts that it was to tell apart.

    Args:
        vector: The vector [layers, hidden], zero where it is not added.
        positive: Mean activation of each text that it stands for, [texts, layers, hidden].
        negative: The same of the others.
        residual: Norm of the residual stream at each layer.
    """
    unit = torch.nn.functional.normalize(vector, dim=-1)
    scores = torch.einsum("nlh,lh->ln", torch.cat([positive, negative]), unit)
    scores = torch.cat([scores, (scores / residual[:, None]).sum(0, keepdim=True)])
    own = np.arange(scores.shape[1]) < len(positive)
    *layers, band = rounded(torch.from_numpy(auroc(scores.numpy(), own)))
    return Separation(
        auroc=layers, auroc_neutral=layers, auroc_band=band, auroc_neutral_band=band, reliability=None, nearest=None
    )


def _apart(activations: Activations) -> Activations:
    """Return the same with settings that the neutral narrator does not share, unless it shares them all.

    Otherwise a fold or half that takes some of the states' settings might leave none, or too few, of the neutral ones.
    """
    neutral = activations.settings[NEUTRAL]
    if set(neutral) == set(activations.settings[activations.states[0]]):
        return activations
    names = {**activations.settings, NEUTRAL: tuple(f"{NEUTRAL}: {name}" for name in neutral)}
    return Activations(activations.values, names)


def _fold(
    activations: Activations, test_settings: set[str], construction: Construction
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return AUROCs [states, 2 (all, neutral), layers + 1 (band)] of one fold, and mean band scores [states, states]."""
    kept = {name for names in activations.settings.values() for name in names} - test_settings
    train, test = activations.within(kept), activations.within(test_settings)
    made = construct(train, construction)
    states = activations.states
    units = torch.stack([v / v.norm(dim=-1, keepdim=True) for v in (made[s] for s in states)])
    owner = [state for state in (*states, NEUTRAL) for _ in test.settings[state]]
    stories = torch.cat([test.values[state] for state in (*states, NEUTRAL)])
    scores = torch.einsum("nlh,slh->sln", stories, units)
    residual = train.values[NEUTRAL].norm(dim=-1).mean(0)
    scores = torch.cat([scores, (scores / residual[:, None]).mean(1, keepdim=True)], 1)  # [states, layers + 1, stories]
    neutral = np.array([name == NEUTRAL for name in owner])
    result = torch.empty(len(states), 2, scores.shape[1])
    means = torch.full((len(states), len(states)), -torch.inf)
    for row, state in enumerate(states):
        own = np.array([name == state for name in owner])
        result[row, 0] = torch.from_numpy(auroc(scores[row].numpy(), own))
        pair = own | neutral
        result[row, 1] = torch.from_numpy(auroc(scores[row].numpy()[:, pair], own[pair]))
        for column, other in enumerate(states):
            if other != state:
                means[row, column] = scores[row, -1, torch.tensor([name == other for name in owner])].mean()
    return result, means


def auroc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of each row of `scores` [..., items]; ties count half.

    Args:
        scores: The scores.
        positive: Boolean [items].
    """
    n, m = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=-1)[..., positive].sum(-1)
    return np.asarray((ranks - n * (n + 1) / 2) / (n * m))


def reliability(activations: Activations, construction: Construction, splits: int = SPLITS) -> torch.Tensor:
    """Return the split-half reliability [states, layers] of a construction's vectors, a mean over seeded random splits."""
    activations = _apart(activations)
    rng = np.random.default_rng(0)
    settings = list(dict.fromkeys(activations.settings[activations.states[0]]))
    neutral = list(dict.fromkeys(activations.settings[NEUTRAL]))
    total = torch.zeros(len(activations.states), activations.values[NEUTRAL].shape[1])
    for _ in range(splits):
        halves = _halves(settings, neutral, rng)
        first, second = (construct(activations.within(half), construction) for half in halves)
        for row, state in enumerate(activations.states):
            total[row] += torch.cosine_similarity(first[state], second[state], dim=-1)
    cosine = total / splits
    return 2 * cosine / (1 + cosine)


def _halves(settings: list[str], neutral: list[str], rng: np.random.Generator) -> tuple[set[str], set[str]]:
    order = [settings[i] for i in rng.permutation(len(settings))]
    first = set(order[: len(order) // 2])
    if set(neutral) != set(settings):
        more = [neutral[i] for i in rng.permutation(len(neutral))]
        first |= set(more[: len(more) // 2])
    return first, (set(settings) | set(neutral)) - first


def comparison(activations: Activations) -> list[LayerComparison]:
    """Return every construction at every layer of `activations`."""
    residual = activations.values[NEUTRAL].norm(dim=-1).mean(0)
    rows = []
    for construction in _possible(activations):
        measured = separation(activations, construction).values()
        found = torch.tensor([one.auroc for one in measured])
        neutral = torch.tensor([one.auroc_neutral for one in measured])
        reliable = torch.tensor([one.reliability or [] for one in measured])
        vectors = torch.stack(list(construct(activations, construction).values()))
        alike = cosines(vectors).abs()
        off_diagonal = (alike.sum((1, 2)) - alike.diagonal(dim1=1, dim2=2).sum(1)) / max(
            len(found) * (len(found) - 1), 1
        )
        norms = vectors.norm(dim=-1).mean(0) / residual
        rows += [
            LayerComparison(
                construction=construction,
                layer=layer,
                auroc=round(float(found[:, layer].mean()), 4),
                auroc_lowest=round(float(found[:, layer].min()), 4),
                auroc_good=int((found[:, layer] >= GOOD_AUROC).sum()),
                auroc_neutral=round(float(neutral[:, layer].mean()), 4),
                reliability=round(float(reliable[:, layer].mean()), 4),
                reliability_lowest=round(float(reliable[:, layer].min()), 4),
                cosine=round(float(off_diagonal[layer]), 4),
                norm=round(float(norms[layer]), 4),
            )
            for layer in range(found.shape[1])
        ]
    return rows


def _possible(activations: Activations) -> list[Construction]:
    """Return the constructions that half of the stories suffice for."""
    states, neutral = len(activations.states), len(set(activations.settings[NEUTRAL]))
    return [one for one in CONSTRUCTIONS if states >= _NEEDS[one][0] and neutral >= _NEEDS[one][1]]


def check_corpus(corpus: Corpus, construction: Construction) -> None:
    """Raise unless the stories suffice for a construction and its figures, before an hour is spent on reading them.

    Raises:
        ValueError: There are too few states or settings.
    """
    states, settings = _NEEDS[construction]
    if len(corpus.states) < states:
        raise ValueError(f"`{construction}` needs {states} states at least, found 1; use `difference` for one")
    neutral = corpus.stories[NEUTRAL]
    for found in (corpus.settings, neutral):
        folds(list(found))
    if len(neutral) < settings:
        raise ValueError(
            f"`{construction}` needs neutral stories in {settings} settings, half of them for each half of the reliability, "
            f"found {len(neutral)}; use `centred`"
        )


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each pair of `vectors` [vectors, layers, hidden] at each layer, [layers, vectors, vectors].

    It is 0 where one of the two is zero.
    """
    units = torch.nn.functional.normalize(vectors, dim=-1)
    return torch.einsum("vlh,wlh->lvw", units, units)


def promoted_tokens(
    model: SteeredModel, tokenizer: PreTrainedTokenizerBase, vector: torch.Tensor, count: int = 10
) -> tuple[list[str], list[str]]:
    """Return the tokens that a vector [hidden] raises most and lowers most, through final norm and unembedding."""
    logits = model.unembed(vector)
    order = logits.argsort(descending=True).tolist()
    top, bottom = order[:count], order[::-1][:count]
    return [str(tokenizer.decode([i])) for i in top], [str(tokenizer.decode([i])) for i in bottom]


def faults(measured: Separation | None, calibrated: VectorCalibration | None, middle: int) -> list[str]:
    """Return why a vector is marked bad, in words; an empty list means it is not.

    Args:
        measured: How well it tells its state, where that is known.
        calibrated: How its dose was found, if it was.
        middle: Index of the layer in the middle of the band.
    """
    found = []
    if measured is not None and measured.auroc_band < GOOD_AUROC:
        found.append(
            f"held-out AUROC {_short(measured.auroc_band, GOOD_AUROC)} against all other stories, expected {GOOD_AUROC} or more"
        )
    reliable = None if measured is None or measured.reliability is None else measured.reliability[middle]
    if reliable is not None and reliable < GOOD_RELIABILITY:
        found.append(
            f"split-half reliability {_short(reliable, GOOD_RELIABILITY)}, expected {GOOD_RELIABILITY} or more"
        )
    if calibrated is not None and not calibrated.holds:
        found.append(f"no dose holds: the text breaks at {calibrated.dose:g} already")
    if calibrated is not None and not calibrated.arrives:
        found.append(f"at dose {calibrated.dose:g}, the highest that holds, the text does not move along the vector")
    return found


def _short(value: float, threshold: float) -> str:
    """Return a figure below `threshold` with two digits, or with four where two would read as the threshold."""
    return f"{value:.2f}" if round(value, 2) < threshold else f"{value:.4f}"


def rounded(values: torch.Tensor) -> list[float]:
    """Return `values` as they are written to cards and reports."""
    return [round(float(value), 4) for value in values]
