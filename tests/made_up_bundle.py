"""A small bundle with hostile ids and titles."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from recbole_margo.serving.bundle import Block, Bundle, BundleFacts, ModalityReliability, Thumbnails

HOSTILE = "<script>alert(1)</script>"
BIDI = "a\u202etxt.exe"


def made_up_bundle(users: int = 80, items: int = 12, seed: int = 0) -> Bundle:
    """Return a bundle with hostile ids and titles; every second item has a thumbnail."""
    rng = np.random.default_rng(seed)
    seen = np.sort(rng.permuted(np.tile(np.arange(items), (users, 1)), axis=1)[:, :3])
    titles = [f"Film {n}" for n in range(items)]
    titles[:3] = HOSTILE, BIDI, "x" * 10_000
    return Bundle(
        facts=BundleFacts(
            "MARGO",
            "shop",
            seed,
            "recbole",
            {"recall@20": 0.5},
            {},
            ("image", "text"),
            (Block("image", 0, 2), Block("text", 2, 4)),
        ),
        user_ids=("a/b c?&#", HOSTILE, *(f"u{n}" for n in range(2, users))),
        item_ids=("i/0 ?&#", *(f"i{n}" for n in range(1, items))),
        titles=tuple(titles),
        users=rng.normal(size=(users, 4)).astype(np.float32),
        items=rng.normal(size=(items, 4)).astype(np.float32),
        seen_starts=np.arange(0, 3 * users + 1, 3),
        seen_items=seen.ravel().astype(np.int32),
        fold_in=np.eye(4, dtype=np.float32),
        reliability=ModalityReliability(
            rng.dirichlet((1, 1), items).astype(np.float32),
            np.ones((items, 2), bool),
            np.stack([np.arange(items), -np.arange(items)], axis=1).astype(np.float32),
            np.stack([np.arange(items) % 2 * 0.9, np.full(items, np.nan)], 1).astype(np.float32),
        ),
        thumbnails=thumbnails(items),
    )


def jpeg(color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(stream, "JPEG")
    return stream.getvalue()


def thumbnails(items: int) -> Thumbnails:
    """Return an image of a color of its own for every second item."""
    files = [jpeg((20 * row, 90, 160)) if row % 2 else b"" for row in range(items)]
    starts = np.cumsum([0, *map(len, files)], dtype=np.int64)
    return Thumbnails(np.frombuffer(b"".join(files), np.uint8), starts)
