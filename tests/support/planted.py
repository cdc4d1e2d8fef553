"""Activations with planted answers: what each state, each setting and chance add to a story is known."""

from collections.abc import Mapping, Sequence

import torch

from self_steering.vectors.making.corpus import NEUTRAL
from self_steering.vectors.making.extraction import Activations


def directions(count: int, hidden: int = 24, layers: int = 2, seed: int = 0) -> torch.Tensor:
    """Return random unit vectors [count, layers, hidden]."""
    made = torch.randn(count, layers, hidden, generator=torch.Generator().manual_seed(1000 + seed))
    return made / made.norm(dim=-1, keepdim=True)


def planted(
    adds: Mapping[str, torch.Tensor],
    settings: Sequence[str],
    *,
    noise: float = 0.0,
    setting_effect: float = 3.0,
    neutral_settings: Sequence[str] | None = None,
    per_setting: int = 1,
    seed: int = 0,
) -> Activations:
    """Return activations of stories: what is common, plus the setting's effect, the state's, and chance.

    Args:
        adds: What each state adds, [layers, hidden].
        settings: In which the states are told.
        noise: Standard deviation of chance, in each dimension.
        setting_effect: That of the settings' effects.
        neutral_settings: Settings of the neutral narrator; default the same.
        per_setting: Stories a setting.
        seed: Of all that is random.
    """
    shape = next(iter(adds.values())).shape
    generator = torch.Generator().manual_seed(seed)
    told = {NEUTRAL: list(neutral_settings or settings), **{state: list(settings) for state in adds}}
    of_setting = {
        name: setting_effect * torch.randn(shape, generator=generator)
        for name in dict.fromkeys([*settings, *told[NEUTRAL]])
    }
    common = torch.full(shape, 5.0)
    values, names = {}, {}
    for state, where in told.items():
        names[state] = tuple(name for name in where for _ in range(per_setting))
        added = adds[state] if state in adds else torch.zeros(shape)
        values[state] = torch.stack(
            [
                common + of_setting[name] + added + noise * torch.randn(shape, generator=generator)
                for name in names[state]
            ]
        )
    return Activations(values, names)
