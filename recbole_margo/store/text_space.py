"""The space in which a dataset's texts lie: TF-IDF and truncated SVD, fitted once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.numpy_archive import read_archive, write_archive

TFIDF = "tfidf"
DEFAULT_DIMENSION = 128
LARGEST_VOCABULARY = 200_000
SEED = 0
ARRAYS = ("terms", "idf", "components")


@dataclass(frozen=True)
class TextSpace:
    r"""A fitted latent semantic space (Deerwester et al., 1990).

    X = TF-IDF with 1 + log tf and rows of length 1; X ~ U S V^T; a text's vector is X V.

    Attributes:
        terms: the vocabulary [V], in the order of the columns of X.
        idf: of the terms [V].
        components: V^T [D, V].
    """

    terms: tuple[str, ...]
    idf: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def fit(
        cls, texts: Sequence[str], dimension: int, where: str
    ) -> tuple[TextSpace, NDArray[np.float32]]:
        """Fit a space to texts.

        Args:
            dimension: most columns.
            where: names the texts in messages.

        Returns:
            The space, and the texts' vectors U S [n, D]; a row of zeros where no word of the text
            occurs in another text.

        Raises:
            DataError: the dimension is not positive, or the texts share too few words.
        """
        from sklearn.decomposition import TruncatedSVD

        if dimension < 1:
            raise DataError(f"text features: expected at least 1 dimension, found {dimension}.")
        # A word of one text alone makes it similar to no other.
        vectorizer = _vectorizer(min_df=2, max_features=LARGEST_VOCABULARY)
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
        terms = tuple(map(str, vectorizer.get_feature_names_out()))
        arrays = (vectorizer.idf_, svd.components_)
        return cls(terms, *(np.ascontiguousarray(each, np.float32) for each in arrays)), features

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors [n, D]; a row of zeros where the space has no word of the text."""
        vectorizer = _vectorizer(vocabulary={term: at for at, term in enumerate(self.terms)})
        vectorizer.idf_ = self.idf
        return np.asarray(vectorizer.transform(texts) @ self.components.T, np.float32)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all that decides on the vectors."""
        digest = hashlib.sha256("\n".join(self.terms).encode())
        for array in (self.idf, self.components):
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @staticmethod
    def path(folder: Path, dataset: str, modality: str) -> Path:
        """Return where the space of a modality lies, an archive of plain arrays."""
        return folder / f"{dataset}.{modality}.tfidf.npz"

    def write(self, path: Path) -> None:
        """Write the space, whole or not at all."""
        terms = np.frombuffer("\n".join(self.terms).encode(), np.uint8)
        arrays = (terms, self.idf, self.components)
        write_archive(path, dict(zip(ARRAYS, arrays, strict=True)), compressed=False)

    @classmethod
    def read(cls, path: Path) -> TextSpace:
        """Read a space; a `DataError` if the file is missing, damaged or has another form."""
        arrays = read_archive(path, ARRAYS)
        terms, idf, components = (arrays[name] for name in ARRAYS)
        known = tuple(terms.tobytes().decode("utf-8", "replace").split("\n"))
        whole = terms.dtype == np.uint8 and idf.dtype == components.dtype == np.float32
        if not whole or idf.shape != (len(known),) or components.shape[1:] != idf.shape:
            raise DataError(
                f"{path}: expected terms, idf and components of one vocabulary, found "
                f"{len(known)} terms, {idf.shape} and {components.shape}. Encode the dataset's "
                "texts again."
            )
        return cls(known, idf, components)


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        sublinear_tf=True,
        strip_accents="unicode",
        token_pattern=r"(?u)\b\w+\b",  # noqa: S106 - no password
        dtype=np.float32,
        **options,
    )
