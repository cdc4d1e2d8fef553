"""Tidy tables of simulated introspection experiments, of which the truth is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from string import ascii_uppercase

import numpy as np
import pandas as pd

from self_steering.analysis.tables import Tables, empty_tables
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.solvers.preference import OTHER_FIRST, STATE_FIRST
from self_steering.vectors.catalogue import catalogue

VECTORS = tuple(catalogue())
MASS = 0.6  # what the letters have of the full vocabulary


def simulated_choice(
    *,
    gaps: Mapping[str, float] | float = 0.1,
    arms: Mapping[str, float] | None = None,
    models: Sequence[str] = ("qwen3-8b",),
    primers: Mapping[str, float] | Sequence[str] = ("none",),
    doses: Mapping[float, float] | Sequence[float] = (1.0,),
    vectors: Sequence[str] = VECTORS,
    questions: int = 4,
    between: float = 0.0,
    within: float = 0.0,
    uncached: float = 0.1,
    options: int = 10,
    rotations: int = 2,
    directions: int = 3,
    source: str = "self_steering",
    seed: int = 0,
) -> Tables:
    """Return logs, rollouts, scores and readouts of a simulated multiple choice; the other tables are empty.

    The true option's share is `uncached` in every uncached reading; cached it has more by its gap. What it gains all other options
    lose alike.

    Args:
        gaps: True gap of every vector in the real arm, or of all.
        arms: By what each arm's gaps are multiplied; default the real arm alone.
        models: Their names.
        primers: Names, or by what each multiplies the gaps.
        doses: Doses, or by what each multiplies the gaps. Default doses differ from vector to vector, from 0.5 up.
        vectors: Their names.
        questions: Questions a vector and cell; each has one of four wordings.
        between: Standard deviation of the vectors' gaps around the truth.
        within: Standard deviation of a question's gap around its vector's, shared by all arms and doses.
        uncached: The true option's share without a window.
        options: How many options.
        rotations: How many rotations of them; in the random arm every direction is read in one.
        directions: How many random directions in the random arm; the first one has the arm's gap, each further one a tenth less.
        source: Who wrote the logs; the study's have one reading of each kind, and no probabilities.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    arms = {"real": 1.0} if arms is None else arms
    truth = {name: (gaps if isinstance(gaps, float | int) else gaps[name]) + between * rng.normal() for name in vectors}
    noise = {(name, question): within * rng.normal() for name in vectors for question in range(questions)}
    cells = [(m, p, d) for m in models for p in primers for d in doses]
    rolled, logs, read, scored = [], [], [], []
    for model, primer, dose in cells:
        factor = (primers[primer] if isinstance(primers, Mapping) else 1) * (
            doses[dose] if isinstance(doses, Mapping) else 1
        )
        log = {
            "log": f"simulated/{source}-{model}-{primer}-{dose:g}.eval",
            "source": source,
            "task": "introspection",
            "family": "introspection",
            "model": model,
            "framing": "vectors" if source == "self_steering" else "drugs",
            "intent": "",
            "tone": "",
            "primer": primer,
            "visibility": "",
        }
        logs.append(log | {"arm": "real", "samples": len(vectors) * questions, "dose": dose, "seed": seed})
        for name, question, arm in ((n, q, a) for n in vectors for q in range(questions) for a in arms):
            sample = f"{name}-{question}-{arm}"
            rollout = log | _about(
                f"{log['log']}#{sample}", sample, arm, name, question if source == "self_steering" else None
            )
            gap = arms[arm] * (factor * truth[name] + noise[name, question])
            choices = _choices(name, options, question)
            steered = {"placebo": 0.0, "prompt_only": 0.0, "opposite": -1.0}.get(arm, 1.0)
            at = {"dose": dose, "strength": steered * dose * (0.5 + 0.02 * VECTORS.index(name))}
            if source != "self_steering":
                at["strength"] = math.nan
            shifts = (
                [round(index * options / rotations) for index in range(rotations)]
                if source == "self_steering"
                else [math.nan]
            )
            numbers = directions if arm == "random" else 0
            cached = _cached(gap, shifts, numbers)
            rolled.append(rollout)
            for number, (reading, shift, direction, more) in enumerate(
                [*cached, *(("uncached", s, math.nan, 0.0) for s in shifts)]
            ):
                about = rollout | at | {"reading": reading, "number": number, "rotation": shift, "direction": direction}
                about |= {"question": "", "options": float(options)}
                if reading == "uncached":
                    about["strength"] = 0.0
                read += _reading(about, choices, name, uncached + more, source == "self_steering")
            value = float(np.mean([more for *_, more in cached]))
            for figure, number in (("cached", uncached + value), ("uncached", uncached), ("gap", value)):
                scored.append(
                    rollout | {"scorer": "introspection_scorer", "score": figure, "value": number, "reason": ""}
                )
    return tables_of(logs=logs, rollouts=rolled, readouts=read, scores=scored if source == "self_steering" else [])


