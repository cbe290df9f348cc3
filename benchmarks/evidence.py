"""Every claim of MARGO's paper measured on one dataset: the commands one after another, one page.

    python benchmarks/evidence.py                                     the small version, ml-100k
    python benchmarks/evidence.py --dataset=lfm2k --seeds=3 --trials=20 --modalities='[text, audio]'

What has finished is kept: the same command goes on where it was interrupted. Every other
--key=value goes to all trainings.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from recbole_margo.cli import main as command
from recbole_margo.config import Config
from recbole_margo.data.features import modality_names
from recbole_margo.defaults import parse_settings
from recbole_margo.report import Cell, Document, Section, Table, html_page, write_texts

INTERRUPTED = 130
PLANS = ("comparison-plan.json", "robustness-plan.json", "tuning-plan.json")


@dataclass(frozen=True)
class Step:
    """One command.

    Args:
        verb: of `recbole-margo`.
        asks: the question that it answers.
        page: its report, in the folder of its name.
        words: its own options.
        trains: whether it takes the options of a training and can be resumed.
    """

    verb: str
    asks: str
    page: str
    words: tuple[str, ...]
    trains: bool = True


def steps(root: Path, modalities: Sequence[str], share: float, trials: int) -> list[Step]:
    """Return the commands, in order.

    Args:
        root: folder of the evidence.
        modalities: names of the modalities.
        share: share of the items that is corrupted in each modality.
        trials: trials of the search.
    """
    ablation = f"--run={root / 'ablate'}"
    corrupted = [f"{modality}={share:g}" for modality in modalities]
    return [
        Step(
            "compare",
            "Is MARGO better than others?",
            "report.html",
            ("--models=MARGO,DRAGON,LightGCN,BPR",),
        ),
        Step("ablate", "Which of its parts matter?", "report.html", ()),
        Step(
            "sweep",
            "How much do alpha and tau matter?",
            "sweep.html",
            ("--over", "alpha=0.1,1,10", "tau=0.1,1,10"),
        ),
        Step(
            "reliability",
            "What did the weights learn, and whose content should be looked at?",
            "audit.html",
            (ablation, f"--output_dir={root / 'reliability'}"),
            trains=False,
        ),
        Step(
            "agreement",
            "Do the two losses pull the weights the same way?",
            "agreement.html",
            (ablation, f"--output_dir={root / 'agreement'}"),
            trains=False,
        ),
        Step(
            "robustness",
            "Do the weights tell which items' features were corrupted?",
            "robustness.html",
            ("--corrupt", *corrupted, "--models=MARGO,MARGO held_out,w/o L_cal,w/o nograd,DRAGON"),
        ),
        Step(
            "tune",
            "What is gained by a search on validation?",
            "tuning.html",
            ("--over=alpha,tau,reg_weight,learning_rate", f"--trials={trials}"),
        ),
    ]


def main() -> int:
    """Run the commands and return 0, or 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    parser.add_argument("--seeds", default="2", help="how many, or which (2)")
    parser.add_argument("--trials", type=int, default=8, help="trials of the search (8)")
    parser.add_argument("--share", type=float, default=0.3, help="share to corrupt (0.3)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/evidence"))
    options, rest = parser.parse_known_args()
    config = Config("MARGO", options.dataset, config_dict=parse_settings(rest))
    root = options.output_dir / options.dataset
    shared = [f"--dataset={options.dataset}", f"--seeds={options.seeds}", *rest]
    done, failed = [], False
    for step in steps(root, modality_names(config), options.share, options.trials):
        folder = root / step.verb
        words = [*step.words, *shared, f"--output_dir={folder}"] if step.trains else [*step.words]
        if any((folder / plan).is_file() for plan in PLANS):
            words = [f"--resume={folder}"]
        if step.trains:
            words.append(f"--workers={options.workers}")
        sys.stdout.write(f"\n{shlex.join(['recbole-margo', step.verb, *words])}\n\n")
        sys.stdout.flush()
        started = perf_counter()
        code = command([step.verb, *words])
        if code == INTERRUPTED:
            return code
        failed = failed or code != 0
        done.append((step, code, perf_counter() - started))
        write_texts(root, {"index.html": index(options.dataset, done)})
    sys.stdout.write(f"\nAll reports: {root / 'index.html'}\n")
    return int(failed)


def index(dataset: str, done: Sequence[tuple[Step, int, float]]) -> str:
    """Return the page that leads to the reports.

    Args:
        dataset: name of the dataset.
        done: step, exit status and seconds of each command so far.
    """
    rows = tuple(
        (
            Cell(step.asks, link=f"{step.verb}/{step.page}"),
            Cell(f"recbole-margo {step.verb}"),
            Cell(f"{seconds / 60:.1f} min" if code == 0 else f"failed with exit status {code}"),
        )
        for step, code, seconds in done
    )
    table = Table("Reports", ("question", "command", "took"), rows, texts=("command",))
    return html_page(Document(f"Evidence on {dataset}", (), (Section(None, (table,)),)))


if __name__ == "__main__":
    sys.exit(main())
