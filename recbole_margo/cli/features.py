"""`recbole-margo encode` and `inspect`: features of a dataset's items, made and looked at."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import (
    add_options,
    command_parser,
    from_options,
    listed_names,
)
from recbole_margo.encode.encoding_request import EncodingRequest

ENCODERS_AND_SOURCES = """\
encoders:
  tfidf            texts: TF-IDF and truncated SVD; needs no download (the default for text)
  color-texture    images: colour and texture histograms; needs no download (the default for image)
  NAME or FOLDER   a pretrained model, by its name on the Hugging Face hub or its folder:
                   text   sentence-transformers, such as sentence-transformers/all-MiniLM-L6-v2
                   image  transformers, such as openai/clip-vit-base-patch32,
                          google/siglip-base-patch16-224, facebook/dinov2-base
                   audio  transformers, such as laion/clap-htsat-unfused

sources:
  a folder of files named by item (42.jpg, 42.txt), or a table (csv, tsv, JSON lines, parquet) with
  item ids and texts, or item ids and file names. Without --source: NAME.texts.tsv or
  NAME.images.tsv that the converter left in the dataset's folder, or for texts RecBole's NAME.item.

examples:
  recbole-margo encode --dataset shop --modality image --source photos/
  recbole-margo encode --dataset shop --modality text --encoder models/all-MiniLM-L6-v2
  recbole-margo encode --dataset ml-100k --modality titles --kind text --text_columns movie_title
  recbole-margo encode --dataset shop --modality text --source new.csv --output_dir arrivals

New items are encoded with --output_dir by what made the dataset's own features: the TF-IDF that
was fitted to its texts (NAME.MODALITY.tfidf.npz), the histograms, or the same model. `add_items`
refuses features of anything else.

A run that was interrupted goes on where it stopped when the same command is given again; after a
change of some files only these are encoded. Items that cannot be read miss the modality.
"""
INSPECT = """\
Show what is in a dataset: interactions, degrees, cold items; of every modality coverage, norms,
rank and duplicates; and whether its rows belong to its items. For the last, users get the items
whose content is nearest to that of their training items, and hits among what they took later are
compared with the same after permuting the rows. There are three verdicts: fits, weak but real, and
no sign that they belong. `recbole-margo audit` goes on to single items.
"""


def encode(arguments: Sequence[str] | None = None) -> int:
    """Encode one modality of one dataset, print the report and return 0."""
    parser = command_parser(
        "encode",
        "Turn the raw texts, images or sounds of a dataset's items into the feature matrix of one "
        "modality.",
        ENCODERS_AND_SOURCES,
    )
    add_options(parser, EncodingRequest)
    options = parser.parse_args(arguments)
    # Imported here, because pandas takes a second that --help need not wait for.
    from recbole_margo.encode.encode_modality import encode_modality

    try:
        report = encode_modality(from_options(EncodingRequest, options))
    except KeyboardInterrupt:
        sys.stderr.write("What was encoded is kept: give the same command again\n")
        raise
    if options.output_dir is not None:
        sys.stdout.write(
            f"{report}\nwritten to     {options.output_dir}\n"
            f"next           recbole-margo add_items --bundle BUNDLE --features "
            f"{options.output_dir} --output_dir NEW\n"
        )
        return 0
    folder = options.data_path / options.dataset
    sys.stdout.write(
        f"{report}\nwritten to     {folder}\n"
        f"next           recbole-margo inspect --dataset={options.dataset}, then train with "
        f"--modalities='[..., {options.modality}]'\n"
    )
    return 0


def inspect(arguments: Sequence[str] | None = None) -> int:
    """Inspect a dataset; print, and write a page, JSON and a figure.

    Returns:
        0; 1 with `--strict` when there is no sign that a modality's rows belong to their items.
    """
    options = _inspect_parser().parse_args(arguments)
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
    if options.output_dir:  # a wrong one is told before the work
        make_output_folder(output)
    config = Config("BPR", options.dataset, options.config_files.split(), settings)
    inspection = DatasetInspection.of(config)
    write_inspection(make_output_folder(output), inspection)
    document = inspection_document(inspection)
    facts = "\n".join(f"{name}: {value}" for name, value in document.facts)
    sys.stdout.write(f"{document.title}\n{facts}\n\n{terminal_text(document.sections)}\n\n")
    sys.stdout.write(f"Report: {output / 'inspection.html'}\n")
    sys.stderr.write(banner(inspection))
    return int(options.strict and bool(inspection.with_verdict(Verdict.NO_SIGN)))


def _inspect_parser() -> argparse.ArgumentParser:
    parser = command_parser("inspect", INSPECT)
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
