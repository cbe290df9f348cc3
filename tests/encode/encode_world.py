"""A small dataset folder without features, and what goes into it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

NAME = "tiny"
ITEMS = [f"item.{number}" for number in range(12)]
WORDS = ["red", "green", "blue", "round", "flat", "long", "warm", "cold", "loud"]


def write_dataset(data_path: Path) -> Path:
    """Write interactions of all items; return the dataset's folder."""
    folder = data_path / NAME
    folder.mkdir(parents=True)
    for split, part in (("train", ITEMS[:8]), ("valid", ITEMS[6:]), ("test", ITEMS[2:4])):
        rows = "".join(f"u\t{item}\n" for item in part)
        (folder / f"{NAME}.{split}.inter").write_text(f"user_id:token\titem_id:token\n{rows}")
    return folder


def text_of(item: str) -> str:
    number = ITEMS.index(item)
    return " ".join(WORDS[(number + step) % len(WORDS)] for step in range(3))


def png(seed: int, mode: str = "RGB", side: int = 24) -> bytes:
    """Return a PNG with blocks of random colours."""
    colors = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colors.repeat(side // 4, axis=0).repeat(side // 4, axis=1))
    stream = io.BytesIO()
    image.convert(mode).save(stream, "PNG")
    return stream.getvalue()


def write_images(folder: Path, items: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for item in items:
        (folder / f"{item}.png").write_bytes(png(ITEMS.index(item)))
    return folder
