"""Why a checkpoint is not read."""

from __future__ import annotations

from recbole_margo.errors import CheckpointError


class RefusalError(CheckpointError):
    """A file holds what no checkpoint holds; the message completes "it ..."."""


class ForeignNameError(RefusalError):
    """A file names a class or function that RecBole does not write.

    Args:
        name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name:.200}, which RecBole does not write into a checkpoint")
