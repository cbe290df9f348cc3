"""Several models and several seeds on one split, with statistics over users."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.command_line import one_line
from recbole_margo.config import Config
from recbole_margo.data.features import modality_names
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.output_folder import check_unused, locked_folder, output_folder
from recbole_margo.settings.processes import check_other_machines
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import write_json
from recbole_margo.studies.comparison.page import write_comparison_report
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.comparison.summary import summarize
from recbole_margo.studies.runs.entry import Entry, build_configs, merged_settings
from recbole_margo.studies.runs.pool import check_workers
from recbole_margo.studies.runs.run_many import Job, check_results, run_sharing_stages

PLAN = "comparison-plan.json"
FULL_MODEL = "MARGO"
SUM, MEAN = "w/o weight", "w/o weight, mean"
ABLATIONS: dict[str, dict[str, Any]] = {
    SUM: {"item_weights": False},
    "w/o L_cal": {"alpha": 0.0},
    "w/o two-stage": {"two_stage": False},
    "w/o nograd": {"stop_gradient": False},
}


def compare_seeds(
    entries: Sequence[Entry],
    dataset: str = "ml-100k",
    seeds: Sequence[int] = (1, 2, 3),
    reference: str | None = None,
    config_files: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    output_dir: str | Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Comparison:
    """Train every entry with every seed on the same split, and write tables, tests and figures.

    A seed decides initial values, the order of the batches and the negative samples, never the
    split: that is drawn from `split_seed`, by default RecBole's `seed`. A run that fails is
    reported, and the others go on. Entries that differ only after their first stage train it once,
    with the numbers that each would have had by itself.

    Args:
        entries: what is trained.
        dataset: name of a dataset.
        seeds: seeds, each different.
        reference: label of the entry that the others are tested against; default: the first.
        config_files: YAML files.
        config_dict: values by key, for every entry that knows them.
        output_dir: folder of the comparison; default `runs/<time>-<dataset>`.
        workers: how many runs at a time, each in a process of its own if there are several; none:
            one, or as many as the cluster has room for.
        cluster: address of a Ray cluster that trains them; `local` starts one.

    Returns:
        What came out; its plain form is `summary.json`.

    Raises:
        RecBoleMargoError: on bad input, before anything is trained.
    """
    plan = {
        "entries": [entry.as_plain() for entry in entries],
        "dataset": dataset,
        "seeds": list(seeds),
        "reference": reference or (entries[0].label if entries else None),
        "settings": merged_settings(config_files, config_dict),
    }
    _check(plan)
    check_workers(workers, cluster)
    configs = _configs(plan)
    with output_folder(output_dir, dataset) as folder:
        check_unused(folder, "comparison")
        with locked_folder(folder):
            check_unused(folder, "comparison")
            write_json(folder / PLAN, plan)
            return _run_all(plan, configs, folder, workers, cluster)


def resume_seeds(
    folder: str | Path, workers: int | None = None, cluster: str | None = None
) -> Comparison:
    """Continue an interrupted comparison: finished runs are kept, failed and missing ones trained.

    Args:
        folder: the comparison's folder.
        workers: how many runs at a time.
        cluster: address of a Ray cluster.

    Returns:
        What came out.

    Raises:
        CheckpointError: if the folder holds no comparison.
    """
    root = Path(folder)
    check_workers(workers, cluster)
    try:
        plan = read_json(root / PLAN)
        _check(plan)
        configs = _configs(plan)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{root} does not hold a comparison that can be resumed: {one_line(error)}"
        ) from error
    entries = [Entry(**entry) for entry in plan["entries"]]
    check_results(entry.run_folder(root, seed) for seed in plan["seeds"] for entry in entries)
    with locked_folder(root):
        return _run_all(plan, configs, root, workers, cluster)


def _check(plan: Mapping[str, Any]) -> None:
    labels = [entry["label"] for entry in plan["entries"]]
    seeds = plan["seeds"]
    whole = all(type(seed) is int for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ConfigError(f"`seeds` must be different whole numbers, found {seeds}")
    if plan["reference"] not in labels:
        raise ConfigError(
            f"`reference` must be one of {', '.join(labels)}, found {plan['reference']!r}"
        )
    if "seed" in plan["settings"]:
        raise ConfigError(
            "a comparison takes its seeds from `seeds`; name the split's with `split_seed`"
        )


def _configs(plan: Mapping[str, Any]) -> dict[int, dict[str, Config]]:
    """Return config by seed and label."""
    entries = [Entry(**entry) for entry in plan["entries"]]
    split_seed = Config(entries[0].model, plan["dataset"])["seed"]
    configs = {
        seed: build_configs(
            entries, plan["dataset"], {"split_seed": split_seed, **plan["settings"], "seed": seed}
        )
        for seed in plan["seeds"]
    }
    for of_seed in configs.values():
        for config in of_seed.values():
            check_other_machines(config.external_config_dict, {}, "the plan of many runs")
    return configs


def _run_all(
    plan: Mapping[str, Any],
    configs: Mapping[int, Mapping[str, Config]],
    root: Path,
    workers: int | None,
    cluster: str | None,
) -> Comparison:
    entries = [Entry(**entry) for entry in plan["entries"]]
    jobs = {
        (entry.label, seed): Job(
            entry.label, configs[seed][entry.label], entry.run_folder(root, seed)
        )
        for seed in plan["seeds"]
        for entry in entries
    }
    try:
        done = run_sharing_stages(list(jobs.values()), workers, cluster)
    except KeyboardInterrupt:
        logging.getLogger().warning("Continue the comparison with --resume=%s", root)
        raise
    records = {
        entry.label: {
            seed: done[jobs[entry.label, seed].folder].as_plain() for seed in plan["seeds"]
        }
        for entry in entries
    }
    compared = summarize(plan, entries, records, root)
    write_comparison_report(root, compared)
    return compared


def ablation_entries(dataset: str, settings: Mapping[str, Any]) -> list[Entry]:
    """Return MARGO, its ablations, MARGO on each single modality, and DRAGON.

    `w/o weight` sums what MARGO's weights average, so that its loss sees larger scores. `w/o
    weight, mean` is the control: the sum divided by the number of modalities inside the loss.

    Args:
        dataset: name of the dataset.
        settings: values by key that all share; `modalities` among them says which there are.

    Returns:
        The entries, MARGO first. With one modality there are none of single modalities.

    Source: MARGO (arXiv 2504.16524), Table IV.
    """
    config = Config(FULL_MODEL, dataset, config_dict=dict(settings))
    modalities = modality_names(config)
    entries = Entry.of_models([FULL_MODEL])
    switches = dict(ABLATIONS)
    if len(modalities) > 1:
        switches[MEAN] = {**switches[SUM], "score_scale": config["score_scale"] / len(modalities)}
    entries += [Entry(label, FULL_MODEL, switch) for label, switch in switches.items()]
    if len(modalities) > 1:
        entries += [
            Entry(f"{FULL_MODEL} {modality}", FULL_MODEL, {"modalities": [modality]})
            for modality in modalities
        ]
    return entries + Entry.of_models(["DRAGON"])
