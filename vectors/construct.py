"""From activations to vectors: three ways to take what a state adds to the residual stream.

`difference`: the state's mean minus the neutral narrator's, setting by setting, as published. `centred`: with the mean over
all states removed, which takes out what every told state has in common. `denoised`: `centred`, with the principal
components of the neutral stories projected out, the directions in which stories differ whatever the state.
"""

from typing import get_args

import torch

from self_steering.vectors.activations import Activations
from self_steering.vectors.card import Construction
from self_steering.vectors.corpus import NEUTRAL

CONSTRUCTIONS: tuple[Construction, ...] = get_args(Construction)
NEUTRAL_VARIANCE = 0.5


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
