"""What the benchmarks write: a page, the numbers and the figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import evaluation_times, graph_times, peak_memory, scaling, training_times
from benchmarks.benchmark_figures import FIGURES
from benchmarks.machine import machine_facts
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report.document import Table, markdown_table, markdown_text
from recbole_margo.report.figures import draw, figure_files
from recbole_margo.report.rendering import json_text, write_texts

FORMAT = 2
JSON, MARKDOWN = "benchmarks.json", "benchmarks.md"
TABLES: dict[str, Callable[[Mapping[str, Any]], Table]] = {
    "step": training_times.step_table,
    "epoch": training_times.epoch_table,
    "graph": graph_times.table,
    "evaluate": evaluation_times.table,
    "memory": peak_memory.table,
    "scaling": scaling.table,
}


def earlier_results(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results by topic of earlier runs in a folder that measured the same.

    Args:
        folder: of the output.
        about: machine and settings.

    Raises:
        RecBoleMargoError: if there are results of another machine or other settings, which must
            neither be mixed with these nor be lost.
    """
    file = folder / JSON
    if not file.is_file():
        return {}
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        before, results = dict(stored["about"]), dict(stored["results"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecBoleMargoError(
            f"{file} does not hold results of benchmarks ({error!r}): remove it, or choose "
            "another --output_dir"
        ) from error
    other = _differences(before, json.loads(json_text(about)))
    if other:
        raise RecBoleMargoError(
            f"{file} holds results with another {', '.join(other)}: choose another --output_dir, "
            "or remove the file"
        )
    return results


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs, for example `model (DRAGON, now MARGO)`."""
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new)
        elif old != new:
            found.append(f"{key} ({old}, now {new})")
    return found


def write_report(folder: Path, about: Mapping[str, Any], results: Mapping[str, Any]) -> list[Path]:
    """Write everything; what is there already is replaced.

    Args:
        folder: where to.
        about: machine and settings.
        results: by topic.

    Returns:
        The files.
    """
    ordered = {topic: results[topic] for topic in TABLES if topic in results}
    texts = {
        JSON: json_text({"about": about, "results": ordered}),
        MARKDOWN: _markdown(about, ordered),
    }
    files = write_texts(folder, texts)
    drawn = [name for name in FIGURES if draw(folder / name, partial(FIGURES[name], ordered))]
    return files + figure_files(folder, drawn)


def _markdown(about: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    workload = about["workload"]
    shape = workload["shape"]
    lines = [
        f"# {markdown_text(workload['model'])} at the size of {markdown_text(shape['name'])}",
        "",
        f"- data: {shape['users']:,} users, {shape['items']:,} items, {shape['train']:,} training "
        f"interactions, {markdown_text(workload['interactions'])}",
        "- features: "
        + ", ".join(f"{name} {columns}" for name, columns in shape["columns"].items()),
        f"- batch: {shape['batch']} triplets, on {workload['device']}",
        *(f"- {name}: {markdown_text(fact)}" for name, fact in machine_facts(about["machine"])),
        "",
    ]
    for topic, result in results.items():
        lines += [
            *markdown_table(TABLES[topic](result)),
            f"`{result['command']}`, {result['begun']}",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"
