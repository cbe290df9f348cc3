"""The machine: cores, threads, instructions, memory, and the versions of what runs on it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

STATUS = Path("/proc/self/status")
CLEAR_REFERENCES = Path("/proc/self/clear_refs")
THREADS = "OMP_NUM_THREADS"
# The numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 2**30
RECORDED_PACKAGES = ("recbole-margo", "recbole", "torch", "numpy", "scipy", "pandas")


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of_each(processes: int) -> int:
    """Return how many threads each of some processes may have, as many as asked for at most."""
    share = max(1, available_cores() // processes)
    asked = os.environ.get(THREADS, "")
    return min(share, int(asked)) if asked.isdigit() and int(asked) else share


@contextmanager
def inherited_threads(threads: int) -> Iterator[None]:
    """Let processes that start while the context lasts have that many threads from the first."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def end_with_parent() -> None:
    """Wait until the process that started this one ends, and end at once; for a thread.

    A parent that was killed leaves nobody who waits for the results.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@cache
def onednn_linear() -> Callable[[Any, Any, Any], Any] | None:
    """Return oneDNN's X W^T + b as a function of X, W and b, where torch has it; else none.

    torch itself takes it for half precision only. The operator is the one that torch's compiler
    emits; it has no gradient.
    """
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    available: Any = torch.backends.mkldnn.is_available
    if operator is None or not available():
        return None
    return lambda matrix, weight, bias: operator(matrix, weight, bias, "none", [], "")


def multiplies_in_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; true where torch cannot tell."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    known = [getattr(torch.cpu, name) for name in names if hasattr(torch.cpu, name)]
    return not known or any(supported() for supported in known)


def keep_freed_memory() -> None:
    """Let glibc keep what the process frees from now on; does nothing on other systems.

    By default it gives large blocks back at once, and a training step that asks for the same ones
    again spends a tenth of its time on their first touch (docs/performance.md). What was freed
    before, when graphs were built, is given back.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.malloc_trim(0)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_KEPT)


def reset_peak_memory() -> None:
    """Start measuring peak memory anew, where the system allows it (Linux, CUDA)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        CLEAR_REFERENCES.write_text("5")
    except OSError:
        return


def peak_memory() -> dict[str, int]:
    """Return the peak memory in bytes since `reset_peak_memory`.

    Returns:
        `host`: the process's largest resident size (since its start where the system cannot
        reset it); `cuda`: the most that torch had allocated, if there is a GPU.
    """
    peak = {"host": _host_peak()}
    if torch.cuda.is_available():
        peak["cuda"] = torch.cuda.max_memory_allocated()
    return peak


def _host_peak() -> int:
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource  # every other system has it

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Return the versions of what the result depends on, by package."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
