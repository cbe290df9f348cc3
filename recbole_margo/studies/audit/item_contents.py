"""Titles, texts and pictures of items, where a dataset has them."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from recbole_margo.data.features import feature_folder
from recbole_margo.encode.images import decode_image
from recbole_margo.encode.item_source import ItemSource, UnreadableContentError, read_content
from recbole_margo.errors import DataError
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.columns import TITLE_NAMES, guess_column

THUMBNAIL_PIXELS = 96
# The first that is small enough is taken; that of the last is at most 7 KB at 160 pixels.
THUMBNAIL_QUALITIES, THUMBNAIL_BYTES = (80, 60, 30, 10), 12_000


@dataclass(frozen=True)
class NamedItem:
    """An item in a list: its token, and title and text, which are empty if it has none."""

    item: str
    title: str
    text: str


@dataclass(frozen=True)
class ItemContents:
    """Titles, texts and image files by item token, of the items that have them."""

    titles: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)

    def named(self, token: str) -> tuple[str, str, str]:
        """Return the fields of a `NamedItem`."""
        return token, self.titles.get(token, ""), self.texts.get(token, "")

    @classmethod
    def find(cls, config: Any, items: Sequence[str], images: Path | None = None) -> ItemContents:
        """Look for the contents where `recbole-margo encode` finds them.

        Titles come from `<name>.item`, texts from `<name>.texts.tsv` or else that file, images from
        `images` or else `<name>.images.tsv`. What a dataset does not have is left out.

        Args:
            images: a folder of files named by item, or a table with a column of paths.

        Raises:
            DataError: `images` is given and has none, or a file is damaged.
        """
        if images is not None and not images.exists():
            raise DataError(f"--images: expected a folder or a table, found no {images}.")
        name = config["dataset"]
        folders = (feature_folder(config), Path(config["data_path"]))
        # Beside features that lie elsewhere there are no texts.
        if not any(folders[0].glob(f"{name}.*s.tsv")):
            folders = (folders[1], folders[1])
        texts = _find("text", None, folders, name, items)
        pictures = _find("image", images, folders, name, items)
        return cls(
            _titles(folders[1] / f"{name}.item", set(items)),
            {item: str(text) for item, text in texts.items()},
            {item: Path(path) for item, path in pictures.items()},
        )

    def thumbnails(self, items: Iterable[str]) -> dict[str, str]:
        """Return small pictures of items, as addresses that hold the picture itself.

        Returns:
            Item token -> `data:image/jpeg;base64,...`; items without a readable image are left out.
        """
        found = {}
        for item in dict.fromkeys(items):
            if item not in self.images:
                continue
            try:
                small = thumbnail(read_content(self.images[item]), THUMBNAIL_PIXELS)
                found[item] = f"data:image/jpeg;base64,{base64.b64encode(small).decode('ascii')}"
            except UnreadableContentError as error:
                logging.getLogger().warning("The image of item %s is left out: %s", item, error)
        return found


def _find(
    kind: str, given: Path | None, folders: tuple[Path, Path], name: str, items: Sequence[str]
) -> dict[str, str | Path]:
    try:
        return ItemSource.find(kind, given, folders, name, items).contents
    except DataError as error:
        if given is not None:
            raise
        logging.getLogger().info("No %s of items is shown: %s", kind, error)
        return {}


def _titles(path: Path, wanted: set[str]) -> dict[str, str]:
    """Return the titles in RecBole's table of items."""
    if not path.is_file():
        return {}
    table = open_table(path, separator="\t", header=True)
    item = next((c for c in table.columns if c.partition(":")[0] == "item_id"), None)
    title = guess_column(table.columns, TITLE_NAMES)
    if item is None or title is None:
        return {}
    found: dict[str, str] = {}
    for piece in table.read([item, title], f"reading {path.name}"):
        for token, text in zip(piece[item].astype(str), piece[title].astype(str), strict=True):
            if token in wanted and text.strip():
                found.setdefault(token, " ".join(text.split()))
    return found


def thumbnail(content: bytes, pixels: int) -> bytes:
    """Return a small JPEG file of an image, of which it holds nothing but what is seen.

    Args:
        content: the bytes of a file that nobody has checked.
        pixels: the longer side.

    Raises:
        UnreadableContentError: the bytes are no image that is read.
    """
    image = decode_image(content)
    image.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    image.info = {}  # a comment in it would be written too
    for quality in THUMBNAIL_QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        if stream.tell() <= THUMBNAIL_BYTES:
            break
    return stream.getvalue()
