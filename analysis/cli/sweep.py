"""The command `self-steering sweep`: run a whole grid of evals; run again, it goes on where it stopped."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from self_steering.analysis.cli.console import name_list

if TYPE_CHECKING:
    from self_steering.evals.sweep import Planned


def add_sweep_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `sweep`."""
    sweep = subparsers.add_parser("sweep", help="run a whole grid of evals; run again, it goes on where it stopped")
    sweep.add_argument("preset", nargs="?", help="name of a grid, such as study or small; left out, all are listed")
    sweep.add_argument("--grids", type=Path, help="TOML file of grids (default: ours, evals/data/sweeps.toml)")
    sweep.add_argument(
        "-T", dest="parameters", action="append", default=[], metavar="[TASK.]NAME=VALUE", help="task parameter"
    )
    sweep.add_argument("--only", type=name_list, default=[], help="tasks of it, separated by commas (default: all)")
    sweep.add_argument("--dry-run", action="store_true", help="show the evals, their cells and samples; run nothing")
    sweep.add_argument("--model", help="model to steer, such as nnsight/Qwen/Qwen3-8B (default: the bundled one)")
    sweep.add_argument(
        "-M", dest="model_args", action="append", default=[], metavar="NAME=VALUE", help="model argument"
    )
    sweep.add_argument(
        "--model-role",
        dest="roles",
        action="append",
        default=[],
        metavar="ROLE=MODEL",
        help="such as grader=openai/gpt-5",
    )
    sweep.add_argument("--library", help="folder of the vector library (default: the shipped one that fits the model)")
    sweep.add_argument(
        "--shard",
        metavar="K/N",
        help="run the K-th of N parts with the same mix of conditions, one an engine (evals/SCALE.md)",
    )
    sweep.add_argument("--limit", type=int, help="most samples an eval")
    sweep.add_argument("--max-samples", type=int, help="samples that run at the same time")
    sweep.add_argument("--log-dir", type=Path, help="folder of this sweep's logs alone (default: logs/sweep-PRESET)")
    sweep.add_argument("--display", choices=["full", "rich", "plain", "log", "none"], help="as in `inspect eval`")
    sweep.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> None:
    from self_steering.evals.shards import claim_folder
    from self_steering.evals.sweep import PRESETS_FILE, SweepError, planned, read_presets

    presets = read_presets(arguments.grids or PRESETS_FILE)
    if arguments.preset is None:
        for name, preset in presets.items():
            print(f"{name}: {preset.about}")
        return
    if arguments.preset not in presets:
        raise SweepError(f"the sweep {arguments.preset!r} is unknown; choose from {', '.join(presets)}")
    library = [] if arguments.library is None else [f"library={arguments.library}"]
    evals = planned(presets[arguments.preset], [*library, *arguments.parameters], arguments.only)
    root = arguments.log_dir or Path("logs") / f"sweep-{arguments.preset}"
    if arguments.shard is not None:
        _sweep_shard(evals, root, arguments)
        return
    _show(evals, arguments.limit)
    if not arguments.dry_run:
        claim_folder(root, None, "")
        _run(evals, root, arguments)


def _sweep_shard(evals: Sequence["Planned"], root: Path, arguments: argparse.Namespace) -> None:
    from self_steering.evals.shards import claim_folder, deal, note_shards, parse_shard, sample_ids
    from self_steering.evals.sweep import SweepError

    shard = parse_shard(arguments.shard)
    if arguments.limit:
        raise SweepError("--limit with --shard: a shard is a choice of samples; cut the grid with --only or -T instead")
    dealt = deal(evals, shard.of)
    share = dealt.shares[shard.number - 1]
    _show(share, None)
    samples, all_samples = (sum(one.samples for one in some) for some in (share, evals))
    print(f"shard {shard}: {samples} of {all_samples} samples, {samples / all_samples:.1%}")
    if not arguments.dry_run:
        claim_folder(root, shard, dealt.digest)
        note_shards(share, shard, dealt.digest)
        _run(share, root / shard.folder, arguments, sample_ids(share))


def _show(evals: Sequence["Planned"], limit: int | None) -> None:
    for number, planned in enumerate(evals, 1):
        given = ", ".join(f"{name}={value}" for name, value in planned.parameters.items())
        print(f"{number}. {planned.name} ({given}): {planned.samples} samples")
        for cell, samples in planned.cells.items():
            print(f"     {samples:5} {cell}")
    at_most = f", at most {limit} of each eval" if limit else ""
    print(f"{len(evals)} evals, {sum(one.samples for one in evals)} samples{at_most}")


def _run(
    evals: Sequence["Planned"], folder: Path, arguments: argparse.Namespace, sample_id: list[str] | None = None
) -> None:
    from inspect_ai import eval_set

    from self_steering.evals.parameters import DEFAULT_MODEL
    from self_steering.evals.sweep import SweepError

    done, logs = eval_set(
        [one.task for one in evals],
        log_dir=str(folder.resolve()),
        model=arguments.model or DEFAULT_MODEL,
        model_args=_pairs(arguments.model_args, "-M"),
        model_roles=_pairs(arguments.roles, "--model-role") or None,
        limit=arguments.limit,
        sample_id=list(sample_id) if sample_id else None,
        max_samples=arguments.max_samples,
        max_tasks=1,  # one model: its batches are filled by one eval's samples
        continue_on_fail=True,
        retry_attempts=1,
        display=arguments.display,
    )
    for log in sorted(logs, key=lambda log: log.eval.created):
        print(f"{log.status:9} {log.eval.task}: {Path(log.location).name}")
    if not done:
        failed = [log.eval.task.rpartition("/")[2] for log in logs if log.status != "success"]
        raise SweepError(
            f"{len(failed)} of {len(evals)} evals did not finish ({', '.join(failed)}): read their logs in {folder}, then "
            "run the same command again; what is finished is kept"
        )
    whole = folder if sample_id is None else folder.parent
    when = "" if sample_id is None else f"; once all shards of {whole} are"
    print(f"all {len(evals)} evals are finished{when}: `self-steering report {whole}` shows them")


def _pairs(given: Sequence[str], option: str) -> dict[str, Any]:
    from self_steering.evals.sweep import SweepError, read_value

    pairs = [one.partition("=") for one in given]
    if wrong := [f"{name}{equals}{value}" for name, equals, value in pairs if not equals or not name]:
        raise SweepError(f"{option} {wrong[0]}: give NAME=VALUE")
    return {name: read_value(value) for name, _, value in pairs}
