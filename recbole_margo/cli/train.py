"""`recbole-margo train`: its options, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from recbole_margo.cli.models import papers_of_models
from recbole_margo.command_line import comma_separated
from recbole_margo.defaults import parse_settings, refuse_settings

if TYPE_CHECKING:
    from recbole_margo.run_folder import RunResult

EXAMPLES = """\
examples:
  recbole-margo train                                       MARGO on the bundled ml-100k
  recbole-margo train --model=MARGO,DRAGON,LightGCN,BPR     one table of four models
  recbole-margo train --model=all --dataset=baby            ours, RecBole's BPR and LightGCN
  recbole-margo train --dataset=baby --alpha=0.5 --learning_rate=1e-4
  recbole-margo train --modalities='[text]'                 one modality only
  recbole-margo train --resume=runs/20260101-120000-ml-100k continue an interrupted run
  recbole-margo train --nproc=2                             two processes, see docs/distributed.md

Every RecBole key and every hyper-parameter of the models can be given as --key=value; values are
read as YAML. RecBole's own models can be named too: `recbole-margo models --all`.
"""


class _HelpWithModels(argparse.Action):
    """Prints the help and the models with their papers, which takes the seconds of an import."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        print(f"{parser.format_help()}\nmultimodal models:\n{papers_of_models()}")
        parser.exit()


def add_parser(verbs: Any) -> None:
    """Add `train` to the verbs."""
    train: argparse.ArgumentParser = verbs.add_parser(
        "train",
        help="train one or more models on one dataset and compare them",
        description="Train one or more models on one split of a dataset, test each once, and write "
        "a table, a result record, checkpoints and figures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    train.add_argument("-h", "--help", action=_HelpWithModels, nargs=0, help="show this and exit")
    train.add_argument(
        "--model", default="MARGO", help="names, separated by commas, or all (MARGO)"
    )
    train.add_argument("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    train.add_argument("--config_files", default="", help="YAML files, separated by blanks")
    train.add_argument("--output_dir", help="folder of the run (runs/<time>-<dataset>)")
    train.add_argument("--resume", metavar="PATH", help="run folder or ...-last.pth to continue")
    train.set_defaults(run=train_models)


def train_models(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train the models that a command line names, and return the exit status."""
    settings = parse_settings(rest)
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.report import terminal_bold
    from recbole_margo.report.document import table_text
    from recbole_margo.run import continue_run
    from recbole_margo.run_folder import RunOutcome, finished_runs
    from recbole_margo.settings.processes import SWITCHES
    from recbole_margo.studies.comparison import compare
    from recbole_margo.studies.runs.entry import merged_settings
    from recbole_margo.training.processes import leave

    merged = merged_settings(options.config_files.split(), settings)
    switches = {key: settings.pop(key) for key in SWITCHES if options.resume and key in settings}
    if options.resume:
        refuse_settings(settings)

    def plan() -> compare.TrainingPlan:
        models = comma_separated(options.model)
        return compare.plan_training(models, options.dataset, merged)

    if compare.follows(merged):
        if options.resume:
            well = compare.follow_resumed(options.resume, switches)
        else:
            well = compare.follow(plan(), options.output_dir)
        leave()
        return int(not well)
    outcomes: list[RunOutcome]
    if options.resume and Path(options.resume).is_dir():
        outcomes = compare.resume_comparison(options.resume, switches)
    elif options.resume:
        result = continue_run(options.resume, switches)
        outcomes = [] if result is None else [result]
    else:
        outcomes = compare.TRAINING.begin(plan(), options.output_dir)
    leave()
    print(table_text(compare.models_table(outcomes), bold=terminal_bold()))
    for failure in compare.failures(outcomes):
        print(failure)
    finished = finished_runs(outcomes)
    if finished:
        _say_where(finished)
    return int(len(finished) < len(outcomes))


def _say_where(finished: Sequence[RunResult]) -> None:
    from recbole_margo.studies.comparison.compare import models_table, shortfalls
    from recbole_margo.studies.wording import NOT_TESTED, EvaluatedParts

    first, parts = finished[0], EvaluatedParts.of_runs(finished)
    print(
        f"\n{models_table(finished).title}, best in bold; dataset {first.dataset}, evaluation "
        f"protocol {first.eval_protocol}, seed {first.seed}, "
        f"{parts.selection(first.valid_metric)}."
    )
    for shortfall in shortfalls(finished):
        print(shortfall)
    if not parts.test:
        print(f"{NOT_TESTED[0].upper()}{NOT_TESTED[1:]}.")
    print(f"Files: {Path(first.config['checkpoint_dir']).parent}")
