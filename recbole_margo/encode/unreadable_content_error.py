"""The exception for one item whose content cannot be used."""

from __future__ import annotations

from recbole_margo.errors import FeatureError


class UnreadableContentError(FeatureError):
    """The text, image or sound of one item cannot be read; the item then misses the modality."""
