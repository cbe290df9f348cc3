"""The verbs of the command line, and how each is called."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from recbole_margo.cli import models, train
from recbole_margo.command_line import CommandParser, let_sigterm_interrupt, run_command
from recbole_margo.errors import ConfigError


@dataclass(frozen=True)
class Verb:
    """A verb that reads its own options and is imported when it is called.

    Attributes:
        target: `module:function`, which takes the words after the verb and returns a status.
        many_runs: it takes --workers, and trains no model in several processes.
    """

    target: str
    summary: str
    many_runs: bool = False
    takes_program: bool = False


VERBS = {
    "compare": Verb(
        "recbole_margo.studies.comparison.command:compare",
        "train models with several seeds on one split, with paired tests over users",
        many_runs=True,
    ),
    "ablate": Verb(
        "recbole_margo.studies.comparison.command:ablate",
        "compare MARGO with its ablations",
        many_runs=True,
    ),
    "convert": Verb(
        "dataset_converters.__main__:main",
        "make a dataset folder from raw data",
        takes_program=True,
    ),
    "encode": Verb(
        "recbole_margo.cli.features:encode", "turn texts, images or sounds into features"
    ),
    "export": Verb(
        "dataset_converters.export:main", "write a dataset in MMRec's layout", takes_program=True
    ),
    "inspect": Verb(
        "recbole_margo.cli.features:inspect", "look whether a dataset's features fit its items"
    ),
    "audit": Verb(
        "recbole_margo.studies.audit.command:audit",
        "list the items whose texts, images, ... do not fit who uses them; needs no model",
    ),
    "sweep": Verb(
        "recbole_margo.studies.sweep.command:sweep",
        "draw a model's quality over the values of its hyper-parameters",
        many_runs=True,
    ),
    "tune": Verb(
        "recbole_margo.studies.tuning.command:tune",
        "search a model's hyper-parameters on validation, test once at the end",
        many_runs=True,
    ),
    "reliability": Verb(
        "recbole_margo.studies.audit.command:reliability",
        "show which items' modalities a trained MARGO does not trust, and why",
    ),
    "agreement": Verb(
        "recbole_margo.studies.agreement.command:agreement",
        "measure whether the losses of MARGO's second stage pull its weights the same way",
    ),
    "bundle": Verb(
        "recbole_margo.serving.command:bundle",
        "write what serving needs of a trained model into a folder of plain tables",
    ),
    "add_items": Verb(
        "recbole_margo.serving.command:add_items",
        "add items that arrived after the training to a bundle, from their features",
    ),
    "recommend": Verb(
        "recbole_margo.serving.command:recommend",
        "recommend items to users of a trained model, or to a new user",
    ),
    "explain": Verb(
        "recbole_margo.serving.command:explain",
        "split the score of an item for a user into parts that add up to it",
    ),
    "vectors": Verb(
        "recbole_margo.serving.vectors:vectors",
        "write a trained model's vectors for a database, and indices with their recall",
    ),
    "serve": Verb(
        "recbole_margo.serving.command:serve",
        "answer requests over HTTP from a bundle, and show it as pages",
    ),
    "robustness": Verb(
        "recbole_margo.studies.robustness.command:robustness",
        "corrupt some items' features and see what is lost, and whether the weights tell",
        many_runs=True,
    ),
    "cache": Verb("recbole_margo.cli.cache:main", "list the graphs that are kept, or remove them"),
    "doctor": Verb(
        "recbole_margo.cli.doctor:main",
        "say what is installed, what it runs on, and whether RecBole trains",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see `run_command`."""

    def command() -> int:
        known, rest = _parser().parse_known_args(arguments)
        status: int = known.run(known, rest)
        return status

    let_sigterm_interrupt()
    return run_command(command)


def _parser() -> CommandParser:
    parser = CommandParser(
        "recbole-margo", description="Multimodal recommendation in RecBole.", allow_abbrev=False
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    train.add_parser(verbs)
    models.add_parser(verbs)
    for name, verb in VERBS.items():
        # The words are left as they are for the verb's own parser.
        delegate = verbs.add_parser(name, help=verb.summary, add_help=False, allow_abbrev=False)
        delegate.set_defaults(run=_delegate, verb=name)
    return parser


def _delegate(options: argparse.Namespace, rest: Sequence[str]) -> int:
    verb = VERBS[options.verb]
    if verb.many_runs:
        _refuse_processes(options.verb, rest)
    module, _, function = verb.target.partition(":")
    called = getattr(importlib.import_module(module), function)
    names = {"program": f"recbole-margo {options.verb}"} if verb.takes_program else {}
    status: int = called(rest, **names)
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
