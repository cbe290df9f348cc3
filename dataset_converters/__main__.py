"""`python -m dataset_converters CONVERTER ...`: raw data to a dataset folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_converters.amazon import AmazonConverter
from dataset_converters.base import Converter
from dataset_converters.errors import DataError
from dataset_converters.microlens import MicroLensConverter
from dataset_converters.mmrec import MMRecConverter
from dataset_converters.movielens import MovieLensConverter
from dataset_converters.tabular import TabularConverter

CONVERTERS: tuple[type[Converter], ...] = (
    MMRecConverter,
    AmazonConverter,
    MovieLensConverter,
    MicroLensConverter,
    TabularConverter,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one converter and print its report.

    Args:
        arguments: the command line without the program's name; None takes that of the process.

    Returns:
        The exit status: 0 when the dataset is in place, 1 when it cannot be put there.
    """
    parsed = _parser().parse_args(arguments)
    try:
        converter = parsed.converter.from_arguments(parsed)
        if parsed.dry_run:
            sys.stdout.write(f"{converter.preview()}\nnothing written (--dry-run)\n")
            return 0
        report, changed = converter.run(parsed.output, parsed.overwrite)
    except (DataError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    target = parsed.output / parsed.name
    outcome = f"written to {target}" if changed else f"{target} holds this already"
    sys.stdout.write(f"{report}\n{outcome}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dataset_converters",
        description="Convert raw data to a dataset folder: RecBole's .inter files, one feature "
        "matrix a modality, and the dataset's configuration. Then --dataset=NAME trains on it.",
        epilog="Each converter explains its options: python -m dataset_converters CONVERTER --help",
    )
    commands = parser.add_subparsers(
        title="converters", metavar="CONVERTER", dest="command", required=True
    )
    for converter in CONVERTERS:
        command = commands.add_parser(
            converter.command, help=converter.summary, description=converter.summary
        )
        command.set_defaults(converter=converter)
        converter.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
