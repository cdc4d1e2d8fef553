"""`make bench-gpu`: what steering takes on one accelerator, on random weights of Qwen3-8B's shape, and whether it is exact there.

Nothing is downloaded. `make bench-gpu BENCH=tiny` runs all of it on any machine, to try the script out.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel

from self_steering.analysis.drawing.words import text_table
from self_steering.steering.engine.requests import Generation
from self_steering.steering.engine.threads import in_short_lived_thread
from self_steering.vectors.making.layers import default_band
from tests.bench.contest import BAND, GREEDY, OURS, PLAIN, STEERED_FROM, Contest, timed
from tests.support.models import bundled_tokenizer, tiny_model

SHAPES: Mapping[str, Mapping[str, float]] = {
    "qwen3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "initializer_range": 0.02,
    },
    "tiny": {"max_position_embeddings": 4096},
}
VOCABULARY = 151_936
WAYS = (PLAIN, OURS, BAND)
PROMPT, LONG_PROMPT = 64, 2_000
NEW: Mapping[int, int] = {1: 48, 8: 48, 32: 48}  # by rows
TINY_NEW: Mapping[int, int] = dict.fromkeys(NEW, 4)
ROUNDS = 3
# Norm of what is added at a layer: small beside the stream, and more than bfloat16 rounds away.
SIZE = 10.0
# What bfloat16's rounding of single numbers may leave of the shift of a mean projection.
SHIFT_WITHIN = 0.05
_FOR_VLLM = 180  # seconds: two engines load the weights
# Seconds that are kept from rounds, of which one takes less than a minute.
_AT_END = 60 + _FOR_VLLM * bool(find_spec("vllm"))


def main() -> int:
    """Measure, print the tables and save them; the exit code is 1 if bfloat16 steers other than planned."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description="Measure one accelerator.")
    parser.add_argument("shape", nargs="?", choices=SHAPES, default="qwen3-8b", help="of the model (default: qwen3-8b)")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="what it may take; fewer rounds if need be (default: 8)"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.json"), help="default: bench-gpu.json")
    arguments = parser.parse_args()
    if arguments.shape != "tiny" and not torch.accelerator.is_available():
        parser.error(f"no accelerator for {arguments.shape}; `make bench-gpu BENCH=tiny` runs on the CPU")
    ends = time.monotonic() + 60 * arguments.minutes
    # In a process of its own, which gives all memory back.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = pool.submit(_measure, arguments.shape, ends).result()
    found["vllm"] = _on_vllm(arguments.shape, ends)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{found['device']}, {arguments.shape}, bfloat16\n\nNew tokens a second, all rows together, medians\n"
    )
    sys.stdout.write(text_table(found["speeds"] + found["vllm"]["speeds"]) + "\n\n")
    rows = [
        {"what": what, "is": f"{value:.3f}"} for part in ("prefill", "memory") for what, value in found[part].items()
    ]
    rows += [{"what": what, "is": fault or "yes"} for what, fault in found["checks"].items()]
    sys.stdout.write(text_table(rows) + f"\n\nvLLM: {found['vllm']['note']}\nSaved in {arguments.out}\n")
    return int(any(found["checks"].values()))


