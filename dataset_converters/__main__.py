"""`python -m dataset_converters CONVERTER ...`: raw data to a dataset folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_converters.amazon import AmazonConverter
from dataset_converters.base import Converter
from dataset_converters.command import run_command
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
        The exit status: 0 when the dataset is in place, 2 when it cannot be put there.
    """
    parsed = _parser().parse_args(arguments)
    return run_command(parsed.converter, parsed)


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
