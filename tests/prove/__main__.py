"""`make prove`: runs every part of the proof, and prints what held and what did not."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

from self_steering.analysis.drawing.words import text_table
from tests.prove import faults, hostile, plans, soak, torn
from tests.prove.outcome import Outcome

PARTS = ("plans", "hostile", "torn", "faults")
ALONE = ("soak",)  # too long to be a part of all
_SHOWN = 20  # failures that are told in full
_FAILED = 1


def main() -> int:
    """Run the parts; the exit code is 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description="Prove what the README promises.")
    parser.add_argument("--only", choices=(*PARTS, *ALONE), action="append", help="one part; may be given again")
    parser.add_argument("--plans", type=int, default=10_000, help="how many random plans (default: 10,000)")
    parser.add_argument("--samples", type=int, default=2_000, help="how many samples to soak (default: 2,000)")
    parser.add_argument("--seed", type=int, default=0, help="all that is random follows from it (default: 0)")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[int], Outcome]] = {
        "plans": partial(plans.run, arguments.plans),
        "hostile": hostile.run,
        "torn": torn.run,
        "faults": faults.run,
        "soak": partial(soak.run, arguments.samples),
    }
    rows, failures = [], []
    for name in arguments.only or PARTS:
        started = time.monotonic()
        found = parts[name](arguments.seed)
        failed = min(len(found.failures), found.cases)
        held, seconds = found.cases - failed, f"{time.monotonic() - started:.0f}"
        told = {
            "part": found.part,
            "cases": f"{found.cases:,}",
            "held": f"{held:,}",
            "failed": str(failed),
            "seconds": seconds,
        }
        rows.append(told)
        failures += [f"{found.part}: {failure}" for failure in found.failures]
        sys.stdout.write(f"{found.part}: {held:,} of {found.cases:,} held, {seconds} s\n")
    sys.stdout.write("\n" + text_table(rows) + "\n")
    for failure in failures[:_SHOWN]:
        sys.stdout.write(f"\n{failure}\n")
    if len(failures) > _SHOWN:
        sys.stdout.write(f"\nand {len(failures) - _SHOWN} more\n")
    return _FAILED if failures else 0


if __name__ == "__main__":
    sys.exit(main())
