"""Text features that need no download: TF-IDF and truncated SVD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError

DEFAULT_DIMENSION = 128
LARGEST_VOCABULARY = 200_000
SEED = 0


def text_features(texts: Sequence[str], dimension: int, where: str) -> NDArray[np.float32]:
    """Place texts in a latent semantic space (Deerwester et al., 1990).

    X = TF-IDF with 1 + log tf and rows of length 1; X ~ U S V^T; the features are U S.

    Returns:
        [n, D]; a row of zeros where no word of the text occurs in another text.

    Raises:
        DataError: the dimension is not positive, or the texts share too few words.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    if dimension < 1:
        raise DataError(f"text features: expected at least 1 dimension, found {dimension}.")
    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        strip_accents="unicode",
        # A word of one text alone makes it similar to no other.
        min_df=2,
        max_features=LARGEST_VOCABULARY,
        token_pattern=r"(?u)\b\w+\b",  # noqa: S106 - no password
        dtype=np.float32,
    )
    try:
        weights = vectorizer.fit_transform(texts)
        svd = TruncatedSVD(min(dimension, *weights.shape), random_state=SEED)
        # Texts that are all the same have no variance to explain, and need none.
        with np.errstate(divide="ignore", invalid="ignore"):
            features: NDArray[np.float32] = svd.fit_transform(weights).astype(np.float32)
    except ValueError as error:
        example = texts[0][:80] if texts else ""
        raise DataError(
            f"{where}: expected texts that share two words or more, found {len(texts)} that do "
            f"not, such as {example!r}. Choose other text columns, or leave the texts out."
        ) from error
    return features
