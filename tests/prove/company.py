"""What may go wrong around a model: graders and monitors, limits, cancellation, memory, threads."""

import gc
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import torch
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolInfo

from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.steering.engine.engine import Engine
from self_steering.steering.engine.requests import EngineRequest
from self_steering.steering.engine.sampling import Sampling
from tests.support.models import bundled_tokenizer, make_engine, tiny_model
from tests.support.parity import MIDDLE, prompt, window
from tests.support.scripted import Tiny, says, turn_by_turn

_CANCELLED = 300
_MOST_GROWTH = 48 << 20  # bytes: room for an allocator's habits, not for 200 forgotten prompts
_PATIENCE = 120
_TAKE = says("", ("take_vector", {"name": "calm"}))


@modelapi(name="faulty")
class FaultyAPI(ModelAPI):
    """A model that raises, hangs or talks nonsense, as its name says."""

    async def generate(self, *_: object, **__: object) -> ModelOutput:
        """Fail."""
        if self.model_name == "raises":
            raise ConnectionError("no route to this model")
        if self.model_name == "hangs":
            await anyio.sleep(3600)
        return ModelOutput.from_content("faulty", "\x00<|im_end|>{{{" * 50)

    async def count_text_tokens(self, text: str) -> int:
        """Count without the network."""
        return len(text)


def faulty(how: str) -> Model:
    """Return a model that fails in one way."""
    config = GenerateConfig(timeout=3, attempt_timeout=1, max_retries=1)
    return get_model(f"faulty/{how}", memoize=False, config=config)


def grader_faults(tiny: Tiny, how: str) -> list[str]:
    """Grade with a model that fails: what it said must be kept, and have no score."""
    task = introspection_free_text(vectors="calm,anxious", arm="real", turns=1, max_tokens=4, library=str(tiny.library))
    log = _run(tiny, task, model_roles={"grader": faulty(how)})
    failures = (
        [] if log.status == "success" else [f"the eval's status is {log.status}: {log.error and log.error.message}"]
    )
    for sample in log.samples or []:
        values = _numbers([score.value for score in (sample.scores or {}).values()])
        if sample.error or any(not math.isnan(value) and value != 0 for value in values["description_scorer"]):
            failures.append(f"{sample.id}: {sample.error or sample.scores}")
    scored = [
        score.scored_samples
        for score in (log.results.scores if log.results else [])
        if score.scorer == "description_scorer"
    ]
    if not scored or any(scored):
        failures.append(f"scored samples by scorer: {scored}; expected none")
    return failures


def _numbers(values: list[object]) -> dict[str, list[float]]:
    # The grades alone: `graded` counts shares, which are rightly zero.
    found = [v for value in values[:1] if isinstance(value, dict) for v in value.values() if isinstance(v, float)]
    return {"description_scorer": found}


def monitor_faults(tiny: Tiny, how: str) -> list[str]:
    """Let a model in the sitter's role fail: the session goes on, and the judgement is noted as unknown."""
    script = turn_by_turn(_TAKE, says("Hm."), says("Well."), says("So it is."), says("And on."))
    task = _freeplay(tiny, rollouts=1, turns=6, sitter="model")
    with tiny.scripted(script):
        log = _run(tiny, task, model_roles={"sitter": faulty(how)})
    if log.status != "success" or not log.samples:
        return [f"the eval's status is {log.status}: {log.error and log.error.message}"]
    store = log.samples[0].store
    checks = store.get("SelfSteerState:sitter_checks") or []
    wrong = [check for check in checks if check.get("lost") is not None or check["action"] != "nothing"]
    if not checks or wrong or store.get("SelfSteerState:sitter_errors") != len(checks):
        return [f"checks {checks}, errors {store.get('SelfSteerState:sitter_errors')}"]
    return []


def limit_faults(tiny: Tiny, **limit: int) -> list[str]:
    """Run into a limit: every sample keeps what it did, and the engine is free for others."""
    task = _freeplay(tiny, rollouts=8, turns=80, max_tokens=200)
    with tiny.scripted(_first_take):
        log = _run(tiny, task, **limit)
    failures = (
        [] if log.status == "success" else [f"the eval's status is {log.status}: {log.error and log.error.message}"]
    )
    for sample in log.samples or []:
        if sample.limit is None or sample.error:
            failures.append(f"{sample.id}: no limit was noted, error {sample.error}")
        calls = sum(len(m.tool_calls or []) for m in sample.messages if isinstance(m, ChatMessageAssistant))
        taken = len(sample.store.get("SelfSteerState:takes") or [])
        if not sample.store.get("SelfSteerState:condition") or taken != min(calls, 1):
            failures.append(f"{sample.id}: {calls} calls were made, {taken} takes are in the log")
    return failures + _busy(tiny.model.api.engine)


