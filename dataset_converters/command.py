"""How a converter runs from the command line, and how it ends."""

from __future__ import annotations

import argparse
import sys

from dataset_converters.base import Converter
from recbole_margo.errors import DataError
from recbole_margo.store.writing import disk_error


def run_command(kind: type[Converter], parsed: argparse.Namespace) -> int:
    """Run a converter and print its report, or one line that says why it cannot.

    Args:
        kind: the converter.
        parsed: its command line.

    Returns:
        The exit status: 0 when the files are in place, 2 when they cannot be put there.
    """
    try:
        converter = kind.from_arguments(parsed)
        if parsed.dry_run:
            sys.stdout.write(f"{converter.preview()}\nnothing written (--dry-run)\n")
            return 0
        report, changed = converter.run(parsed.output, parsed.overwrite)
    except (DataError, OSError) as error:
        said = disk_error(error, parsed.output) if isinstance(error, OSError) else error
        sys.stderr.write(f"error: {' '.join(str(said).split())}\n")
        return 2
    target = parsed.output / parsed.name
    outcome = f"written to {target}" if changed else f"{target} holds this already"
    sys.stdout.write(f"{report}\n{outcome}\n")
    return 0
