"""The commands `self-steering table`, `report` and `compare`: the results of logs as text, and as pages."""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from self_steering.analysis.cli.console import Bars
from self_steering.analysis.drawing.words import visible

if TYPE_CHECKING:
    from self_steering.analysis.report.report import Report
    from self_steering.analysis.report.terminal import PooledLog

_LEFT_OUT_SHOWN = 20  # files left out that are named


class ReportError(ValueError):
    """A report that is not what was asked for; the message says what is wrong with it."""


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
    from self_steering.analysis.report.terminal import newest_logs, pooled_logs

    paths = arguments.log or newest_logs("logs")
    if not paths:
        raise ValueError("no log in logs/; run `inspect eval evals/introspection.py` first, or name a log")
    evals = pooled_logs(paths)
    if arguments.csv is not None:
        _check_csv(evals)
    for one in evals:
        _print_table(one, arguments.csv)


def _check_csv(evals: "list[PooledLog]") -> None:
    if len(evals) > 1:
        raise ValueError(f"--csv writes the tables of one eval, not of {len(evals)}; name its log, or its shards'")
    log = evals[0].log
    if not _is_introspection(evals[0]):
        raise ValueError(f"--csv writes the tables of an introspection log; {log.location} is of {log.eval.task}")


def _is_introspection(one: "PooledLog") -> bool:
    return one.log.eval.task.rpartition("/")[2] == "introspection"


def _print_table(one: "PooledLog", csv: Path | None) -> None:
    import pandas as pd

    from self_steering.analysis.introspection.introspection_table import introspection_table, introspection_tables
    from self_steering.analysis.report.terminal import metrics_table
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


def add_report_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `report` to those of `self-steering`."""
    report = subparsers.add_parser("report", help="figures and tables of a folder of logs, as one HTML page")
    report.add_argument(
        "logs", nargs="*", default=["logs"], help="folders of logs, or log files; default logs/. Two are compared"
    )
    report.add_argument(
        "--out",
        type=Path,
        default=Path("report"),
        help="folder of the report; default report/. An earlier one is replaced",
    )
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> None:
    from self_steering.analysis.report.figures import report_figures
    from self_steering.analysis.report.files import PAGE_FILE, check_report_folder, write_report
    from self_steering.analysis.report.report import make_report, read_runs
    from self_steering.analysis.report.side_by_side import pairs_to_show

    check_report_folder(arguments.out)
    with Bars() as bars:
        runs = read_runs(arguments.logs, progress=partial(bars.show, "reading logs"))
        report = make_report(
            runs,
            report_figures(arguments.logs),
            progress=partial(bars.show, "drawing"),
            pairs=pairs_to_show(arguments.logs, runs.tables),
        )
    write_report(arguments.out, report.files)
    _print_report(report, arguments.out / PAGE_FILE)
    if report.failed:
        names = "; ".join(f"{figure.name} ({figure.error}; {figure.place})" for figure in report.failed)
        raise ReportError(f"{len(report.failed)} figures could not be drawn, and stand as failed on the page: {names}")


def _print_report(report: "Report", page: Path) -> None:
    tables = report.tables
    print(
        f"{len(report.drawn)} figures from {len(tables.logs):,} logs ({len(tables.rollouts):,} rollouts); open {page}"
    )
    left_out = tables.left_out.sort_values("log", kind="stable")
    if len(left_out):
        print(f"left out {len(left_out)} files:")
    for log, reason in zip(left_out["log"][:_LEFT_OUT_SHOWN], left_out["reason"], strict=False):
        print(f"  {visible(str(log), kept='')}: {visible(' '.join(str(reason).split()), kept='')}")
    if len(left_out) > _LEFT_OUT_SHOWN:
        print(f"  and {len(left_out) - _LEFT_OUT_SHOWN} more, which the page lists")


def add_register_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `register` to those of `self-steering`."""
    register = subparsers.add_parser(
        "register", help="write the evaluation reports of the entries for inspect_evals' register from logs"
    )
    register.add_argument("log", nargs="+", help="log files, or folders of them: of each task one log a model")
    register.add_argument(
        "--entries", type=Path, default=Path("register"), help="folder of the entries (default: register)"
    )
    register.set_defaults(run=_register)


def _register(arguments: argparse.Namespace) -> None:
    from self_steering.analysis.report.register import write_reports

    for path in write_reports(arguments.log, arguments.entries):
        print(path)


def add_compare_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `compare` to those of `self-steering`."""
    compare = subparsers.add_parser("compare", help="rollouts of one seed side by side, real beside its controls")
    compare.add_argument("log", nargs="*", default=["logs"], help="log files, or folders of them; default logs/")
    compare.add_argument("--out", type=Path, default=Path("compare.html"), help="the page; default compare.html")
    compare.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    from self_steering.analysis.report.side_by_side import read_pairs, side_by_side
    from self_steering.vectors.files import write_file

    if arguments.out.is_dir():
        raise ReportError(f"{arguments.out} is a folder; name a file such as compare.html")
    pairs = read_pairs(arguments.log)
    write_file(arguments.out, side_by_side(pairs).encode())
    parted = sum(pair.differs is not None for pair in pairs)
    print(f"{len(pairs)} seeds in two arms or more, {parted} of which part; open {arguments.out}")