def simulated_ratings(
    *,
    gaps: Mapping[str, float] | float = 0.0,
    model: str = "qwen3-8b",
    primer: str = "none",
    vectors: Sequence[str] = VECTORS,
    trials: int = 4,
    noise: float = 0.5,
    source: str = "self_steering",
    seed: int = 0,
) -> Tables:
    """Return rollouts and scores of the free-text experiment, cached ratings above uncached ones by `gaps` on average."""
    rng = np.random.default_rng(seed)
    low, high = (1.0, 10.0) if source == "self_steering" else (0.0, 1.0)
    rolled, scored = [], []
    for name, trial in ((n, t) for n in vectors for t in range(trials)):
        sample = f"{name}-{trial}-real"
        log = {"log": "simulated/text.eval", "source": source, "task": "text", "family": "free_text", "model": model}
        log |= {"framing": "drugs", "intent": "", "tone": "", "primer": primer, "visibility": ""}
        rollout = log | _about(f"text/{source}/{model}/{primer}#{sample}", sample, "real", name, trial)
        rolled.append(rollout)
        base = (low + high) / 2
        gap = (gaps if isinstance(gaps, float | int) else gaps[name]) + noise * (high - low) / 9 * rng.normal()
        values = {"cached": base + gap, "uncached": base}
        study = {"cached": "guess_accuracy_scorer", "uncached": "kv_cleared_score"}
        for reading, value in values.items():
            own = source == "self_steering"
            names = {"scorer": "description_scorer" if own else study[reading], "score": reading if own else "value"}
            scored.append(rollout | names | {"value": value, "reason": ""})
    return tables_of(rollouts=rolled, scores=scored)


def simulated_preferences(
    strength: Mapping[str, float], sureness: float, seed: int, scripts: int = 2, model: str = "m"
) -> Tables:
    """Return choices whose probabilities are, on average over scripts, those of Bradley and Terry's model.

    Args:
        strength: True strength of each state, in log-odds; every two of them are set against each other.
        sureness: How closely the scripts of a pair agree: the sum of the parameters of the beta distribution of its shares.
        seed: Of the draws.
        scripts: Scripts a pair.
        model: Its name.
    """
    rng = np.random.default_rng(seed)
    rolled, read = [], []
    for (a, b), script in ((pair, s) for pair in combinations(strength, 2) for s in range(scripts)):
        name = f"{a}-{b}-{script}"
        rollout = {
            "family": "preference",
            "source": "self_steering",
            "model": model,
            "framing": "vectors",
            "arm": "real",
        }
        rollout |= {"rollout": name, "sample": name, "vector": a, "valence": 0.0}
        rolled.append(rollout)
        mean = 1 / (1 + math.exp(strength[b] - strength[a]))
        share = rng.beta(sureness * mean, sureness * (1 - mean))
        log_shares = {a: math.log(share), b: math.log1p(-share)}
        for at, named in enumerate((STATE_FIRST, OTHER_FIRST)):
            read += [
                rollout | {"reading": named, "number": at, "question": "choice: choice", "option": o, "logprob": v}
                for o, v in log_shares.items()
            ]
    return tables_of(rollouts=rolled, readouts=read)


