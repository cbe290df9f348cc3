"""`recbole-margo audit` and `reliability`: their options, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import command_parser, listed_names
from recbole_margo.errors import ConfigError

DESCRIPTION = """\
Audit a catalogue: which modality is in trouble as a whole, which items' texts, images, ... do not
fit who uses the items, and what repairing them would change. Needs no trained model and takes
seconds. Writes audit.html, audit.csv and audit.json.
"""
EXAMPLES = """\
examples:
  recbole-margo audit --dataset=ml-100k
  recbole-margo audit --dataset=shop --modalities=image --items=50 --images photos
  recbole-margo audit --run runs/20260101-120000-ml-100k

With --run it shows beside it what a trained MARGO learned: its weights and its evidence of every
item. The run may be a folder of one model, a run of `train`, or a comparison of `compare` or
`ablate`; several seeds are audited together. docs/audit.md explains every number.
"""
LEARNED = """\
Show what a trained MARGO learned about the reliability of each item's modalities, beside the audit
of the catalogue that `recbole-margo audit` makes without a model. Writes audit.html, audit.csv,
audit.json, reliability.json and figures.
"""
LEARNED_EXAMPLES = """\
examples:
  recbole-margo reliability --run runs/20260101-120000-ml-100k
  recbole-margo reliability --run runs/ablation --items 50 --images photos
  recbole-margo reliability --run runs/ablation --label 'w/o nograd' --output_dir nograd

It is `recbole-margo audit --run`. docs/audit.md explains every number.
"""


def audit(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo audit` and return its exit status, which is 0.

    Raises:
        RecBoleMargoError: if the run or the dataset cannot be audited.
        DataError: if the dataset, or the images that were named, are not there.
    """
    parser = command_parser("audit", DESCRIPTION, EXAMPLES)
    add = parser.add_argument
    add("--dataset", help="name of the dataset to audit without a model")
    add("--data_path", type=Path, metavar="DIR", help="folder of all datasets (dataset)")
    add("--modalities", type=listed_names, metavar="A,B", help="which (all of the dataset)")
    add("--config_files", help="YAML files of the training, separated by blanks")
    add("--run", type=Path, metavar="DIR", help="a finished run or comparison with MARGO")
    _add_options(parser)
    options = parser.parse_args(arguments)
    given = [
        name
        for name in ("dataset", "data_path", "modalities", "config_files")
        if getattr(options, name) is not None
    ]
    if options.run and given:
        raise ConfigError(
            f"--run says which data are audited: leave out --{given[0]}, or audit without --run"
        )
    if not options.run and options.dataset is None:
        raise ConfigError("expected --dataset=NAME or --run=DIR, found neither")
    if not options.run and options.label:
        raise ConfigError("--label is of a --run, found none: leave it out")
    return _audit(options)


def reliability(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo reliability` and return its exit status, which is 0; see `audit`."""
    parser = command_parser("reliability", LEARNED, LEARNED_EXAMPLES)
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="a finished run or comparison"
    )
    _add_options(parser)
    return _audit(parser.parse_args(arguments))


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    folder = "where to write (DIR of --run/reliability, or runs/audit-NAME)"
    add("--output_dir", type=Path, metavar="DIR", help=folder)
    add("--label", help="which model of the run, as its tables call it (MARGO)")
    add("--items", type=int, default=20, help="items of each list (20)")
    add("--images", type=Path, help="images named by item in a folder, or a table of their paths")
    add("--min_pairs", type=int, default=5, help="training users an item needs to be ranked (5)")
    add("--negatives", type=int, default=20, help="random items each pair is compared with (20)")
    add("--resamples", type=int, default=1000, help="of an item's users, for intervals (1000)")
    add("--seed", type=int, default=0, help="of sampling and resampling (0)")


def _audit(options: argparse.Namespace) -> int:
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.output_folder import RUNS, make_output_folder
    from recbole_margo.studies.audit.audit import audit_dataset, audit_folder
    from recbole_margo.studies.audit.report import audit_report
    from recbole_margo.studies.audit.result import AuditSettings

    settings = AuditSettings(
        options.items, options.negatives, options.resamples, options.min_pairs, options.seed
    )
    if options.run:
        folder = options.output_dir or options.run / "reliability"
        result = audit_folder(options.run, settings, options.label, options.images)
    else:
        folder = options.output_dir or RUNS / f"audit-{options.dataset}"
        values = {"modalities": options.modalities}
        if options.data_path is not None:
            values["data_path"] = str(options.data_path)
        files = (options.config_files or "").split()
        result = audit_dataset(options.dataset, settings, values, files, options.images)
    report = audit_report(result)
    report.write(make_output_folder(folder))
    return report.show(folder)
