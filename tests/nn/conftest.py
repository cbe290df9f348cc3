from __future__ import annotations

from worlds import double_precision

__all__ = ["double_precision"]
