"""Item features for the one dataset that RecBole ships, MovieLens-100k, made from RecBole's files.

`text` comes from title, genres and year, `credits` from the people and companies of the linked
entity in the knowledge graph. Both are TF-IDF weights of tokens, reduced by a truncated SVD.

The entities of `credits` are those of RecBole's `ml-100k.link`, and that file numbers films as
MovieLens-20M does: the item 313, Titanic, is linked to "The Swan Princess". The modality is kept as
it is distributed: real data, with real gaps, that cannot be trusted (docs/data.md).
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import FeatureError
from recbole_margo.store.feature_files import write_matrix
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.writing import locked

BUNDLED_DATASET = "ml-100k"
DIMENSIONS = 64
# Relations of credits, from either end: the knowledge graph names a fact from the one, the other or
# both.
INVERSE_RELATIONS = {
    "film.actor.film": "film.film.actor",
    "film.director.film": "film.film.directed_by",
    "film.writer.film": "film.film.written_by",
    "film.producer.film": "film.film.produced_by",
    "film.cinematographer.film": "film.film.cinematography",
    "film.production_company.films": "film.film.production_companies",
}
CREDIT_RELATIONS = frozenset(INVERSE_RELATIONS.values())

Documents = dict[str, list[str]]


def ensure_bundled_features(folder: Path) -> None:
    """Make the features of ml-100k in `folder` unless they are there.

    Two processes may do this at once: one makes them and the other waits.

    Args:
        folder: where the manifest belongs; it is made when it does not exist.

    Raises:
        FeatureError: the folder cannot be written, or RecBole's files are not found.
    """
    manifest = FeatureManifest.path(folder, BUNDLED_DATASET)
    if manifest.exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not manifest.exists():
                _write(folder)
    except OSError as error:
        raise FeatureError(
            f"{folder}: expected to write the features of {BUNDLED_DATASET} here, found "
            f"{error.strerror or error}. Set `data_path` to a folder that can be written."
        ) from error


def text_documents(source: Path) -> Documents:
    """Return item token -> words of the title, genres, year and decade.

    Args:
        source: folder with RecBole's `ml-100k.item`.
    """
    documents: Documents = {}
    for item, title, year, genres in _rows(source / f"{BUNDLED_DATASET}.item"):
        tokens = re.findall(r"\w+", title.lower())
        tokens += [f"genre:{genre}" for genre in genres.split()]
        if year.isdigit():  # two items have none
            tokens += [f"year:{year}", f"decade:{year[:3]}0"]
        documents[item] = tokens
    return documents


def credit_documents(source: Path) -> Documents:
    """Return item token -> (relation, entity) tokens of its linked entity; no link, no entry.

    Args:
        source: folder with RecBole's `ml-100k.link` and `ml-100k.kg`.
    """
    credits_of: dict[str, set[str]] = defaultdict(set)
    for head, relation, tail in _rows(source / f"{BUNDLED_DATASET}.kg"):
        film, person, known = head, tail, relation
        if relation in INVERSE_RELATIONS:
            film, person, known = tail, head, INVERSE_RELATIONS[relation]
        if known in CREDIT_RELATIONS:
            credits_of[film].add(f"{known}:{person}")
    return {
        item: sorted(credits_of[entity])
        for item, entity in _rows(source / f"{BUNDLED_DATASET}.link")
        if entity in credits_of
    }


def embed(documents: Sequence[Sequence[str]], dimensions: int) -> NDArray[np.float32]:
    """Embed documents: TF-IDF X of tokens that two documents share, X = U S V^T, result U S.

    The sign of each column, which an SVD leaves open, is such that the entry of largest size in
    its column of V is positive. A document that shares no token with the others is a row of zeros.

    Args:
        documents: [rows] lists of tokens.
        dimensions: number of columns D.

    Returns:
        [rows, D].
    """
    # scikit-learn takes a second to import, and is needed once for each dataset folder.
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    weights = TfidfVectorizer(analyzer=list, min_df=2).fit_transform(documents)
    svd = TruncatedSVD(dimensions, algorithm="arpack", random_state=0)
    # One thread: equal sums on every machine load, and faster at this size.
    with threadpool_limits(1):
        matrix: NDArray[np.float64] = svd.fit_transform(weights)
    largest = np.abs(svd.components_).argmax(axis=1)
    matrix *= np.sign(svd.components_[np.arange(dimensions), largest])
    # Rows outside the subspace are rounding noise, which a normalisation would blow up.
    matrix[np.linalg.norm(matrix, axis=1) < 1e-6] = 0.0
    return matrix.astype(np.float32)


def _write(folder: Path) -> None:
    source = _recbole_files()
    entries = {}
    for modality, documents, origin in (
        ("text", text_documents(source), "title, genres and year in ml-100k.item"),
        ("credits", credit_documents(source), "ml-100k.kg through ml-100k.link"),
    ):
        matrix = embed(list(documents.values()), DIMENSIONS)
        entries[modality] = write_matrix(
            folder, BUNDLED_DATASET, modality, matrix, list(documents), f"RecBole's {origin}"
        )
    FeatureManifest(BUNDLED_DATASET, entries).write(folder)
    logging.getLogger().info("Made the features of %s in %s.", BUNDLED_DATASET, folder)
    logging.getLogger().warning(
        "RecBole's %s.link follows the film numbers of MovieLens-20M, so that the modality "
        "'credits' describes other films than its items (docs/data.md).",
        BUNDLED_DATASET,
    )


def _recbole_files() -> Path:
    specification = importlib.util.find_spec("recbole")
    if specification is None or specification.origin is None:
        raise FeatureError("expected RecBole to be installed, found none: see README.md")
    return Path(specification.origin).parent / "dataset_example" / BUNDLED_DATASET


def _rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise FeatureError(
            f"{path}: expected this file of RecBole's package, found that it does not exist. "
            "Install RecBole again, as README.md says."
        )
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return [line.split("\t") for line in lines[1:]]
