"""The bundle: what serving needs of a trained model, as plain tables in a folder.

    bundle.json        format, model, dataset, metrics, blocks of the scores; size and SHA-256 of
                       every other file
    users.npy          user table [U, K]
    items.npy          item table [I, K]; a score is the inner product of two rows
    seen_starts.npy    [U + 1]: the items that user u knows stand from starts[u] to starts[u + 1]
    seen_items.npy     [E] rows of the item table
    fold_in.npy        [K, K] map from the mean item of a history to a user, see `fold_in`
    modality_weights.npy, modality_present.npy, modality_scores.npy, modality_q_values.npy
                       [I, M], where the model weighs modalities
    thumbnails.npy, thumbnail_starts.npy
                       small JPEG images of items one after another, see `Thumbnails`
    tokens.json        raw ids of users and items in the order of the rows, and items' titles

Nothing in it is code or pickle. Opening maps the tables from disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import BundleError
from recbole_margo.store.feature_files import file_sha256
from recbole_margo.store.reading import require_regular_file
from recbole_margo.store.writing import disk_errors, temporary_sibling

FORMAT = 1
MANIFEST, TOKENS = "bundle.json", "tokens.json"
# The largest manifest that is read.
MANIFEST_BYTES = 2**20
# How a JPEG file begins.
JPEG = b"\xff\xd8\xff"
REBUILD = "make it again with `recbole-margo bundle --run=RUN --output_dir=DIR`"


@dataclass(frozen=True)
class Block:
    """Columns of both tables whose products are one part of a score.

    Attributes:
        name: a modality, `id`, or `score` where a score has no parts.
        start: first column.
        stop: the column after the last.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class BundleFacts:
    """Where a bundle comes from.

    Attributes:
        model: name of the model.
        dataset: name of the dataset.
        seed: seed of the run.
        eval_protocol: evaluation protocol of the run.
        metrics: test metrics of the run by name; validation's where nothing was tested.
        versions: of the software that made it.
        modalities: names of the modalities [M], empty where the model has no weights for them.
        blocks: parts of a score, which cover all columns.
    """

    model: str
    dataset: str
    seed: int
    eval_protocol: str
    metrics: Mapping[str, float]
    versions: Mapping[str, str]
    modalities: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ModalityReliability:
    """How far each item's modalities are trusted.

    Attributes:
        weights: w [I, M], rows sum to 1.
        present: which items have which modality [I, M].
        scores: the held-out score that a row belongs to its item [I, M], the least suspicious the
            largest; NaN where nothing is known of an item.
        q_values: of the test that it does [I, M]; large where there is no sign of it, NaN as above.
    """

    weights: NDArray[np.float32]
    present: NDArray[np.bool_]
    scores: NDArray[np.float32]
    q_values: NDArray[np.float32]


