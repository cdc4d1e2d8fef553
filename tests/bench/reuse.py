"""How many tokens the engine computes, where a naive one would compute every prompt from its start."""

import tempfile
from collections.abc import Sequence

from inspect_ai import eval as inspect_eval
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog
from inspect_ai.model import get_model

from self_steering.evals.freeplay import freeplay
from self_steering.evals.introspection import introspection
from self_steering.steering.provider import NNsightAPI

MODEL = "nnsight/smollm2-135m-instruct"
TURNS = 10


def conversation_ratio(seeds: Sequence[int] = (0, 1, 2)) -> float:
    """Return tokens computed over new tokens of free plays of `TURNS` turns, each on an engine that knows nothing yet.

    New are the tokens of the final prompt and what was generated after it: what an engine that never computes a token twice
    has to compute.
    """
    computed = new = 0
    for seed in seeds:
        model = get_model(MODEL, memoize=False)
        api = model.api
        assert isinstance(api, NNsightAPI)
        task = freeplay(arm="real", framing="vectors", rollouts=1, turns=TURNS, debrief=False, sitter="none", seed=seed)
        log = _run(task, model)
        calls = _model_events(log)
        usage = calls[-1].output.usage
        assert usage is not None
        stats = api.engine.stats
        computed += stats.prompt_tokens - stats.reused_tokens + stats.decoded_tokens
        new += usage.total_tokens
        api.close()
    return computed / new


def introspection_ratio(samples: int = 2) -> float:
    """Return tokens computed for introspection samples, every arm, over those of computing each reading alone."""
    log = _run(introspection(arm="all"), MODEL, limit=samples)
    scores = [score.value for sample in log.samples or [] for score in (sample.scores or {}).values()]
    return sum(s["computed_tokens"] for s in scores) / sum(s["prompt_tokens"] for s in scores)


def _run(task: object, model: object, **options: object) -> EvalLog:
    with tempfile.TemporaryDirectory() as logs:
        (log,) = inspect_eval(task, model=model, log_dir=logs, display="none", **options)
    if log.status != "success":
        raise RuntimeError(f"the benchmark's own run failed: {log.error}")
    return log


def _model_events(log: EvalLog) -> list[ModelEvent]:
    return [event for sample in log.samples or [] for event in sample.events if isinstance(event, ModelEvent)]
