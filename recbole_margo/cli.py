"""The command line: `recbole-margo VERB`."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from recbole_margo.command_line import CommandParser, let_sigterm_interrupt, run_command
from recbole_margo.defaults import parse_settings, refuse_settings
from recbole_margo.errors import ConfigError

# Verbs that read their own options, imported when they are called.
VERBS_WITH_A_MODULE = {
    "compare": (
        "recbole_margo.studies.comparison.command:compare",
        "train models with several seeds on one split, with paired tests over users",
    ),
    "ablate": (
        "recbole_margo.studies.comparison.command:ablate",
        "compare MARGO with its ablations",
    ),
    "convert": ("dataset_converters.__main__:main", "make a dataset folder from raw data"),
    "encode": ("recbole_margo.encode:main", "turn texts, images or sounds into features"),
    "export": ("dataset_converters.export:main", "write a dataset in MMRec's layout"),
    "inspect": ("recbole_margo.inspection:main", "look whether a dataset's features fit its items"),
    "sweep": (
        "recbole_margo.studies.sweep.command:sweep",
        "draw a model's quality over the values of its hyper-parameters",
    ),
    "tune": (
        "recbole_margo.studies.tuning.command:tune",
        "search a model's hyper-parameters on validation, test once at the end",
    ),
    "reliability": (
        "recbole_margo.studies.audit.command:reliability",
        "show which items' modalities a trained MARGO does not trust, and why",
    ),
    "agreement": (
        "recbole_margo.studies.agreement.command:agreement",
        "measure whether the losses of MARGO's second stage pull its weights the same way",
    ),
    "bundle": (
        "recbole_margo.serving.command:bundle",
        "write what serving needs of a trained model into a folder of plain tables",
    ),
    "recommend": (
        "recbole_margo.serving.command:recommend",
        "recommend items to users of a trained model, or to a new user",
    ),
    "explain": (
        "recbole_margo.serving.command:explain",
        "split the score of an item for a user into parts that add up to it",
    ),
    "robustness": (
        "recbole_margo.studies.robustness.command:robustness",
        "corrupt some items' features and see what is lost, and whether the weights tell",
    ),
}
# They take --workers, and none trains one model in several processes.
VERBS_OF_MANY_RUNS = ("compare", "ablate", "sweep", "tune", "robustness")
MODELS_LEGEND = """
negatives  whether training samples items that a user does not know
item ids   whether an item has an embedding of its own beside its content
features   whether the raw features are trained too, by default (`train_features`)"""
TRAIN_EXAMPLES = """\
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: the words after the program's name; none: those of this process.

    Returns:
        0 on success, 1 if a model failed, 2 on bad input; more in `run_command`.
    """

    def command() -> int:
        known, rest = _parser().parse_known_args(arguments)
        status: int = known.run(known, rest)
        return status

    let_sigterm_interrupt()
    return run_command(command)


class _HelpWithModels(argparse.Action):
    """Prints the help and the models with their papers, which takes the seconds of an import."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        print(f"{parser.format_help()}\nmultimodal models:\n{_model_lines()}")
        parser.exit()


def _model_lines() -> str:
    from recbole_margo.registry import multimodal_models

    lines = []
    for entry in multimodal_models().values():
        paper = _paper_of(entry)
        lines.append(
            f"  {entry.name:<8} {paper}"
            if isinstance(paper, str)
            else f"  {entry.name:<8} {paper.title}\n           {paper.authors}; {paper.venue} "
            f"{paper.year}, {paper.link}"
        )
    return "\n".join(lines)


