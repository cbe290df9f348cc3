"""Items whose features are the same, or nearly."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.data.row_norms import RowNorms

NEAR_COSINE = 0.999
# A block of similarities takes at most 64 MB.
BLOCK_CELLS = 1 << 24
# With more items than this, the neighbours of a sample are counted.
LARGEST_EXACT = 10_000
SAMPLED_ITEMS = 5_000
SEED = 0
SHOWN = 5


@dataclass(frozen=True)
class DuplicateItems:
    """Items that others equal.

    Attributes:
        exact_items: items whose row equals, bit for bit, the row of another item.
        exact_groups: groups of equal rows.
        largest_group: items in the largest of them.
        near_items: compared items with another item at a cosine above `NEAR_COSINE`.
        compared_items: items that were compared with all others.
        examples: pairs of item tokens above `NEAR_COSINE`.
    """

    exact_items: int
    exact_groups: int
    largest_group: int
    near_items: int
    compared_items: int
    examples: list[tuple[str, str]]

    @classmethod
    def of(cls, features: Tensor, tokens: NDArray[np.str_]) -> DuplicateItems:
        """Look for duplicates, in blocks.

        Args:
            features: [n, D] rows of the items that have the modality, none of zeros.
            tokens: [n] their tokens.
        """
        # + 0.0: minus zero equals zero.
        rows = features.numpy() + 0.0
        digests = Counter(hashlib.sha256(row).digest() for row in rows)
        groups = [count for count in digests.values() if count > 1]
        directions = RowNorms.of(features).divide_(features.clone())
        count = len(directions)
        compared = np.arange(count)
        if count > LARGEST_EXACT:
            generator = np.random.default_rng(SEED)
            compared = np.sort(generator.choice(count, SAMPLED_ITEMS, replace=False))
        near = 0
        examples: list[tuple[str, str]] = []
        step = max(1, BLOCK_CELLS // max(1, count))
        for start in range(0, len(compared), step):
            items = torch.from_numpy(compared[start : start + step])
            cosines = directions[items] @ directions.T
            cosines[torch.arange(len(items)), items] = -1.0
            best = cosines.max(dim=1)
            found = torch.nonzero(best.values > NEAR_COSINE).squeeze(1)
            near += len(found)
            for row in found[: SHOWN - len(examples)]:
                pair = (str(tokens[items[row]]), str(tokens[best.indices[row]]))
                if pair[::-1] not in examples:
                    examples.append(pair)
        return cls(sum(groups), len(groups), max(groups, default=0), near, len(compared), examples)
