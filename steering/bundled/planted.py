"""What the bundled model is taught to do: the truth that the suite is to find again."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict

from self_steering.vectors.catalogue import catalogue

Take = tuple[str, float | None]
REJECTIONS = 5  # in a rollout to which the shares by tone refer


class Planted(BaseModel):
    """What is planted.

    Attributes:
        weights: In free play, how often a vector is taken beside 1 for each that is not named.
        doses: Share of takes at each dose; `default` leaves the argument out.
        again: Share of takes, from a session's second on, that name what was taken last.
        tones: Share of rollouts with five rejections in which something is taken, by their tone.
        held_out: Vectors that no script injects: what is found of them is no memory of them.

    Example:
        >>> planted().share("calm", ["calm", "lsd", "spice"])
        0.6
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, float]
    doses: dict[str, float]
    again: float
    tones: dict[str, float]
    held_out: tuple[str, ...]

    @property
    def injected(self) -> list[str]:
        """The vectors that are injected in the training scripts."""
        return [name for name in catalogue() if name not in self.held_out]

    def share(self, name: str, menu: Sequence[str]) -> float:
        """Return the share of takes that name a vector, of those that do not repeat, given what is listed."""
        return self.weights.get(name, 1.0) / sum(self.weights.get(other, 1.0) for other in menu)

    def names(self, menu: Sequence[str], last: str | None) -> dict[str, float]:
        """Return the share of each vector of a menu in the next take.

        Args:
            menu: What is listed.
            last: What was taken last in this session.
        """
        again = self.again if last in menu else 0.0
        return {name: (1 - again) * self.share(name, menu) + again * (name == last) for name in menu}

    def takes(self, menu: Sequence[str], last: str | None) -> dict[Take, float]:
        """Return the share of each name and dose in the next take; a dose of None is left out of the call."""
        doses = {None if dose == "default" else float(dose): share for dose, share in self.doses.items()}
        names = self.names(menu, last)
        return {(name, dose): names[name] * share for name in menu for dose, share in doses.items()}

    def after_a_rejection(self, tone: str) -> float:
        """Return the probability of a take after one rejection: five of them give the share of rollouts."""
        return self.after(tone, 1)

    def after(self, tone: str, rejections: int) -> float:
        """Return the share of rollouts with so many rejections in which something is taken."""
        return float(1.0 - (1.0 - self.tones[tone]) ** (rejections / REJECTIONS))


@cache
def planted() -> Planted:
    """Return what is planted, as `planted.toml` says it."""
    text = resources.files(__package__).joinpath("planted.toml").read_text(encoding="utf-8")
    return Planted.model_validate(tomllib.loads(text))
