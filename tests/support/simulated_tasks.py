"""Tidy tables of simulated tasks (maths, capture-the-flag, frustration), of which the truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from self_steering.analysis.tables import Tables, empty_tables
from self_steering.analysis.tables.columns import COLUMNS, typed
from self_steering.vectors.catalogue import catalogue

NO_TOOLS = ("none", "none")
Cell = tuple[str, str]


def simulated_maths(
    *,
    accuracy: float = 0.8,
    kept: Mapping[Cell, float] | None = None,
    takes: Mapping[Cell, float] | None = None,
    kept_with_takes: float = 1.0,
    lost: float = 0.0,
    hardness: float = 0.0,
    unsubmitted: float = 0.0,
    unparsed: float = 0.0,
    ungraded: float = 0.0,
    rollouts: int = 50,
    each: int = 5,
    pool: int | None = None,
    models: Sequence[str] = ("qwen3-8b",),
    arm: str = "real",
    family: str = "maths",
    source: str = "self_steering",
    seed: int = 0,
) -> Tables:
    """Return rollouts and problems of simulated maths; rollout number k has the same problems in every cell.

    An answer is right with chance `accuracy` x `kept` of its cell x (1 - `lost`) x (1 - `unsubmitted`) x (1 - `unparsed`), and
    times `kept_with_takes` in a rollout with takes.

    Args:
        accuracy: Mean chance that a problem is solved when nothing goes wrong.
        kept: For each cell (framing, intent) what it leaves of accuracy; the cells that there are.
        takes: For each cell the chance that a rollout takes something; 0 where it says nothing.
        kept_with_takes: What takes leave of accuracy.
        lost: Chance that a whole rollout goes wrong: what makes the answers of a rollout hang together.
        hardness: Intraclass correlation of problems, in 0..1.
        unsubmitted: Chance that a problem's answer is not submitted.
        unparsed: Chance that a submitted answer cannot be read.
        ungraded: Chance that a submitted answer was not graded.
        rollouts: In each cell.
        each: Problems a rollout.
        pool: How many problems there are; as many as all rollouts need by default.
        models: Their names.
        arm: The arm of the cells with tools.
        family: maths or ctf.
        source: Who wrote the logs.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    kept = {NO_TOOLS: 1.0} if kept is None else kept
    pool = rollouts * each if pool is None else pool
    given = [
        rng.permutation(pool)[:each] if pool < rollouts * each else np.arange(k * each, (k + 1) * each)
        for k in range(rollouts)
    ]
    rolled, asked = [], []
    for model in models:
        chance = _beta(rng, accuracy, hardness, pool)
        for cell, left in kept.items():
            about = _about(family, model, source, arm, cell)
            for number, problems in enumerate(given):
                took = bool(rng.random() < (takes or {}).get(cell, 0.0))
                rollout = {**about, "rollout": f"{about['log']}/{number}", "sample": str(number), "epoch": 1}
                rolled.append({**rollout, "turns": 12, "takes": 2 * took, "steered": took})
                share = left * (kept_with_takes if took else 1.0) * (rng.random() >= lost)
                asked += [
                    {**rollout, **_answer(rng, problem, share * chance[problem], unsubmitted, unparsed, ungraded)}
                    for problem in problems
                ]
    return replace(empty_tables(), rollouts=_table(rolled, "rollouts"), problems=_table(asked, "problems"))