def _paper_of(entry: Any) -> Any:
    """Return the paper of a model, or what there is to say instead."""
    try:
        paper = getattr(entry.load(), "paper", None)
    except ConfigError as error:  # one distribution's fault does not hide the others
        return str(error)
    return paper or f"a model of {entry.source}, without a paper"


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "recbole-margo", description="Multimodal recommendation in RecBole.", allow_abbrev=False
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    train = verbs.add_parser(
        "train",
        help="train one or more models on one dataset and compare them",
        description="Train one or more models on one split of a dataset, test each once, and write "
        "a table, a result record, checkpoints and figures.",
        epilog=TRAIN_EXAMPLES,
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
    train.set_defaults(run=_train)
    models = verbs.add_parser(
        "models",
        help="list all models, or say all about one",
        description="List the models, or show formula, paper, departures and keys of one.",
        allow_abbrev=False,
    )
    models.add_argument("name", nargs="?", help="a multimodal model to say all about")
    models.add_argument("--all", action="store_true", help="RecBole's own models too")
    models.set_defaults(run=_models)
    for verb, (_, summary) in VERBS_WITH_A_MODULE.items():
        verbs.add_parser(verb, help=summary, add_help=False).set_defaults(run=_delegate, verb=verb)
    return parser


def _train(options: argparse.Namespace, rest: Sequence[str]) -> int:
    settings = parse_settings(rest)
    # Imported here, because torch and RecBole take seconds that --help need not wait for.
    from recbole_margo.report.tables import comparison_table, failures, terminal_bold
    from recbole_margo.run import resume_run
    from recbole_margo.studies.comparison.compare import compare, resume_comparison
    from recbole_margo.studies.runs.entry import merged_settings
    from recbole_margo.studies.runs.follow import follow, follow_resumed, follows
    from recbole_margo.training.launch import SWITCHES
    from recbole_margo.training.processes import leave

    models = [name.strip() for name in options.model.split(",") if name.strip()]
    merged = merged_settings(options.config_files.split(), settings)
    switches = {key: settings.pop(key) for key in SWITCHES if options.resume and key in settings}
    if options.resume:
        refuse_settings(settings)
    if follows(merged):
        if options.resume:
            well = follow_resumed(options.resume, switches)
        else:
            well = follow(models, options.dataset, merged, options.output_dir)
        leave()
        return int(not well)
    if options.resume and Path(options.resume).is_dir():
        records = resume_comparison(options.resume, switches)
    elif options.resume:
        records = [resume_run(options.resume, switches)]
    else:
        records = compare(models, options.dataset, [], merged, options.output_dir)
    leave()
    print(comparison_table(records, style="simple", bold=terminal_bold()))
    for failure in failures(records):
        print(failure)
    _say_where(records)
    return int(any(record["status"] != "finished" for record in records))


def _say_where(records: Sequence[dict[str, Any]]) -> None:
    from recbole_margo.report.evaluated_parts import NOT_TESTED, EvaluatedParts
    from recbole_margo.report.tables import shown_metrics

    for record in records:
        if record["status"] == "finished":
            parts, metrics = EvaluatedParts.of_records(records), shown_metrics(records)
            print(
                f"\n{metrics[0].upper()}{metrics[1:]}, best in bold; dataset {record['dataset']}, "
                f"evaluation protocol {record['eval_protocol']}, seed {record['seed']}, "
                f"{parts.selection(record['valid_metric'])}."
            )
            if not parts.test:
                print(f"{NOT_TESTED[0].upper()}{NOT_TESTED[1:]}.")
            print(f"Files: {Path(record['config']['checkpoint_dir']).parent}")
            return


def _delegate(options: argparse.Namespace, rest: Sequence[str]) -> int:
    if options.verb in VERBS_OF_MANY_RUNS:
        _refuse_processes(options.verb, rest)
    module, _, function = VERBS_WITH_A_MODULE[options.verb][0].partition(":")
    status: int = getattr(importlib.import_module(module), function)(rest)
    return status


def _refuse_processes(verb: str, words: Sequence[str]) -> None:
    """Refuse several processes for one run where there are many runs to share the cores."""
    named = [word for word in words if word.partition("=")[0] in ("--nproc", "--world_size")]
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1"
    if named or torchrun:
        raise ConfigError(
            f"`{verb}` trains many runs, each in one process: "
            f"{'start it without torchrun' if torchrun else 'leave out ' + named[0]} and give "
            "--workers=N for N runs at a time; only `train` takes --nproc"
        )


def _models(options: argparse.Namespace, rest: Sequence[str]) -> int:
    if rest:
        raise ConfigError(f"`models` does not take {' '.join(rest)}")
    from tabulate import tabulate

    from recbole_margo.registry import find_model, list_models

    if options.name:
        print(_model_page(find_model(options.name)))
        return 0
    rows = []
    for entry in list_models():
        if entry.source != "RecBole":
            rows.append(_model_row(entry))
        elif options.all:
            rows.append([entry.name, entry.source])
    headers = ["model", "from", "venue", "year", "negatives", "item ids", "features", "paper"]
    print(tabulate(rows, headers=headers, maxcolwidths=[*[None] * 7, 48]))
    print(MODELS_LEGEND)
    return 0


def _model_page(model: Any) -> str:
    """Return the docstring of a model and a table of its keys."""
    from tabulate import tabulate

    if not hasattr(model, "parameters_class"):
        raise ConfigError(f"{model.__name__} is RecBole's own: see RecBole's documentation")
    from recbole_margo.model.parameters import model_defaults

    defaults = model_defaults(model)
    rows = [
        [key, defaults.get(key), known.range_text(), known.paper, known.meaning]
        for key, known in model.parameters_class.descriptions().items()
    ]
    keys = tabulate(
        rows,
        headers=["key", "default", "search range", "paper", "meaning"],
        maxcolwidths=[None, 20, 24, 20, 48],
        disable_numparse=True,
    )
    return f"{model.__name__}: {inspect.getdoc(model)}\n\n{keys}"


def _model_row(entry: Any) -> list[Any]:
    from recbole_margo.model.parameters import model_defaults

    paper = _paper_of(entry)
    try:
        model = entry.load()
    except ConfigError:
        return [entry.name, entry.source, *[""] * 5, paper]
    trained = model_defaults(model).get("train_features", False)
    said = isinstance(paper, str)
    return [
        entry.name,
        entry.source,
        "" if said else paper.venue,
        "" if said else paper.year,
        "sampled" if getattr(model, "uses_negatives", True) else "none",
        "yes" if getattr(model, "uses_item_ids", True) else "no",
        "trained" if trained else "frozen",
        paper if said else f"{paper.title}\n{paper.link}",
    ]
