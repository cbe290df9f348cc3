"""Finds the images of items in a folder by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import IMAGE_SUFFIXES
from recbole_margo.store.tables.columns import check_overlap

# Names of images, and their folder -> item and its images' names; and notes.
NamesByItem = Callable[[Sequence[str], Path], tuple[dict[str, list[str]], list[str]]]


def find_images(
    folder: Path, items: Sequence[str], names_by_item: NamesByItem | None = None
) -> tuple[dict[str, Path], list[str]]:
    """Find `<item>.jpg` (or .png, .webp, ...) for every item, in a folder and those in it.

    Args:
        folder: the images.
        items: item tokens.
        names_by_item: says which names, without suffix, belong to which item, where they are not
            the item's token.

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
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            repeated += path.stem in by_name
            by_name.setdefault(path.stem, path)
    if not by_name:
        listed = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{folder}: expected images ({listed}), found none.")
    names_of = {name: [name] for name in by_name}
    notes: list[str] = []
    if names_by_item is not None:
        names_of, notes = names_by_item(list(by_name), folder)
    check_overlap(list(names_of), items, folder)
    found = {item: by_name[names_of[item][0]] for item in items if item in names_of}
    # Two names of one item, too: 0114709.jpg and tt0114709.jpg.
    repeated += sum(len(names_of[item]) - 1 for item in found)
    if repeated:
        notes.append(f"{repeated:,} images have the name of another; the first by path is used")
    used = {name for item in found for name in names_of[item]}
    if len(by_name) > len(used):
        notes.append(f"{len(by_name) - len(used):,} images belong to no item with interactions")
    return found, notes
