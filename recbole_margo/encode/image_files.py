"""Decodes image files that nobody has checked."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from recbole_margo.encode.unreadable_content_error import UnreadableContentError

# Formats of photographs only: Pillow hands some others, such as EPS, to external programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LARGEST_PIXELS = 1 << 26


def decode_image(content: bytes) -> Image.Image:
    """Decode an image: upright, its first frame, RGB, transparency on white.

    Args:
        content: the bytes of the file.

    Returns:
        The image in mode RGB.

    Raises:
        UnreadableContentError: the bytes are no whole image of `FORMATS`, or stand for more than
            `LARGEST_PIXELS` pixels (a decompression bomb).
    """
    if not content:
        raise UnreadableContentError("expected an image, found an empty file")
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            # Pillow warns of files that it can read in part; and our own limit on pixels is lower.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=formats) as image:
                width, height = image.size
                if width * height > LARGEST_PIXELS:
                    raise UnreadableContentError(
                        f"expected at most {LARGEST_PIXELS:,} pixels, found {width:,} x {height:,}"
                    )
                image.load()
                return _on_white(ImageOps.exif_transpose(image))
    except UnreadableContentError:
        raise
    except Exception as error:
        # Pillow's readers meet damaged files with many kinds of errors: OSError, SyntaxError, ...
        raise UnreadableContentError(
            f"expected an image ({', '.join(formats)}), found {type(error).__name__}: {error}"
        ) from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # More than eight bits a pixel, which convert() would cut off instead of scale.
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        spread = np.ptp(values)
        scaled = (values - values.min()) * (255.0 / spread if spread else 0.0)
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
