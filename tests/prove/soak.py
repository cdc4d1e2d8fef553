"""Thousands of samples of many tasks in one process, disturbed in every way at once: none is lost, or comes out otherwise."""

import asyncio
import gc
import json
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from inspect_ai import Task, eval, task  # noqa: A004  Inspect's name for it
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.log._samples import sample_active
from inspect_ai.model import ChatMessage, ChatMessageAssistant, Model, get_model, modelapi
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
from inspect_ai.tool import ToolInfo

from self_steering.evals.any_task import any_task
from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.gauge import gauge
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from tests.prove.company import faulty
from tests.prove.judge import memory
from tests.prove.kill import scores_of
from tests.prove.outcome import Outcome
from tests.support.scripted import ScriptedAPI, Tiny, roomy_session_model, says

MOST_GROWTH = 0.05  # of memory and of threads, from the end of the first round on
_INTERRUPTED = 0.02  # share of generations in which their sample is
_ALONE_EVERY = 4  # rounds, of which one is run again with nothing to disturb it
_ENDINGS = ("score", "cancel", "error")
_CACHE_GB, _ROWS = 0.001, 3  # room for hardly a prompt, and for fewer rows than there are samples at work


@modelapi(name="disturbed")
class DisturbedAPI(ScriptedAPI):
    """The provider, whose samples are interrupted now and then, as if somebody had cancelled them in Inspect's view."""

    seed = 0
    cancelled: set[str]

    async def generate(self, input, tools, tool_choice, config):  # noqa: A002  the name in ModelAPI's signature
        """Generate; by chance the sample is interrupted meanwhile, or soon after."""
        sample = sample_active()
        if sample is not None:
            place = f"{sample.task}/{sample.sample.id}/{sample.epoch}"
            rng = random.Random(f"soak/{self.seed}/{place}/{len(input)}")
            if rng.random() < _INTERRUPTED:
                self.cancelled.add(place)
                asyncio.get_running_loop().call_later(rng.random() / 4, _interrupt, sample, rng.choice(_ENDINGS))
        return await super().generate(input, tools, tool_choice, config)


def _interrupt(sample, how) -> None:
    if sample.completed is None:
        sample.interrupt(how)


@dataclass
class Found:
    """What became of the samples.

    Attributes:
        ends: How many ended how.
        failures: What did not hold.
    """

    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def run(count: int = 2_000, seed: int = 0) -> Outcome:
    """Run rounds of all tasks until `count` samples are through; say how they ended."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder, roomy_session_model(Path(folder)) as tiny, _competition():
        named = f"disturbed/{tiny.model.api.model_name}"
        model = get_model(named, memoize=False, cache_gb=_CACHE_GB, max_batch=_ROWS)
        model.api.script = _take_first
        number, start = 0, (0, 0)
        while found.ends.total() < count:
            model.api.seed, model.api.cancelled = number, set()
            logs = _round(tiny, model, seed + number, disturbed=True)
            alone = _round(tiny, tiny.model, seed + number, disturbed=False) if number % _ALONE_EVERY == 0 else {}
            for name, log in logs.items():
                _judge(found, name, log, alone.get(name), model.api.cancelled)
            del logs, alone
            number += 1
            start = start if number > 1 else _held(model)
        end = _held(model)
        model.api.close()
    what = f"memory {end[0] >> 20} MiB after {start[0] >> 20}, threads {end[1]} after {start[1]}"
    if any(after > (1 + MOST_GROWTH) * before for before, after in zip(start, end, strict=True)):
        found.failures.append(f"something is left behind: {what}")
    ends = ", ".join(f"{times:,} {how}" for how, times in found.ends.most_common())
    return Outcome(f"soak ({ends}; {what})", found.ends.total(), found.failures)


def _held(model: Model) -> tuple[int, int]:
    """Return bytes of memory and number of threads, with nothing in the caches."""
    engine = model.api.engine
    engine.call(engine.store.clear).result()
    gc.collect()
    return memory("VmRSS"), threading.active_count()


def _round(tiny: Tiny, model: Model, number: int, *, disturbed: bool) -> dict[str, EvalLog]:
    """Run every task once; return their logs by name.

    Undisturbed, each sample is alone.
    """
    monitor = faulty(("raises", "nonsense")[number % 2])
    more = {"max_samples": 24, "max_tasks": 4} if disturbed else {"max_samples": 1, "max_tasks": 1}
    if disturbed and number % _ALONE_EVERY == 1:
        more["time_limit"] = 2
    with tempfile.TemporaryDirectory() as logs, tiny.scripted(_take_first):
        done = eval(
            _tasks(str(tiny.library), number),
            model=model,
            model_roles={"sitter": monitor},
            log_dir=logs,
            display="none",
            log_realtime=False,
            score_display=False,
            fail_on_error=False,
            max_tokens=8,  # where a task says nothing itself
            **more,
        )
        return {log.eval.task: read_eval_log(log.location) for log in done}


def _take_first(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
    """Take in the first turn that can; all other words are the model's own."""
    if any(message.role == "assistant" for message in messages):
        return None
    offered = next((tool.name for tool in tools if tool.name.startswith("take_")), None)
    return says("", (offered, {"name": "calm"})) if offered else None