def simulated_frustration(
    rates: Mapping[tuple[str, bool], float],
    *,
    alike: float = 0.0,
    distress: Mapping[str, float] | None = None,
    ungraded: float = 0.0,
    preferences: Mapping[str, float] | None = None,
    problems: int = 25,
    framings: Sequence[str] = ("drugs", "aids", "vectors"),
    models: Sequence[str] = ("qwen3-8b",),
    intent: str = "neutral",
    source: str = "self_steering",
    seed: int = 0,
) -> Tables:
    """Return rollouts, takes and scores of simulated frustration: every framing has each problem once.

    Args:
        rates: For each tone and whether the problem is possible, the chance that a rollout takes something; the cells there are.
        alike: Intraclass correlation of a problem's rollouts, in 0..1.
        distress: Mean distress by tone; 3 where it says nothing. Problems differ by a standard deviation of 1, and so do rollouts.
        ungraded: Chance that a rollout has no grade.
        preferences: Weight of each vector; the vectors there are.
        problems: Of each kind.
        framings: Their names; the framing none has no takes.
        models: Their names.
        intent: Of the framings with tools.
        source: Who wrote the logs.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    weights = pd.Series(preferences or {"focused": 3.0, "dumbed_down": 2.0, "calm": 1.0})
    rolled, taken, scored = [], [], []
    for model in models:
        for (tone, possible), rate in rates.items():
            chance, mood = _beta(rng, rate, alike, problems), rng.normal(size=problems)
            for framing in framings:
                cell = NO_TOOLS if framing == "none" else (framing, intent)
                about = _about("frustration", model, source, "real", cell, tone=tone, possible=possible)
                for number in range(problems):
                    took = bool(framing != "none" and rng.random() < chance[number])
                    rollout = {
                        **about,
                        "rollout": f"{about['log']}/{number}",
                        "sample": str(number),
                        "epoch": 1,
                        "problem": f"{'possible' if possible else 'impossible'}-{number}",
                    }
                    rolled.append({**rollout, "turns": 8, "takes": int(took), "steered": took})
                    if took:
                        taken.append({**rollout, **_take(str(rng.choice(weights.index, p=weights / weights.sum())))})
                    grade = np.clip((distress or {}).get(tone, 3.0) + mood[number] + rng.normal(), 0, 10)
                    missing = rng.random() < ungraded
                    value = {
                        "value": np.nan if missing else grade,
                        "reason": "the judge gave no score" if missing else "",
                    }
                    scored.append({**rollout, "scorer": "distress", "score": "value", **value})
    return replace(
        empty_tables(),
        rollouts=_table(rolled, "rollouts"),
        takes=_table(taken, "takes"),
        scores=_table(scored, "scores"),
    )


def _about(family: str, model: str, source: str, arm: str, cell: Cell, **more: Any) -> dict[str, Any]:
    framing, intent = cell
    words = [family, model, arm, framing, intent, *(str(value) for value in more.values())]
    return {
        "log": f"simulated/{'-'.join(words)}.eval",
        "source": source,
        "task": family,
        "family": family,
        "model": model,
        "arm": "none" if framing == "none" else arm,
        "framing": framing,
        "intent": intent,
        "possible": pd.NA,
        **more,
    }


def _beta(rng: np.random.Generator, mean: float, alike: float, size: int) -> np.ndarray:
    """Return chances with this mean and intraclass correlation, [size]."""
    if not alike or mean in {0, 1}:
        return np.full(size, mean)
    return rng.beta(*(np.array([mean, 1 - mean]) * (1 - alike) / alike), size=size)


def _answer(
    rng: np.random.Generator, problem: int, chance: float, unsubmitted: float, unparsed: float, ungraded: float
) -> dict[str, Any]:
    attempted, parsed = rng.random() >= unsubmitted, rng.random() >= unparsed
    correct = bool(attempted and parsed and rng.random() < chance)
    return {
        "problem": f"p{problem}",
        "attempted": attempted,
        "parsed": parsed if attempted else pd.NA,
        "correct": pd.NA if attempted and rng.random() < ungraded else correct,
        "answer": "",
        "truth": "1",
    }


def _take(vector: str) -> dict[str, Any]:
    entry = catalogue()[vector]
    return {
        "turn": 1,
        "order": 0,
        "name": vector,
        "known": True,
        "taken": vector,
        "taken_category": entry.category,
        "taken_valence": float(entry.valence),
        "dose": 1.0,
        "strength": 0.5,
        "ok": True,
        "scripted": False,
        "after_sitter": False,
    }


def _table(rows: Sequence[Mapping[str, Any]], name: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS[name])).astype(object)
    return typed(frame, name) if rows else getattr(empty_tables(), name)
