"""Which vector is taken at which dose in which framing: dealt so that every one comes equally often."""

import random
from collections.abc import Sequence

from self_steering.steering.framings import FRAMINGS, FramingName
from self_steering.vectors.catalogue import catalogue

# None leaves the argument out. As 40 vectors are a multiple of their number, each round has every dose equally often.
DOSES: tuple[float | None, ...] = (None, -1.0, -0.5, 0.5, 0.75, 1.0, 1.5, 2.0)
LABELS = ("d1", "d1", "d1", "d2", "x1", "v7", "k4", "d1")
Take = tuple[str, float | None]


def deal_takes(seed: int, rounds: int) -> dict[FramingName, list[Take]]:
    """Return the takes of each framing, shuffled.

    Args:
        seed: Seed of the order.
        rounds: How often each framing takes each vector; after `len(DOSES)` rounds every vector has had every dose.
    """
    dealt: dict[FramingName, list[Take]] = {}
    for framing in FRAMINGS:
        draw = random.Random(f"{seed}/takes/{framing}")
        names = sorted(catalogue())
        draw.shuffle(names)
        takes = [
            (name, DOSES[(place + number) % len(DOSES)]) for number in range(rounds) for place, name in enumerate(names)
        ]
        draw.shuffle(takes)
        dealt[framing] = takes
    return dealt


def deal_opaque(seed: int) -> dict[FramingName, list[Take]]:
    """Return takes of opaque labels, every dose once in each framing, shuffled."""
    dealt: dict[FramingName, list[Take]] = {}
    for framing in FRAMINGS:
        draw = random.Random(f"{seed}/opaque/{framing}")
        labels, doses = list(LABELS), list(DOSES)
        draw.shuffle(labels)
        draw.shuffle(doses)
        dealt[framing] = list(zip(labels, doses, strict=True))
    return dealt


def in_parts(takes: Sequence[Take], sizes: Sequence[int], draw: random.Random) -> list[list[Take]]:
    """Cut takes into parts of sizes drawn from `sizes`; the last may be smaller."""
    parts: list[list[Take]] = []
    rest = list(takes)
    while rest:
        size = draw.choice(sizes)
        parts.append(rest[:size])
        rest = rest[size:]
    return parts


def arguments(take: Take) -> dict[str, str | float]:
    """Return the arguments of a take call."""
    name, dose = take
    return {"name": name} if dose is None else {"name": name, "dose": dose}
