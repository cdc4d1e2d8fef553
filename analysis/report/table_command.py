"""The command `self-steering table`: the result of one log as text."""
# ruff: noqa: PLC0415  a command prints, and what takes seconds to import is imported by the command that needs it

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog


def add_table_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `table` to those of `self-steering`."""
    table = subparsers.add_parser("table", help="print the result of a log")
    table.add_argument("log", nargs="?", help="log file; default the newest in logs/")
    table.add_argument(
        "--csv", type=Path, help="folder to write an introspection log's tables to, confusion matrix too"
    )
    table.set_defaults(run=_table)


def _table(arguments: argparse.Namespace) -> None:
    import pandas as pd
    from inspect_ai.log import list_eval_logs

    from self_steering.analysis.introspection.introspection_table import introspection_table, introspection_tables
    from self_steering.analysis.report.metrics_table import metrics_table
    from self_steering.vectors.files import write_file

    found = arguments.log or next((info.name for info in list_eval_logs("logs")), None)
    if found is None:
        raise ValueError("no log in logs/; run `inspect eval evals/introspection.py` first, or name a log")
    log = _read(found)
    own = log.eval.task.rpartition("/")[2] == "introspection"
    if arguments.csv is not None and not own:
        raise ValueError(f"--csv writes the tables of an introspection log; {log.location} is of {log.eval.task}")
    print()
    print(introspection_table(log) if own else metrics_table(log))
    if arguments.csv is not None:
        for name, rows in introspection_tables(log).items():
            write_file(arguments.csv / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    folder = Path(unquote(log.location.removeprefix("file://"))).parent
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    print(f"\nRead every transcript:  .venv/bin/inspect view --log-dir {shown}")


def _read(name: str) -> "EvalLog":
    """Return a log.

    Raises:
        LogError: It is none, or it cannot be read.
    """
    from inspect_ai.log import read_eval_log

    from self_steering.analysis.tables.log_files import LogError, check_depth

    path = Path(unquote(name.removeprefix("file://")))
    if not path.is_file():
        raise LogError(f"{path} is no log file; name one, such as logs/….eval")
    try:
        check_depth(path)
        return read_eval_log(name)
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise LogError(
            f"{path} is no Inspect log, cut off, or broken ({said}); name another, or run the eval again"
        ) from error
