"""`make bench-vllm`: what steering costs on vLLM, and what introspection takes on both engines; alone on its machine."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import torch
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from self_steering.analysis.drawing.words import text_table
from self_steering.steering.bundled.conversion import BUNDLED
from self_steering.steering.engine.open import open_model
from self_steering.steering.engine.requests import EngineRequest, TokenWindow
from self_steering.steering.engine.sampling import Sampling
from self_steering.steering.on_vllm import engine as engine_module
from self_steering.steering.on_vllm.engine import VllmEngine, sampling_params_of
from self_steering.vectors.making.layers import default_band
from tests.support.models import random_direction
from tests.vllm import demo

PROMPT, NEW = 64, 48
ROWS = (1, 8, 32)
PLAIN, UNSTEERED, STEERED = "plain vLLM", "ours, unsteered", "ours, the band"
WAYS = (PLAIN, UNSTEERED, STEERED)
REACH = 0.9


def plain(engine: VllmEngine, prompts: list[tuple[int, ...]], new: int) -> None:
    """Let vLLM generate with none of our code on the way; only for the engine's thread.

    The hooks are there and find no step of theirs, as they do in vLLM's own dummy runs.
    """
    llm = engine._llm
    params = SamplingParams(max_tokens=new, temperature=0.0, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY)
    for number, ids in enumerate(prompts):
        llm.add_request(f"plain-{number}", {"prompt_token_ids": list(ids)}, params)
    while llm.has_unfinished_requests():
        llm.step()


def ours(
    engine: VllmEngine, prompts: list[tuple[int, ...]], new: int, band: tuple[int, ...] | None, size: float
) -> None:
    """Generate through our engine, each row steered by a direction of its own, of a norm `size` at each layer."""
    requests = []
    for number, ids in enumerate(prompts):
        windows: tuple[TokenWindow, ...] = ()
        if band is not None:
            direction = random_direction(band, engine.shape.hidden, seed=number, size=size)
            windows = (TokenWindow("w", direction, 1.0, 20, None),)
        requests.append(EngineRequest(ids, Sampling(max_tokens=new, temperature=0.0), windows))
    for future in engine.submit_all(requests):
        found = future.result(600)
        assert found.generated_tokens == new


def _on_and_on(request: EngineRequest, _: frozenset[int]) -> SamplingParams:
    """Return vLLM's parameters of a request that nothing but its number of tokens ends."""
    params = sampling_params_of(request, frozenset())
    params.ignore_eos = True
    return params


def seconds(engine: VllmEngine, way: str, rows: int, seed: int, band: tuple[int, ...], size: float) -> float:
    """Return what the new tokens take: the time with all of them, less that with the first one alone."""
    took = []
    for new in (1, NEW + 1):
        # Other prompts each time, so that none is in the cache.
        generator = torch.Generator().manual_seed(1000 * seed + new)
        prompts = [tuple(row) for row in torch.randint(100, 20_000, (rows, PROMPT), generator=generator).tolist()]
        start = time.perf_counter()
        if way == PLAIN:
            engine.call(lambda: plain(engine, prompts, new)).result()  # noqa: B023  awaited at once
        else:
            ours(engine, prompts, new, band if way == STEERED else None, size)
        took.append(time.perf_counter() - start)
    return took[1] - took[0]


def _without_hooks(engine: VllmEngine) -> None:
    """Take every hook of ours off: what is left is plain vLLM."""
    core = engine._llm.engine_core.engine_core
    runner = core.model_executor.driver_worker.worker.model_runner
    model = runner.get_model()
    for module in (model, *model.model.layers):
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    del runner.execute_model
    del model.compute_logits


_engine: VllmEngine | None = None


