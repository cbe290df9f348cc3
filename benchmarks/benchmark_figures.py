"""The figures of the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.contenders import NAIVE, OURS, RECBOLE
from benchmarks.peak_memory import PHASES as MEMORY_PHASES
from benchmarks.shown import MEBIBYTE, duration
from benchmarks.training_probe import PHASES
from benchmarks.workload import HALF, REDUCED, REDUCED_HALF
from recbole_margo.report.figures import COLORS, HATCHES, MARKERS, new_figure

STYLES = {
    OURS: (COLORS[0], "o"),
    NAIVE: (COLORS[1], "s"),
    RECBOLE: (COLORS[3], "D"),
    f"{OURS}, {REDUCED}": (COLORS[2], "^"),
    f"{OURS}, {HALF}": (COLORS[4], "v"),
    f"{OURS}, {REDUCED_HALF}": (COLORS[5], "P"),
}


def step_figure(results: Mapping[str, Any]) -> Figure | None:
    """Draw the phases of a step, a bar per contender, a panel per stage."""
    if "step" not in results:
        return None
    stages = results["step"]["stages"]
    bars = max(len(measured["contenders"]) for measured in stages.values())
    figure = new_figure(0.75 + len(stages) * (0.45 * bars + 0.65))
    panels = figure.subplots(len(stages), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (stage, measured) in zip(panels, stages.items(), strict=True):
        _draw_phases(panel, measured["contenders"])
        panel.set_title(stage, loc="left")
    longest = max(
        entry["step"]["median"]
        for measured in stages.values()
        for entry in measured["contenders"].values()
    )
    panels[-1].set_xlim(0, 1.15e3 * longest)
    panels[-1].set_xlabel("milliseconds a step (medians of the phases)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(PHASES))
    return figure


def _draw_phases(panel: Axes, contenders: Mapping[str, Any]) -> None:
    names = list(contenders)
    left = [0.0] * len(names)
    for number, phase in enumerate(PHASES):
        widths = [1e3 * contenders[name][phase]["median"] for name in names]
        panel.barh(
            range(len(names)),
            widths,
            left=left,
            height=0.62,
            color=COLORS[number],
            hatch=HATCHES[number],
            edgecolor="white",
            linewidth=0.5,
            label=phase,
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, (name, end) in enumerate(zip(names, left, strict=True)):
        panel.annotate(
            duration(contenders[name]["step"]["median"]),
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()


def overview_figure(results: Mapping[str, Any]) -> Figure | None:
    """Draw every task's time and the peak memory, a marker per contender, logarithmically."""
    tasks = _tasks(results)
    memory = results.get("memory", {}).get("contenders", {})
    if not tasks and not memory:
        return None
    heights = [rows for rows in (len(tasks), 1 if memory else 0) if rows]
    figure = new_figure(1.2 + 0.34 * sum(heights) + 0.55 * len(heights))
    panels = figure.subplots(len(heights), 1, height_ratios=[rows + 0.6 for rows in heights],
                             squeeze=False)[:, 0]  # fmt: skip
    if tasks:
        _draw_markers(panels[0], tasks)
        panels[0].set_xscale("log")
        panels[0].xaxis.set_minor_formatter(FuncFormatter(_two_and_five))
        panels[0].set_xlabel("seconds (logarithmic)")
        panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if memory:
        last = MEMORY_PHASES[-1]
        peaks = {
            name: entry["peaks"][last]["host"] / MEBIBYTE
            for name, entry in memory.items()
            if entry["peaks"]
        }
        _draw_markers(panels[-1], {"peak memory": peaks})
        panels[-1].set_xlim(0, 1.05 * max(peaks.values()))
        panels[-1].set_xlabel("MiB")
        panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=2)
    return figure


def _two_and_five(value: float, _: int) -> str:
    """Label the minor ticks of a logarithmic axis at 2 and 5."""
    digit = f"{value:e}"[0]
    return f"{value:g}" if digit in "25" else ""


def _tasks(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return task -> contender -> seconds."""
    tasks: dict[str, dict[str, float]] = {}
    for stage, entries in results.get("epoch", {}).get("stages", {}).items():
        tasks[f"epoch, {stage}"] = {
            name: entry["seconds"]["median"] for name, entry in entries.items()
        }
    for graph, entry in results.get("graph", {}).get("graphs", {}).items():
        tasks[graph] = {name: each["median"] for name, each in entry["contenders"].items()}
    if "evaluate" in results:
        contenders = results["evaluate"]["contenders"]
        tasks["evaluation"] = {name: each["median"] for name, each in contenders.items()}
    return tasks


def _draw_markers(panel: Axes, tasks: Mapping[str, Mapping[str, float]]) -> None:
    for place, (_, values) in enumerate(tasks.items()):
        panel.hlines(
            place, min(values.values()), max(values.values()), color="#999999", lw=1, zorder=1
        )
        for name, value in values.items():
            color, marker = STYLES[name]
            panel.scatter(value, place, s=42, color=color, marker=marker, label=name, zorder=2)
    panel.set_yticks(range(len(tasks)), list(tasks))
    panel.set_ylim(len(tasks) - 0.4, -0.6)
    panel.grid(axis="x")


def scaling_figure(results: Mapping[str, Any]) -> Figure | None:
    """Draw seconds of an epoch over the size, a panel per kind of size, with the fitted lines."""
    if "scaling" not in results:
        return None
    panels_of: dict[str, list[str]] = {}
    for name in results["scaling"]["series"]:
        panels_of.setdefault(name.partition(",")[0], []).append(name)
    figure = new_figure(3.2)
    panels = figure.subplots(1, len(panels_of), sharey=True, squeeze=False)[0]
    for panel, (kind, names) in zip(panels, panels_of.items(), strict=True):
        for number, name in enumerate(names):
            _draw_series(panel, name, results["scaling"]["series"][name], number)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panel.set_xlabel("training interactions" if kind == "interactions" else kind)
        panel.grid()
        panel.legend(loc="upper left")
        panel.margins(y=0.25)
    panels[0].set_ylabel("seconds an epoch")
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].yaxis.set_minor_formatter(FuncFormatter(_two_and_five))
    return figure


def _draw_series(panel: Axes, name: str, entry: Mapping[str, Any], number: int) -> None:
    sizes = entry["sizes"]
    medians = [each["median"] for each in entry["seconds"]]
    label = f"batch grows alike: size^{entry['exponent']:.2f}"
    if "," not in name:
        label = f"constant batch: size^{entry['exponent']:.2f}"
    color = COLORS[number]
    panel.errorbar(
        sizes,
        medians,
        yerr=[
            [each["median"] - each["least"] for each in entry["seconds"]],
            [each["largest"] - each["median"] for each in entry["seconds"]],
        ],
        fmt=MARKERS[number],
        color=color,
        capsize=2,
        label=label,
    )
    # The line of least squares goes through the mean of the logarithms.
    size, seconds = (np.exp(np.mean(np.log(values))) for values in (sizes, medians))
    fitted = seconds * (np.asarray(sizes) / size) ** entry["exponent"]
    panel.plot(sizes, fitted, color=color, lw=1, ls="--")


FIGURES = {
    "benchmarks-overview": overview_figure,
    "benchmarks-step": step_figure,
    "benchmarks-scaling": scaling_figure,
}
