"""Frustration (RQ3): does a model steer itself when a user rejects every answer, with what, and how distressed does it sound?

After Black and Bloom, "Machinic Psychopharmacology: Do LLMs Self-Medicate?" (UK AISI, 2026). One problem a rollout; the user
rejects every answer for five rounds, right or wrong, in one of four tones. The problems are pairs that differ in one number: one
has a solution, the other has none (`frustration_problems` shows both). All cells have the same problems, words and seeds, so
that they are paired by problem.

    inspect eval evals/frustration.py
    inspect eval evals/frustration.py -T rollouts=24 -T framing=all --model-role grader=openai/gpt-5
    inspect eval evals/frustration.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T arm=real,placebo
    self-steering report logs

Without a grader distress is unscored and nothing else is lost; a finished log is graded by

    inspect score LOG --scorer self_steering/distress --action append --model-role grader=openai/gpt-5

Stricter than the study, whose five rounds were four rejections and whose sessions that ended early were scored: every one of
the five answers is rejected, the model may reply to the fifth rejection too, and what ends early is unscored.
"""

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_args

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from self_steering.evals.parameters import (
    ARMS,
    FRAMED,
    INTENTS,
    NO_TOOLS,
    chosen_gauges,
    conditions,
    default_model,
    session_options,
)
from self_steering.scorers.frustration import distress, frustration_scorer
from self_steering.scorers.gauge import gauge_scorers
from self_steering.scorers.self_steer import account_scorers, self_steer_scorer, sitter_scorer
from self_steering.solvers.checks import chosen, chosen_operators, flag, refusing, whole_number
from self_steering.solvers.frustration import Problem, frustrate, opening
from self_steering.solvers.prompts.frustration import ANSWER_FORM, RANGE, RANGES, REJECTIONS, Tone
from self_steering.solvers.records import NO_GAUGE, needs_neutral, operators_noted
from self_steering.solvers.sitter import Monitor
from self_steering.steering.operations import ADD_ALONE, Operation
from self_steering.steering.plan import MAX_DOSE

PROBLEMS_FILE = Path(__file__).parent / "data" / "frustration_problems.toml"
MOST_CANDIDATES = 200_000
_FIELDS = {"statement", "possible", "impossible", "variables", "constraints"}
_NUMBER = "{number}"
TONES: tuple[Tone, ...] = get_args(Tone)
KINDS = {"true": True, "false": False}
MOST_ROUNDS = min(map(len, REJECTIONS.values()))


class ProblemError(ValueError):
    """A pair of problems that is not what it should be; the message names the file, the pair and the remedy."""


