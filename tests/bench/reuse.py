"""How many tokens the engine computes, where a naive one would compute every prompt from its start."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from inspect_ai.model import get_model

from self_steering.evals.freeplay import freeplay
from self_steering.evals.introspection import introspection
from self_steering.steering.engine.requests import EngineRequest, Generation
from self_steering.steering.provider import NNsightAPI
from tests.bench.runs import model_events, run

MODEL = "nnsight/smollm2-135m-instruct"
TURNS = 10


def conversation_ratio(seeds: Sequence[int] = (0, 1, 2)) -> float:
    """Return tokens computed over new tokens of free plays of `TURNS` turns, each on an engine that knows nothing yet.

    New are the tokens of the final prompt and what was generated after it, but for the last, which nothing follows: what an engine
    that never computes a token twice has to compute.
    """
    computed = new = 0
    for seed in seeds:
        model = get_model(MODEL, memoize=False)
        api = model.api
        assert isinstance(api, NNsightAPI)
        task = freeplay(arm="real", framing="vectors", rollouts=1, turns=TURNS, debrief=False, sitter="none", seed=seed)
        log, _ = run(task, model)
        (calls,) = model_events(log)
        usage = calls[-1].output.usage
        assert usage is not None
        stats = api.engine.stats
        computed += stats.prompt_tokens - stats.reused_tokens + stats.decoded_tokens
        new += usage.total_tokens - 1
        api.close()
    return computed / new


@dataclass(frozen=True)
class Shared:
    """What was computed for one vector's samples, one an arm.

    Attributes:
        computed: Tokens computed, over those of computing each reading alone.
        distinct: Tokens that differ from every other in themselves, their steering or what stands before them, over the same:
            no engine can compute fewer.
    """

    computed: float
    distinct: float


def introspection_sharing(rotations: int) -> Shared:
    """Return what the samples of one vector in every arm share.

    Args:
        rotations: In how many rotations each question is asked.
    """
    seen: list[EngineRequest] = []
    model = get_model(MODEL, memoize=False)
    api = model.api
    assert isinstance(api, NNsightAPI)
    submit_all = api.engine.submit_all

    def recording(requests: Sequence[EngineRequest]) -> "list[Future[Generation]]":
        seen.extend(requests)
        return submit_all(requests)

    api.engine.submit_all = recording  # type: ignore[method-assign]  # looks on, and changes nothing
    log, _ = run(introspection(vectors="calm", arm="all", rotations=rotations), model)
    api.close()
    scores = [sample.scores["introspection_scorer"].value for sample in log.samples]
    alone = sum(score["prompt_tokens"] for score in scores)
    if alone != sum(len(request.ids) for request in seen):
        raise RuntimeError("the log and the engine count prompt tokens differently")
    return Shared(sum(score["computed_tokens"] for score in scores) / alone, len(_distinct(seen)) / alone)


def _distinct(requests: Sequence[EngineRequest]) -> set[int]:
    found = set()
    for request in requests:
        before = 0
        for position, token in enumerate(request.ids):
            steering = sorted((w.direction.key, w.strength) for w in request.windows if w.covers(position))
            before = hash((before, token, tuple(steering)))
            found.add(before)
    return found
