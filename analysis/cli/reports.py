"""The command `self-steering table`: the results of logs as text."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from self_steering.analysis.drawing.words import visible

if TYPE_CHECKING:
    from self_steering.analysis.report.terminal import PooledLog


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


if TYPE_CHECKING:
    from self_steering.analysis.report.report import Report

_SHOWN = 20  # files left out that are told by name


class ReportError(ValueError):
    """A report that is not what was asked for; the message says what is wrong with it."""


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

    check_report_folder(arguments.out)
    with _bars() as bar:
        runs = read_runs(arguments.logs, progress=bar("reading logs"))
        report = make_report(runs, report_figures(arguments.logs), progress=bar("drawing"))
    write_report(arguments.out, report.files)
    _tell(report, arguments.out / PAGE_FILE)
    if report.failed:
        names = "; ".join(f"{figure.name} ({figure.error}; {figure.place})" for figure in report.failed)
        raise ReportError(f"{len(report.failed)} figures could not be drawn, and stand as failed on the page: {names}")


@contextmanager
def _bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Give a function that ends the progress bar there is, starts one of a title, and returns what moves it."""
    bars: list[tqdm[NoReturn]] = []

    def start(title: str) -> Callable[[int, int], None]:
        for bar in bars:
            bar.close()
        bars.append(new := tqdm(desc=visible(title, kept="")))

        def move(done: int, total: int) -> None:
            new.total = total
            new.update(done - new.n)

        return move

    try:
        yield start
    finally:
        for bar in bars:
            bar.close()


def _tell(report: "Report", page: Path) -> None:
    tables = report.tables
    print(
        f"{len(report.drawn)} figures from {len(tables.logs):,} logs ({len(tables.rollouts):,} rollouts); open {page}"
    )
    left_out = tables.left_out.sort_values("log", kind="stable")
    if len(left_out):
        print(f"left out {len(left_out)} files:")
    for log, reason in zip(left_out["log"][:_SHOWN], left_out["reason"], strict=False):
        print(f"  {visible(str(log), kept='')}: {visible(' '.join(str(reason).split()), kept='')}")
    if len(left_out) > _SHOWN:
        print(f"  and {len(left_out) - _SHOWN} more, which the page lists")
