"""One encoding run, start to end: raw content to a modality of a dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from recbole_margo.encode.encoding_request import (
    COLOR_TEXTURE,
    TFIDF,
    EncodingReport,
    EncodingRequest,
)
from recbole_margo.encode.item_encoding import Encoder, EncodingCache, ItemEncodings, encode_items
from recbole_margo.encode.item_source import (
    ItemSource,
    UnreadableContentError,
    dataset_folders,
    decode_text,
    read_content,
    read_items,
)
from recbole_margo.errors import ConfigError, FeatureError
from recbole_margo.output_folder import make_output_folder
from recbole_margo.store.dataset_files import text_features
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.writing import write_json

MADE_HERE = "encoded from"


def encode_modality(request: EncodingRequest) -> EncodingReport:
    """Encode the raw content of a dataset's items and write it as a modality.

    Items without content, and items whose content cannot be read, miss the modality. Vectors are
    kept by the hash of content and encoder, so that a later run encodes only what changed.

    Returns:
        What was done; it is also written to `<dataset>.<modality>.encoding.json`.

    Raises:
        DataError: the dataset or the source is not as expected, or a library is missing.
        ConfigError: a value of the request is not possible, or the model cannot be loaded.
    """
    started = time.perf_counter()
    kind, name = request.chosen_kind(), request.chosen_encoder()
    folders = dataset_folders(request.data_path, request.dataset)
    items = read_items(folders[1], request.dataset)
    _check_overwrite(folders[0], request)
    make_output_folder(folders[0], "--data_path")
    source = ItemSource.find(
        kind, request.source, folders, request.dataset, items, request.item_id, request.columns
    )
    if name == TFIDF:
        description = "TF-IDF and truncated SVD"
        encodings = _encode_together(source.contents, request.dimension, source.origin)
    else:
        encoder = load_encoder(kind, name, request.device)
        description = encoder.description
        cache = EncodingCache(folders[0], encoder.identity)
        size = request.batch_size or encoder.batch_size
        label = f"encoding {request.modality}"
        encodings = encode_items(encoder, source.contents, cache, size, label)
    report = _write(folders[0], request, items, source, encodings, description, started)
    name = f"{request.dataset}.{request.modality}.encoding.json"
    write_json(folders[0] / name, asdict(report))
    return report


def load_encoder(kind: str, name: str, device: str | None = None) -> Encoder:
    """Return the encoder of a kind of content by its name.

    Args:
        kind: `text`, `image` or `audio`.
        name: `color-texture`, or the name or folder of a pretrained model.
        device: of torch; None takes a GPU where there is one.

    Raises:
        ConfigError: the model cannot be loaded.
        DataError: a library is missing.
    """
    # Imported where used: each needs another library, which need not be installed.
    if name == COLOR_TEXTURE:
        from recbole_margo.encode.images import ColorTextureEncoder

        return ColorTextureEncoder()
    if kind == "text":
        from recbole_margo.encode.pretrained import SentenceEncoder

        return SentenceEncoder(name, device)
    if kind == "image":
        from recbole_margo.encode.pretrained import VisionEncoder

        return VisionEncoder(name, device)
    from recbole_margo.encode.pretrained import SoundEncoder

    return SoundEncoder(name, device)


def _check_overwrite(folder: Path, request: EncodingRequest) -> None:
    if request.overwrite or not FeatureManifest.path(folder, request.dataset).exists():
        return
    entry = FeatureManifest.read(folder, request.dataset).modalities.get(request.modality)
    if entry is not None and not entry.source.startswith(MADE_HERE):
        raise ConfigError(
            f"--modality: {request.dataset} has a modality {request.modality!r} that was not made "
            f"by encoding (it is from: {entry.source}). Choose another name and give --kind, or "
            "replace it with --overwrite."
        )


def _encode_together(
    contents: Mapping[str, str | Path], dimension: int, where: str
) -> ItemEncodings:
    """Encode texts by TF-IDF, where every vector depends on all texts."""
    result = ItemEncodings()
    texts: dict[str, str] = {}
    for item, content in contents.items():
        try:
            texts[item] = decode_text(read_content(content))
        except UnreadableContentError as error:
            result.unreadable[item] = str(error)
    if texts:
        matrix = text_features(list(texts.values()), dimension, where)
        result.vectors = dict(zip(texts, matrix, strict=True))
    return result


def _write(
    folder: Path,
    request: EncodingRequest,
    items: list[str],
    source: ItemSource,
    encodings: ItemEncodings,
    description: str,
    started: float,
) -> EncodingReport:
    if not encodings.vectors:
        item, reason = next(iter(encodings.unreadable.items()))
        raise FeatureError(
            f"{source.origin}: expected content that can be read, found none among "
            f"{len(source.contents)} items, such as {item}: {reason}"
        )
    tokens = [item for item in items if item in encodings.vectors]
    matrix = np.stack([encodings.vectors[item] for item in tokens])
    made_from = f"{MADE_HERE} {source.origin} by {description}"
    entry = write_features(folder, request.dataset, request.modality, matrix, tokens, made_from)
    return EncodingReport(
        dataset=request.dataset,
        modality=request.modality,
        encoder=description,
        source=source.origin,
        items=len(items),
        encoded=len(encodings.vectors) - encodings.reused,
        reused=encodings.reused,
        unreadable=encodings.unreadable,
        without_source=len(items) - len(source.contents),
        empty_vectors=len(tokens) - entry.rows,
        unknown=source.unknown,
        rows=entry.rows,
        dimension=entry.dim,
        seconds=time.perf_counter() - started,
    )
