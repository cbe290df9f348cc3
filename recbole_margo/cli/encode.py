"""`recbole-margo encode`: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from recbole_margo.command_line import add_options, command_parser, from_options, run_command
from recbole_margo.encode.encoding_request import EncodingRequest

EPILOG = """\
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

A run that was interrupted goes on where it stopped when the same command is given again; after a
change of some files only these are encoded. Items that cannot be read miss the modality.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode one modality of one dataset, print the report and return the exit status."""
    return run_command(lambda: _encode(arguments))


def _encode(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # Imported here, because pandas takes a second that --help need not wait for.
    from recbole_margo.encode.encode_modality import encode_modality

    try:
        report = encode_modality(from_options(EncodingRequest, options))
    except KeyboardInterrupt:
        sys.stderr.write("What was encoded is kept: give the same command again\n")
        raise
    folder = options.data_path / options.dataset
    sys.stdout.write(
        f"{report}\nwritten to     {folder}\n"
        f"next           recbole-margo inspect --dataset={options.dataset}, then train with "
        f"--modalities='[..., {options.modality}]'\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "encode",
        "Turn the raw texts, images or sounds of a dataset's items into the feature matrix of one "
        "modality.",
        EPILOG,
    )
    add_options(parser, EncodingRequest)
    return parser
