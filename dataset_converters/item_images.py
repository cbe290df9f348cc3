"""Finds the images of items in a folder by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dataset_converters.errors import DataError
from dataset_converters.item_table import check_overlap

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def find_images(folder: Path, items: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Find `<item>.jpg` (or .png, .webp, ...) for every item, in a folder and those in it.

    Args:
        folder: the images.
        items: item tokens.

    Returns:
        Item -> image, in the order of `items`; and notes on files that were left out.

    Raises:
        DataError: the folder does not exist, or no image is named by an item.
    """
    if not folder.is_dir():
        raise DataError(f"--images: expected a folder, found that {folder} is none.")
    by_name: dict[str, Path] = {}
    repeated = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            repeated += path.stem in by_name
            by_name.setdefault(path.stem, path)
    if not by_name:
        raise DataError(f"{folder}: expected images ({', '.join(sorted(SUFFIXES))}), found none.")
    check_overlap([f"{name}" for name in by_name], items, folder)
    found = {item: by_name[item] for item in items if item in by_name}
    notes = []
    if repeated:
        notes.append(f"{repeated:,} images have the name of another; the first by path is used")
    if len(by_name) > len(found):
        notes.append(f"{len(by_name) - len(found):,} images belong to no item with interactions")
    return found, notes
