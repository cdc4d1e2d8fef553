"""The takes that a model was told succeeded = the windows planned = the windows realised: what else there is fails the sample."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from inspect_ai import Task, eval  # noqa: A004  Inspect's name for it

from self_steering.steering import plan, provider
from tests.support.scripted import Tiny, says, turn_by_turn

_SCRIPT = turn_by_turn(*(says("", (f"take_{noun}", {"name": "calm"})) for noun in ("vector", "drug")), says("Hm."))
# Where plan and receipts come from, and what is made of them.
FAULTS: Mapping[str, tuple[Any, str, Callable[[Any], object]]] = {
    "a window less": (plan, "active_takes", lambda takes: takes[:-1]),
    "a window more": (plan, "active_takes", lambda takes: takes + takes[:1]),
    "a receipt less": (provider, "_with_thoughts", lambda receipts: receipts[:-1]),
    "a receipt more": (provider, "_with_thoughts", lambda receipts: receipts + receipts[:1]),
    "a position less": (provider, "_with_thoughts", lambda given: [{**r, "steered": r["planned"] - 1} for r in given]),
    "half of it": (provider, "_with_thoughts", lambda given: [{**r, "strength": r["strength"] / 2} for r in given]),
}
NOT_BY_CALLS = frozenset({"comparison", "localisation", "relief"})  # what is steered there is no take, but a place


def unnoticed(tiny: Tiny, fault: str, tasks: Mapping[str, Task]) -> list[str]:
    """Run a sample of each task under a fault, and return those that did not fail for it."""
    module, name, change = FAULTS[fault]
    real = getattr(module, name)
    chosen = {name: task for name, task in tasks.items() if "window" not in fault or name not in NOT_BY_CALLS}
    with pytest.MonkeyPatch.context() as patch, tiny.scripted(_SCRIPT):
        patch.setattr(module, name, lambda *given: change(real(*given)))
        logs = eval(
            list(chosen.values()),
            model=tiny.model,
            model_roles={"grader": "mockllm/model"},
            limit=1,
            log_dir=str(tiny.logs),
            display="none",
            log_realtime=False,
            score_display=False,
        )
    told = {one: log.error.message if log.error else log.status for one, log in zip(chosen, logs, strict=True)}
    return [f"{one} under {fault}: {said[:200]}" for one, said in told.items() if "SteeringError" not in said]
