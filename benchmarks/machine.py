"""What a benchmark ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import psutil
import torch
from threadpoolctl import threadpool_info

from recbole_margo.resources import available_cores, versions

CPU_INFORMATION = Path("/proc/cpuinfo")
GIBIBYTE = 2**30


def machine() -> dict[str, Any]:
    """Return what matters of this machine for how long something takes."""
    found: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "blas": sorted({library["internal_api"] for library in threadpool_info()}),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {"gpu": card.name, "gpu_memory_bytes": card.total_memory}
    return found


def machine_facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of each fact of `machine`, for people."""
    facts = [
        ("processor", f"{found['cpu']} ({found['cpu_capability']})"),
        ("cores", f"{found['cores']}, {found['threads']} threads used"),
        ("memory", f"{found['memory_bytes'] / GIBIBYTE:.0f} GiB"),
        ("system", found["system"]),
    ]
    if "gpu" in found:
        facts.append(("GPU", f"{found['gpu']}, {found['gpu_memory_bytes'] / GIBIBYTE:.0f} GiB"))
    facts.append(("versions", ", ".join(f"{k} {v}" for k, v in found["versions"].items())))
    return facts


def _cpu_model() -> str:
    try:
        for line in CPU_INFORMATION.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