@dataclass(frozen=True)
class Thumbnails:
    """Small images of items.

    Attributes:
        content: JPEG files one after another, bytes [T].
        starts: that of the item of row i stands from starts[i] to starts[i + 1], empty if it has
            none [I + 1]; items that were added later are not in it.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def of(self, row: int) -> bytes:
        """Return the JPEG file of an item, empty if it has none."""
        if row + 1 >= len(self.starts):
            return b""
        found = self.content[self.starts[row] : self.starts[row + 1]].tobytes()
        return found if found.startswith(JPEG) else b""

    def fit(self, items: int) -> bool:
        """Tell whether these can be of so many items."""
        starts = self.starts
        return (
            self.content.dtype == np.uint8
            and starts.dtype == np.int64
            and self.content.ndim == starts.ndim == 1
            and 1 <= len(starts) <= items + 1
            and starts[0] == 0
            and starts[-1] == len(self.content)
            and bool((np.diff(starts) >= 0).all())
        )


@dataclass(frozen=True)
class Bundle:
    """What serving needs of a trained model.

    Attributes:
        facts: where it comes from.
        user_ids: raw ids of users [U].
        item_ids: raw ids of items [I].
        titles: titles of items [I], empty texts where there are none.
        users: user table [U, K].
        items: item table [I, K].
        seen_starts: [U + 1].
        seen_items: rows of items that users know [E].
        fold_in: map [K, K] from the mean item of a history to a user.
        reliability: trust in the modalities, of a model that weighs them.
        thumbnails: small images of items, if there are any.
    """

    facts: BundleFacts
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    users: NDArray[np.float32]
    items: NDArray[np.float32]
    seen_starts: NDArray[np.int64]
    seen_items: NDArray[np.int32]
    fold_in: NDArray[np.float32]
    reliability: ModalityReliability | None = None
    thumbnails: Thumbnails | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the tables by the name of their file."""
        found: dict[str, NDArray[Any]] = {
            "users": self.users,
            "items": self.items,
            "seen_starts": self.seen_starts,
            "seen_items": self.seen_items,
            "fold_in": self.fold_in,
        }
        if self.reliability is not None:
            found["modality_weights"] = self.reliability.weights
            found["modality_present"] = self.reliability.present
            found["modality_scores"] = self.reliability.scores
            found["modality_q_values"] = self.reliability.q_values
        if self.thumbnails is not None:
            found["thumbnails"] = self.thumbnails.content
            found["thumbnail_starts"] = self.thumbnails.starts
        return found


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle into a folder, whole or not at all.

    Args:
        bundle: the bundle.
        folder: a path at which there is nothing, or an empty folder.

    Raises:
        BundleError: there is something already.
        DataError: it cannot be written.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise BundleError(
            f"{folder}: expected a path at which there is nothing yet, found something: name "
            "another --output_dir; a bundle that is in use is replaced by a new folder, not changed"
        )
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_sibling(folder)
        temporary.mkdir()
        try:
            for name, array in bundle.arrays().items():
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            tokens = {"users": bundle.user_ids, "items": bundle.item_ids, "titles": bundle.titles}
            (temporary / TOKENS).write_text(
                json.dumps(tokens, ensure_ascii=False), encoding="utf-8"
            )
            files = {
                path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
                for path in sorted(temporary.iterdir())
            }
            manifest = {"format": FORMAT, **asdict(bundle.facts), "files": files}
            (temporary / MANIFEST).write_text(
                json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            if folder.is_dir():
                folder.rmdir()
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def open_bundle(folder: str | Path) -> Bundle:
    """Open a bundle; its tables stay on disk and are read where they are asked for.

    Args:
        folder: what `write_bundle` wrote.

    Raises:
        BundleError: there is none, it is damaged, or a newer version made it.
    """
    root = Path(folder)
    manifest = _manifest(root)
    try:
        files = manifest.pop("files")
        manifest["blocks"] = tuple(Block(**block) for block in manifest["blocks"])
        manifest["modalities"] = tuple(manifest["modalities"])
        facts = BundleFacts(**manifest)
        described = {str(name): (int(of["bytes"]), str(of["sha256"])) for name, of in files.items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{root / MANIFEST} is damaged ({error}): {REBUILD}") from error
    tokens = _tokens(root, described)
    arrays = {
        name.removesuffix(".npy"): _array(root, name, described)
        for name in described
        if name.endswith(".npy")
    }
    try:
        reliability = None
        if facts.modalities:
            reliability = ModalityReliability(
                arrays.pop("modality_weights"),
                arrays.pop("modality_present"),
                arrays.pop("modality_scores"),
                arrays.pop("modality_q_values"),
            )
        thumbnails = None
        if "thumbnails" in arrays:
            thumbnails = Thumbnails(arrays.pop("thumbnails"), arrays.pop("thumbnail_starts"))
        named = ("users", "items", "seen_starts", "seen_items", "fold_in")
        if sorted(arrays) != sorted(named):
            raise LookupError(", ".join(sorted({*arrays} ^ {*named})))
        users, items, starts, seen, fold_in = (arrays[name] for name in named)
        bundle = Bundle(
            facts, *tokens, users, items, starts, seen, fold_in, reliability, thumbnails
        )
    except (LookupError, TypeError) as error:
        raise BundleError(f"{root}: a table is missing or unknown ({error}): {REBUILD}") from error
    _check_shapes(root, bundle)
    return bundle


def _manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{root}: expected a bundle with {MANIFEST}, found none: make one with "
            "`recbole-margo bundle --run=RUN --output_dir=DIR`"
        )
    require_regular_file(path)
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise ValueError(f"it has more than {MANIFEST_BYTES:,} bytes")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest.pop("format")
    except (OSError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({error}): {REBUILD}") from error
    if version != FORMAT:
        raise BundleError(
            f"{path}: expected format {FORMAT}, found {version!r:.40}: a bundle of a newer version "
            f"needs that version of recbole-margo, or {REBUILD}"
        )
    return dict(manifest)


def _checked(root: Path, name: str, described: Mapping[str, tuple[int, str]]) -> Path:
    """Return the path of a file that is the one described in the manifest."""
    if name not in described or Path(name).name != name:
        raise BundleError(f"{root / MANIFEST}: expected an entry for {name!r:.80}: {REBUILD}")
    path = root / name
    size, checksum = described[name]
    if not path.is_file():
        raise BundleError(f"{path}: expected a table of the bundle, found none: {REBUILD}")
    require_regular_file(path)
    found = path.stat().st_size
    if found != size:
        raise BundleError(f"{path}: expected {size:,} bytes, found {found:,}: {REBUILD}")
    if file_sha256(path) != checksum:
        raise BundleError(f"{path}: its SHA-256 is not that of the manifest: {REBUILD}")
    return path


def _tokens(
    root: Path, described: Mapping[str, tuple[int, str]]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    path = _checked(root, TOKENS, described)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        users, items, titles = (tuple(stored[name]) for name in ("users", "items", "titles"))
        if not all(isinstance(text, str) for text in (*users, *items, *titles)):
            raise ValueError("an id or a title is no text")
        if len(set(users)) < len(users) or len(set(items)) < len(items):
            raise ValueError("an id stands twice")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({error}): {REBUILD}") from error
    return users, items, titles


def _array(root: Path, name: str, described: Mapping[str, tuple[int, str]]) -> NDArray[Any]:
    path = _checked(root, name, described)
    if described[name][0] == 0:
        raise BundleError(f"{path} is empty: {REBUILD}")
    try:
        # An array without elements cannot be mapped.
        # A plain array over the map, because each slice of a memmap costs microseconds.
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError, MemoryError) as error:
            raise BundleError(f"{path} is no NumPy table ({error}): {REBUILD}") from error
    return array


def _check_shapes(root: Path, bundle: Bundle) -> None:
    users, items, width = len(bundle.user_ids), len(bundle.item_ids), bundle.items.shape[-1]
    modalities = len(bundle.facts.modalities)
    expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "users": ((users, width), np.float32),
        "items": ((items, width), np.float32),
        "seen_starts": ((users + 1,), np.int64),
        "seen_items": ((len(bundle.seen_items),), np.int32),
        "fold_in": ((width, width), np.float32),
        "modality_weights": ((items, modalities), np.float32),
        "modality_present": ((items, modalities), np.bool_),
        "modality_scores": ((items, modalities), np.float32),
        "modality_q_values": ((items, modalities), np.float32),
    }
    if bundle.thumbnails is not None and not bundle.thumbnails.fit(items):
        raise BundleError(f"{root}: its thumbnails do not fit its items: {REBUILD}")
    for name, array in replace(bundle, thumbnails=None).arrays().items():
        shape, kind = expected[name]
        if array.shape != shape or array.dtype != kind:
            raise BundleError(
                f"{root / name}.npy: expected {np.dtype(kind)} {shape}, found {array.dtype} "
                f"{array.shape}: {REBUILD}"
            )
    starts, seen = np.asarray(bundle.seen_starts), bundle.seen_items
    ordered = len(starts) > 0 and starts[0] == 0 and bool((np.diff(starts) >= 0).all())
    inside = len(seen) == 0 or (int(seen.min()) >= 0 and int(seen.max()) < items)
    ends = [0, *(block.stop for block in bundle.facts.blocks)]
    begins = [*(block.start for block in bundle.facts.blocks), width]
    if not ordered or starts[-1] != len(seen) or not inside or ends != begins:
        raise BundleError(f"{root}: its tables do not fit each other: {REBUILD}")
    if len(bundle.titles) != items:
        raise BundleError(f"{root / TOKENS} does not fit the tables: {REBUILD}")
