"""A model's quality over the values of its hyper-parameters, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.output_folder import output_folder
from recbole_margo.registry import find_model
from recbole_margo.store.reading import read_json
from recbole_margo.studies.comparison.compare_seeds import PLAN, compare_seeds, resume_seeds
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.runs.entry import Entry, build_configs, merged_settings
from recbole_margo.studies.sweep.page import write_sweep_report
from recbole_margo.studies.sweep.result import Sweep, hyperparameter_of, value_text

PUBLISHED_POINTS = 5
# What decides on which data and by which metric a model is judged is no hyper-parameter of it.
JUDGING_KEYS = frozenset(
    {
        "model",
        "dataset",
        "data_path",
        "seed",
        "split_seed",
        "eval_args",
        "eval_protocol",
        "eval_step",
        "metrics",
        "topk",
        "valid_metric",
        "valid_metric_bigger",
        "repeatable",
    }
)


def sweep(
    model: str,
    over: Mapping[str, Sequence[Any] | None],
    dataset: str = "ml-100k",
    seeds: Sequence[int] = (1, 2, 3),
    config_files: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    output_dir: str | Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Sweep:
    """Train a model along one hyper-parameter at a time, the others at their own value.

    The run with every hyper-parameter at its own value is a point of each curve and is trained
    once. Runs are those of `compare_seeds`, whose report is written too.

    Args:
        model: name of a model, ours or RecBole's.
        over: values by key; none: about five values of the published search range.
        dataset: name of a dataset.
        seeds: seeds, each different.
        config_files: YAML files.
        config_dict: values by key for every run.
        output_dir: folder of the sweep; default `runs/<time>-<dataset>`.
        workers: how many runs are trained at the same time.
        cluster: address of a Ray cluster that trains them.

    Returns:
        The sweep.

    Raises:
        RecBoleMargoError: on bad input, before anything is trained.
    """
    settings = merged_settings(config_files, config_dict)
    entries = sweep_entries(model, over, dataset, settings)
    with output_folder(output_dir, dataset) as folder:
        compared = compare_seeds(
            entries,
            dataset,
            seeds,
            config_dict=settings,
            output_dir=folder,
            workers=workers,
            cluster=cluster,
        )
        return _write(folder, compared)


def resume_sweep(
    folder: str | Path, workers: int | None = None, cluster: str | None = None
) -> Sweep:
    """Continue an interrupted sweep: finished runs are kept, failed and missing ones trained.

    Args:
        folder: the sweep's folder.
        workers: how many runs are trained at the same time.
        cluster: address of a Ray cluster that trains them.

    Returns:
        The sweep.

    Raises:
        CheckpointError: if the folder holds no sweep.
    """
    root = Path(folder)
    try:
        plan = read_json(root / PLAN)
        first, *others = [Entry(**entry) for entry in plan["entries"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{root} does not hold a sweep that can be resumed: {error}"
        ) from error
    one_key_each = all(len(entry.settings) == 1 for entry in others)
    same_model = {entry.model for entry in others} == {first.model}
    if first.settings or not one_key_each or not same_model:
        raise CheckpointError(
            f"{root} holds a comparison of models, not a sweep: continue it with "
            f"`recbole-margo compare --resume={root}`"
        )
    return _write(root, resume_seeds(root, workers, cluster))


def sweep_entries(
    model: str, over: Mapping[str, Sequence[Any] | None], dataset: str, settings: Mapping[str, Any]
) -> list[Entry]:
    """Return what a sweep trains: the model as it is, then each value that differs from its own.

    Args:
        model: name of the model.
        over: values by key; none: of the published search range.
        dataset: name of the dataset.
        settings: values by key that all share.

    Raises:
        RecBoleMargoError: if a key or a value is not one of the model's, or nothing varies.
    """
    if not over:
        raise ConfigError("name what to sweep over, such as --over alpha=0.01,0.1,1,10")
    model_class = find_model(model)
    values = {}
    for key, listed in over.items():
        if key in JUDGING_KEYS:
            raise ConfigError(
                f"`{key}` cannot be swept over: it decides how a model is judged, not what it is"
            )
        values[key] = list(published_values(model_class, key) if listed is None else listed)
    own = Entry(model, model)
    first_of_each = [Entry(f"{key}=", model, {key: found[0]}) for key, found in values.items()]
    config = build_configs([own, *first_of_each], dataset, settings)[own.label]
    entries = [own]
    for key, listed in values.items():
        others = [value for value in listed if not same_value(value, config[key])]
        entries += [Entry(f"{key}={value_text(value)}", model, {key: value}) for value in others]
        if not others:
            raise ConfigError(
                f"--over {key}: expected a value other than the model's own, found only "
                f"{value_text(config[key])}"
            )
    labels = [entry.label for entry in entries]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"--over names a value twice: {', '.join(twice)}")
    return entries


def published_values(model_class: type[Any], key: str, count: int = PUBLISHED_POINTS) -> list[Any]:
    """Return values of a hyper-parameter's published search range, rounded to two digits.

    Args:
        model_class: class of the model.
        key: the hyper-parameter.
        count: how many, where the range is no list.

    Raises:
        ConfigError: if the model publishes no range for it.
    """
    known = hyperparameter_of(model_class, key)
    if known is None or not (known.search or known.choices):
        raise ConfigError(
            f"{model_class.__name__} has no published search range for `{key}`: write the values, "
            f"--over {key}=VALUE,VALUE"
        )
    if not isinstance(known.search, tuple):
        return list(known.search or known.choices or ())
    low, high, scale = known.search
    steps = np.geomspace(low, high, count) if scale == "log" else np.linspace(low, high, count)
    return list(dict.fromkeys(float(f"{step:.2g}") for step in steps))


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values of a key mean the same; 1 and 1.0 do, 1 and true do not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _write(folder: Path, compared: Comparison) -> Sweep:
    swept = Sweep.of_comparison(compared)
    write_sweep_report(folder, swept)
    return swept
