"""The demo's introspection on both engines: `python -m tests.vllm.demo` says how far their read-outs are apart."""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai.event import ModelEvent
from inspect_ai.log import read_eval_log
from inspect_ai.model import get_model

from self_steering.evals.introspection import introspection
from self_steering.steering.bundled.conversion import BUNDLED

TOLERANCE = 2e-4
ENGINES: Mapping[str, Mapping[str, Any]] = {"transformers": {}, "vllm": {"engine": "vllm", "max_model_len": 2048}}


@dataclass(frozen=True)
class Run:
    """One engine's run.

    Attributes:
        readouts: For each sample, and each reading of it, every named set's log-probability.
        receipts: For each of them what was steered: label, strength, layers, first and last position, positions steered.
        gaps: For each sample its score.
        seconds: Of the whole eval.
    """

    readouts: dict[tuple[str, int], dict[str, float]]
    receipts: dict[tuple[str, int], list[tuple[Any, ...]]]
    gaps: dict[str, float]
    seconds: float


def run(engine: str, model: str, logs: Path, **parameters: Any) -> Run:
    """Run introspection on an engine, as `make demo` does."""
    opened = get_model(f"nnsight/{model}", memoize=False, dtype="float32", **ENGINES[engine])
    try:
        (log,) = inspect_eval(introspection(**parameters), model=opened, log_dir=str(logs / engine), display="none")
    finally:
        opened.api.close()
    if log.status != "success":
        raise RuntimeError(f"engine={engine}: {log.error and log.error.message}")
    whole = read_eval_log(log.location)
    readouts, receipts, gaps = {}, {}, {}
    for sample in whole.samples or []:
        events = [event for event in sample.events if isinstance(event, ModelEvent)]
        for number, event in enumerate(events):
            told = (event.output.metadata or {})["self_steering"]
            readouts[str(sample.id), number] = told["readout"]
            receipts[str(sample.id), number] = [
                (r["label"], r["strength"], tuple(r["layers"]), r["start"], r["stop"], r["steered"])
                for r in told["receipts"]
            ]
        gaps[str(sample.id)] = sample.scores["introspection_scorer"].value["gap"]
    stats = whole.stats
    seconds = 0.0
    if stats.completed_at and stats.started_at:
        seconds = (
            datetime.fromisoformat(stats.completed_at) - datetime.fromisoformat(stats.started_at)
        ).total_seconds()
    return Run(readouts, receipts, gaps, seconds)


def difference(one: Run, other: Run) -> float:
    """Return the largest difference of two runs' read-outs, once they are seen to be of the same questions and steering.

    Raises:
        ValueError: They are not.
    """
    if one.readouts.keys() != other.readouts.keys() or one.receipts != other.receipts:
        raise ValueError("the engines were asked, or steered, differently")
    return max(
        abs(value - other.readouts[key][name]) for key, named in one.readouts.items() for name, value in named.items()
    )


def main() -> int:
    """Run the demo's introspection on both engines; the exit code is 1 if their read-outs are too far apart."""
    parser = argparse.ArgumentParser(prog="python -m tests.vllm.demo", description="Compare the engines on the demo.")
    parser.add_argument("--vectors", default="core", help="as in the task (default: core)")
    vectors = parser.parse_args().vectors
    with tempfile.TemporaryDirectory() as folder:
        one, other = (run(e, BUNDLED, Path(folder), vectors=vectors, random_directions=4) for e in ENGINES)
    apart = difference(one, other)
    gap = max(abs(value - other.gaps[name]) for name, value in one.gaps.items())
    sys.stdout.write(
        f"{len(one.gaps)} samples, {len(one.readouts)} read-outs: at most {apart:.2g} apart in log-probability, gaps at most "
        f"{gap:.2g}\n"
        + "".join(
            f"engine={name}: {run.seconds:.0f} s, {60 * len(run.gaps) / run.seconds:.1f} samples a minute\n"
            for name, run in zip(ENGINES, (one, other), strict=True)
        )
    )
    return int(apart >= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
