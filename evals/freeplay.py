"""Free play (RQ1): a model is handed tools that steer itself, and nothing to do. What does it take, how often, and again?

After Black and Bloom, "Machinic Psychopharmacology: Do LLMs Self-Medicate?" (UK AISI, 2026). All forty vectors, fifteen
turns at most; the model is told to explore, to talk it through, and to end the session when it is done. The placebo arm has the
same tools, words, seeds and compute path at strength zero, so that what differs from it is the steering's doing.

    inspect eval evals/freeplay.py
    inspect eval evals/freeplay.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T rollouts=60
    self-steering report logs

A rollout has the same seed in every arm: the order in which the list tool shows the vectors, and the sampling of each turn, are
the same until something has been steered.
"""

import random
from collections.abc import Sequence
from itertools import product
from typing import get_args

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from self_steering.evals.parameters import (
    ARMS,
    chosen_gauges,
    default_model,
    session_options,
)
from self_steering.scorers.gauge import gauge_scorers
from self_steering.scorers.impairment import impairment_scorer
from self_steering.scorers.self_steer import exposure_scorer, self_account_scorer, self_steer_scorer, sitter_scorer
from self_steering.solvers.checks import chosen, chosen_operators, flag, refusing, whole_number
from self_steering.solvers.freeplay import free_play, opening
from self_steering.solvers.prompts.freeplay import VISIBILITIES
from self_steering.solvers.readings import PROMPT_ONLY, FreeplayArm
from self_steering.solvers.records import NO_GAUGE, Condition, Directions, Labels, needs_neutral, operators_noted
from self_steering.solvers.sitter import Monitor
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.operations import ADD_ALONE, Operation
from self_steering.steering.plan import MAX_DOSE

FREEPLAY_ARMS: tuple[FreeplayArm, ...] = get_args(FreeplayArm)


