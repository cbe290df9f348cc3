"""One experiment from start to end: config, data, model, trainer, result record."""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import recbole.trainer.trainer
from recbole.utils import init_seed
from torch.utils.tensorboard import SummaryWriter

from dataset_converters.atomic import replacing
from recbole_margo.config import Config, config_from_checkpoint
from recbole_margo.data.protocol import load_dataset, prepare_loaders, split_fingerprint
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.evaluation.per_user import PerUserMetrics, evaluate_per_user
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.registry import find_trainer
from recbole_margo.report.weight_figures import weight_histograms
from recbole_margo.resources import peak_memory, reset_peak_memory, versions
from recbole_margo.training.checkpoint import plain_config, read_checkpoint
from recbole_margo.training.trainer import MultimodalTrainer

RECORD_FORMAT = 1
CHECKPOINT = "checkpoint.pth"
PER_USER = "per_user.npz"
ANSI_COLORS = re.compile(r"\x1B\[[0-9;]*m")


def run_recbole_margo(
    model: str | type[Any] = "MARGO",
    dataset: str = "ml-100k",
    config_files: list[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    output_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Train one model, test it once, and write down what came out.

    Args:
        model: name or class of a model, ours or RecBole's.
        dataset: name of a dataset.
        config_files: YAML files.
        config_dict: values by key.
        output_dir: folder of the run; default `runs/<time>-<dataset>`. The model's files go into
            a folder of its name there.

    Returns:
        The result record, as it is in `result.json`.

    Raises:
        RecBoleMargoError: on bad input; nothing has been trained then.
    """
    config = Config(model, dataset, config_files, dict(config_dict or {}))
    folder = Path(output_dir) if output_dir else new_run_folder(dataset)
    return run_config(config, folder / config["model"])


def resume_run(checkpoint: str | Path) -> dict[str, Any]:
    """Continue an interrupted run of one model with the numbers it would have had.

    Args:
        checkpoint: the run's `checkpoint-last.pth`; results go beside it.

    Returns:
        The result record.
    """
    path = Path(checkpoint)
    state = read_checkpoint(path)
    return run_config(config_from_checkpoint(state["config"]), path.parent, resume=path)


def new_run_folder(dataset: str) -> Path:
    """Return `runs/<time>-<dataset>`, a folder that does not exist yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"{stamp}-{dataset}"
    number = 2
    while folder.exists():
        folder = Path("runs") / f"{stamp}-{dataset}-{number}"
        number += 1
    return folder


def run_config(config: Config, folder: Path, resume: Path | None = None) -> dict[str, Any]:
    """Run one experiment.

    Args:
        config: the config.
        folder: where the record, checkpoints, log and figures of this model go.
        resume: checkpoint of an interrupted run of the same config.

    Returns:
        The result record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config["checkpoint_dir"] = str(folder)
    with logging_to(folder / "train.log"), tensorboard_in(folder / "tensorboard"):
        reset_peak_memory()
        loaders = load_split(config)
        logging.getLogger().info(_describe(config, loaders))
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        model = config.model_class(config, loaders[0]._dataset).to(config["device"])
        trainer = find_trainer(config.model_class, config["model"])(config, model)
        trainer.saved_model_file = str(folder / CHECKPOINT)
        if resume is not None:
            trainer.resume_checkpoint(resume)
        record, per_user = _train_and_test(config, model, trainer, loaders)
        if per_user is not None:
            per_user.save(folder / PER_USER)
        record["split"] = split_fingerprint(*loaders)
        _write_weights(model, trainer, loaders[0]._dataset, record, folder)
        write_json(folder / "result.json", record)
    return record


def load_split(config: Config) -> tuple[Any, Any, Any]:
    """Return the loaders of training, validation and test, split as `split_seed` says.

    Args:
        config: the config; without a `split_seed` its `seed` decides.
    """
    split_seed = config["seed"] if config["split_seed"] is None else config["split_seed"]
    init_seed(split_seed, config["reproducibility"])
    return prepare_loaders(config, load_dataset(config), config.model_class)


def _train_and_test(
    config: Config, model: Any, trainer: Any, loaders: tuple[Any, Any, Any]
) -> tuple[dict[str, Any], PerUserMetrics | None]:
    """Train, test once, and return the record and the test metrics of every user."""
    train, valid, test = loaders
    validations: list[tuple[int, float]] = []
    started = perf_counter()
    _, valid_result = trainer.fit(
        train,
        valid,
        show_progress=config["show_progress"] and sys.stderr.isatty(),
        callback_fn=lambda epoch, score: validations.append((epoch, float(score))),
    )
    seconds = perf_counter() - started
    if isinstance(trainer, MultimodalTrainer):
        stages = [stage.as_plain() for stage in trainer.progress]
        for stage in stages:
            file = trainer.stage_model_file(stage["name"])
            stage["valid"] = stage.pop("best_result")
            stage["test"], per_user = evaluate_per_user(trainer, test, str(file))
        seconds = sum(stage["seconds"] for stage in stages)
    else:
        test_result, per_user = evaluate_per_user(trainer, test)
        stages = [_recbole_stage(config, validations, seconds, valid_result, test_result)]
    first, last = stages[0]["best_score"], stages[-1]["best_score"]
    bigger = config["valid_metric_bigger"]
    record = {
        "format": RECORD_FORMAT,
        "status": "finished",
        "model": config["model"],
        "dataset": config["dataset"],
        "eval_protocol": config["eval_protocol"],
        "seed": config["seed"],
        "device": str(config["device"]),
        "valid_metric": config["valid_metric"],
        "modalities": list(getattr(model, "modalities", [])) or None,
        "stages": stages,
        "last_stage_is_best": None in (first, last) or (last >= first if bigger else last <= first),
        "valid": stages[-1]["valid"],
        "test": stages[-1]["test"],
        "hyperparameters": _hyperparameters(config, model),
        "config": plain_config(config),
        "feature_checksums": getattr(model, "feature_checksums", {}),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "versions": versions(),
    }
    return record, per_user


def _recbole_stage(
    config: Config,
    validations: list[tuple[int, float]],
    seconds: float,
    valid_result: Mapping[str, Any] | None,
    test_result: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe the training of one of RecBole's trainers, which keeps the later of two equals."""
    sign = 1 if config["valid_metric_bigger"] else -1
    best_epoch, best_score = -1, None
    for epoch, score in validations:
        if best_score is None or sign * score >= sign * best_score:
            best_epoch, best_score = epoch, score
    return {
        "name": "training",
        "epochs": validations[-1][0] + 1 if validations else config["epochs"],
        "best_epoch": best_epoch,
        "best_score": best_score,
        "seconds": seconds,
        "valid": _floats(valid_result or {}),
        "test": _floats(test_result),
    }


def _floats(result: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in result.items()}


def _hyperparameters(config: Config, model: Any) -> dict[str, Any]:
    names = ["learning_rate", "train_batch_size", "weight_decay", "epochs", "stopping_step"]
    if isinstance(model, MultimodalRecommender):
        names += list(model.parameters_class.descriptions())
        names += ["feature_normalization"]
    else:
        names += [name for name in config.internal_config_dict if name in _model_keys(config)]
    return {name: config[name] for name in dict.fromkeys(names)}


def _model_keys(config: Config) -> set[str]:
    from recbole_margo.config import known_keys

    general = {key for keys in config.parameters.values() for key in keys}
    return known_keys(config.model_class, {}) - general


def _describe(config: Config, loaders: tuple[Any, Any, Any]) -> str:
    sizes = " / ".join(str(len(loader._dataset)) for loader in loaders)
    train = loaders[0]._dataset
    return (
        f"{config['model']} on {config['dataset']}: {train.user_num - 1} users, "
        f"{train.item_num - 1} items, {sizes} interactions (train / valid / test), seed "
        f"{config['seed']}, protocol {config['eval_protocol']}, device {config['device']}"
    )


def _write_weights(
    model: Any, trainer: Any, dataset: Any, record: dict[str, Any], folder: Path
) -> None:
    if not hasattr(model, "item_weights") or getattr(model, "stage", None) == "stage1":
        return
    weights = ItemWeights.of_model(model, dataset)
    weights.save(folder / "weights.npz")
    title = f"Learned modality weights of {record['model']} on {record['dataset']}"
    weight_histograms(
        folder / "weights.png", weights.modalities, weights.weights, weights.present, title
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either the old or the new one."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


@contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """Let RecBole's trainers write TensorBoard events there, not into the working folder."""
    module = recbole.trainer.trainer
    original = module.get_tensorboard
    module.get_tensorboard = lambda logger: SummaryWriter(str(folder))
    try:
        yield
    finally:
        module.get_tensorboard = original


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log to the terminal and, without colours, to a file."""
    root = logging.getLogger()
    screen = logging.StreamHandler(sys.stderr)
    screen_formatter = logging.Formatter if sys.stderr.isatty() else _PlainFormatter
    screen.setFormatter(screen_formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    level, others = root.level, root.handlers[:]
    root.handlers[:] = [screen, file]
    root.setLevel(logging.INFO)
    try:
        yield
    except Exception:
        root.removeHandler(screen)
        root.exception("The run failed.")
        raise
    finally:
        file.close()
        root.handlers[:] = others
        root.setLevel(level)


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return ANSI_COLORS.sub("", super().format(record))
