"""Tidy tables of simulated free play, of which the truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from self_steering.analysis.tables import Tables, empty_tables
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.vectors.catalogue import catalogue

REDOSING = {"real": 0.25, "placebo": 0.05}


def simulated_freeplay(
    *,
    redosing: Mapping[str, float] = REDOSING,
    redose_spread: float = 0.0,
    redose_dose: Mapping[str, float] | float = 1.0,
    preferences: Mapping[str, Mapping[str, float]] | Mapping[str, float] | None = None,
    taste_spread: float = 0.0,
    distinct: float = 4.0,
    rollouts: int = 60,
    models: Sequence[str] = ("qwen3-8b",),
    framings: Sequence[str] = ("drugs",),
    sitter: float = 0.0,
    source: str = "self_steering",
    seed: int = 0,
) -> Tables:
    """Return logs, rollouts and takes of simulated free play; the other tables are empty.

    In each rollout some vectors are taken, each for the first time in an order drawn by preference; each of them is then taken
    a second time, or not, at a random place after its first.

    Args:
        redosing: For each arm, the chance that a vector that is taken in a rollout is taken again there: the true redose rate.
        redose_spread: Intraclass correlation of redosing within rollouts, in 0..1: how much rollouts differ in it. The mean stays.
        redose_dose: Dose of second takes, by arm or for all; first takes have dose 1.
        preferences: Weight of each vector, by arm or for all; those left out have weight 1. The share of a vector among
            the first takes of the rollouts is its weight over the sum of all 40.
        taste_spread: How much rollouts differ in preference: 0 not at all, 1 about as much as can be. The shares stay.
        distinct: Mean number of different vectors a rollout takes, at least 1.
        rollouts: In each cell of model, framing and arm.
        models: Their names.
        framings: Their names.
        sitter: Chance that the trip sitter cleared effects once in a rollout, at a random take. It changes nothing else.
        source: Who wrote the logs.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    logs, rolled, taken = [], [], []
    for number, (model, framing, arm) in enumerate((m, f, a) for m in models for f in framings for a in redosing):
        weights = _weights(preferences, arm)
        dose = redose_dose if isinstance(redose_dose, float | int) else redose_dose[arm]
        log = {
            "log": f"simulated/{number}-{model}-{framing}-{arm}.eval",
            "source": source,
            "task": "freeplay",
            "family": "freeplay",
            "model": model,
            "arm": arm,
            "framing": framing,
        }
        created = f"2026-01-01T00:{number:02d}:00+00:00"
        logs.append(log | {"created": created, "samples": rollouts, "seed": seed, "inspect": "0.3"})
        for sample in range(rollouts):
            rollout = log | {"rollout": f"{log['log']}#{sample}", "sample": str(sample), "epoch": 1}
            picks = _picks(rng, weights, distinct, redosing[arm], redose_spread, taste_spread)
            cleared = rng.integers(len(picks) + 1) if rng.random() < sitter else None
            counts = {"turns": len(picks) + 2, "takes": len(picks), "steered": True}
            rolled.append(rollout | counts | {"sitter_clears": int(cleared is not None), "sitter_errors": 0})
            for order, (vector, again) in enumerate(picks):
                take = _take(vector, dose if again else 1.0, placebo=arm == "placebo")
                after = cleared is not None and order >= cleared
                taken.append(rollout | take | {"turn": order, "order": order, "after_sitter": after})
    return replace(
        empty_tables(),
        logs=pd.DataFrame(logs, columns=list(COLUMNS["logs"])),
        rollouts=pd.DataFrame(rolled, columns=list(COLUMNS["rollouts"])),
        takes=pd.DataFrame(taken, columns=list(COLUMNS["takes"])),
    )


def _weights(preferences: Mapping | None, arm: str) -> np.ndarray:
    """Return the weight of each vector of the catalogue, [40], with sum 1."""
    own = preferences or {}
    if any(isinstance(value, Mapping) for value in own.values()):
        own = own.get(arm, {})
    if unknown := set(own) - set(catalogue()):
        raise ValueError(f"no vector {min(unknown)!r} in the catalogue")
    weights = np.array([own.get(name, 1.0) for name in catalogue()])
    return weights / weights.sum()


def _picks(
    rng: np.random.Generator,
    weights: np.ndarray,
    distinct: float,
    redose: float,
    redose_spread: float,
    taste_spread: float,
) -> list[tuple[str, bool]]:
    """Return the vectors that a rollout takes, in order, each with whether it had been taken before."""
    if taste_spread:
        weights = rng.dirichlet(weights / taste_spread) + 1e-300
    if redose_spread and 0 < redose < 1:
        redose = rng.beta(*(np.array([redose, 1 - redose]) * (1 - redose_spread) / redose_spread))
    how_many = min(1 + rng.poisson(distinct - 1), len(weights))
    # Whoever's exponential clock rings first is drawn first: drawing by weight without replacement.
    firsts = np.argsort(rng.exponential(size=len(weights)) / weights)[:how_many]
    again = rng.random(how_many) < redose
    when = [(float(time), vector, False) for time, vector in enumerate(firsts)]
    when += [(rng.uniform(time, how_many), vector, True) for time, vector in enumerate(firsts) if again[time]]
    names = list(catalogue())
    return [(names[vector], repeated) for _, vector, repeated in sorted(when)]


def _take(vector: str, dose: float, *, placebo: bool) -> dict[str, object]:
    entry = catalogue()[vector]
    default = 0.5 + 0.02 * list(catalogue()).index(vector)
    return {
        "name": vector,
        "known": True,
        "taken": vector,
        "taken_category": entry.category,
        "taken_valence": entry.valence,
        "dose": dose,
        "strength": 0.0 if placebo else dose * default,
        "ok": True,
        "scripted": False,
    }
