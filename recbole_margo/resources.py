"""How much memory a run took, and what it ran on."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFERENCES = Path("/proc/self/clear_refs")
RECORDED_PACKAGES = ("recbole-margo", "recbole", "torch", "numpy", "scipy", "pandas")


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
