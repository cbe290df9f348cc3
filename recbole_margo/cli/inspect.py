"""`recbole-margo inspect`: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import command_parser, listed_names, run_command

DESCRIPTION = """\
Show what is in a dataset: interactions, degrees, cold items; of every modality coverage, norms,
rank and duplicates; and whether its rows belong to its items. For the last, users get the items
whose content is nearest to that of their training items, and hits among what they took later are
compared with the same after permuting the rows. There are three verdicts: fits, weak but real, and
no sign that they belong. `recbole-margo audit` goes on to single items.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect a dataset; print, and write a page, JSON and a figure.

    Returns:
        The status of `run_command`; 1 with `--strict` when there is no sign that a modality's rows
        belong to their items.
    """
    return run_command(lambda: _inspect(arguments))


def _inspect(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.config import Config
    from recbole_margo.inspection.alignment import Verdict
    from recbole_margo.inspection.dataset_inspection import DatasetInspection
    from recbole_margo.inspection.report import banner, inspection_document, write_inspection
    from recbole_margo.output_folder import make_output_folder
    from recbole_margo.report import terminal_text

    settings = {
        "data_path": str(options.data_path),
        "use_gpu": False,
        "modalities": options.modalities,
        "feature_normalization": "none",
    }
    output = options.output_dir or Path("runs") / f"inspect-{options.dataset}"
    make_output_folder(output, "--output_dir")
    config = Config("BPR", options.dataset, options.config_files.split(), settings)
    inspection = DatasetInspection.of(config)
    write_inspection(output, inspection)
    document = inspection_document(inspection)
    facts = "\n".join(f"{name}: {value}" for name, value in document.facts)
    sys.stdout.write(f"{document.title}\n{facts}\n\n{terminal_text(document.sections)}\n\n")
    sys.stdout.write(f"Report: {output / 'inspection.html'}\n")
    sys.stderr.write(banner(inspection))
    return int(options.strict and bool(inspection.with_verdict(Verdict.NO_SIGN)))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("inspect", DESCRIPTION)
    add = parser.add_argument
    add("--dataset", required=True, help="name of the dataset")
    add(
        "--data_path",
        type=Path,
        default=Path("dataset"),
        metavar="DIR",
        help="folder of all datasets (dataset)",
    )
    add(
        "--modalities",
        type=listed_names,
        metavar="A,B",
        help="modalities to inspect (all that the dataset has)",
    )
    add(
        "--config_files",
        default="",
        help="YAML files of the training, separated by blanks, if they change the splits",
    )
    add("--output_dir", type=Path, metavar="DIR", help="folder of the result (runs/inspect-NAME)")
    add(
        "--strict",
        action="store_true",
        help="exit with 1 when there is no sign that rows belong to their items",
    )
    return parser
