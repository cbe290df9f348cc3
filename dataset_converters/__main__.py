"""`python -m dataset_converters CONVERTER ...`: raw data to a dataset folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dataset_converters.amazon import AmazonConverter
from dataset_converters.base import Converter, convert
from dataset_converters.item_lists import LatticeConverter, LightGCNConverter
from dataset_converters.microlens import MicroLensConverter
from dataset_converters.mmrec import MMRecConverter
from dataset_converters.movielens import MovieLensConverter
from dataset_converters.tabular import TabularConverter
from recbole_margo.command_line import CommandParser, run_command

CONVERTERS: tuple[type[Converter], ...] = (
    MMRecConverter,
    AmazonConverter,
    MovieLensConverter,
    MicroLensConverter,
    LightGCNConverter,
    LatticeConverter,
    TabularConverter,
)


def main(
    arguments: Sequence[str] | None = None, program: str = "python -m dataset_converters"
) -> int:
    """Run one converter, print its report and return the status: 0 when the dataset is in place."""

    def command() -> int:
        parsed = _parser(program).parse_args(arguments)
        return convert(parsed.converter, parsed)

    return run_command(command)


def _parser(program: str) -> CommandParser:
    parser = CommandParser(
        program,
        description="Convert raw data to a dataset folder: RecBole's .inter files, one feature "
        "matrix a modality, and the dataset's configuration. Then --dataset=NAME trains on it.",
        epilog=f"Each converter explains its options: {program} CONVERTER --help",
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
