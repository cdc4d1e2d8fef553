"""Arguments that choose a grid of evals, shared by the commands that run or estimate one."""
# ruff: noqa: PLC0415  what takes seconds to import is imported by the command that needs it

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from self_steering.evals.sweep import Planned


def add_grid_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that `planned_evals` reads, but for the preset's name."""
    command.add_argument("--grids", type=Path, help="TOML file of grids (default: ours, evals/sweeps.toml)")
    command.add_argument(
        "-T", dest="parameters", action="append", default=[], metavar="[TASK.]NAME=VALUE", help="task parameter"
    )
    command.add_argument("--only", type=_names, default=[], help="tasks of it, separated by commas (default: all)")


def planned_evals(arguments: argparse.Namespace, *parameters: str) -> "list[Planned]":
    """Return the evals of the preset that the arguments name.

    Args:
        arguments: The command line's.
        *parameters: More parameters, for every task that has them.

    Raises:
        ValueError: There is no such preset, or its tasks refuse a value.
    """
    from self_steering.evals.sweep import PRESETS_FILE, SweepError, planned, read_presets

    presets = read_presets(arguments.grids or PRESETS_FILE)
    if arguments.preset not in presets:
        raise SweepError(f"the sweep {arguments.preset!r} is unknown; choose from {', '.join(presets)}")
    return planned(presets[arguments.preset], [*parameters, *arguments.parameters], arguments.only)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
