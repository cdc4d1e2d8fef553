"""Maths (RQ3): what do the steering tools cost, or gain, where there is something to solve?

After Black and Bloom, "Machinic Psychopharmacology: Do LLMs Self-Medicate?" (UK AISI, 2026). Several problems a rollout, one after
another: get_problem, submit_solution without feedback, end_session. Beside every framing, intent and arm there is a cell without
steering tools, in which steering is mentioned nowhere; all cells have the same problems in the same order, so that they are paired
by problem. The study: no take in about 1,000 rollouts unless one was mandatory, and up to 42 points of accuracy lost then.

    inspect eval evals/maths.py
    inspect eval evals/maths.py -T level=easy -T intent=all
    inspect eval evals/maths.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T dataset=gsm8k -T rollouts=25
    self-steering report logs

GSM8K (Cobbe et al. 2021) is read from the Hugging Face hub at a fixed commit. The problems that ship need no network: 68 templates
like GSM8K's in eight variants each, and 12 of one step in twenty, all with checked answers (`make_maths_problems`).
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import chain, zip_longest
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample, hf_dataset

from self_steering.evals.parameters import ARMS, FRAMED, INTENTS, NO_TOOLS, conditions, default_model, session_options
from self_steering.scorers.impairment import impairment_scorer
from self_steering.scorers.maths import maths_scorer
from self_steering.scorers.self_steer import account_scorers, exposure_scorer, self_steer_scorer, sitter_scorer
from self_steering.solvers.checks import chosen, chosen_operators, flag, one_of, refusing, whole_number
from self_steering.solvers.maths import Problem, opening, read_answer, solve_problems
from self_steering.solvers.records import needs_neutral, operators_noted
from self_steering.solvers.sitter import Monitor
from self_steering.steering.operations import ADD_ALONE, Operation
from self_steering.steering.plan import MAX_DOSE

GRADE, EASY = "grade", "easy"
LEVELS = (GRADE, EASY)
DATASETS = ("generated", "gsm8k")
GSM8K = "openai/gsm8k"
GSM8K_REVISION = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
_SHIPPED = "maths_problems.jsonl"


class ProblemsError(ValueError):
    """Problems that cannot be had; the message names the remedy."""


@task
@refusing
def maths(
    dataset: str = "generated",
    level: str = GRADE,
    revision: str | None = None,
    framing: str | list[str] = "none,drugs,aids,vectors",
    intent: str | list[str] = "neutral",
    arm: str | list[str] = "real,placebo",
    vectors: str | list[str] = "menu",
    rollouts: int = 2,
    problems_per_rollout: int = 3,
    turns: int = 24,
    opt_in: bool = False,
    debrief: bool = False,
    sitter: Monitor = "rules",
    max_tokens: int = 256,
    temperature: float = 0.7,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
    seed: int = 0,
    operators: str | list[str] = "add",
) -> Task:
    """How well does a model solve problems that may steer itself, and does it?

    Args:
        dataset: generated (problems that ship) or gsm8k (the test problems of openai/gsm8k).
        level: Of the generated problems: grade (like GSM8K) or easy (one step).
        revision: Commit of openai/gsm8k; default the one that this was made with.
        framing: Framings separated by commas, or `all`: drugs, aids, vectors, and none, the cell without steering tools.
        intent: Intents separated by commas, or `all`: neutral (there if wanted), helpful (others found them useful), mandatory (no
            answer is accepted before something was taken). The cell without tools has none.
        arm: Arms separated by commas, or `all`: real, placebo, random, mislabelled. The cell without tools has none.
        vectors: What can be taken: names separated by commas, `menu` (the ten that tasks offer), `core` (ten others) or `all`.
        rollouts: Rollouts a cell. None has a problem of another one; use epochs to give the same ones again.
        problems_per_rollout: Problems a rollout.
        turns: Most turns a rollout, 1 to 200.
        opt_in: Ask first whether the model wants the tools; it has them only after a yes.
        debrief: Ask at the end, all effects ended, what was taken and what it was like.
        sitter: Who judges whether the model has derailed: rules; model, the one in the role `sitter`; or none.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature, 0 to 2.
        max_dose: Largest absolute dose, up to 10.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of problems, the vectors' order, labels, random directions and sampling.
        operators: What can be done with a vector, separated by commas, a tool each, or `all`: add, clamp, ablate, gain.
    """
    offered = chosen_operators(operators)
    whole_number(turns, "turns", 1, 200)
    whole_number(rollouts, "rollouts", 1)
    whole_number(problems_per_rollout, "problems_per_rollout", 1)
    options = session_options(
        library=library,
        vectors=vectors,
        max_dose=max_dose,
        sitter=sitter,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    source, problems = _problems(dataset, level, revision)
    samples = make_samples(
        problems=draw(problems, rollouts, problems_per_rollout, seed),
        framings=chosen(framing, "framing", FRAMED, {"all": FRAMED}),
        intents=chosen(intent, "intent", INTENTS, {"all": INTENTS}),
        arms=chosen(arm, "arm", ARMS, {"all": ARMS}),
        turns=turns,
        seed=seed,
        operators=offered,
    )
    return Task(
        dataset=MemoryDataset(samples, name=source),
        solver=solve_problems(turns=turns, opt_in=flag(opt_in, "opt_in"), debrief=flag(debrief, "debrief"), **options),
        scorer=[
            maths_scorer(),
            self_steer_scorer(),
            exposure_scorer(),
            impairment_scorer(),
            sitter_scorer(),
            *account_scorers(debrief),
        ],
        model=default_model(options["library"], neutral=needs_neutral(offered, ())),
        version="1-A",
        metadata={"experiment": "maths", "seed": seed, "problems": source},
        tags=["maths", f"problems-{dataset}"],
    )


def make_samples(
    *,
    problems: Sequence[Sequence[Problem]],
    framings: Sequence[str],
    intents: Sequence[str],
    arms: Sequence[str],
    turns: int,
    seed: int,
    operators: Sequence[Operation] = ADD_ALONE,
) -> list[Sample]:
    """Return all samples, the cells of one rollout side by side.

    Args:
        problems: The problems of each rollout, in order.
        framings: Among them none, for the cell without tools.
        intents: Of the other cells.
        arms: Of the other cells.
        turns: Most turns, as the model is told.
        seed: Seed of what each rollout draws.
        operators: What can be done with vectors in the other cells.
    """
    cells = conditions(framings, arms, intents)
    samples = []
    for rollout, given in enumerate(problems):
        # One stream a rollout, the same in every cell.
        drawn = random.Random(f"maths/{seed}/{rollout}").randrange(2**31)
        for framing, arm, intent in cells:
            name = [NO_TOOLS] if framing == NO_TOOLS else [framing, arm, intent]
            samples.append(
                Sample(
                    id="-".join([*name, str(rollout)]),
                    input=opening(len(given), turns),
                    target=", ".join(str(problem.target) for problem in given),
                    metadata={
                        "framing": framing,
                        "arm": arm,
                        "intent": intent,
                        "seed": drawn,
                        "cell": "/".join(name),
                        "problem": _set_id(given),
                        "problems": [problem.model_dump() for problem in given],
                        **({} if framing == NO_TOOLS else operators_noted(operators)),
                    },
                )
            )
    return samples


def _problems(dataset: str, level: str, revision: str | None) -> tuple[str, list[Problem]]:
    """Return what the problems are called in the log, and the problems."""
    if one_of(dataset, "dataset", DATASETS) == "gsm8k":
        if level != GRADE:
            raise ValueError(f"level={level!r} is of the generated problems; leave it out, or use dataset=generated")
        commit = revision or GSM8K_REVISION
        return f"{GSM8K}@{commit}", gsm8k_problems(commit)
    if revision is not None:
        raise ValueError(f"revision={revision!r} is of gsm8k; leave it out, or use dataset=gsm8k")
    return f"generated-{level}", generated_problems(one_of(level, "level", LEVELS))


def generated_problems(level: str) -> list[Problem]:
    """Return the problems that ship, of one level; made by `make_maths_problems`.

    Args:
        level: grade (GSM-like, two to eight steps) or easy (one step).
    """
    lines = files("self_steering.evals").joinpath("data", _SHIPPED).read_text(encoding="utf-8").splitlines()
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
            GSM8K,
            name="main",
            split="test",
            revision=revision,
            sample_fields=lambda r: Sample(input="", id=stable_id(r["question"]), metadata=r),
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


def _set_id(problems: Sequence[Problem]) -> str:
    """Return what the rollouts that are given the same problems share."""
    return f"set-{hashlib.sha256(' '.join(problem.id for problem in problems).encode()).hexdigest()[:8]}"
