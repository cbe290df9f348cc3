"""What the other processes report when one of them is gone."""

from __future__ import annotations

from recbole_margo.errors import TrainingError


class LostProcessError(TrainingError):
    """Another process of the group ended or did not answer in time; the cause is with that one."""
