"""The introspection result of one log as a small table: `python -m self_steering.analysis.introspection_table LOG`.

Every number is a metric of the log; nothing is computed here.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

from inspect_ai.log import EvalLog, EvalSample, list_eval_logs, read_eval_log

from self_steering.solvers.introspect import Arm

_COLUMNS = ("arm", "n", "cached", "uncached", "gap", "95 % interval", "letter mass", "clean receipts")


def arm_rows(log: EvalLog) -> list[dict[str, str]]:
    """Return one row an arm.

    Raises:
        ValueError: The log is no finished introspection log.
    """
    if log.status != "success" or log.results is None:
        raise ValueError(f"{log.location} is not finished (status {log.status}); finish it with `inspect eval-retry`")
    # By the metric's own name: the keys carry a package prefix that depends on how the package is installed.
    values = {
        (score.name, metric.name): metric.value for score in log.results.scores for metric in score.metrics.values()
    }
    asked = [s for s in log.samples or [] if s.metadata.get("arm") in get_args(Arm)]
    if not asked or not any(name == "gap" for name, _ in values):
        raise ValueError(f"{log.location} is not an introspection log (task {log.eval.task})")
    arms = [arm for arm in get_args(Arm) if any(s.metadata["arm"] == arm for s in asked)]
    unscored = [arm for arm in arms if ("gap", arm) not in values]
    if unscored:
        raise ValueError(f"{log.location} has no score in the arms {', '.join(unscored)}; read their samples' errors")
    samples = [s.metadata["arm"] for s in asked if _is_scored(s)]
    rows = []
    for arm in arms:
        low, high = values.get(("gap", f"{arm}_lower")), values.get(("gap", f"{arm}_upper"))
        rows.append(
            {
                "arm": arm,
                "n": str(samples.count(arm)),
                "cached": f"{values['cached', arm]:.4f}",
                "uncached": f"{values['uncached', arm]:.4f}",
                "gap": f"{values['gap', arm]:+.4f}",
                "95 % interval": "one cluster" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]",
                "letter mass": f"{values['letter_mass', arm]:.3f}",
                "clean receipts": f"{values['clean_receipt', arm]:.0%}",
            }
        )
    return rows


def _is_scored(sample: EvalSample) -> bool:
    return any(isinstance(score.value, dict) for score in (sample.scores or {}).values())


def format_table(rows: list[dict[str, str]]) -> str:
    """Return rows as aligned text."""
    widths = [max(len(column), *(len(row[column]) for row in rows)) for column in _COLUMNS]
    lines = [_COLUMNS, tuple("-" * width for width in widths), *(tuple(row[c] for c in _COLUMNS) for row in rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> int:
    """Print the table of a log, by default the newest in `logs/`."""
    parser = argparse.ArgumentParser(description="Print the introspection result of a log.")
    parser.add_argument("log", nargs="?", help="log file; default the newest in logs/")
    arguments = parser.parse_args()
    try:
        found = arguments.log or next((info.name for info in list_eval_logs("logs")), None)
        if found is None:
            raise ValueError("no log in logs/; run `inspect eval evals/introspection.py` first")
        log = read_eval_log(found)
        table = format_table(arm_rows(log))
    except (OSError, ValueError) as error:
        print(f"introspection table: {error}", file=sys.stderr)
        return 1
    samples = log.samples or []
    options = len(samples[0].metadata["options"])
    print(
        f"\nIntrospection, {log.eval.model}: probability of the true option among {options} (chance {1 / options:.2f})\n"
    )
    print(table)
    print(
        "\ngap = cached - uncached; interval clustered by vector; letter mass over the full vocabulary, cached reading"
    )
    folder = Path(unquote(log.location.removeprefix("file://"))).parent
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    print(f"\nRead every transcript:  .venv/bin/inspect view --log-dir {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
