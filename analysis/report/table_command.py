"""The command `self-steering table`: the results of logs as text."""
# ruff: noqa: PLC0415  a command prints, and what takes seconds to import is imported by the command that needs it

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from self_steering.analysis.report.pooled_logs import PooledLog


def add_table_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `table` to those of `self-steering`."""
    table = subparsers.add_parser("table", help="print the results of logs; shards of one eval are one")
    table.add_argument(
        "log", nargs="*", help="log files, or folders of them, such as a sweep's; default the newest in logs/"
    )
    table.add_argument(
        "--csv", type=Path, help="folder to write an introspection log's tables to, confusion matrix too"
    )
    table.set_defaults(run=_table)


def _table(arguments: argparse.Namespace) -> None:
    from self_steering.analysis.report.pooled_logs import newest_logs, pooled_logs

    paths = arguments.log or newest_logs("logs")
    if not paths:
        raise ValueError("no log in logs/; run `inspect eval evals/introspection.py` first, or name a log")
    evals = pooled_logs(paths)
    if arguments.csv is not None:
        _check_csv(evals)
    for one in evals:
        _show(one, arguments.csv)


def _check_csv(evals: "list[PooledLog]") -> None:
    if len(evals) > 1:
        raise ValueError(f"--csv writes the tables of one eval, not of {len(evals)}; name its log, or its shards'")
    log = evals[0].log
    if not _is_introspection(evals[0]):
        raise ValueError(f"--csv writes the tables of an introspection log; {log.location} is of {log.eval.task}")


def _is_introspection(one: "PooledLog") -> bool:
    return one.log.eval.task.rpartition("/")[2] == "introspection"


def _show(one: "PooledLog", csv: Path | None) -> None:
    import pandas as pd

    from self_steering.analysis.introspection.introspection_table import introspection_table, introspection_tables
    from self_steering.analysis.report.metrics_table import metrics_table
    from self_steering.vectors.files import write_file

    print()
    print(introspection_table(one.log) if _is_introspection(one) else metrics_table(one.log))
    if one.note:
        print(f"\nOnly {one.note}.")
    if csv is not None:
        for name, rows in introspection_tables(one.log).items():
            write_file(csv / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    folder = Path(os.path.commonpath([file.parent.resolve() for file in one.files]))
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    print(f"\nRead every transcript:  .venv/bin/inspect view --log-dir {shown}")
