"""`recbole-margo inspect`: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import command_parser, run_command
from recbole_margo.store.writing import replacing

DESCRIPTION = """\
Show what is in a dataset: interactions, degrees, cold items; of every modality coverage, norms,
rank and duplicates; and whether its rows belong to its items. For the last, users get the items
whose content is nearest to that of their training items, and Recall@20 on the validation split is
compared with the same after shuffling the rows. Rows of other items score as if shuffled.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect a dataset; print, and write JSON and a figure.

    Args:
        arguments: the words after `inspect`; None takes those of the process.

    Returns:
        0; 1 with `--strict` when a modality does not seem to belong to the items; 2 on bad input;
        more in `run_command`.
    """
    return run_command(lambda: _inspect(arguments))


def _inspect(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.config import Config
    from recbole_margo.inspection.dataset_inspection import DatasetInspection
    from recbole_margo.inspection.figures import draw_dataset
    from recbole_margo.output_folder import make_output_folder

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
    with replacing(output / "inspection.json") as temporary:
        content = json.dumps(inspection.to_json(), indent=2, ensure_ascii=False)
        temporary.write_text(f"{content}\n", encoding="utf-8")
    with replacing(output / "inspection.png") as temporary:
        draw_dataset(temporary, inspection.figure)
    sys.stdout.write(f"{inspection}\n\n")
    for warning in inspection.warnings:
        sys.stdout.write(f"warning: {warning}\n")
    sys.stdout.write(f"written to {output}: inspection.json, inspection.png\n")
    if inspection.misaligned:
        line = f"rows and items do not belong together: {', '.join(inspection.misaligned)}"
        sys.stderr.write(f"\n{'!' * (len(line) + 6)}\n!! {line} !!\n{'!' * (len(line) + 6)}\n")
    return int(options.strict and bool(inspection.misaligned))


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
        type=lambda text: text.split(","),
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
        help="exit with 1 when rows and items do not seem to belong together",
    )
    return parser
