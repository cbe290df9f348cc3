"""Write a copy of a dataset whose feature rows belong to other items: the control of a comparison.

A model that gains from content must lose on this copy. Interactions and the split are the same
files; each modality's rows are dealt out anew among the items that have it.

    python benchmarks/shuffle_features.py --dataset lfm2k --name lfm2k-shuffled
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np

from recbole_margo.data.features import read_manifest, read_modality
from recbole_margo.store.feature_files import write_features


def shuffle_features(source: Path, target: Path, seed: int) -> None:
    """Write the copy.

    Args:
        source: folder of the dataset, of the dataset's name.
        target: folder of the copy, of the copy's name.
        seed: decides which item gets which row.
    """
    random = np.random.default_rng(seed)
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".inter", ".yaml"):
            shutil.copyfile(file, target / file.name.replace(source.name, target.name, 1))
    for modality, entry in read_manifest(source, source.name).modalities.items():
        matrix, tokens = read_modality(source, entry)
        dealt = [tokens[row] for row in random.permutation(len(tokens))]
        origin = f"{source.name}, rows shuffled with seed {seed}"
        write_features(target, target.name, modality, np.asarray(matrix), dealt, origin)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="name of the dataset")
    parser.add_argument("--name", required=True, help="name of the copy")
    parser.add_argument("--data_path", type=Path, default=Path("dataset"), help="(dataset)")
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    options = parser.parse_args()
    target = options.data_path / options.name
    if target.exists():
        parser.error(f"{target} is there already; name another --name or remove it")
    shuffle_features(options.data_path / options.dataset, target, options.seed)
    sys.stdout.write(f"written to {target}\n")


if __name__ == "__main__":
    main()