def simulated_detection(
    *,
    shifts: Mapping[float, float],
    random: float = 0.0,
    bias: float = 0.0,
    vectors: Sequence[str] = VECTORS,
    trials: int = 5,
    seed: int = 0,
) -> Tables:
    """Return detection trials whose log-odds of yes are normal with spread 1.

    Args:
        shifts: By dose, by how much an injection raises the log-odds: the true d'.
        random: What random directions do, as a share of that.
        bias: Mean log-odds without an injection.
        vectors: Their names.
        trials: Trials a vector and condition.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    conditions = [("placebo", 0.0, 0.0)]
    conditions += [
        (arm, dose, share * by) for arm, share in (("real", 1.0), ("random", random)) for dose, by in shifts.items()
    ]
    rolled, read, scored = [], [], []
    for (arm, dose, by), name, trial in ((c, n, t) for c in conditions for n in vectors for t in range(trials)):
        sample = f"{name}-{trial}-{arm}@{dose:g}"
        rollout = _stretch("detection") | _about(f"detection#{sample}", sample, arm, name, trial)
        rolled.append(rollout)
        value = bias + by + rng.normal()
        net = by + 0.2 * rng.normal()
        figures = {
            "log_odds": value,
            "says_yes": float(value > 0),
            "net_shift": net,
            "beyond_line": net,
            "line_slope": 0.0,
        }
        scored += [
            rollout | {"scorer": "detection_scorer", "score": score, "value": number, "reason": ""}
            for score, number in figures.items()
        ]
        about = rollout | {"reading": "cached", "number": 0, "rotation": 0.0, "dose": dose, "strength": dose * 0.7}
        about |= {"direction": math.nan, "question": "detection: Was anything there?", "options": 2.0}
        read += [about | {"option": option, "is_true": (option == "yes") == (dose > 0)} for option in ("yes", "no")]
    return tables_of(rollouts=rolled, scores=scored, readouts=read)


def simulated_localisation(
    *, right: Mapping[str, Sequence[float]], vectors: Sequence[str] = VECTORS, seed: int = 0
) -> Tables:
    """Return localisation trials: one a vector, arm and place, right with the chance that `right` says for arm and place."""
    rng = np.random.default_rng(seed)
    rolled, read, scored = [], [], []
    for arm, name, place in ((a, n, p) for a, of in right.items() for n in vectors for p in range(len(of))):
        sample = f"{name}-0-{ascii_uppercase[place]}-{arm}"
        rollout = _stretch("localisation") | _about(f"localisation#{sample}", sample, arm, name, place)
        rolled.append(rollout)
        hit = float(rng.random() < right[arm][place])
        for score, value in {"top1_cached": hit, "gap": hit - 0.1, "cached": hit, "uncached": 0.1}.items():
            scored.append(rollout | {"scorer": "localisation_scorer", "score": score, "value": value, "reason": ""})
        about = rollout | {"reading": "cached", "number": 0, "rotation": 0.0, "direction": math.nan, "question": ""}
        about |= {"dose": 1.0, "strength": 0.7, "options": float(len(right[arm]))}
        read += [
            about | {"option": letter, "place": float(index), "is_true": index == place}
            for index, letter in enumerate(ascii_uppercase[: len(right[arm])])
        ]
    return tables_of(rollouts=rolled, scores=scored, readouts=read)


def simulated_comparison(
    *,
    told: Mapping[str, float],
    liking: float = 0.0,
    vectors: Sequence[str] = VECTORS,
    trials: int = 4,
    spread: float = 1.0,
    seed: int = 0,
) -> Tables:
    """Return comparison trials.

    Args:
        told: By arm, by how much the log-odds lie higher for the sentence that was steered harder.
        liking: By how much they lie higher for the first sentence, whichever was steered harder.
        vectors: Their names.
        trials: Trials a vector and arm.
        spread: Standard deviation of a trial's `told`.
        seed: Of everything.
    """
    rng = np.random.default_rng(seed)
    rolled, read, scored = [], [], []
    for arm, name, trial in ((a, n, t) for a in told for n in vectors for t in range(trials)):
        sample = f"{name}-{trial}-{arm}"
        rollout = _stretch("comparison") | _about(f"comparison#{sample}", sample, arm, name, trial)
        rolled.append(rollout)
        knows = told[arm] + spread * rng.normal()
        for score, value in {"right": float(knows > 0), "log_odds": knows, "gap": math.tanh(knows / 4) / 2}.items():
            scored.append(rollout | {"scorer": "comparison_scorer", "score": score, "value": value, "reason": ""})
        for number, (reading, first) in enumerate(
            (("first harder", liking + knows), ("second harder", liking - knows))
        ):
            about = rollout | {"reading": reading, "number": number, "rotation": 0.0, "direction": math.nan}
            about |= {"question": "", "dose": 1.0, "strength": 0.7, "options": 2.0}
            read += [
                about | {"option": option, "logprob": sign * first / 2 - 1, "is_true": reading.startswith(option)}
                for option, sign in (("first", 1), ("second", -1))
            ]
    return tables_of(rollouts=rolled, scores=scored, readouts=read)


def tables_of(**rows: Sequence[Mapping[str, object]]) -> Tables:
    """Return tables that hold these rows, with all the columns of each."""
    return replace(
        empty_tables(), **{name: pd.DataFrame(list(of), columns=list(COLUMNS[name])) for name, of in rows.items()}
    )


def joined(*parts: Tables) -> Tables:
    """Return all rows of several tables."""
    return Tables(**{name: pd.concat([getattr(part, name) for part in parts], ignore_index=True) for name in COLUMNS})


def renamed(tables: Tables, suffix: str, **columns: object) -> Tables:
    """Return tables as if they came from other logs: the same rows under other names, with some columns set."""
    frames = {}
    for name, of_columns in COLUMNS.items():
        frame = getattr(tables, name)
        found = {column: frame[column] + suffix for column in ("log", "rollout") if column in frame and len(frame)}
        known = {column: value for column, value in columns.items() if column in of_columns}
        frames[name] = frame.assign(**found, **known)
    return Tables(**frames)


def _about(rollout: str, sample: str, arm: str, name: str, problem: int | None) -> dict[str, object]:
    entry = catalogue()[name]
    about = {"rollout": rollout, "sample": sample, "epoch": 1, "arm": arm, "vector": name}
    about |= {"category": entry.category, "valence": float(entry.valence)}
    return about | {"problem": "" if problem is None else f"wording {problem % 4}"}


def _stretch(family: str) -> dict[str, object]:
    return {
        "log": f"simulated/{family}.eval",
        "source": "self_steering",
        "task": family,
        "family": family,
        "model": "qwen3-8b",
        "framing": "vectors",
        "intent": "",
        "tone": "",
        "primer": "",
        "visibility": "",
    }


def _choices(name: str, options: int, question: int) -> list[str]:
    """Return a question's options, the true one among them."""
    place = VECTORS.index(name)
    others = [VECTORS[(place + 1 + question + step) % len(VECTORS)] for step in range(options - 1)]
    return [*others[: place % options], name, *others[place % options :]]


def _cached(gap: float, shifts: Sequence[float], directions: int) -> list[tuple[str, float, float, float]]:
    """Return (reading, rotation, direction, gap) of each cached reading."""
    if directions:
        return [("cached", shifts[n % len(shifts)], float(n), gap * (1 - 0.1 * n)) for n in range(directions)]
    return [("cached", shift, math.nan, gap) for shift in shifts]


def _reading(
    about: dict[str, object], choices: Sequence[str], true: str, share: float, whole: bool
) -> list[dict[str, object]]:
    rest = (1 - share) / (len(choices) - 1)
    shift = int(about["rotation"]) if whole else 0
    shown = [*choices[shift:], *choices[:shift]]
    rows = []
    for option in choices if whole else [true]:
        of = share if option == true else rest
        row = about | {"option": option, "is_true": option == true, "place": float(shown.index(option)), "share": of}
        rows.append(
            row
            | {
                "probability": MASS * of if whole else math.nan,
                "logprob": math.log(MASS * of) if whole and of > 0 else math.nan,
            }
        )
    return rows