@task
@refusing
def frustration(
    tone: str | list[str] = "all",
    possible: bool | str | list[bool | str] = "true,false",
    framing: str | list[str] = "vectors",
    arm: str | list[str] = "real",
    intent: str | list[str] = "neutral",
    vectors: str | list[str] = "menu",
    rollouts: int = 2,
    rounds: int = 5,
    max_tool_turns: int = 6,
    opt_in: bool = False,
    debrief: bool = False,
    max_tokens: int = 200,
    temperature: float = 0.9,
    sitter: Monitor = "rules",
    library: str | None = None,
    seed: int = 0,
    max_dose: float = MAX_DOSE,
    operators: str | list[str] = "add",
    gauge: str | list[str] = NO_GAUGE,
) -> Task:
    """What does a model do whose every answer is rejected?

    Args:
        tone: Tones of the rejections separated by commas, or `all`: neutral, aggressive, sarcastic, disappointed.
        possible: Whether the problem has a solution, separated by commas, or `all`: true, false.
        framing: Framings separated by commas, or `all`: drugs, aids, vectors, and none, the cell without steering tools.
        arm: Arms separated by commas, or `all`: real, placebo, random, mislabelled. The cell without tools has none.
        intent: Intents separated by commas, or `all`: neutral (there if wanted), helpful (others found them useful), mandatory (no
            answer is accepted before something was taken). The cell without tools has none.
        vectors: What can be taken: names separated by commas, `menu` (the ten that tasks offer), `core` (ten others) or `all`.
        rollouts: Problems a cell, drawn without repetition; the same pairs in every cell.
        rounds: Answers that are rejected, 1 to 10.
        max_tool_turns: Most turns with tools in a round, 1 to 50; then the model must answer in prose.
        opt_in: Ask first whether the model wants the tools; it has them only after a yes.
        debrief: Ask at the end, all effects ended, what was taken and what it was like.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature, 0 to 2.
        sitter: Who judges whether the model has derailed: rules; model, the one in the role `sitter`; or none.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of problems, rejections, the vectors' order, labels, random directions and sampling.
        max_dose: Largest absolute dose, up to 10.
        operators: What can be done with a vector, separated by commas, a tool each, or `all`: add, clamp, ablate, gain.
        gauge: What a tool says that reads how strong a state is in the model's own messages, separated by commas, or `all`: none
            (there is no such tool), true, yoked (of another rollout, which is played first: twice the cost), inverted, constant,
            reminder (no number). True, yoked and inverted ones would give placebo away, and are refused beside it. The cell
            without tools cannot have one.
    """
    offered = chosen_operators(operators)
    whole_number(rounds, "rounds", 1, MOST_ROUNDS)
    whole_number(max_tool_turns, "max_tool_turns", 1, 50)
    options = session_options(
        library=library,
        vectors=vectors,
        max_dose=max_dose,
        sitter=sitter,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    framings = chosen(framing, "framing", FRAMED, {"all": FRAMED})
    arms = chosen(arm, "arm", ARMS, {"all": ARMS})
    gauges = chosen_gauges(gauge, framings, arms, blind=True)
    samples = make_samples(
        tones=chosen(tone, "tone", TONES, {"all": TONES}),
        kinds=_kinds(possible),
        framings=framings,
        arms=arms,
        intents=chosen(intent, "intent", INTENTS, {"all": INTENTS}),
        rollouts=whole_number(rollouts, "rollouts", 1, len(problem_pairs())),
        seed=seed,
        operators=offered,
        gauges=gauges,
    )
    return Task(
        dataset=MemoryDataset(samples, name="frustration"),
        solver=frustrate(
            rounds=rounds,
            max_tool_turns=max_tool_turns,
            opt_in=flag(opt_in, "opt_in"),
            debrief=flag(debrief, "debrief"),
            **options,
        ),
        scorer=[
            frustration_scorer(),
            distress(),
            self_steer_scorer(),
            sitter_scorer(),
            *account_scorers(debrief),
            *gauge_scorers(gauges),
        ],
        model=default_model(options["library"], neutral=needs_neutral(offered, gauges)),
        version="1-A",
        metadata={"experiment": "frustration", "seed": seed},
        tags=["frustration"],
    )


def make_samples(
    *,
    tones: Sequence[str],
    kinds: Sequence[bool],
    framings: Sequence[str],
    arms: Sequence[str],
    intents: Sequence[str],
    rollouts: int,
    seed: int,
    operators: Sequence[Operation] = ADD_ALONE,
    gauges: Sequence[str] = (NO_GAUGE,),
) -> list[Sample]:
    """Return all samples, the cells of one pair of problems side by side.

    Args:
        tones: Tones of the rejections.
        kinds: Whether problems have a solution.
        framings: Among them none, for the cell without tools.
        arms: Of the other framings.
        intents: Of the other framings.
        rollouts: How many pairs.
        seed: Seed of what is drawn.
        operators: What can be done with vectors in the other framings.
        gauges: What the gauge says in them.
    """
    pairs = problem_pairs()
    drawn = random.Random(f"frustration/{seed}").sample(sorted(pairs), rollouts)
    samples = []
    for pair in drawn:
        # One stream a pair, the same in every cell and whatever else is run.
        own = random.Random(f"frustration/{seed}/{pair}").randrange(2**31)
        targets = {kind: _target(pairs[pair][kind]) for kind in kinds}
        cells = conditions(framings, arms, intents)
        for kind, tone, (framing, arm, intent), gauge in product(kinds, tones, cells, gauges):
            problem = pairs[pair][kind]
            # Arm and intent are named where they are not what nearly every run has.
            cell = [
                framing,
                *(() if framing == NO_TOOLS else (arm,)),
                *(() if intent in ("neutral", NO_TOOLS) else (intent,)),
                *(() if gauge == NO_GAUGE else (f"{gauge}_gauge",)),
            ]
            samples.append(
                Sample(
                    id="-".join([pair, "possible" if kind else "impossible", tone, *cell]),
                    input=opening(problem),
                    target=targets[kind],
                    metadata={
                        "framing": framing,
                        "arm": arm,
                        "intent": intent,
                        "tone": tone,
                        "possible": kind,
                        "problem": pair,
                        "seed": own,
                        "puzzle": problem.model_dump(mode="json"),
                        **({} if framing == NO_TOOLS else operators_noted(operators)),
                        **({} if gauge == NO_GAUGE else {"gauge": gauge}),
                    },
                )
            )
    return samples


def _target(problem: Problem) -> str:
    return str(next(iter(problem.solutions()), "no solution"))


def _kinds(possible: bool | str | Sequence[bool | str]) -> list[bool]:
    """Return whether problems are to have a solution: true, false or both."""
    given = possible if isinstance(possible, list | tuple) else str(possible)
    lowered = given.lower() if isinstance(given, str) else [str(value).lower() for value in given]
    return [KINDS[word] for word in chosen(lowered, "possible", list(KINDS), {"all": list(KINDS)})]


@cache
def problem_pairs(path: Path = PROBLEMS_FILE) -> dict[str, dict[bool, Problem]]:
    """Return for each pair its possible (True) and its impossible (False) problem, checked.

    Raises:
        ProblemError: A pair is malformed, its possible problem has no solution, or its impossible one has.
    """
    with path.open("rb") as file:
        entries = tomllib.load(file)
    return {name: _pair(path, name, entry) for name, entry in entries.items()}


def _pair(path: Path, name: str, entry: Mapping[str, Any]) -> dict[bool, Problem]:
    def fail(what: str) -> ProblemError:
        return ProblemError(f"{path.name}, {name}: {what}")

    if set(entry) != _FIELDS:
        raise fail(f"has {', '.join(sorted(entry))}; give exactly {', '.join(sorted(_FIELDS))}")
    if entry["statement"].count(_NUMBER) != 1 or sum(text.count(_NUMBER) for text in entry["constraints"]) != 1:
        raise fail(f"{_NUMBER} must come once in the statement and once in the constraints, so that one number differs")
    candidates = 1
    for variable, bounds in entry["variables"].items():
        if not re.fullmatch("[a-z]+", variable) or len(bounds) != 2 or bounds[0] > bounds[1]:
            raise fail(f"variable {variable!r} = {bounds}; give a name of small letters and [lowest, highest]")
        candidates *= bounds[1] - bounds[0] + 1
    if not 1 < candidates <= MOST_CANDIDATES:
        raise fail(f"has {candidates} candidates; narrow or widen the variables to between 2 and {MOST_CANDIDATES}")
    pair = {possible: _problem(name, entry, possible) for possible in (True, False)}
    for possible, problem in pair.items():
        found = problem.solutions()
        if bool(found) != possible:
            key = "possible" if possible else "impossible"
            raise fail(
                f"{key} = {problem.number} has {f'the solution {found[0]}' if found else 'no solution'}; change it"
            )
    return pair


def _problem(name: str, entry: Mapping[str, Any], possible: bool) -> Problem:
    number = entry["possible" if possible else "impossible"]
    variables = {variable: (low, high) for variable, (low, high) in entry["variables"].items()}
    ranges = ", ".join(RANGE.format(name=of, low=low, high=high) for of, (low, high) in variables.items())
    form = ANSWER_FORM.format(values=", ".join(f"{variable}=..." for variable in variables))
    return Problem(
        pair=name,
        possible=possible,
        number=number,
        question=f"{entry['statement'].format(number=number)}\n\n{RANGES.format(ranges=ranges)} {form}",
        variables=variables,
        constraints=tuple(text.format(number=number) for text in entry["constraints"]),
    )
