"""The command `self-steering report`: one page of figures and tables from folders of logs."""
# ruff: noqa: PLC0415  a command prints, and what takes seconds to import is imported by the command that needs it

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from self_steering.analysis.page.page_text import visible

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
    from self_steering.analysis.report.report import make_report
    from self_steering.analysis.report.report_figures import report_figures
    from self_steering.analysis.report.report_folder import PAGE_FILE, check_report_folder, write_report
    from self_steering.analysis.report.runs import read_runs

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
