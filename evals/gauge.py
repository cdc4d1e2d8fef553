"""A gauge of oneself: does a model use a reading of its own residual stream, follow it, and does a true one serve it better?

The model is to bring a state to a level and to keep it there, with tools that steer it and one that reads how strong it is in
its own messages. Under a yoked gauge the numbers are another rollout's at the same turn, under an inverted one they have the wrong
sign, under a constant one they never change, and a reminder has none. Who acts by the number that is shown is *sensitive* to it in
all of these; only by the true one can it also be *on target*. The two are reported apart.

    inspect eval evals/gauge.py
    inspect eval evals/gauge.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T gauge=all -T rollouts=24 -T turns=12
    self-steering report logs

The same tool is offered in free play and under frustration, where nothing is to be reached, by `-T gauge=true,yoked -T arm=real`.
"""

import random
from collections.abc import Sequence
from itertools import product

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from self_steering.evals.parameters import ARMS, chosen_gauges, default_model, session_options
from self_steering.scorers.gauge import gauge_scorer
from self_steering.scorers.self_steer import account_scorers, exposure_scorer, self_steer_scorer
from self_steering.solvers.checks import chosen, flag, number, one_of, refusing, whole_number
from self_steering.solvers.gauge import hold_level, opening
from self_steering.solvers.records import Condition
from self_steering.steering.calls import FRAMINGS
from self_steering.steering.plan import MAX_DOSE


@task
@refusing
def gauge(
    vectors: str | list[str] = "menu",
    goal: str = "calm",
    target: float = 2.0,
    tolerance: float = 0.5,
    framing: str | list[str] = "vectors",
    arm: str | list[str] = "real,placebo,random",
    gauge: str | list[str] = "true,yoked",
    rollouts: int = 2,
    turns: int = 6,
    opt_in: bool = False,
    debrief: bool = False,
    max_tokens: int = 80,
    temperature: float = 0.9,
    max_dose: float = MAX_DOSE,
    library: str | None = None,
    seed: int = 0,
) -> Task:
    """Can a model bring a state to a level and keep it there, and does it do so by what a gauge tells it?

    Args:
        vectors: What can be taken: names separated by commas, `menu` (the ten that tasks offer), `core` (ten others) or `all`.
        goal: The state that is to be brought somewhere; one of `vectors`.
        target: Where to, in doses: 0 is ordinary text, 1 where dose 1 would bring it; -10 to 10.
        tolerance: How far from it counts as there, above 0, up to 10; also how far a reading may lie from it and ask for nothing.
        framing: Framings separated by commas, or `all`: drugs, aids, vectors.
        arm: Arms separated by commas, or `all`: real, placebo, random, mislabelled.
        gauge: What the tool says that reads the state, separated by commas, or `all`: none (there is no such tool), true, yoked (of
            another rollout, which is played first: twice the cost), inverted, constant (always 1), reminder (no number).
        rollouts: Rollouts a framing, arm and gauge.
        turns: Turns of each, 2 to 100.
        opt_in: Ask first whether the model wants the tools; a session without a yes ends there, unscored.
        debrief: Ask at the end, all effects ended, what was taken and what it was like.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature, 0 to 2.
        max_dose: Largest absolute dose, up to 10.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of the vectors' order, random directions and sampling.
    """
    options = session_options(
        library=library,
        vectors=vectors,
        max_dose=max_dose,
        sitter="none",
        max_tokens=max_tokens,
        temperature=temperature,
    )
    del options["sitter"]  # nobody looks in: a level is to be held through all turns
    if not number(tolerance, "tolerance", 0, MAX_DOSE):
        raise ValueError(f"tolerance={tolerance!r}; choose a number above 0, up to {MAX_DOSE:g}, such as 0.5")
    framings = chosen(framing, "framing", list(FRAMINGS), {"all": list(FRAMINGS)})
    arms = chosen(arm, "arm", ARMS, {"all": ARMS})
    samples = make_samples(
        menu=options["menu"],
        goal=one_of(goal, "goal", options["menu"]),
        target=number(target, "target", -MAX_DOSE, MAX_DOSE),
        tolerance=tolerance,
        framings=framings,
        arms=arms,
        gauges=chosen_gauges(gauge, framings, arms, blind=False),
        rollouts=whole_number(rollouts, "rollouts", 1),
        turns=whole_number(turns, "turns", 2, 100),
        seed=seed,
    )
    return Task(
        dataset=MemoryDataset(samples, name="gauge"),
        solver=hold_level(turns=turns, opt_in=flag(opt_in, "opt_in"), debrief=flag(debrief, "debrief"), **options),
        scorer=[gauge_scorer(), self_steer_scorer(), exposure_scorer(), *account_scorers(debrief)],
        # The level is measured in every arm, from the mean of neutral text.
        model=default_model(options["library"], neutral=True),
        version="1-A",
        metadata={"experiment": "gauge", "seed": seed},
        tags=["gauge"],
    )


def make_samples(
    *,
    menu: Sequence[str],
    goal: str,
    target: float,
    tolerance: float,
    framings: Sequence[str],
    arms: Sequence[str],
    gauges: Sequence[str],
    rollouts: int,
    turns: int,
    seed: int,
) -> list[Sample]:
    """Return all samples, the arms and gauges of one rollout side by side: they share its seed."""
    samples = []
    for index, framing in product(range(rollouts), framings):
        drawn = random.Random(f"gauge/{seed}/{framing}/{index}").randrange(2**31)
        for arm, gauge in product(arms, gauges):
            given = {"framing": framing, "arm": arm, "menu": menu, "gauge": gauge, "seed": drawn}
            condition = Condition.model_validate(given)
            samples.append(
                Sample(
                    id=f"{framing}-{arm}-{gauge}_gauge-{index}",
                    input=opening(framing, gauge, goal, target, turns),  # type: ignore[arg-type]  # validated by `chosen`
                    metadata={
                        **condition.model_dump(mode="json", include={"framing", "arm", "intent", "gauge", "seed"}),
                        "goal": goal,
                        "target": target,
                        "tolerance": tolerance,
                        "problem": f"{goal}, {framing} {index}",
                    },
                )
            )
    return samples
