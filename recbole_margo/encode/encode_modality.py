"""One encoding run, start to end: raw content to a modality of a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_margo.encode.encoding_request import (
    COLOR_TEXTURE,
    KIND_OF_ENCODER,
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
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.manifest import EncoderRecord, FeatureManifest
from recbole_margo.store.text_space import TFIDF, TextSpace
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
    if request.output_dir is None:
        found = _encode_dataset(request)
    else:
        found = _encode_new_items(request, request.output_dir)
    source, encodings = found.source, found.encodings
    if not encodings.vectors:
        raise _nothing_readable(source, encodings.unreadable)
    tokens = [item for item in found.items if item in encodings.vectors]
    matrix = np.stack([encodings.vectors[item] for item in tokens])
    entry = write_features(
        found.folder,
        request.dataset,
        request.modality,
        matrix,
        tokens,
        f"{MADE_HERE} {source.origin} by {found.description}",
        found.record,
    )
    report = EncodingReport(
        dataset=request.dataset,
        modality=request.modality,
        encoder=found.description,
        source=source.origin,
        items=len(found.items),
        encoded=len(encodings.vectors) - encodings.reused,
        reused=encodings.reused,
        unreadable=encodings.unreadable,
        without_source=len(found.items) - len(source.contents),
        empty_vectors=len(tokens) - entry.rows,
        unknown=source.unknown,
        rows=entry.rows,
        dimension=entry.dim,
        seconds=time.perf_counter() - started,
    )
    name = f"{request.dataset}.{request.modality}.encoding.json"
    write_json(found.folder / name, asdict(report))
    return report


@dataclass(frozen=True)
class _Encoded:
    """Vectors, of which items they should be, what made them and where they go."""

    folder: Path
    items: list[str]
    source: ItemSource
    encodings: ItemEncodings
    description: str
    record: EncoderRecord


def _encode_dataset(request: EncodingRequest) -> _Encoded:
    kind, name = request.chosen_kind(), request.chosen_encoder()
    folders = folder, interactions = dataset_folders(request.data_path, request.dataset)
    items = read_items(interactions, request.dataset)
    _check_overwrite(folder, request)
    make_output_folder(folder, "--data_path")
    source = ItemSource.find(
        kind, request.source, folders, request.dataset, items, request.columns_of_items
    )
    if name == TFIDF:
        description = "TF-IDF and truncated SVD"
        texts, unreadable = _readable_texts(source)
        space, matrix = TextSpace.fit(list(texts.values()), request.dimension, source.origin)
        space.write(TextSpace.path(folder, request.dataset, request.modality))
        fingerprint = space.fingerprint
        encodings = ItemEncodings(dict(zip(texts, matrix, strict=True)), unreadable)
    else:
        encoder = load_encoder(kind, name, request.device)
        description, fingerprint = encoder.description, encoder.identity
        encodings = _encode_each(request, encoder, source, folder)
    record = EncoderRecord(kind, name, fingerprint)
    return _Encoded(folder, items, source, encodings, description, record)


def _encode_new_items(request: EncodingRequest, output: Path) -> _Encoded:
    """Encode items that the dataset need not have by the encoder of its modality."""
    folder = dataset_folders(request.data_path, request.dataset)[0]
    record = _record_of(folder, request)
    if output.resolve() == folder.resolve():
        raise ConfigError(
            f"--output_dir: expected a folder of the new items alone, found {output}, that of the "
            "dataset."
        )
    source = ItemSource.of_path(record.kind, request.source or Path(), request.columns_of_items)
    if record.name == TFIDF:
        description = f"TF-IDF and truncated SVD of {request.dataset}"
        space = TextSpace.read(TextSpace.path(folder, request.dataset, request.modality))
        fingerprint = space.fingerprint
        encode = partial(_encode_texts, source, space.encode)
    else:
        encoder = load_encoder(record.kind, request.encoder or record.name, request.device)
        description, fingerprint = encoder.description, encoder.identity
        encode = partial(_encode_each, request, encoder, source, output)
    if fingerprint != record.fingerprint:
        raise FeatureError(
            f"{folder}: expected the {record.name} that made {request.modality!r} of "
            f"{request.dataset}, found another fit or other weights under this name. Encode the "
            "dataset again and train on it, or name that encoder's folder with --encoder."
        )
    make_output_folder(output, "--output_dir")
    return _Encoded(output, list(source.contents), source, encode(), description, record)


def _record_of(folder: Path, request: EncodingRequest) -> EncoderRecord:
    known = FeatureManifest.read(folder, request.dataset).modalities
    entry = known.get(request.modality)
    if entry is None:
        raise ConfigError(
            f"--modality: expected one of {', '.join(known)}, which {request.dataset} has, found "
            f"{request.modality!r}."
        )
    if entry.encoder is None:
        raise FeatureError(
            f"{folder}: expected {request.modality!r} made by an encoder that is known, found "
            f"{entry.source!r}. What made it must make the rows of new items too; or encode this "
            "modality with `recbole-margo encode` (older versions did not keep what they fitted) "
            "and train on it."
        )
    wanted = request.encoder
    if entry.encoder.name in KIND_OF_ENCODER and wanted not in (None, entry.encoder.name):
        raise ConfigError(
            f"--encoder: expected {entry.encoder.name}, which made {request.modality!r} of "
            f"{request.dataset}, found {wanted}. Leave it out."
        )
    return entry.encoder


def _encode_each(
    request: EncodingRequest, encoder: Encoder, source: ItemSource, folder: Path
) -> ItemEncodings:
    cache = EncodingCache(folder, encoder.identity)
    size = request.batch_size or encoder.batch_size
    label = f"encoding {request.modality}"
    return encode_items(encoder, source.contents, cache, size, label)


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


def _encode_texts(
    source: ItemSource, encode: Callable[[list[str]], NDArray[np.float32]]
) -> ItemEncodings:
    texts, unreadable = _readable_texts(source)
    vectors = dict(zip(texts, encode(list(texts.values())), strict=True))
    return ItemEncodings(vectors, unreadable)


def _readable_texts(source: ItemSource) -> tuple[dict[str, str], dict[str, str]]:
    """Return item -> text, at least one, and item -> why it has none."""
    texts: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for item, content in source.contents.items():
        try:
            texts[item] = decode_text(read_content(content))
        except UnreadableContentError as error:
            unreadable[item] = str(error)
    if not texts:
        raise _nothing_readable(source, unreadable)
    return texts, unreadable


def _nothing_readable(source: ItemSource, unreadable: dict[str, str]) -> FeatureError:
    item, reason = next(iter(unreadable.items()))
    return FeatureError(
        f"{source.origin}: expected content that can be read, found none among "
        f"{len(source.contents)} items, such as {item}: {reason}"
    )
