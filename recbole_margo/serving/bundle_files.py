"""Bundles on disk: written whole or not at all, checked when they are opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import BundleError, DataError
from recbole_margo.nn.content_path import KINDS, ContentPath
from recbole_margo.nn.new_items import Content
from recbole_margo.serving.bundle import (
    TABLES,
    Bundle,
    BundleFacts,
    ModalityReliability,
    Thumbnails,
    UserParts,
)
from recbole_margo.store.feature_files import file_sha256
from recbole_margo.store.manifest import EncoderRecord
from recbole_margo.store.plain import as_plain, from_plain
from recbole_margo.store.reading import require_regular_file
from recbole_margo.store.writing import new_folder

FORMAT, FORMATS = 2, (1, 2)
MANIFEST, TOKENS, CONTENT = "bundle.json", "tokens.json", "content_"
# The largest manifest that is read.
MANIFEST_BYTES = 2**20
REBUILD = "make it again with `recbole-margo bundle --run=RUN --output_dir=DIR`"


@dataclass(frozen=True)
class StoredFile:
    """The manifest's entry of another file."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what a stranger may have written."""
        if type(self.bytes) is not int or type(self.sha256) is not str:
            raise ValueError(f"`files` holds {self!r:.80}")


@dataclass(frozen=True)
class StoredContent:
    """A `Content` as it stands in the manifest, without its tables."""

    kind: str
    modalities: tuple[str, ...]
    numbers: Mapping[str, float]
    widths: tuple[int, ...]
    normalizations: tuple[str, ...]
    encoders: tuple[EncoderRecord | None, ...] = ()

    @classmethod
    def of(cls, content: Content) -> StoredContent:
        """Return what is stored of a content."""
        path, widths = content.path, content.widths
        described = (path.kind, path.modalities, path.numbers, widths, content.normalizations)
        return cls(*described, content.encoders)

    def with_tables(self, tables: Mapping[str, NDArray[Any]]) -> Content:
        """Return the content that was stored; a `ValueError` if this is none."""
        sizes = {len(self.modalities), len(self.widths), len(self.normalizations)}
        if self.kind not in KINDS or len(sizes) > 1:
            raise ValueError("`content` is of no known kind, or its parts do not fit each other")
        numbers = {name: float(value) for name, value in self.numbers.items()}
        path = ContentPath(self.kind, self.modalities, numbers, tables)
        return Content(path, self.widths, self.normalizations, self.encoders)


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle into a new or empty folder, whole or not at all.

    Raises:
        BundleError: there is something already.
        DataError: it cannot be written.
    """
    with new_folder(folder, BundleError) as temporary:
        for name, array in {**bundle.arrays(), **_content_arrays(bundle)}.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        tokens = {"users": bundle.user_ids, "items": bundle.item_ids, "titles": bundle.titles}
        (temporary / TOKENS).write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
        files = {
            path.name: StoredFile(path.stat().st_size, file_sha256(path))
            for path in sorted(temporary.iterdir())
        }
        manifest = {"format": FORMAT, **as_plain(bundle.facts), "files": as_plain(files)}
        if bundle.content is not None:
            manifest["content"] = as_plain(StoredContent.of(bundle.content))
        (temporary / MANIFEST).write_text(
            json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def open_bundle(folder: str | Path) -> Bundle:
    """Open a bundle; its tables stay on disk and are read where they are asked for.

    Raises:
        BundleError: there is none, it is damaged, or a newer version made it.
    """
    root = Path(folder)
    manifest = _manifest(root)
    try:
        facts = from_plain(BundleFacts, manifest)
        described = {name: from_plain(StoredFile, of) for name, of in manifest["files"].items()}
        stored = manifest.get("content")
        content = from_plain(StoredContent, stored) if stored else None
        of_items = content.with_tables(_LazyTables(root, described)) if content else None
    except (LookupError, TypeError, ValueError, AttributeError, DataError) as error:
        raise BundleError(f"{root / MANIFEST} is damaged ({error}): {REBUILD}") from error
    users, items, titles = _tokens(root, described)
    arrays = {
        name.removesuffix(".npy"): _array(root, name, described)
        for name in described
        if name.endswith(".npy") and not name.startswith(CONTENT)
    }
    try:
        reliability, thumbnails, history = _optional_tables(arrays, facts)
        if sorted(arrays) != sorted(TABLES):
            raise LookupError(", ".join(sorted({*arrays} ^ {*TABLES})))
        bundle = Bundle(
            facts,
            users,
            items,
            titles,
            **arrays,
            reliability=reliability,
            thumbnails=thumbnails,
            history=history,
            content=of_items,
        )
    except (LookupError, TypeError) as error:
        raise BundleError(f"{root}: a table is missing or unknown ({error}): {REBUILD}") from error
    _check_shapes(root, bundle)
    return bundle


def _optional_tables(
    arrays: dict[str, NDArray[Any]], facts: BundleFacts
) -> tuple[ModalityReliability | None, Thumbnails | None, UserParts | None]:
    """Take what only some bundles have out of the tables by name."""
    reliability = thumbnails = history = None
    names: tuple[str, ...]
    if facts.modalities:
        names = ("weights", "present", "scores", "q_values")
        tables = {name: arrays.pop(f"modality_{name}") for name in names}
        reliability = ModalityReliability(**tables, fitting=arrays.pop("modality_fitting", None))
    if "thumbnails" in arrays:
        thumbnails = Thumbnails(arrays.pop("thumbnails"), arrays.pop("thumbnail_starts"))
    if any(name.startswith("history_") for name in arrays):
        names = tuple(field.name for field in fields(UserParts))
        history = UserParts(**{name: arrays.pop(f"history_{name}") for name in names})
    return reliability, thumbnails, history


class _LazyTables(Mapping[str, NDArray[Any]]):
    """The tables of the contents, each checked and mapped when it is asked for."""

    def __init__(self, root: Path, described: Mapping[str, StoredFile]) -> None:
        self._root, self._described = root, described
        self._opened: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self:
            raise KeyError(name)
        if name not in self._opened:
            self._opened[name] = _array(self._root, f"{CONTENT}{name}.npy", self._described)
        return self._opened[name]

    def __contains__(self, name: object) -> bool:
        return f"{CONTENT}{name}.npy" in self._described

    def __iter__(self) -> Iterator[str]:
        files = (name for name in self._described if name.startswith(CONTENT))
        return (name.removeprefix(CONTENT).removesuffix(".npy") for name in files)

    def __len__(self) -> int:
        return len(list(iter(self)))


def _content_arrays(bundle: Bundle) -> dict[str, NDArray[Any]]:
    tables = bundle.content.path.tables if bundle.content else {}
    return {f"{CONTENT}{name}": table for name, table in tables.items()}


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
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({error}): {REBUILD}") from error
    if version not in FORMATS:
        raise BundleError(
            f"{path}: expected format {FORMAT} or an older one, found {version!r:.40}: a bundle of "
            f"a newer version needs that version of recbole-margo, or {REBUILD}"
        )
    return dict(manifest)


def _checked(root: Path, name: str, described: Mapping[str, StoredFile]) -> Path:
    """Return the path of a file that is the one described in the manifest."""
    if name not in described or Path(name).name != name:
        raise BundleError(f"{root / MANIFEST}: expected an entry for {name!r:.80}: {REBUILD}")
    path = root / name
    size, checksum = described[name].bytes, described[name].sha256
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
    root: Path, described: Mapping[str, StoredFile]
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


def _array(root: Path, name: str, described: Mapping[str, StoredFile]) -> NDArray[Any]:
    path = _checked(root, name, described)
    try:
        try:
            # A plain array over the map, because each slice of a memmap costs microseconds.
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except ValueError:  # an array without elements cannot be mapped
            empty: NDArray[Any] = np.load(path, allow_pickle=False)
            return empty
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise BundleError(f"{path} is no NumPy table ({error}): {REBUILD}") from error


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
        "modality_fitting": ((modalities, 3), np.float32),
    }
    if bundle.history is not None:
        edges, parts = len(bundle.history.items), bundle.history.weights.shape[-1]
        expected |= {
            "history_own": ((users, width), np.float32),
            "history_sources": ((len(bundle.history.sources), width), np.float32),
            "history_starts": ((users + 1,), np.int64),
            "history_items": ((edges,), np.int32),
            "history_weights": ((edges, parts), np.float32),
        }
    pictures = bundle.thumbnails
    if pictures is not None:
        expected["thumbnails"] = ((len(pictures.content),), np.uint8)
        expected["thumbnail_starts"] = ((len(pictures.starts),), np.int64)
    for name, array in bundle.arrays().items():
        shape, kind = expected[name]
        if array.shape != shape or array.dtype != kind:
            raise BundleError(
                f"{root / name}.npy: expected {np.dtype(kind)} {shape}, found {array.dtype} "
                f"{array.shape}: {REBUILD}"
            )
    whole = _points_inside(bundle.seen_starts, bundle.seen_items, items)
    parts = bundle.history
    if parts is not None:
        whole &= _points_inside(parts.starts, parts.items, len(parts.sources))
        whole &= parts.weights.shape[1] in (1, len(bundle.facts.blocks))
        whole &= len(parts.sources) <= items
    if pictures is not None:
        whole &= _in_order(pictures.starts, len(pictures.content))
        whole &= len(pictures.starts) <= items + 1
    ends = [0, *(block.stop for block in bundle.facts.blocks)]
    begins = [*(block.start for block in bundle.facts.blocks), width]
    if not whole or ends != begins:
        raise BundleError(f"{root}: its tables do not fit each other: {REBUILD}")
    if len(bundle.titles) != items:
        raise BundleError(f"{root / TOKENS} does not fit the tables: {REBUILD}")


def _points_inside(starts: NDArray[Any], rows: NDArray[Any], count: int) -> bool:
    """Return whether lists of rows, one after the other, are in order and inside a table."""
    inside = len(rows) == 0 or (int(rows.min()) >= 0 and int(rows.max()) < count)
    return inside and _in_order(starts, len(rows))


def _in_order(starts: NDArray[Any], stop: int) -> bool:
    ends = np.diff(np.asarray(starts), prepend=0, append=stop)
    return len(starts) > 0 and not ends[0] and not ends[-1] and bool((ends >= 0).all())
