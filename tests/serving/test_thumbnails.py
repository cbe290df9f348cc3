"""Thumbnails: made anew from images inside of the dataset's folder, and served as what they are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_bundle import HOSTILE, made_up_bundle
from PIL import Image

from recbole_margo.errors import BundleError
from recbole_margo.serving.bundle import Thumbnails
from recbole_margo.serving.bundle_files import open_bundle, write_bundle
from recbole_margo.serving.bundling import PIXELS, thumbnails_of
from recbole_margo.studies.audit.item_contents import THUMBNAIL_BYTES


def picture(path: Path, size: tuple[int, int] = (300, 200), **saved: object) -> Path:
    random = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random).save(path, **saved)
    return path


def test_a_thumbnail_is_small_and_holds_nothing_of_the_file_but_what_is_seen(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "foreign"
    path = picture(tmp_path / "a.jpg", (2000, 1000), comment=b"foreign", exif=exif)
    path.write_bytes(path.read_bytes() + b"<script>foreign</script>")
    found = thumbnails_of({"a": path}, ["a", "b"], [tmp_path])
    assert found is not None and found.of(1) == found.of(2) == b""
    small = found.of(0)
    assert b"foreign" in path.read_bytes() and b"foreign" not in small
    assert len(small) <= THUMBNAIL_BYTES  # of noise, which is the hardest to compress
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size) == ("JPEG", (PIXELS, PIXELS // 2))


def test_images_elsewhere_are_left_out_also_behind_a_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inside, outside = tmp_path / "shop", tmp_path / "private"
    images = {
        "own": picture(inside / "images" / "own.png"),
        "other": picture(outside / "other.png"),
        "up": inside / ".." / "private" / "other.png",
        "link": inside / "link.png",
        "damaged": inside / "damaged.png",
        "missing": inside / "missing.png",
    }
    images["link"].symlink_to(images["other"])
    images["damaged"].write_bytes(b"\x89PNG\r\n\x1a\n")
    found = thumbnails_of(images, list(images), [inside])
    assert found is not None
    assert [bool(found.of(row)) for row in range(6)] == [True, False, False, False, False, False]
    assert "3 images lie outside of" in caplog.text and "--images" in caplog.text
    assert "2 images cannot be read" in caplog.text
    named = thumbnails_of(images, list(images), [inside, outside])
    assert named is not None
    assert [bool(named.of(row)) for row in range(6)] == [True, True, True, True, False, False]
    assert thumbnails_of({}, ["a"], [inside]) is None


def test_a_bundle_keeps_them_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    bundle = made_up_bundle()
    assert bundle.thumbnails is not None
    write_bundle(bundle, tmp_path / "whole")
    opened = open_bundle(tmp_path / "whole").thumbnails
    assert opened is not None
    assert [opened.of(row) for row in range(12)] == [bundle.thumbnails.of(row) for row in range(12)]
    content, starts = bundle.thumbnails.content, bundle.thumbnails.starts
    for number, wrong in enumerate(
        (
            Thumbnails(content, starts[:-1]),
            Thumbnails(content, starts[::-1].copy()),
            Thumbnails(content, np.append(starts, [len(content)] * 3)),
            Thumbnails(content.astype(np.int16), starts),
        )
    ):
        write_bundle(replace(bundle, thumbnails=wrong), tmp_path / str(number))
        with pytest.raises(BundleError, match=r"do not fit|expected uint8"):
            open_bundle(tmp_path / str(number))


def test_bytes_that_are_no_image_are_not_shown() -> None:
    content = np.frombuffer(HOSTILE.encode(), np.uint8)
    assert Thumbnails(content, np.array([0, len(content)])).of(0) == b""
