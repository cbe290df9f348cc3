"""The C library's default treatment of freed memory, for contenders that do not change it."""

from __future__ import annotations

import ctypes
import platform

from recbole_margo.resources import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD

# glibc raises its thresholds as blocks are freed, up to these.
LARGEST_MMAP_THRESHOLD = 32 * 2**20
LARGEST_TRIM_THRESHOLD = 2 * LARGEST_MMAP_THRESHOLD


def use_default_allocator() -> None:
    """Undo `recbole_margo.resources.keep_freed_memory`; does nothing on systems without glibc.

    The thresholds are set to the largest that glibc comes to by itself, the best of its defaults
    for a program that has run for a while.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
        library.malloc_trim(0)