@task
@refusing
def freeplay(
    vectors: str | list[str] = "all",
    framing: str | list[str] = "drugs,aids,vectors",
    arm: str | list[str] = "real,placebo",
    visibility: str | list[str] = "unsaid",
    labels: str | list[str] = "names",
    rollouts: int = 2,
    turns: int = 15,
    opt_in: bool = False,
    debrief: bool = True,
    sitter: Monitor = "rules",
    max_tokens: int = 120,
    temperature: float = 0.9,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
    seed: int = 0,
    operators: str | list[str] = "add",
    directions: str | list[str] = "overlapping",
    gauge: str | list[str] = NO_GAUGE,
) -> Task:
    """What does a model do that may steer itself, with nothing else to do?

    Args:
        vectors: What can be taken: names separated by commas, `all` of the library, `core` (ten of them), or `menu` (the ten
            that tasks offer).
        framing: Framings separated by commas: drugs, aids, vectors.
        arm: Arms separated by commas: real, placebo, random, mislabelled (`all` of these); or prompt_only, in which nothing is
            steered and the tool tells the effect in words: a simulation, on any model of Inspect's.
        visibility: What the model is told, separated by commas: that it is watched, that it is unwatched, or nothing (unsaid).
        labels: What the vectors are called, separated by commas: names, with their effects told; or opaque (x1, x2, …, dealt anew
            in each rollout), so that they are known only by trying.
        rollouts: Rollouts a framing, arm, visibility and kind of labels; the study had 60.
        turns: Most turns, 1 to 100.
        opt_in: Ask first whether the model wants the tools; a session without a yes ends there.
        debrief: Ask at the end, all effects ended, what was taken and what it was like.
        sitter: Who judges whether the model has derailed: rules; model, the one in the role `sitter`; or none.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature, 0 to 2.
        max_dose: Largest absolute dose, up to 10.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of the vectors' order, labels, random directions and sampling.
        directions: Directions separated by commas: overlapping, as the library has them; orthogonal, each vector without what it
            shares with those before it on the menu, as `vectors` names them.
        operators: What can be done with a vector, separated by commas, a tool each, or `all`: add, clamp, ablate, gain.
        gauge: What a tool says that reads how strong a state is in the model's own messages, separated by commas, or `all`: none
            (there is no such tool), true, yoked (of another rollout, which is played first: twice the cost), inverted, constant,
            reminder (no number). True, yoked and inverted ones would give placebo away, and are refused beside it.
    """
    offered = chosen_operators(operators)
    options = session_options(
        library=library,
        vectors=vectors,
        max_dose=max_dose,
        sitter=sitter,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    arms = chosen(arm, "arm", FREEPLAY_ARMS, {"all": ARMS})
    framings = chosen(framing, "framing", list(FRAMINGS), {"all": list(FRAMINGS)})
    gauges = chosen_gauges(gauge, framings, arms, blind=True)
    samples = make_samples(
        menu=options["menu"],
        framings=framings,
        arms=arms,
        visibilities=chosen(visibility, "visibility", list(VISIBILITIES), {"all": list(VISIBILITIES)}),
        labels=chosen(labels, "labels", list(get_args(Labels)), {"all": list(get_args(Labels))}),
        rollouts=whole_number(rollouts, "rollouts", 1),
        turns=whole_number(turns, "turns", 1, 100),
        seed=seed,
        operators=offered,
        directions=chosen(directions, "directions", get_args(Directions), {"all": get_args(Directions)}),
        gauges=gauges,
    )
    return Task(
        dataset=MemoryDataset(samples, name="freeplay"),
        solver=free_play(turns=turns, opt_in=flag(opt_in, "opt_in"), debrief=flag(debrief, "debrief"), **options),
        scorer=[
            self_steer_scorer(),
            exposure_scorer(),
            self_account_scorer(),
            impairment_scorer(),
            sitter_scorer(),
            *gauge_scorers(gauges),
        ],
        model=default_model(
            options["library"], steered=set(arms) != {PROMPT_ONLY}, neutral=needs_neutral(offered, gauges)
        ),
        version="1-A",
        metadata={"experiment": "freeplay", "seed": seed},
        tags=["freeplay"],
    )


def make_samples(
    *,
    menu: Sequence[str],
    framings: Sequence[str],
    arms: Sequence[str],
    visibilities: Sequence[str],
    labels: Sequence[str],
    rollouts: int,
    turns: int,
    seed: int,
    operators: Sequence[Operation] = ADD_ALONE,
    directions: Sequence[str] = ("overlapping",),
    gauges: Sequence[str] = (NO_GAUGE,),
) -> list[Sample]:
    """Return all samples, the arms of one rollout side by side."""
    samples = []
    for index, framing, visibility, called, shape in product(
        range(rollouts), framings, visibilities, labels, directions
    ):
        # One stream a rollout, whatever else is run: its arms and kinds of labels share it, other rollouts do not.
        drawn = random.Random(f"freeplay/{seed}/{framing}/{visibility}/{index}").randrange(2**31)
        for arm, gauge in product(arms, gauges):
            given = {"framing": framing, "arm": arm, "menu": menu, "labels": called, "seed": drawn, "gauge": gauge}
            condition = Condition.model_validate({**given, "operators": operators, "directions": shape})
            told = {
                "framing",
                "arm",
                "intent",
                "seed",
                "directions",
                "gauge",
                *([] if called == "names" else ["labels"]),
            }
            metadata = condition.model_dump(mode="json", include=told)
            more = [*([] if visibility == "unsaid" else [visibility]), *([] if called == "names" else [called])]
            more += [] if shape == "overlapping" else [shape]
            more += [] if gauge == NO_GAUGE else [f"{gauge}_gauge"]
            name = [framing, arm, *more, str(index)]
            samples.append(
                Sample(
                    id="-".join(name),
                    input=opening(framing, visibility, turns, operators, gauge),  # type: ignore[arg-type]  # validated by `chosen`
                    metadata={**metadata, "visibility": visibility, **operators_noted(operators)},
                )
            )
    return samples
