"""How well MARGO's evidence and weights tell corrupted items, epoch by epoch, and why it fades.

The features of a known share of the items are swapped, different items for each modality. After
every few epochs the reliability vector of all training pairs (Eq. 5-6 of the paper, weighted by the
confidence) and the learned weights are asked which items they were.

    python benchmarks/detection_over_training.py --dataset=lfm2k --modalities='[text, audio]'
    python benchmarks/detection_over_training.py --variant 'w/o two-stage={two_stage: false}'

Every other --key=value goes to all trainings.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from recbole.utils import init_seed
from sklearn.metrics import roc_auc_score

from recbole_margo.config import Config
from recbole_margo.data.features import load_item_features, modality_names
from recbole_margo.defaults import parse_settings, parse_yaml
from recbole_margo.evidence.pair_evidence import PairEvidence
from recbole_margo.report.document import Cell, Table, table_text
from recbole_margo.report.figures import COLORS, MARKERS, draw, new_figure
from recbole_margo.report.rendering import csv_text, write_texts
from recbole_margo.run import load_split
from recbole_margo.training.trainer import MultimodalTrainer

VARIANTS = (
    "stage 1={item_weights: false}",
    "w/o two-stage={two_stage: false, weight_learning_rate: 0.01}",
    "stage 1, standardised features={item_weights: false, feature_normalization: standard}",
)
COLUMNS = ("variant", "epoch", "validation", "detector", "modality", "auc")
NEGATIVES = 10


def main() -> int:
    """Train the variants, write `detection.csv` and a figure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    parser.add_argument("--variant", action="append", metavar="LABEL={KEY: VALUE}")
    parser.add_argument("--share", type=float, default=0.3, help="share to corrupt (0.3)")
    parser.add_argument("--every", type=int, default=5, help="epochs between looks (5)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/detection"))
    options, rest = parser.parse_known_args()
    shared = {"epochs": 50, "seed": 1, "show_progress": False, **parse_settings(rest)}
    names = modality_names(Config("MARGO", options.dataset, config_dict=shared))
    shared["feature_corruption"] = {"share": dict.fromkeys(names, options.share)}
    rows: list[dict[str, Any]] = []
    for variant in options.variant or VARIANTS:
        label, _, text = variant.partition("=")
        settings = parse_yaml(text, origin=f"the settings of {label}")
        sys.stderr.write(f"{label}\n")
        config = Config("MARGO", options.dataset, config_dict={**shared, **settings})
        rows += [{"variant": label, **row} for row in follow(config, options.every)]
        write_texts(options.output_dir, {"detection.csv": csv_text(COLUMNS, rows)})
    draw(options.output_dir / "detection", partial(figure, rows, names))
    sys.stdout.write(f"{table_text(table(rows))}\n\nFiles: {options.output_dir}\n")
    return 0


def follow(config: Config, every: int) -> list[dict[str, Any]]:
    """Train one stage without early stopping and look at it every few epochs.

    Args:
        config: of a MARGO with one stage.
        every: epochs between looks; the first three are looked at too.

    Returns:
        A row per look, detector and modality: validation score and ROC-AUC.
    """
    config["stopping_step"] = config["epochs"]
    loaders = load_split(config)
    dataset = loaders[0]._dataset
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, dataset).to(config["device"])
    truth = load_item_features(config, dataset).corrupted.numpy()
    interactions = np.bincount(
        dataset.inter_feat[dataset.iid_field].numpy(), minlength=dataset.item_num
    )
    asked = (interactions > 0) & model.modality_mask.all(dim=1).cpu().numpy()
    trainer = MultimodalTrainer(config, model)
    rows: list[dict[str, Any]] = []

    def look(epoch: int, score: float) -> None:
        if epoch > 2 and (epoch + 1) % every:
            return
        model.eval()
        detectors = {"evidence": evidence_of_items(model)}
        if model.stage == "stage2":
            detectors["weight"] = model.item_weights().detach().cpu().numpy()
        for name, trust in detectors.items():
            for column, modality in enumerate(model.modalities):
                auc = roc_auc_score(truth[asked, column], -trust[asked, column])
                rows.append(
                    {
                        "epoch": epoch + 1,
                        "validation": score,
                        "detector": name,
                        "modality": modality,
                        "auc": float(auc),
                    }
                )
        model.train()

    logging.disable(logging.WARNING)
    trainer.fit(loaders[0], loaders[1], saved=False, verbose=False, callback_fn=look)
    return rows


def evidence_of_items(model: Any) -> np.ndarray:
    """Return the mean of z over the triplets of each item, weighted by their confidence [I, M].

    Args:
        model: a MARGO in evaluation mode.
    """
    evidence = PairEvidence.of_models([model], NEGATIVES, seed=0)
    sums = np.zeros((model.n_items, len(model.modalities)))
    np.add.at(sums, evidence.items, evidence.reliability)
    trust = np.bincount(evidence.items, evidence.confidence, minlength=model.n_items)
    mean: np.ndarray = sums / np.maximum(trust, 1e-12)[:, np.newaxis]
    return mean


def figure(rows: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> Figure:
    """Draw ROC-AUC of the evidence per modality, and the validation score, over the epochs."""
    made = new_figure(3.6)
    panels = made.subplots(1, len(modalities) + 1)
    labels = list(dict.fromkeys(row["variant"] for row in rows))
    for index, label in enumerate(labels):
        own = [row for row in rows if row["variant"] == label and row["detector"] == "evidence"]
        look = {"color": COLORS[index], "marker": MARKERS[index], "markersize": 4, "linewidth": 1.3}
        for panel, modality in zip(panels, modalities, strict=False):
            of_modality = [row for row in own if row["modality"] == modality]
            panel.plot(
                [row["epoch"] for row in of_modality], [row["auc"] for row in of_modality], **look
            )
        first = [row for row in own if row["modality"] == modalities[0]]
        panels[-1].plot(
            [row["epoch"] for row in first],
            [row["validation"] for row in first],
            label=label,
            **look,
        )
    for panel, modality in zip(panels, modalities, strict=False):
        panel.axhline(0.5, color="black", linestyle="--", linewidth=1)
        panel.set(title=f"corrupted {modality}", ylim=(0.45, 1.0), ylabel="ROC-AUC of the evidence")
    panels[-1].set(title="recommendation", ylabel="validation score")
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.grid(axis="y")
    made.legend(loc="outside lower center", ncols=3)
    return made


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row per variant and epoch, a column per detector and modality."""
    columns = list(dict.fromkeys((row["detector"], row["modality"]) for row in rows))
    found: dict[tuple[str, int], dict[Any, str]] = {}
    for row in rows:
        cells = found.setdefault((row["variant"], row["epoch"]), {})
        cells["validation"] = f"{row['validation']:.4f}"
        cells[row["detector"], row["modality"]] = f"{row['auc']:.3f}"
    body = [
        tuple(
            Cell(text)
            for text in (
                variant,
                str(epoch),
                cells["validation"],
                *(cells.get(column, "") for column in columns),
            )
        )
        for (variant, epoch), cells in found.items()
    ]
    headers = ("variant", "epoch", "validation", *(" ".join(column) for column in columns))
    return Table("ROC-AUC of corrupted items", headers, tuple(body))


if __name__ == "__main__":
    sys.exit(main())
