"""How well evidence without a recommender tells swapped rows, and what share of the rows fits.

python -m benchmarks.evidence_detection                                        ml-100k, seeds 1 to 3
python -m benchmarks.evidence_detection --dataset=lfm2k --modalities='[text, audio]'
python -m benchmarks.evidence_detection --runs runs/one/MARGO runs/two/MARGO   weights of trainings

Of each modality a share of the rows is swapped, of different items. Every other --key=value goes
to the config. Asked are items with all modalities: where there is but one, it has all the weight.
The weights are those of MARGOs that were trained with `feature_corruption`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_margo.config import Config
from recbole_margo.data.features import ItemFeatures, load_item_features, modality_names
from recbole_margo.defaults import parse_settings
from recbole_margo.evaluation.detection import Detection, auc_estimate, detect
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.evidence.item_evidence import item_evidence
from recbole_margo.evidence.item_reliability import ItemReliability
from recbole_margo.evidence.item_targets import item_targets
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.report.document import Cell, Table, table_text
from recbole_margo.run import load_split
from recbole_margo.run_folder import RunFolder

Draws = dict[tuple[str, str], list[Detection]]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 1 (3)")
    parser.add_argument("--share", type=float, default=0.3, help="share to swap (0.3)")
    parser.add_argument("--runs", type=Path, nargs="+", help="folders of trained MARGOs")
    options, rest = parser.parse_known_args()
    logging.disable(logging.WARNING)
    draws: Draws = {}
    if options.runs:
        for folder in options.runs:
            add_weights(draws, folder)
    else:
        settings = parse_settings(rest)
        names = modality_names(Config("MARGO", options.dataset, config_dict=settings))
        clean = Config("MARGO", options.dataset, config_dict=settings)
        sys.stdout.write(f"{table_text(fitting(clean))}\n\n")
        corruption = {"share": dict.fromkeys(names, options.share)}
        for seed in range(1, options.seeds + 1):
            planted = {**settings, "seed": seed, "feature_corruption": corruption}
            add_evidence(draws, Config("MARGO", options.dataset, config_dict=planted))
    sys.stdout.write(f"{table_text(detection(draws))}\n")
    return 0


def loaded(config: Config) -> tuple[sp.csr_matrix, ItemFeatures]:
    """Return training interactions and features."""
    dataset = load_split(config)[0]._dataset
    return interaction_matrix(dataset), load_item_features(config, dataset)


def fitting(config: Config) -> Table:
    """Return the share of rows that fit, with the content score's mean, by modality."""
    interactions, features = loaded(config)
    targets, rows = item_targets(interactions), []
    for m, modality in enumerate(features.modalities):
        matrix, present = features.matrices[m].float().numpy(), features.mask[:, m].numpy()
        found = item_evidence(interactions, matrix, present, targets)
        share, known = found.fitting, found.content.known
        row = (
            modality,
            str(share.items),
            f"{share.estimate:.2f} [{share.low:.2f}, {share.high:.2f}]",
            f"{found.content.scores[known].mean():.2f}",
            f"{(found.q_values <= 0.05).sum()}",
        )
        rows.append(tuple(map(Cell, row)))
    headers = ("modality", "items", "share that fits", "mean content score", "q <= .05")
    return Table("Rows as they are", headers, tuple(rows))


def add_evidence(draws: Draws, config: Config) -> None:
    """Ask the evidence on one planted draw."""
    interactions, features = loaded(config)
    swapped, mask = features.corrupted.numpy(), features.mask.numpy()
    found = [
        item_evidence(interactions, matrix.float().numpy(), mask[:, m], item_targets(interactions))
        for m, matrix in enumerate(features.matrices)
    ]
    reliability = ItemReliability(interactions, features.matrices, features.mask)
    detectors = {
        "content score": np.stack([each.content.scores for each in found], axis=1),
        "neighbor agreement": np.stack([each.agreement for each in found], axis=1),
        "both": np.stack([each.scores for each in found], axis=1),
        "reliability vector": reliability.vectors.numpy(),
    }
    asked = reliability.known.numpy() & mask.all(axis=1)
    for detector, trust in detectors.items():
        ask(draws, detector, trust, swapped, asked, features.modalities)


def add_weights(draws: Draws, folder: Path) -> None:
    """Ask the weights of one training."""
    files = RunFolder(folder)
    config = Config.from_plain(files.read_result().config)
    interactions, features = loaded(config)
    stored = ItemWeights.load(files.weights)
    weights = np.vstack([np.zeros((1, len(stored.modalities))), stored.weights])
    trained = np.asarray(interactions.sum(axis=0)).ravel() > 0
    asked = trained & features.mask.numpy().all(axis=1)
    name = f"weights, evidence: {config['evidence']}"
    ask(draws, name, weights, features.corrupted.numpy(), asked, stored.modalities)


def ask(
    draws: Draws,
    detector: str,
    trust: NDArray[np.floating],
    swapped: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    modalities: tuple[str, ...],
) -> None:
    """Add how well low trust [I, M] marks swapped rows [I, M] of the items asked [I]."""
    for m, modality in enumerate(modalities):
        found = detect(-trust[asked, m], swapped[asked, m])
        draws.setdefault((detector, modality), []).append(found)


def detection(draws: Draws) -> Table:
    """Return ROC-AUC by detector and modality, over seeds."""

    def rows() -> Iterator[tuple[Cell, ...]]:
        for (detector, modality), found in draws.items():
            area = auc_estimate(found)
            deviation = "" if area.deviation is None else f" ± {area.deviation:.3f}"
            each = ", ".join(f"{draw.auc:.3f}" for draw in found)
            yield tuple(
                map(
                    Cell,
                    (
                        detector,
                        modality,
                        f"{area.mean:.3f}{deviation}",
                        f"[{area.low:.3f}, {area.high:.3f}]",
                        each,
                    ),
                )
            )

    headers = ("detector", "modality", "ROC-AUC", "95 % interval", "seed by seed")
    return Table("Are low scores those of swapped rows?", headers, tuple(rows()))


if __name__ == "__main__":
    sys.exit(main())
