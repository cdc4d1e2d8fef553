"""The command `self-steering table`: the result of one log as text."""
# ruff: noqa: PLC0415  a command prints, and what takes seconds to import is imported by the command that needs it

import argparse
from pathlib import Path
from urllib.parse import unquote


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
    from inspect_ai.log import list_eval_logs, read_eval_log

    from self_steering.analysis.introspection.introspection_table import introspection_table, introspection_tables
    from self_steering.analysis.report.metrics_table import metrics_table

    found = arguments.log or next((info.name for info in list_eval_logs("logs")), None)
    if found is None:
        raise ValueError("no log in logs/; run `inspect eval evals/introspection.py` first, or name a log")
    log = read_eval_log(found)
    own = log.eval.task.rpartition("/")[2] == "introspection"
    if arguments.csv is not None and not own:
        raise ValueError(f"--csv writes the tables of an introspection log; {log.location} is of {log.eval.task}")
    print()
    print(introspection_table(log) if own else metrics_table(log))
    if arguments.csv is not None:
        arguments.csv.mkdir(parents=True, exist_ok=True)
        for name, rows in introspection_tables(log).items():
            pd.DataFrame(rows).to_csv(arguments.csv / f"{name}.csv", index=False)
    folder = Path(unquote(log.location.removeprefix("file://"))).parent
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    print(f"\nRead every transcript:  .venv/bin/inspect view --log-dir {shown}")
