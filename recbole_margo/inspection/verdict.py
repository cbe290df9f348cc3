"""What is said of a modality as a whole."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """Whether the rows of a modality belong to its items; the value is what reports say."""

    FITS = "fits"
    WEAK = "weak but real"
    NO_SIGN = "no sign that they belong"