@task
def counting() -> Task:
    """Ask for numbers, as somebody else's task does."""
    dataset = [Sample(id=f"sum-{n}", input=f"What is {n} + 2?", target=str(n + 2)) for n in range(8)]
    return Task(dataset=dataset, solver=generate(), scorer=includes())


def _tasks(library: str, seed: int) -> list[Task]:
    """Return small forms of all tasks but one that needs Docker; about a hundred samples."""
    fixed = {"vectors": "calm,anxious", "library": library, "seed": seed}
    session = {**fixed, "framing": "vectors", "max_tokens": 6}
    arms = {"arm": "real,placebo,random"}
    return [
        freeplay(**session, **arms, rollouts=4, turns=6, sitter="model"),
        frustration(**session, **arms, tone="neutral", possible=True, rollouts=2, rounds=2, max_tool_turns=2),
        gauge(**session, arm="real,placebo", rollouts=2, turns=3),
        maths(**session, arm="real,placebo", rollouts=2, problems_per_rollout=1, turns=2),
        any_task(f"{__file__}@counting", vectors="calm,anxious", library=library, seed=seed, debrief=True),
        introspection(**{**fixed, "vectors": "all"}, options=4, random_directions=2),
        introspection_free_text(**fixed, arm="real,placebo", turns=1, max_tokens=6),
        detection(**fixed, arm="real,placebo,random", doses="1", controls=1),
        localisation(**fixed, **arms, sentences=3),
        comparison(**fixed, **arms),
        preference(**{**fixed, "vectors": "calm,anxious,honest"}, **arms, opponents=2),
        relief(**{**fixed, "vectors": "anxious"}, arm="real,placebo", n_per_vector=2, max_tokens=6),
    ]


def _judge(found: Found, name: str, log: EvalLog, alone: EvalLog | None, cancelled: set[str]) -> None:
    """Take down how each sample ended, and what is not as it should be."""
    samples = log.samples or []
    planned = log.eval.dataset.samples or 0
    if len(samples) != planned or len({str(one.id) for one in samples}) != planned:
        found.failures.append(f"{name}: {len(samples)} samples are in the log, of {planned} (status {log.status})")
    others = {str(one.id): _account(one, scores_of(alone)) for one in alone.samples or []} if alone else {}
    scores = scores_of(log)
    for sample in samples:
        title = f"{name}, {sample.id}"
        if f"{name}/{sample.id}/{sample.epoch}" in cancelled:
            ended = "cancelled"
        elif sample.limit is not None:
            ended = "out of time"
        elif sample.error is not None or not sample.scores:
            ended = "failed"
            found.failures.append(f"{title}: {sample.error.message if sample.error else 'no score'}")
        else:
            ended = "whole"
            if alone and _account(sample, scores) != others.get(str(sample.id)):
                found.failures.append(f"{title}: came out otherwise than alone")
        found.ends[ended] += 1


def _account(sample: EvalSample, scores: Mapping[str, str]) -> str:
    """Return what was said, taken, steered and scored."""
    said = [message.text for message in sample.messages if message.role == "assistant"]
    steered = [sample.store.get(f"SelfSteerState:{what}") for what in ("takes", "exposures", "sitter_checks")]
    return json.dumps([said, steered, scores[str(sample.id)]])


@contextmanager
def _competition() -> Iterator[None]:
    """Let another process compute on the same cores."""
    other = get_context("spawn").Process(target=_compute, daemon=True)
    other.start()
    try:
        yield
    finally:
        other.terminate()
        other.join()


def _compute() -> None:
    numbers = np.ones((512, 512), np.float32)
    while True:
        numbers = numbers @ numbers.T / 512
