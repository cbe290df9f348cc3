"""Fold-in measured: users who were left out of a training against the same users trained.

    python -m benchmarks.fold_in --left RUN --all RUN

Both are runs of one model on data sets that differ only in the users: `--left` was trained on one
without some users, `--all` on one with them. The lists of those users are compared by Recall@20 on
their test items: folded in from their training items, trained, the most popular items, and the
items whose contents are most like those of the history.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from recbole_margo.serving.bundling import bundle_of_run
from recbole_margo.serving.new_items import fold_in_users
from recbole_margo.studies.runs.trained_run import TrainedRun, find_runs

K = 20
Items = dict[str, set[str]]


def items_of_users(run: TrainedRun, part: int) -> Items:
    """Return the items of each user in training (0), validation (1) or test (2)."""
    dataset = run.loaders[part]._dataset
    found: Items = {}
    for user, item in zip(
        *(
            dataset.id2token(field, dataset.inter_feat[field].numpy())
            for field in (dataset.uid_field, dataset.iid_field)
        ),
        strict=True,
    ):
        found.setdefault(str(user), set()).add(str(item))
    return found


def content_scores(run: TrainedRun, histories: list[list[str]]) -> NDArray[np.float32]:
    """Return the mean cosine of every item with a history, summed over modalities [B, I]."""
    model, dataset = run.load_model(), run.dataset
    scores = torch.zeros(len(histories), dataset.item_num)
    for matrix in model.features:
        rows = torch.nn.functional.normalize(matrix.detach().float().cpu(), dim=1)
        for place, history in enumerate(histories):
            known = dataset.token2id(dataset.iid_field, np.array(history))
            scores[place] += rows @ rows[torch.as_tensor(known)].mean(dim=0)
    found: NDArray[np.float32] = scores[:, 1:].numpy()
    return found


def recall(
    scores: NDArray[np.float32], known: list[list[int]], relevant: list[set[int]]
) -> NDArray[np.float64]:
    """Return Recall@20 of each user [B] without the items that they know."""
    found = np.empty(len(scores))
    for place, (row, seen, wanted) in enumerate(zip(scores, known, relevant, strict=True)):
        row = row.copy()
        row[seen] = -np.inf
        found[place] = len(wanted & set(np.argsort(-row)[:K].tolist())) / len(wanted)
    return found


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--left", type=Path, required=True, help="run without the users")
    parser.add_argument("--all", type=Path, required=True, help="run with them")
    options = parser.parse_args()
    (left,), (full,) = find_runs(options.left), find_runs(options.all)
    of_left, of_all = bundle_of_run(options.left, False), bundle_of_run(options.all, False)
    train, test = items_of_users(full, 0), items_of_users(full, 2)
    rows = {item: row for row, item in enumerate(of_left.item_ids)}
    histories, known, relevant, users = [], [], [], []
    for user in sorted(set(of_all.user_ids) - set(of_left.user_ids)):
        history = sorted(item for item in train.get(user, ()) if item in rows)
        wanted = {rows[item] for item in test.get(user, ()) if item in rows}
        if history and wanted:
            users.append(user)
            histories.append(history)
            known.append([rows[item] for item in history])
            relevant.append(wanted)
    trained_rows = [of_all.user_ids.index(user) for user in users]
    columns = [of_all.item_ids.index(item) for item in of_left.item_ids]
    popularity = np.bincount(of_left.seen_items, minlength=len(rows)).astype(np.float32)
    folded = fold_in_users(of_left, [np.array(seen) for seen in known])
    results = {
        "folded in": folded @ of_left.items.T,
        "trained": of_all.users[trained_rows] @ of_all.items[columns].T,
        "most popular": np.tile(popularity, (len(users), 1)),
        "content kNN": content_scores(left, histories),
    }
    table = []
    for name, scores in results.items():
        of_users = recall(scores, known, relevant)
        error = of_users.std(ddof=1) / np.sqrt(len(users))
        table.append([name, f"{of_users.mean():.4f}", f"± {1.96 * error:.4f}"])
    shown = tabulate(table, headers=["", f"Recall@{K}", "95 %"], disable_numparse=True)
    sys.stdout.write(
        f"{left.model_name} on {full.result.dataset}, {len(users)} users left out\n{shown}\n"
    )


if __name__ == "__main__":
    main()
