"""The command `self-steering estimate`: time and memory of a sweep on engines of a stated throughput, from measured tokens."""
# ruff: noqa: T201, PLC0415  a command prints, and what takes seconds to import is imported by the command that needs it

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from self_steering.evals.grid_arguments import add_grid_arguments, planned_evals


def add_estimate_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `estimate`."""
    estimate = subparsers.add_parser("estimate", help="time and memory of a grid of evals, from measured tokens")
    estimate.add_argument("preset", nargs="?", default="study", help="name of a grid (default: study)")
    add_grid_arguments(estimate)
    estimate.add_argument(
        "--model", default="Qwen/Qwen3-8B", help="Qwen/Qwen3-8B (default), Qwen/Qwen3-32B, or a config.json"
    )
    estimate.add_argument("--dtype", default="bfloat16", help="of weights, keys and values (default: bfloat16)")
    estimate.add_argument("--card", default="h100-80gb", help="h100-80gb (default) or a100-80gb")
    estimate.add_argument("--tensor-parallel", type=_count, default=1, help="cards an engine (default: 1)")
    estimate.add_argument("--engines", type=_count, default=8, help="engines, so shards of the sweep (default: 8)")
    estimate.add_argument("--concurrent", type=_count, default=64, help="most rollouts at a time (default: 64)")
    estimate.add_argument(
        "--prefill", type=_positive, help="prompt tokens a second of one engine, where you measured it"
    )
    estimate.add_argument(
        "--decode", type=_positive, help="generated tokens a second of one engine's whole batch, likewise"
    )
    for name, share, what in (
        ("compute", 0.4, "of the card's arithmetic that prefill reaches"),
        ("bandwidth", 0.5, "of the card's bandwidth that decoding reaches"),
        ("memory", 0.9, "of the card's memory that an engine may fill"),
    ):
        estimate.add_argument(f"--{name}-share", type=_share, default=share, help=f"part {what} (assumed: {share})")
    estimate.add_argument("--tokens", type=Path, help="table of measured tokens (default: evals/token_counts.csv)")
    estimate.add_argument(
        "--measure", type=Path, nargs="+", metavar="LOGS", help="make that table from logs, and no estimate"
    )
    estimate.set_defaults(run=_estimate)


def _estimate(arguments: argparse.Namespace) -> None:
    from self_steering.evals.estimate import Engine
    from self_steering.evals.estimate_text import estimate_text
    from self_steering.evals.model_shape import read_card, read_shape
    from self_steering.evals.token_counts import SHIPPED_COUNTS, read_token_counts

    if arguments.measure:
        _measure(arguments)
        return
    engine = Engine(
        shape=read_shape(arguments.model, arguments.dtype),
        card=read_card(arguments.card),
        cards=arguments.tensor_parallel,
        concurrent=arguments.concurrent,
        memory_share=arguments.memory_share,
        compute_share=arguments.compute_share,
        bandwidth_share=arguments.bandwidth_share,
        prefill=arguments.prefill,
        decode=arguments.decode,
    )
    counts = read_token_counts(arguments.tokens or SHIPPED_COUNTS)
    print(estimate_text(planned_evals(arguments), counts, engine, arguments.card, arguments.engines))


def _measure(arguments: argparse.Namespace) -> None:
    from self_steering.evals.measure_tokens import measure_tokens
    from self_steering.evals.token_counts import TokenCountsError, written_token_counts
    from self_steering.vectors.files import write_file

    if arguments.tokens is None:
        raise TokenCountsError("--measure: name the file to write with --tokens FILE")
    counts = measure_tokens(arguments.measure)
    write_file(arguments.tokens, written_token_counts(counts))
    print(f"{arguments.tokens}: {sum(count.samples for count in counts)} samples in {len(counts)} conditions")


def _checked(text: str, valid: Callable[[float], bool], what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not valid(number):
        raise argparse.ArgumentTypeError(f"{text!r}; choose {what}")
    return number


def _count(text: str) -> int:
    return int(_checked(text, lambda number: number >= 1 and number.is_integer(), "a whole number of at least 1"))


def _positive(text: str) -> float:
    return _checked(text, lambda number: number > 0, "a number above 0")


def _share(text: str) -> float:
    return _checked(text, lambda number: 0 < number <= 1, "a number above 0, at most 1")
