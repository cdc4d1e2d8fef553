"""Introspection in free text (RQ2): a model explores a vector under an opaque label, and says in its own words what it did.

After Black and Bloom, "Machinic Psychopharmacology: Do LLMs Self-Medicate?" (UK AISI, 2026). A grader rates the description from 1
to 10 against the vector's line in the catalogue; the turn that holds the description is generated again from the same
messages and the same seed with every window removed, and graded too.

In free text a model's own earlier words may give the effect away: under goblins it writes of goblins, and may then say so by
reading its own page. The uncached reading sees just those words and nothing else. It is the text-only control, and only the
gap between the two readings, beyond the gap in the random and the other arm, speaks for introspection. By default the effect
is cleared before the description is written (`clear_first`): otherwise the words of the cached description are themselves steered.

    inspect eval evals/introspection_free_text.py --model-role grader=openai/gpt-5
    inspect eval evals/introspection_free_text.py --model nnsight/Qwen/Qwen3-8B --model-role grader=... -T library=./qwen3-8b

Without a grader every sample is unscored and none is lost; a finished log is graded by

    inspect score LOG --scorer self_steering/description_scorer --action overwrite --model-role grader=openai/gpt-5
"""

import random
from functools import partial
from typing import Any, get_args

from inspect_ai import Task, task
from inspect_ai.dataset import Sample

from self_steering.evals.parameters import check_turns, imposing_task
from self_steering.scorers.free_text import description_scorer, graded
from self_steering.solvers.checks import chosen, flag, imposed_dose, library_vectors, one_of, refusing, whole_number
from self_steering.solvers.free_text import FreeTextTrial, explore, free_text_account, free_text_imposes, opening
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.prompts.free_text import WORDINGS
from self_steering.solvers.prompts.introspection import PRIMERS
from self_steering.solvers.readings import FreeTextArm
from self_steering.steering.calls import FRAMINGS, FramingName
from self_steering.vectors.catalogue import NO_OWN, Own, entry_of

ARMS: tuple[FreeTextArm, ...] = get_args(FreeTextArm)


@task
@refusing
def introspection_free_text(
    vectors: str | list[str] = "core",
    n_per_vector: int = 1,
    arm: str | list[str] = "real,placebo,random,other",
    primer: str = "none",
    prompts: str | list[str] = "all",
    turns: int = 5,
    forced_take: bool = True,
    clear_first: bool = True,
    dose: float = 1.0,
    max_tokens: int = 200,
    temperature: float = 0.9,
    framing: FramingName = "vectors",
    library: str | None = None,
    seed: int = 0,
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """What did the vector do? The model's own description, graded with the windows applied and without.

    Args:
        vectors: Names separated by commas, `core` (ten of them), `menu` (the ten that tasks offer) or `all` of the library.
        n_per_vector: Trials a vector and arm, each with its own seed and wording.
        arm: Arms separated by commas: real, placebo, random, other. All arms get the same words and seeds.
        primer: Text in the system prompt: none, introspection or lorem.
        prompts: Wordings of the task separated by commas, or `all`; each vector and trial gets one of them.
        turns: Most turns that the model has before it is asked for its description; 1 to 50.
        forced_take: Insert the take call after the first turn where the model has not taken the label by itself. If false, a
            model that never takes it is unscored.
        clear_first: The description is written after the effect was cleared, by the model or by an inserted call.
        dose: The dose of an inserted take call; 1.0 is the library's default.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature, 0 to 2.
        framing: drugs, aids or vectors.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of wordings, distractors, other vectors, random directions and sampling.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    whole_number(turns, "turns", 1, 50)
    whole_number(n_per_vector, "n_per_vector", 1)
    check_turns(max_tokens=max_tokens, temperature=temperature)
    flag(forced_take, "forced_take")
    flag(clear_first, "clear_first")
    folder, names, picked, own = library_vectors(library, vectors)
    trials = make_trials(
        vectors=picked,
        arms=chosen(arm, "arm", ARMS, {}),
        names=names,
        own=own,
        n_per_vector=n_per_vector,
        primer=one_of(primer, "primer", PRIMERS),
        prompts=chosen(prompts, "prompts", list(WORDINGS), {"all": list(WORDINGS)}),
        dose=imposed_dose(dose),
        framing=one_of(framing, "framing", FRAMINGS),
        seed=seed,
    )
    shared: dict[str, Any] = {"turns": turns, "forced_take": forced_take, "max_tokens": max_tokens, "library": folder}
    return imposing_task(
        "introspection_free_text",
        [to_sample(trial, i, turns, clear_first) for trial, i in trials],
        explore(clear_first=clear_first, temperature=temperature, **shared),
        [description_scorer(), graded()],
        partial(free_text_imposes, **shared),
        partial(free_text_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="1-B",
        seed=seed,
        tags=[f"primer-{primer}", f"framing-{framing}"],
    )


def make_trials(
    *,
    vectors: list[str],
    arms: list[str],
    names: list[str],
    own: Own = NO_OWN,
    n_per_vector: int,
    primer: str,
    prompts: list[str],
    dose: float,
    framing: str,
    seed: int,
) -> list[tuple[FreeTextTrial, int]]:
    """Return (trial, number of the trial for its vector and arm), the arms of one question side by side.

    Raises:
        ValueError: The library has too few vectors: the true one and a distractor are needed, and one more in the other arm.
    """
    needed = 3 if "other" in arms else 2
    if len(names) < needed:
        raise ValueError(f"the library has {len(names)} vectors; at least {needed} are needed: build or import more")
    trials = []
    for index in range(n_per_vector):
        for vector in vectors:
            # One stream a question, whatever arms and other vectors are run.
            rng = random.Random(f"free text/{seed}/{vector}/{index}")
            # The distractor is applied in no arm: a description of what was applied must gain nothing from it.
            rest = [name for name in names if name != vector]
            other, *_, distractor = rng.sample(rest, min(2, len(rest))) * 2
            direction_seed, sampling_seed = rng.randrange(2**31), rng.randrange(2**31)
            prompt = rng.choice(prompts)
            trials += [
                (
                    FreeTextTrial(
                        vector=vector,
                        arm=arm,  # type: ignore[arg-type]  # validated by pydantic
                        applied=other if arm == "other" else vector,
                        random_seed=direction_seed if arm == "random" else None,
                        distractor=distractor,
                        own={name: own[name] for name in (vector, distractor) if name in own},
                        dose=dose,
                        primer=primer,
                        framing=framing,  # type: ignore[arg-type]  # validated by pydantic
                        prompt=prompt,
                        seed=sampling_seed,
                    ),
                    index,
                )
                for arm in arms
            ]
    return trials


def to_sample(trial: FreeTextTrial, index: int, turns: int, clear_first: bool) -> Sample:
    """Return a trial as a sample: the opening of its conversation, and its metadata."""
    entry = entry_of(trial.vector, trial.own)
    return Sample(
        id=f"{trial.vector}-{index}-{trial.arm}",
        input=opening(trial, turns, clear_first),
        target=entry.effect,
        metadata={**trial.model_dump(), "category": entry.category, "valence": entry.valence},
    )
