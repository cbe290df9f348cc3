"""Several models on one split, in one table."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.config import Config, known_keys
from recbole_margo.data.protocol import check_dataset
from recbole_margo.defaults import read_yaml
from recbole_margo.errors import CheckpointError, ConfigError, RecBoleMargoError
from recbole_margo.registry import expand_names
from recbole_margo.report.tables import comparison_document
from recbole_margo.run import new_run_folder, resume_run, run_config, write_json

PLAN = "run.json"


def compare(
    models: Sequence[str],
    dataset: str = "ml-100k",
    config_files: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    output_dir: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Train models one after another on the same split and write one table.

    A value of the files or of `config_dict` goes to every model that knows its key. A model that
    fails is reported, and the others go on.

    Args:
        models: names of models, ours or RecBole's; `all` stands for ours, BPR and LightGCN.
        dataset: name of a dataset.
        config_files: YAML files.
        config_dict: values by key.
        output_dir: folder of the run; default `runs/<time>-<dataset>`.

    Returns:
        One result record per model; `status` is `finished` or `failed`.

    Raises:
        RecBoleMargoError: on a bad model name or key or a missing dataset, before anything is
            trained.
    """
    settings: dict[str, Any] = {}
    for file in config_files or []:
        settings.update(read_yaml(Path(file)))
    settings.update(config_dict or {})
    plan = {"models": expand_names(models), "dataset": dataset, "settings": settings}
    configs = _configs(plan)
    folder = Path(output_dir) if output_dir else new_run_folder(dataset)
    if (folder / PLAN).is_file():
        raise ConfigError(
            f"{folder} already holds a run: continue it with --resume={folder}, "
            "or name another --output_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / PLAN, plan)
    return _run_all(configs, folder)


def resume_comparison(folder: str | Path) -> list[dict[str, Any]]:
    """Continue an interrupted comparison: finished models are kept, the others are trained.

    Args:
        folder: the run's folder.

    Returns:
        One result record per model.

    Raises:
        CheckpointError: if the folder holds no run.
    """
    root = Path(folder)
    try:
        plan = json.loads((root / PLAN).read_text(encoding="utf-8"))
        configs = _configs(plan)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{root} does not hold a run that can be resumed: {error}") from error
    return _run_all(configs, root)


def _configs(plan: Mapping[str, Any]) -> dict[str, Config]:
    """Build every config before anything is trained, each with the keys that its model knows."""
    models, settings = plan["models"], plan["settings"]
    if not models:
        raise ConfigError("name at least one model")
    keys = {}
    for model in models:
        defaults = Config(model, plan["dataset"])
        keys[model] = known_keys(defaults.model_class, defaults.internal_config_dict)
    configs = {}
    for model in models:
        of_others = {key for other in models if other != model for key in keys[other]}
        taken = {
            key: value
            for key, value in settings.items()
            if key in keys[model] or key not in of_others
        }
        configs[model] = Config(model, plan["dataset"], config_dict=taken)
        check_dataset(configs[model])
    return configs


def _run_all(configs: Mapping[str, Config], root: Path) -> list[dict[str, Any]]:
    records = []
    for name, config in configs.items():
        try:
            records.append(_run_one(name, config, root / name))
        except KeyboardInterrupt:
            logging.getLogger().warning("Continue all models with --resume=%s", root)
            raise
        write_json(root / "comparison.json", records)
        (root / "comparison.md").write_text(comparison_document(records), encoding="utf-8")
    return records


def _run_one(name: str, config: Config, folder: Path) -> dict[str, Any]:
    result = folder / "result.json"
    if result.is_file():
        record: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return record
    last = folder / "checkpoint-last.pth"
    try:
        return resume_run(last) if last.is_file() else run_config(config, folder)
    except Exception as error:
        # One model's failure, whatever it is, must not cost the others their results.
        if not isinstance(error, RecBoleMargoError):
            logging.getLogger().exception("%s failed", name)
        return {"status": "failed", "model": name, "error": f"{type(error).__name__}: {error}"}
