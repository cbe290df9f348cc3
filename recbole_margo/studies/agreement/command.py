"""`recbole-margo agreement`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from recbole_margo.command_line import comma_separated, command_parser
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.output_folder import locked_folder
from recbole_margo.studies.agreement.replay import (
    Replay,
    cannot_replay,
    check_has_weights,
    replay_identity,
    replay_stage,
)
from recbole_margo.studies.agreement.report import agreement_report
from recbole_margo.studies.agreement.result import AgreementResult
from recbole_margo.studies.comparison.plan import FULL_MODEL, labelled_runs
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.trained_run import TrainedRun

DESCRIPTION = """\
Measure whether the ranking loss and the calibration loss pull MARGO's weights the same way while
the second stage trains. The second stage of each run is trained once more, from the best epoch of
its first stage, with the run's settings and seed; nothing is validated or tested.
"""
EXAMPLES = """\
examples:
  recbole-margo train --output_dir=runs/margo
  recbole-margo agreement --run=runs/margo                              one run
  recbole-margo ablate --seeds=3 --output_dir=runs/ablate
  recbole-margo agreement --run=runs/ablate                             MARGO and w/o nograd
  recbole-margo agreement --run=runs/ablate --labels='MARGO,w/o L_cal'  others side by side
  recbole-margo agreement --run runs/margo runs/nograd --output_dir=runs/agreement

What has been replayed is kept: the same command goes on where it was interrupted.
"""
DEFAULT_LABELS = (FULL_MODEL, "w/o nograd")
FOLDER = "agreement"
REPLAYS = "replays"


def agreement(arguments: Sequence[str]) -> int:
    """Run `recbole-margo agreement` and return its exit status."""
    options = _parser().parse_args(arguments)
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"--epochs must be 1 or more, found {options.epochs}")
    if len(options.run) > 1 and options.output_dir is None:
        raise ConfigError("with several folders in --run, say with --output_dir=DIR where to write")
    folder = Path(options.output_dir or Path(options.run[0]) / FOLDER)
    labels = None if options.labels is None else comma_separated(options.labels)
    if labels == []:
        raise ConfigError(
            "--labels names no run: give labels, separated by commas, or leave it out"
        )
    found = {
        run.folder.resolve(): (label, run)
        for path in options.run
        for label, run in labelled_runs(path)
    }
    chosen = choose_runs(list(found.values()), labels)
    with locked_folder(folder):
        report = agreement_report(measure_agreement(chosen, folder, options.epochs))
        report.write(folder)
    return report.show(folder)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("agreement", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--run",
        action="extend",
        nargs="+",
        metavar="DIR",
        required=True,
        help="folders of finished runs, of `train`, `compare` or `ablate`",
    )
    parser.add_argument(
        "--labels",
        help=f"which runs, separated by commas ({' and '.join(DEFAULT_LABELS)} where there are any,"
        " else all that have weights)",
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="epochs to replay (as many as the run trained)"
    )
    parser.add_argument("--output_dir", metavar="DIR", help=f"folder of the result (DIR/{FOLDER})")
    return parser


def choose_runs(
    named: Sequence[tuple[str, TrainedRun]], labels: Sequence[str] | None
) -> list[tuple[str, TrainedRun]]:
    """Return label and run of what is replayed, in the order of the labels.

    Args:
        labels: which of them, by label or by the name of their folder; none: the default ones.

    Raises:
        ConfigError: if a label is not there, or two runs share label and seed.
        CheckpointError: if a run has no weights to look at.
    """
    found = list(dict.fromkeys(label for label, _ in named))
    if labels is None:
        labels = _default_labels(named)
    chosen: list[tuple[str, TrainedRun]] = []
    for name in dict.fromkeys(labels):
        those = [(label, run) for label, run in named if name in (label, run.label)]
        if not those:
            raise ConfigError(f"--labels: there is no run {name!r}, found {', '.join(found)}")
        chosen += [pair for pair in those if pair not in chosen]
    seen: dict[tuple[str, int], TrainedRun] = {}
    for label, run in chosen:
        check_has_weights(run)
        other = seen.setdefault((label, run.seed), run)
        if other is not run:
            raise ConfigError(
                f"{other.folder} and {run.folder} are both {label} with seed {run.seed}: give "
                "them to two calls, or rename one of the folders"
            )
    return chosen


def _default_labels(named: Sequence[tuple[str, TrainedRun]]) -> list[str]:
    found = list(dict.fromkeys(label for label, _ in named))
    usual = [label for label in DEFAULT_LABELS if label in found]
    if usual:
        return usual
    reasons = [cannot_replay(run) for _, run in named]
    usable = [label for (label, _), reason in zip(named, reasons, strict=True) if not reason]
    if not usable:
        raise CheckpointError(reasons[-1])
    return usable


def measure_agreement(
    chosen: Sequence[tuple[str, TrainedRun]], folder: Path, epochs: int | None = None
) -> AgreementResult:
    """Replay runs, or read the replays that a folder holds already, and summarise them.

    Args:
        epochs: epochs to replay; none: as many as each run's second stage had.
    """
    measured = []
    log = logging.getLogger()
    for number, (label, run) in enumerate(chosen, start=1):
        count = epochs or run.result.stages[-1].epochs
        identity = replay_identity(run, count)
        file = folder / REPLAYS / f"{Entry(label, FULL_MODEL).folder}-seed-{run.seed}.npz"
        replay = Replay.load(file, identity)
        what = f"{label}, seed {run.seed}"
        place = f"Replay {number} of {len(chosen)}: {what}"
        if replay is not None:
            log.warning("%s is in %s", place, file)
        else:
            log.warning("%s, %d epoch%s", place, count, "" if count == 1 else "s")
            try:
                replay = replay_stage(run, count, what)
            except KeyboardInterrupt:
                log.warning("Interrupted. The same command goes on with %s.", what)
                raise
            replay.save(file, identity)
        measured.append((label, run, replay))
    return AgreementResult.of(measured)