def _measure(
    ways: tuple[str, ...], rounds: int, model: str, band: tuple[int, ...], arguments: Mapping[str, Any], size: float
) -> dict[str, list[float]]:
    """Measure one round more than wanted the first time, to warm up; the engine stays for the next call."""
    global _engine  # noqa: PLW0603  a process's own
    if _engine is None:
        sizes = {"max_model_len": 1024, "max_num_seqs": max(ROWS)}
        opened = open_model(model, {"engine": "vllm", **sizes, **arguments}).engine
        assert isinstance(opened, VllmEngine)
        _engine = opened
        engine_module.sampling_params_of = _on_and_on
        if ways == (PLAIN,):
            _without_hooks(_engine)
        for rows in ROWS:
            for way in ways:
                seconds(_engine, way, rows, 0, band, size)
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for rows in ROWS:
            for way in ways:
                found.setdefault(f"{way}, batch {rows}", []).append(seconds(_engine, way, rows, 1 + number, band, size))
    return found


def measure(
    rounds: int,
    model: str,
    band: tuple[int, ...],
    arguments: Mapping[str, Any] = MappingProxyType({}),
    size: float = 0.1,
) -> dict[str, list[float]]:
    """Measure all ways in turn, plain vLLM in a process of its own.

    Args:
        rounds: Interleaved rounds.
        model: As for `open_model`.
        band: The layers that are steered.
        arguments: Of vLLM.
        size: Norm of what is added at a layer.
    """
    how = (model, band, dict(arguments), size)
    spawn = get_context("spawn")
    took: dict[str, list[float]] = {}
    with ProcessPoolExecutor(1, spawn) as our, ProcessPoolExecutor(1, spawn) as their:
        our.submit(_measure, (UNSTEERED, STEERED), 0, *how).result()
        their.submit(_measure, (PLAIN,), 0, *how).result()
        for _ in range(rounds):
            for pool, ways in ((their, (PLAIN,)), (our, (UNSTEERED, STEERED))):
                for key, values in pool.submit(_measure, ways, 1, *how).result().items():
                    took.setdefault(key, []).extend(values)
    return took


def speeds(took: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return new tokens a second, over all rows, by way and batch."""
    return {key: int(key.rsplit(" ", 1)[1]) * NEW / median(values) for key, values in took.items()}


def speed_rows(speed: Mapping[str, float]) -> list[dict[str, str]]:
    """Return the same as a table, a row a way."""
    return [{"way": way, **{f"batch {rows}": f"{speed[f'{way}, batch {rows}']:.1f}" for rows in ROWS}} for way in WAYS]


def main() -> int:
    """Measure, print the tables, and save them; the exit code is 1 if steering costs too much."""
    parser = argparse.ArgumentParser(prog="python -m tests.vllm.bench", description="Measure the vLLM engine.")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--only", choices=("decoding", "introspection"), action="append", help="one part")
    parser.add_argument("--out", type=Path, default=Path("bench-vllm.json"), help="default: bench-vllm.json")
    arguments = parser.parse_args()
    parts = arguments.only or ["decoding", "introspection"]
    results: dict[str, Any] = {}
    failed = False
    if "decoding" in parts:
        took = measure(arguments.rounds, BUNDLED, tuple(default_band(30, BUNDLED)))
        speed = speeds(took)
        ratios = {rows: speed[f"{STEERED}, batch {rows}"] / speed[f"{PLAIN}, batch {rows}"] for rows in ROWS}
        failed = min(ratios.values()) < REACH
        results |= {"tokens a second": speed, "steered ÷ plain": ratios, "seconds": took}
        table = speed_rows(speed)
        table.append({"way": "steered ÷ plain", **{f"batch {rows}": f"{ratios[rows]:.3f}" for rows in ROWS}})
        sys.stdout.write("New tokens a second, all rows together, medians\n" + text_table(table) + "\n\n")
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if "introspection" in parts:
        rates = {}
        with tempfile.TemporaryDirectory() as folder:
            for engine in demo.ENGINES:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    found = pool.submit(_introspection, engine, folder).result()
                rates[engine] = found
                sys.stdout.write(f"introspection, engine={engine}: {found:.1f} samples a minute\n")
        results["introspection, samples a minute"] = rates
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"Saved in {arguments.out}\n")
    return int(failed)


def _introspection(engine: str, folder: str) -> float:
    run = demo.run(engine, BUNDLED, Path(folder), vectors="calm,anxious,soma,golden_gate", random_directions=4)
    return 60 * len(run.gaps) / run.seconds


if __name__ == "__main__":
    sys.exit(main())