def _busy(engine: Engine) -> list[str]:
    deadline = time.monotonic() + 10
    while (rows := engine.call(engine._rows).result(_PATIENCE)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [f"{len(rows)} rows are still in the engine"] if rows else []


def cancelled_neighbours() -> list[str]:
    """Cancel some of the rows that decode together; the others must not notice."""
    with _engine() as engine, _engine() as other:
        wanted = [
            EngineRequest(prompt(engine, 40 + 7 * n), Sampling(max_tokens=40, temperature=1.0, seed=n, top_logprobs=0),
                          (window(engine, MIDDLE, 10, None, 0.5 + n / 8),))
            for n in range(8)
        ]  # fmt: skip
        expected = [future.result(_PATIENCE) for future in other.submit_all(wanted)]
        futures = engine.submit_all(wanted)
        while engine.stats.decode_steps < 5:
            time.sleep(0.01)
        for future in futures[1::2]:
            future.cancel()
        found = [future.result(_PATIENCE) for future in futures[::2]]
        same = all(_alike(one, two) for one, two in zip(found, expected[::2], strict=True))
        return ([] if same else ["a neighbour of cancelled rows came out otherwise"]) + _busy(engine)


def _alike(one, two) -> bool:
    near = all(abs(a.logprob - b.logprob) < 3e-4 for a, b in zip(one.logprobs, two.logprobs, strict=True))
    return one.tokens == two.tokens and near and [r.steered for r in one.receipts] == [r.steered for r in two.receipts]


def memory_faults(tiny: Tiny) -> list[str]:
    """Let memory suffice for two rows only in a whole eval: the rollouts must be those of one with room for all."""
    expected = _rollouts(tiny, 8)
    engine: Engine = tiny.model.api.engine
    engine.call(engine.store.clear).result(_PATIENCE)
    failed: list[int] = []

    def fail(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if args[0].shape[0] > 2:
            failed.append(args[0].shape[0])
            raise torch.OutOfMemoryError("out of memory, as the proof has it")

    hook = engine.model.hf.get_decoder().layers[2].register_forward_pre_hook(fail)
    try:
        found = _rollouts(tiny, 8)
    finally:
        hook.remove()
    failures = [] if failed else ["memory never ran out"]
    differ = [name for name in expected if found.get(name) != expected[name]]
    return failures + [f"{name}: came out otherwise after memory had run out" for name in differ]


def _rollouts(tiny: Tiny, count: int) -> dict[str, str]:
    with tiny.scripted(_first_take):
        log = _run(tiny, _freeplay(tiny, rollouts=count, turns=3, max_tokens=12))
    return {str(s.id): _account(s) for s in log.samples or [] if s.error is None and log.status == "success"}


def _first_take(messages: list[ChatMessage], tools: list[ToolInfo]) -> ChatMessageAssistant | None:
    """Take in the first turn; all others are the model's own words."""
    return None if any(message.role == "assistant" for message in messages) else _TAKE


def _account(sample: EvalSample) -> str:
    texts = [m.text for m in sample.messages if m.role == "assistant"]
    return json.dumps([texts, sample.store.get("SelfSteerState:exposures"), sample.store.get("SelfSteerState:takes")])


def nothing_left_behind() -> list[str]:
    """Cancel hundreds of requests, close the engine, and look for threads and memory."""
    before = {thread.ident for thread in threading.enumerate()}
    with _engine(cache_budget=1 << 20) as engine:
        _cancel(engine, 100)
        start = _resident()
        _cancel(engine, _CANCELLED)
        grown = _resident() - start
        failures = _busy(engine)
    left = [thread.name for thread in threading.enumerate() if thread.ident not in before and thread.is_alive()]
    failures += [f"threads left: {left}"] if left else []
    return failures + (
        [f"memory grew by {grown >> 20} MiB over {_CANCELLED} cancelled requests"] if grown > _MOST_GROWTH else []
    )


def _cancel(engine: Engine, count: int) -> None:
    for number in range(0, count, 10):
        wanted = [
            EngineRequest(prompt(engine, 200 + n), Sampling(max_tokens=60, temperature=1.0, seed=number + n),
                          (window(engine, MIDDLE, n, None, 1.0),))
            for n in range(10)
        ]  # fmt: skip
        futures = engine.submit_all(wanted)
        steps = engine.stats.decode_steps
        while engine.stats.decode_steps < steps + 2 and not all(f.done() for f in futures):
            time.sleep(0.002)
        for future in futures:
            future.cancel()
    engine.call(lambda: None).result(_PATIENCE)


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096


@contextmanager
def _engine(**options: int) -> Iterator[Engine]:
    tokenizer = bundled_tokenizer()
    engine = make_engine(tiny_model("qwen3", len(tokenizer)), tokenizer, **options)
    try:
        yield engine
    finally:
        engine.close()


def _freeplay(tiny: Tiny, **changes: object) -> Task:
    fixed = {
        "framing": "vectors",
        "arm": "real",
        "vectors": "calm,anxious",
        "sitter": "none",
        "debrief": False,
        "max_tokens": 4,
    }
    return freeplay(**{**fixed, "library": str(tiny.library), **changes})


def _run(tiny: Tiny, task: Task, **more: object) -> EvalLog:
    (log,) = eval(task, model=tiny.model, log_dir=str(tiny.logs), display="none", **more)
    return read_eval_log(log.location)
