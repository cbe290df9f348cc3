"""`recbole-margo reliability`: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import command_parser

DESCRIPTION = """\
Show what a trained MARGO learned about the reliability of each item's modalities, and audit the
catalogue: which items' texts, images, ... explain the least of what their users did, how sure that
is, and by which evidence. Writes audit.html, audit.csv, reliability.json and figures.
"""
EXAMPLES = """\
examples:
  recbole-margo reliability --run runs/20260101-120000-ml-100k
  recbole-margo reliability --run runs/ablation --items 50 --images photos
  recbole-margo reliability --run runs/ablation --label 'w/o nograd' --output_dir nograd

The run may be a folder of one model, a run of `train`, or a comparison of `compare` or `ablate`;
several seeds are audited together. docs/audit.md explains every number.
"""
PRINTED = 10


def reliability(arguments: Sequence[str] | None = None) -> int:
    """Run `recbole-margo reliability` and return its exit status.

    Args:
        arguments: the words after the verb.

    Returns:
        0.

    Raises:
        RecBoleMargoError: if the run cannot be audited.
        DataError: if the images that were named are not there.
    """
    options = _parser().parse_args(arguments)
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.report.table import table_text
    from recbole_margo.studies.audit.report import audit_folder
    from recbole_margo.studies.audit.result import AuditSettings
    from recbole_margo.studies.audit.tables import (
        catalogue_table,
        least_reliable_table,
        relations_table,
        stability_table,
        weights_table,
    )

    settings = AuditSettings(
        options.items, options.negatives, options.resamples, options.min_pairs, options.seed
    )
    folder = options.output_dir or options.run / "reliability"
    result = audit_folder(options.run, folder, settings, options.label, options.images)
    tables = [weights_table(result.statistics), relations_table(result.relations)]
    tables += [stability_table(result.stability)] if result.stability else []
    tables.append(catalogue_table(result))
    tables += [least_reliable_table(part, PRINTED) for part in result.modalities]
    for table in tables:
        rows = table_text(table) if table.rows else "no item can be ranked"
        sys.stdout.write(f"{table.title}\n\n{rows}\n\n")
    sys.stdout.write(f"Report: {folder / 'audit.html'}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("reliability", DESCRIPTION, EXAMPLES)
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="a finished run or comparison")
    add("--output_dir", type=Path, metavar="DIR", help="where to write (DIR of --run/reliability)")
    add("--label", help="which model of the run, as its tables call it (MARGO)")
    add("--items", type=int, default=20, help="items of each list (20)")
    add("--images", type=Path, help="images named by item in a folder, or a table of their paths")
    add("--min_pairs", type=int, default=5, help="training users an item needs to be ranked (5)")
    add("--negatives", type=int, default=20, help="random items each pair is compared with (20)")
    add("--resamples", type=int, default=1000, help="of an item's users, for intervals (1000)")
    add("--seed", type=int, default=0, help="of sampling and resampling (0)")
    return parser
