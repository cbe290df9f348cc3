"""`recbole-margo tune`."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from recbole_margo.command_line import command_parser
from recbole_margo.config import Settings
from recbole_margo.errors import ConfigError
from recbole_margo.report import terminal_bold
from recbole_margo.studies.runs.study import add_pool_options, read_seeds
from recbole_margo.studies.tuning.page import tuning_text
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.search import BEST, TUNING, search
from recbole_margo.studies.tuning.trials import import_optuna, shown_url

EXAMPLES = """\
examples:
  recbole-margo tune --trials=20                        all published ranges of MARGO
  recbole-margo tune --over alpha,tau,learning_rate --workers=2 --seeds=3
  recbole-margo tune --model=BPR --over learning_rate --space 'embedding_size=[32, 64, 128]'
  recbole-margo tune --model=FREEDOM --space 'weight_decay=[1e-6, 1e-3, log]' --dataset=baby
  recbole-margo tune --resume=runs/20260101-120000-ml-100k

A space is [low, high, log], [low, high, linear] or a list of values. Every other --key=value is a
setting of all trials, as in `train`. `--seed` seeds the search and the training of every trial.
"""


def tune(arguments: Sequence[str]) -> int:
    """Run `recbole-margo tune` and return its exit status.

    Returns:
        0, or 1 if the final training failed.
    """
    options, rest = _parser().parse_known_args(arguments)
    import_optuna()
    if options.cluster not in (None, "local") and not options.storage:
        raise ConfigError(
            "--cluster needs a storage that all machines of the cluster reach, such as "
            "--storage=postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    decided = ("model", "dataset", "trials", "over", "space", "seeds", "output_dir")
    given = [name for name in (*decided, "config_files") if getattr(options, name)]
    study = replace(TUNING, work=partial(search, url=options.storage))
    folder, found = study.run_command(options, rest, lambda own: _new_plan(options, own), given)
    sys.stdout.write(
        f"{tuning_text(found, bold=terminal_bold())}\n"
        f"Report: {folder / 'tuning.html'}\n"
        f"Train with it: recbole-margo train --model={found.model} --dataset={found.dataset} "
        f"--config_files={folder / BEST}\n"
    )
    return int(found.final is not None and bool(found.final.errors))


def _new_plan(options: argparse.Namespace, settings: Settings) -> TuningPlan:
    over = [key.strip() for key in (options.over or "").split(",") if key.strip()]
    return TuningPlan.make(
        "MARGO" if options.model is None else options.model,
        "ml-100k" if options.dataset is None else options.dataset,
        settings,
        over=over,
        own_space=options.space or (),
        trials=20 if options.trials is None else options.trials,
        seeds=() if options.seeds is None else read_seeds(options.seeds),
        # In a storage for several searches each has a name of its own.
        study=f"tune-{secrets.token_hex(4)}" if options.storage else "tune",
        storage=shown_url(options.storage) if options.storage else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "tune",
        "Search a model's hyper-parameters by their validation score, then train with "
        "the best values and test that once. The test set takes no part in the search.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("--model", help="name of the model (MARGO)")
    add("--dataset", help="name of the dataset (ml-100k)")
    add("--trials", type=int, help="how many trials, pruned and failed ones included (20)")
    add("--over", metavar="KEY,KEY", help="what to search (all that has a published range)")
    add("--space", action="append", metavar="KEY=SPACE", help="a range of your own; repeatable")
    add("--seeds", help="seeds of the final training: how many, or which (the search's)")
    add("--config_files", help="YAML files, separated by blanks")
    add("--output_dir", help="folder of the search (runs/<time>-<dataset>)")
    add("--resume", metavar="DIR", help="search to continue, with --workers, --storage, --cluster")
    add("--storage", metavar="URL", help="database for the trials (a file in the folder)")
    add_pool_options(parser, "trials")
    add("--ray", dest="cluster", help=argparse.SUPPRESS)
    return parser
