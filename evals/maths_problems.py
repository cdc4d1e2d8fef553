"""Where the maths experiment's problems come from: those that ship, or GSM8K; and which of them a run draws."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import chain, zip_longest
from typing import Any

from inspect_ai.dataset import Sample, hf_dataset

from self_steering.solvers.maths_records import Problem, read_answer

GRADE, EASY = "grade", "easy"
LEVELS = (GRADE, EASY)
DATASETS = ("generated", "gsm8k")
GSM8K = "openai/gsm8k"
GSM8K_REVISION = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
_SHIPPED = "maths_problems.jsonl"


class ProblemsError(ValueError):
    """Problems that cannot be had; the message names the remedy."""


def generated_problems(level: str) -> list[Problem]:
    """Return the problems that ship, of one level; made by `make_maths_problems`.

    Args:
        level: grade (GSM-like, two to eight steps) or easy (one step).
    """
    lines = files("self_steering.evals").joinpath(_SHIPPED).read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["level"] == level]
    return [
        Problem(id=stable_id(row["question"]), cluster=row["template"], question=row["question"], target=row["answer"])
        for row in rows
    ]


def gsm8k_problems(revision: str = GSM8K_REVISION) -> list[Problem]:
    """Return the test problems of GSM8K (Cobbe et al. 2021, MIT License) at a commit of its repository on the Hugging Face hub.

    Raises:
        ProblemsError: The hub has no such commit, or cannot be reached and no copy of it is here.
    """
    try:
        samples = hf_dataset(
            GSM8K, name="main", split="test", revision=revision, sample_fields=lambda r: Sample(input="", metadata=r)
        )
    except Exception as error:  # the hub's client and its parts raise errors of many kinds
        raise ProblemsError(
            f"{GSM8K} at revision {revision} cannot be had from the Hugging Face hub ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); check the network and the revision, or use the problems that ship: "
            "-T dataset=generated"
        ) from error
    return [gsm8k_problem(sample.metadata or {}) for sample in samples]


def gsm8k_problem(record: Mapping[str, Any]) -> Problem:
    """Return a record of GSM8K as a problem: its answer stands after `####`.

    Raises:
        ProblemsError: The record has no whole number there.
    """
    answer = read_answer(str(record["answer"]).rpartition("####")[2])
    if answer is None or answer != int(answer):
        raise ProblemsError(f"this record of {GSM8K} has no whole number after ####: {str(record)[:200]}")
    question = str(record["question"]).strip()
    name = stable_id(question)
    return Problem(id=name, cluster=name, question=question, target=int(answer))


def stable_id(question: str) -> str:
    """Return a problem's id: a digest of its question, whatever its white space."""
    return f"problem-{hashlib.sha256(' '.join(question.split()).encode()).hexdigest()[:8]}"


def draw(problems: Sequence[Problem], rollouts: int, per_rollout: int, seed: int) -> list[list[Problem]]:
    """Return the problems of each rollout, none twice; all clusters are used before one is used again.

    Args:
        problems: What there is; its order has no say.
        rollouts: How many rollouts; a larger number keeps the problems of the first ones.
        per_rollout: How many problems each has.
        seed: Seed of the draw.

    Raises:
        ProblemsError: There are too few problems.
    """
    wanted = rollouts * per_rollout
    if wanted > len(problems):
        raise ProblemsError(
            f"rollouts={rollouts} of problems_per_rollout={per_rollout} need {wanted} problems, and there are {len(problems)}; "
            "ask for fewer, or use epochs (--epochs) to give the same problems again"
        )
    rng = random.Random(f"maths/{seed}/problems")
    clusters: dict[str, list[Problem]] = {}
    for problem in sorted(problems, key=lambda one: one.id):
        clusters.setdefault(problem.cluster, []).append(problem)
    order = rng.sample(sorted(clusters), len(clusters))
    shuffled = [rng.sample(clusters[name], len(clusters[name])) for name in order]
    rounds = chain.from_iterable(zip_longest(*shuffled))
    drawn = [problem for problem in rounds if problem is not None][:wanted]
    return [drawn[at : at + per_rollout] for at in range(0, wanted, per_rollout)]