@contextmanager
def _made_there(device: torch.device) -> Iterator[None]:
    """Let modules be made on a device, in bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def _device() -> torch.device:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def _model(shape: str, device: torch.device) -> PreTrainedModel:
    with _made_there(device):
        return tiny_model("qwen3", VOCABULARY, **SHAPES[shape])


def _measure(shape: str, ends: float) -> dict[str, Any]:
    device = _device()
    began = _peak(device)
    model = in_short_lived_thread(_model, shape, device)
    loaded = _peak(device)
    new = TINY_NEW if shape == "tiny" else NEW
    band = tuple(default_band(model.config.num_hidden_layers))
    contest = Contest(model, bundled_tokenizer(), band, prompt=PROMPT, new=new, context=LONG_PROMPT + 2, size=SIZE)
    try:
        checks = {
            "strength 0 is unsteered to the bit": _strength_zero(contest),
            "receipts are clean": _receipts(contest),
        }
        prefill: dict[str, list[float]] = {f"seconds, {LONG_PROMPT} tokens of prompt, {way}": [] for way in WAYS}
        for number in range(ROUNDS + 1):
            prompt = contest.prompts(1, number, LONG_PROMPT)
            for way, found in zip(WAYS, prefill.values(), strict=True):
                run = contest.runner(way)
                found.append(timed(lambda: run(prompt, 1)))  # noqa: B023  called at once
        speeds = contest.measure(WAYS, ROUNDS, until=ends - _AT_END)
        return {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "torch": torch.__version__,
            "speeds": speeds.rows_of_table(shape),
            "seconds": speeds.as_json(),
            "prefill": {what: median(values[1:]) for what, values in prefill.items()},
            "memory": {"GiB, the weights": loaded - began, "GiB, the most at any time": _peak(device)},
            "checks": checks,
        }
    finally:
        contest.close()


def _peak(device: torch.device) -> float:
    """Return the most GiB held so far: on an accelerator there, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _generations(contest: Contest, layers: tuple[int, ...], strength: float) -> list[Generation]:
    rows = 8
    return contest.run(contest.prompts(rows, seed=0), contest.new[rows], layers, strength)


def _strength_zero(contest: Contest) -> str:
    """Return what strength 0 changes, nothing if it changes nothing."""
    contest.sampling = replace(GREEDY, top_logprobs=1)
    unsteered, zero = _generations(contest, (), 0.0), _generations(contest, contest.band, 0.0)
    contest.sampling = GREEDY
    odd = [
        n
        for n, (a, b) in enumerate(zip(unsteered, zero, strict=True))
        if (a.tokens, a.logprobs) != (b.tokens, b.logprobs)
    ]
    return f"no: rows {odd} differ" if odd else ""


def _receipts(contest: Contest) -> str:
    """Return what is wrong with the receipts of steered rows; nothing if they are as planned."""
    for number, generation in enumerate(_generations(contest, contest.band, 1.0)):
        (receipt,) = generation.receipts
        positions = generation.prompt_tokens + generation.generated_tokens - 1 - STEERED_FROM
        if not receipt.planned == receipt.steered == positions:
            return f"no: row {number}: {receipt.steered} positions steered, {receipt.planned} planned, {positions} asked for"
        assert receipt.projection_before is not None
        assert receipt.projection_after is not None
        shift = receipt.projection_after - receipt.projection_before
        if abs(shift - receipt.expected_shift) > SHIFT_WITHIN * abs(receipt.expected_shift):
            return f"no: row {number}: the projection moved by {shift:.4g}, expected {receipt.expected_shift:.4g}"
    return ""


def _on_vllm(shape: str, ends: float) -> dict[str, Any]:
    """Return the same on vLLM, which takes models from a folder, and a note where there is nothing to return."""
    if find_spec("vllm") is None:
        return {"speeds": [], "note": "not installed"}
    left = ends - time.monotonic()
    if left < _FOR_VLLM:
        return {"speeds": [], "note": f"left out: {left:.0f} s were left of the time, it takes {_FOR_VLLM}"}
    from tests.vllm import bench  # noqa: PLC0415  it imports vLLM

    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            layers = pool.submit(_save, shape, folder).result()
        took = bench.measure(
            1, folder, tuple(default_band(layers)), {"dtype": "bfloat16", "gpu_memory_utilization": 0.4}, SIZE
        )
    rows = [{"model": shape, **row} for row in bench.speed_rows(bench.speeds(took))]
    return {"speeds": rows, "seconds": took, "note": "measured"}


def _save(shape: str, folder: str) -> int:
    model = _model(shape, _device())
    model.save_pretrained(folder)
    bundled_tokenizer().save_pretrained(folder)
    return int(model.config.num_hidden_layers)


if __name__ == "__main__":
    sys.exit(main())
