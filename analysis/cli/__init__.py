"""The command `self-steering`."""

import argparse
import sys
from collections.abc import Sequence

from self_steering.analysis.cli.adapter import add_adapter_command
from self_steering.analysis.cli.demo import add_demo_command, add_truth_command
from self_steering.analysis.cli.reports import (
    add_compare_command,
    add_register_command,
    add_report_command,
    add_table_command,
)
from self_steering.analysis.cli.sweep import add_sweep_command
from self_steering.analysis.cli.vectors import (
    add_build_command,
    add_export_command,
    add_import_command,
    add_neutral_command,
    add_stories_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; errors that a user can mend end in one line and exit code 1."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (OSError, ValueError) as error:
        print(f"self-steering: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="self-steering", description="Tools around the self-steering evals.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo_command(commands)
    add_truth_command(commands)
    add_table_command(commands)
    add_report_command(commands)
    add_compare_command(commands)
    add_register_command(commands)
    vectors = commands.add_parser("vectors", help="steering vector libraries").add_subparsers(required=True)
    add_build_command(vectors)
    add_import_command(vectors)
    add_export_command(vectors)
    add_neutral_command(vectors)
    add_stories_command(vectors)
    add_adapter_command(commands)
    add_sweep_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
