"""Small images of a catalogue's items, for the pages of the service."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recbole_margo.encode.encoder import UnreadableContentError
from recbole_margo.encode.item_source import read_content
from recbole_margo.serving.bundle import Thumbnails
from recbole_margo.studies.audit.item_contents import thumbnail

PIXELS = 160


def thumbnails_of(
    images: dict[str, Path], item_ids: Sequence[str], folders: Sequence[Path]
) -> Thumbnails | None:
    """Make thumbnails of the images that lie in some folders, none if there are none.

    A list of images may come from a stranger, and a thumbnail is shown to whoever opens the page:
    so a file elsewhere on this machine is left out, also behind a link.

    Args:
        images: item -> file.
        item_ids: raw ids of items in the order of their rows [I].
        folders: where images may lie.
    """
    inside = [folder.resolve() for folder in folders]
    elsewhere, unreadable, found = 0, 0, []
    for item in tqdm(item_ids, "thumbnails", leave=False, disable=None, delay=3.0):
        small = b""
        if item in images:
            path = images[item].resolve()
            if not any(path.is_relative_to(folder) for folder in inside):
                elsewhere += 1
            else:
                try:
                    small = thumbnail(read_content(path), PIXELS)
                except UnreadableContentError:
                    unreadable += 1
        found.append(small)
    if elsewhere:
        logging.getLogger().warning(
            "%d images lie outside of %s and get no thumbnail: name their folder with --images.",
            elsewhere,
            " and ".join(dict.fromkeys(map(str, folders))),
        )
    if unreadable:
        logging.getLogger().warning("%d images cannot be read and get no thumbnail.", unreadable)
    if not any(found):
        return None
    starts = np.cumsum([0, *map(len, found)], dtype=np.int64)
    return Thumbnails(np.frombuffer(b"".join(found), np.uint8), starts)
