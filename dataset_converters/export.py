"""`python -m dataset_converters.export --dataset NAME --output DIR`: back to MMRec's layout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_converters.command import run_command
from dataset_converters.mmrec_export import MMRecExport


def main(
    arguments: Sequence[str] | None = None, program: str = "python -m dataset_converters.export"
) -> int:
    """Export one dataset and print the report.

    Args:
        arguments: the command line without the program's name; None takes that of the process.
        program: what the help calls the command.

    Returns:
        The exit status: 0 when the files are in place, 2 when they cannot be put there.
    """
    parser = argparse.ArgumentParser(program, description=f"Export {MMRecExport.summary}")
    MMRecExport.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    return run_command(MMRecExport, parsed)


if __name__ == "__main__":
    sys.exit(main())
