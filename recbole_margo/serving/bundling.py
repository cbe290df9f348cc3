"""From a finished run to a bundle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from tqdm import tqdm

from recbole_margo.data.features import feature_folder
from recbole_margo.encode.item_source import UnreadableContentError, read_content
from recbole_margo.errors import BundleError, CheckpointError
from recbole_margo.evaluation.score_tables import content_of, score_tables
from recbole_margo.evidence.item_evidence import item_evidence
from recbole_margo.evidence.item_targets import item_targets
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.recbole_bridge import load_silently
from recbole_margo.run_folder import RunFolder
from recbole_margo.serving.bundle import (
    Block,
    Bundle,
    BundleFacts,
    ModalityReliability,
    Thumbnails,
    UserParts,
)
from recbole_margo.serving.new_items import fold_in_map
from recbole_margo.studies.audit.item_contents import ItemContents, thumbnail
from recbole_margo.studies.runs.trained_run import TrainedRun, find_runs

PIXELS = 160


def thumbnails_of(
    images: dict[str, Path], item_ids: Sequence[str], folders: Sequence[Path]
) -> Thumbnails | None:
    """Make thumbnails of the images that lie in some folders, none if there are none.

    A list of images may come from a stranger, and a thumbnail is shown to whoever opens the page:
    so a file elsewhere on this machine is left out, also behind a link.

    Args:
        item_ids: raw ids of items in the order of their rows [I].
        folders: where images may lie.
    """
    inside = [folder.resolve() for folder in folders]
    elsewhere, unreadable, found = 0, 0, []
    for item in tqdm(item_ids, "thumbnails", leave=False, disable=None, delay=3.0):
        small = b""
        if item in images:
            path = images[item].resolve()
            if not any(path.is_relative_to(folder) for folder in inside):
                elsewhere += 1
            else:
                try:
                    small = thumbnail(read_content(path), PIXELS)
                except UnreadableContentError:
                    unreadable += 1
        found.append(small)
    if elsewhere:
        logging.getLogger().warning(
            "%d images lie outside of %s and get no thumbnail: name their folder with --images.",
            elsewhere,
            " and ".join(dict.fromkeys(map(str, folders))),
        )
    if unreadable:
        logging.getLogger().warning("%d images cannot be read and get no thumbnail.", unreadable)
    if not any(found):
        return None
    starts = np.cumsum([0, *map(len, found)], dtype=np.int64)
    return Thumbnails(np.frombuffer(b"".join(found), np.uint8), starts)


def bundle_of_run(folder: Path, evidence: bool = True, images: Path | None = None) -> Bundle:
    """Make a bundle of the run of one model.

    Args:
        folder: of the run, or of a `train` of one model.
        evidence: whether to test, for a model that weighs modalities, which rows belong to their
            items.
        images: a folder of images named by item, or a table of their paths, for thumbnails; none:
            those of the dataset's `<name>.images.tsv` that lie in its folder.

    Raises:
        CheckpointError: there is no finished run, or several, or its checkpoint is missing.
        BundleError: the model's scores are no products of two tables.
    """
    runs = find_runs(folder)
    if len(runs) > 1:
        named = ", ".join(str(run.folder) for run in runs[:4])
        raise CheckpointError(f"{folder}: expected the run of one model, found several: {named}")
    run = runs[0]
    is_ours = issubclass(run.config.model_class, MultimodalRecommender)
    model = run.load_model() if is_ours else load_silently(RunFolder(run.folder).checkpoint)[1]
    return _bundle(run, model.eval(), evidence, images)


@torch.no_grad()
def _bundle(run: TrainedRun, model: Any, evidence: bool, images: Path | None) -> Bundle:
    dataset = run.dataset
    tables = score_tables(model, dataset)
    if tables is None:
        raise BundleError(
            f"{run.folder}: expected a model whose scores are products of a user and an item "
            f"table, found {run.model_name}, of which none are known to give what it predicts: use "
            "RecBole's `load_data_and_model` and `full_sort_topk` with its checkpoint"
        )
    users, items = (table[1:].float().cpu().numpy() for table in tables)
    user_ids, item_ids = (
        tuple(map(str, dataset.field2id_token[field][1:]))
        for field in (dataset.uid_field, dataset.iid_field)
    )
    shape = (len(user_ids), len(item_ids))
    history = _interactions([dataset], shape)
    seen = _interactions([loader._dataset for loader in run.loaders if loader], shape)
    weighs = hasattr(model, "item_weights") and getattr(model, "stage", "") != "stage1"
    contents = ItemContents.find(run.config, item_ids, images)
    result = run.result
    return Bundle(
        facts=BundleFacts(
            model=run.model_name,
            dataset=result.dataset,
            seed=run.seed,
            eval_protocol=result.eval_protocol,
            metrics=result.test or result.valid,
            versions=result.versions,
            modalities=tuple(model.modalities) if weighs else (),
            blocks=_blocks(model, items.shape[1]),
        ),
        user_ids=user_ids,
        item_ids=item_ids,
        titles=tuple(contents.titles.get(item, "") for item in item_ids),
        users=users,
        items=items,
        seen_starts=seen.indptr.astype(np.int64),
        seen_items=seen.indices.astype(np.int32),
        fold_in=fold_in_map(users, items, history),
        reliability=_reliability(model, evidence) if weighs else None,
        history=_history(model),
        content=content_of(run.config, dataset, model),
        thumbnails=thumbnails_of(contents.images, item_ids, _image_folders(run.config, images)),
    )


def _image_folders(config: Any, images: Path | None) -> tuple[Path, ...]:
    if images is None:
        return feature_folder(config), Path(config["data_path"])
    return (images if images.is_dir() else images.parent,)


def _interactions(datasets: list[Any], shape: tuple[int, int]) -> sp.csr_matrix:
    users, items = (
        np.concatenate([part.inter_feat[field].numpy() - 1 for part in datasets])
        for field in (datasets[0].uid_field, datasets[0].iid_field)
    )
    known = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    known.sum_duplicates()
    known.data[:] = 1
    return known


def _history(model: Any) -> UserParts | None:
    """Return what user rows are made of, without PAD, if they are linear in a history."""
    found = model.linear_history() if isinstance(model, MultimodalRecommender) else None
    if found is None:
        return None
    weights = [matrix[1:, 1:].tocsr() for matrix in found.weights]
    return UserParts(
        own=found.own[1:],
        sources=found.sources[1:],
        starts=weights[0].indptr.astype(np.int64),
        items=weights[0].indices.astype(np.int32),
        weights=np.stack([matrix.data for matrix in weights], axis=1).astype(np.float32),
    )


def _blocks(model: Any, width: int) -> tuple[Block, ...]:
    is_ours = isinstance(model, MultimodalRecommender)
    named = model.score_blocks() if is_ours else (("score", width),)
    ends = np.cumsum([columns for _, columns in named]).tolist()
    return tuple(
        Block(name, end - columns, end) for (name, columns), end in zip(named, ends, strict=True)
    )


def _reliability(model: Any, evidence: bool) -> ModalityReliability:
    mask = model.modality_mask.cpu().numpy()
    scores = np.full(mask.shape, np.nan, np.float32)
    q_values = scores.copy()
    fitting = np.full((mask.shape[1], 3), np.nan, np.float32)
    if evidence:
        interactions = model.interactions
        targets = item_targets(interactions)
        for m, matrix in enumerate(model.features):
            features = matrix.detach().float().cpu().numpy()
            found = item_evidence(interactions, features, mask[:, m], targets)
            known = found.content.known
            scores[known, m], q_values[known, m] = found.scores[known], found.q_values[known]
            if known.any():
                fitting[m] = found.fitting.estimate, found.fitting.low, found.fitting.high
    weights = model.item_weights().cpu().numpy()
    return ModalityReliability(weights[1:], mask[1:], scores[1:], q_values[1:], fitting)
