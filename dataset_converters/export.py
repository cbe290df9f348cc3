"""`python -m dataset_converters.export --dataset NAME --output DIR`: back to MMRec's layout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_converters.errors import DataError
from dataset_converters.mmrec_export import MMRecExport


def main(
    arguments: Sequence[str] | None = None, program: str = "python -m dataset_converters.export"
) -> int:
    """Export one dataset and print the report.

    Args:
        arguments: the command line without the program's name; None takes that of the process.
        program: what the help calls the command.

    Returns:
        The exit status: 0 when the files are in place, 1 when they cannot be put there.
    """
    parser = argparse.ArgumentParser(program, description=f"Export {MMRecExport.summary}")
    MMRecExport.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    try:
        export = MMRecExport.from_arguments(parsed)
        if parsed.dry_run:
            sys.stdout.write(f"{export.preview()}\nnothing written (--dry-run)\n")
            return 0
        report, changed = export.run(parsed.output, parsed.overwrite)
    except (DataError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    target = parsed.output / parsed.name
    outcome = f"written to {target}" if changed else f"{target} holds this already"
    sys.stdout.write(f"{report}\n{outcome}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
