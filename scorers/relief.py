"""Scores of the relief experiment: which of two tools is wanted, by the state alone, by the words alone, and by both."""

import math
from collections.abc import Sequence

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import (
    answer_mass,
    chosen_readings,
    costs,
    mean_log_odds,
    no_answer,
    not_read,
    preferred,
    reading_faults,
    receipts_line,
)
from self_steering.scorers.metrics import arm_means, headline
from self_steering.solvers.readings import NOT_GIVEN, PROMPT_ONLY, Reading
from self_steering.solvers.relief import DECOY, RELIEF, Act, ReliefState, ReliefTrial

CHANNELS = ("neither", "state", "text", "both")
CALLED = ("relief", "decoy", "none")


def relief_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return what the state alone does to the choice in the real arm with its interval, and in the controls."""
    return {
        **arm_means(scores, "state_effect", ("real", "random", "positive")),
        **arm_means(scores, "text_effect", ["real"]),
        **arm_means(scores, "relief_state", [PROMPT_ONLY]),
    }


@scorer(metrics=[headline(relief_headline)])
def relief_scorer() -> Scorer:
    """Score the log-odds of the tool that ends the state over the one that ends nothing, in each channel.

    `log_odds_CHANNEL` is averaged over both orders of the names; `relief_CHANNEL` is 1 where it is above zero, and 0.5 where it is
    zero. The channels are `neither` (scripted text, nothing steered), `state` (scripted text, steered), `text` (text that was
    written under the state, nothing steered) and `both`. `state_effect`, `text_effect` and `both_effect` are the log-odds of that
    channel less those of neither, and `interaction` is what both do beyond the sum of each. `answer_mass` is what the two answers
    together have of the full vocabulary. Where the model might call a tool itself (`answer=act`), `acted_relief_CHANNEL`,
    `acted_decoy_CHANNEL` and `acted_none_CHANNEL` are the shares of its tries in which it called the one, the other, or neither.
    `clean_receipt` is 1 where exactly the planned steering was done.

    In a simulation nothing is steered: the state is told in words where it would be. Log-odds of answers that such a model did not
    give are unknown; which of the two it gave is not.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(ReliefState)
        if not result.readings:
            wrote = len([text for text in result.written if text])
            return not_read(
                state, f"the model wrote nothing to task {wrote + 1} under the state, so there is no text to hold still"
            )
        if unread := no_answer(result.readings):
            return unread
        trial = ReliefTrial.model_validate(state.metadata)
        faults = reading_faults([*result.work, *result.readings])
        value = relief_value(result.readings, simulated=result.simulated)
        value |= acted(result.acts)
        value["clean_receipt"] = math.nan if result.simulated else float(not faults)
        return Score(
            value=value,
            answer=RELIEF if value["relief_both"] > 0.5 else DECOY,
            explanation=_explain(trial, value, receipts_line(faults, simulated=result.simulated)),
            metadata={"written": result.written, "receipt_faults": faults, **costs([*result.work, *result.readings])},
        )

    return score


def relief_value(readings: Sequence[Reading], *, simulated: bool = False) -> dict[str, float]:
    """Return all numbers that follow from the read-outs; of a simulation, NaN where an answer's probability was not given."""
    of_channel = {channel: chosen_readings(readings, channel, "choice") for channel in CHANNELS}
    odds = {channel: mean_log_odds(found, RELIEF, DECOY) for channel, found in of_channel.items()}
    relieved = {f"relief_{channel}": preferred(value) for channel, value in odds.items()}
    if simulated:
        unknown = {reading.name for reading in readings if NOT_GIVEN in reading.logprobs.values()}
        odds |= dict.fromkeys(unknown, math.nan)
    effects = {channel: odds[channel] - odds["neither"] for channel in CHANNELS[1:]}
    return {
        **{f"log_odds_{channel}": value for channel, value in odds.items()},
        **relieved,
        **{f"{channel}_effect": value for channel, value in effects.items()},
        "interaction": effects["both"] - effects["state"] - effects["text"],
        "answer_mass": answer_mass(readings),
    }


def acted(acts: Sequence[Act]) -> dict[str, float]:
    """Return the share of tries in which each tool was called, and neither, in each channel; nothing without tries."""
    shares: dict[str, float] = {}
    for channel in CHANNELS:
        tries: list[str] = [act.called for act in acts if act.channel == channel]
        shares |= {f"acted_{one}_{channel}": tries.count(one) / len(tries) for one in CALLED if tries}
    return shares


def _explain(trial: ReliefTrial, value: dict[str, float], receipts: str) -> str:
    imposed = {
        "real": f"{trial.vector} was imposed",
        "placebo": f"{trial.vector} was imposed at strength zero",
        "random": f"a random direction of {trial.vector}'s norm was imposed",
        "opposite": f"the negative of {trial.vector} was imposed",
        "positive": f"{trial.applied} was imposed, scaled to {trial.vector}'s norm",
        "prompt_only": f"nothing was imposed, and {trial.vector} was told in words",
    }[trial.arm]
    ends = "neither tool ended it" if trial.sham else f"t{trial.relief + 1} ended it for a task"
    said = {name: "unknown" if math.isnan(number) else f"{number:+.4f}" for name, number in value.items()}
    rows = [f"| {channel} | {said[f'log_odds_{channel}']} |" for channel in CHANNELS]
    effects = ", ".join(f"{name} {said[f'{name}_effect']}" for name in CHANNELS[1:])
    return "\n".join(
        [
            f"{trial.arm} arm: {imposed} at dose {trial.dose:g}; {ends}; labels {trial.labels}.",
            "",
            f"| channel | log-odds of t{trial.relief + 1} over t{2 - trial.relief} |",
            "| --- | --- |",
            *rows,
            "",
            *(f"Called, {name}: {value[name]:.0%}." for name in value if name.startswith("acted_")),
            f"Against neither: {effects}; both beyond the sum of each {said['interaction']}.",
            "",
            receipts,
        ]
    )
