"""One experiment from start to end: config, data, model, trainer, result record."""

from __future__ import annotations

import inspect
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.utils import init_seed

from recbole_margo.config import Config, known_keys
from recbole_margo.data.features import FEATURE_SETTINGS
from recbole_margo.data.protocol import check_cutoffs, load_and_split, split_fingerprint
from recbole_margo.evaluation.cold_items import evaluate_cold_items
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.evaluation.per_user import PerUserMetrics, evaluate_per_user
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.output_folder import locked_folder, output_folder
from recbole_margo.resources import peak_memory, reset_peak_memory, versions
from recbole_margo.run_folder import RunFolder, RunResult, StageResult, with_current_paths
from recbole_margo.settings.checks import without_effect
from recbole_margo.settings.processes import SWITCHES, ProcessGroup, check_other_machines
from recbole_margo.training.checkpoint import SPLIT_FINGERPRINT, read_trained, reporting_full_disk
from recbole_margo.training.distributed import distributed_trainer, find_trainer
from recbole_margo.training.launch import launch
from recbole_margo.training.outputs import logging_to, silent, tensorboard_in
from recbole_margo.training.processes import (
    Processes,
    device_of,
    join,
    own_device,
    torchrun_rank,
    under_torchrun,
)
from recbole_margo.training.ranking_trainer import RankingTrainer
from recbole_margo.training.trainer import MultimodalTrainer


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
    with output_folder(output_dir, dataset) as folder:
        return _plain(run_config(config, folder / config["model"]))


def _plain(result: RunResult | None) -> dict[str, Any]:
    """Return a result as `result.json` has it; nothing where another process has it."""
    return result.as_plain() if result is not None else {}


def resume_run(checkpoint: str | Path, switches: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Continue an interrupted run of one model with the numbers it would have had.

    Args:
        checkpoint: the run's `checkpoint-last.pth`; results go beside it.
        switches: `nproc` and the like, where other processes go on than those that began.
    """
    return _plain(continue_run(checkpoint, switches))


def continue_run(
    checkpoint: str | Path, switches: Mapping[str, Any] | None = None
) -> RunResult | None:
    """Continue a run as `resume_run` does, and return its typed result as `run_config` does."""
    path = Path(checkpoint)
    settings = with_current_paths(read_trained(path).config, path.parent)
    if switches:
        settings = {key: value for key, value in settings.items() if key not in SWITCHES}
    check_other_machines(settings, {}, path)
    config = Config.from_plain({**settings, **(switches or {})})
    return run_config(config, path.parent, resume=path)


def run_config(config: Config, folder: Path, resume: Path | None = None) -> RunResult | None:
    """Run one experiment, in as many processes as the config or torchrun says.

    Args:
        folder: where the record, checkpoints, log and figures of this model go.
        resume: checkpoint of an interrupted run of the same config.

    Returns:
        The result; none where process 0 is on another machine or, under torchrun, in another
        process, which then has it.

    Raises:
        ConfigError: if another run writes into the folder, or nobody can.
        TrainingError: if one of several processes failed; all have ended then.
        SystemExit: instead of it under torchrun, which ends the others.
    """
    group = ProcessGroup.of_config(config)
    writes = torchrun_rank() == 0 if under_torchrun() else group.is_first
    with (
        locked_folder(folder) if writes else nullcontext(),
        reporting_full_disk(folder, folder),
    ):
        return _run_group(config, folder, resume, group)


def _run_group(
    config: Config, folder: Path, resume: Path | None, group: ProcessGroup
) -> RunResult | None:
    if under_torchrun():
        return _run_under_torchrun(config, folder, resume)
    if group.count == 1:
        return _run(config, folder, resume, Processes())
    device_of(config, 0, group.here)
    distributed_trainer(config.model_class, config["model"])  # refused before any process starts
    arguments = (config.as_plain(), config.model_class, folder, resume)
    launch(_run_in_process, arguments, group)
    return RunFolder(folder).read_result() if group.is_first else None


def _run_in_process(
    values: dict[str, Any], model_class: type[Any], folder: Path, resume: Path | None
) -> None:
    _run_joined(Config.from_plain(values, model_class), folder, resume)


def _run_joined(config: Config, folder: Path, resume: Path | None) -> RunResult | None:
    config["device"] = own_device(config)
    return _run(config, folder, resume, join(config["device"]))


def _run_under_torchrun(config: Config, folder: Path, resume: Path | None) -> RunResult | None:
    try:
        return _run_joined(config, folder, resume)
    except Exception as error:
        # The others wait for this process in vain: it must end, whatever else it was to train.
        logging.getLogger().exception("process %d failed", torchrun_rank())
        raise SystemExit(f"process {torchrun_rank()} failed: {error}") from error


def _run(
    config: Config, folder: Path, resume: Path | None, processes: Processes
) -> RunResult | None:
    config["checkpoint_dir"] = str(folder)
    files = RunFolder(folder)
    with ExitStack() as outputs:
        if processes.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            outputs.enter_context(logging_to(files.log))
            outputs.enter_context(tensorboard_in(files.tensorboard))
        else:
            # RecBole's trainers make this folder, which may be the first process's alone to make.
            config["checkpoint_dir"] = tempfile.gettempdir()
            for key in ("log_wandb", "save_dataset", "save_dataloaders"):
                config[key] = False
            outputs.enter_context(silent())
        reset_peak_memory()
        loaders = load_split(config)
        check_cutoffs(config, loaders[0]._dataset)
        config[SPLIT_FINGERPRINT] = split_fingerprint(*loaders)
        logging.getLogger().info(_describe(config, loaders, processes))
        logging.getLogger().info("Every epoch is written to %s", files.log)
        for sentence in without_effect(config):
            logging.getLogger().warning(sentence)
        init_seed(config["seed"], config["reproducibility"])
        model = config.model_class(config, loaders[0]._dataset).to(config["device"])
        trainer = _trainer(config, model, processes)
        trainer.saved_model_file = str(files.checkpoint)
        if resume is not None:
            trainer.resume_checkpoint(resume)
        fitted = _fit(config, trainer, loaders)
        result = None
        if processes.is_first:
            result = _tested(config, model, trainer, loaders, fitted, files, processes)
        processes.wait()  # for the test, whose failure all would share
    return result


def _tested(
    config: Config,
    model: Any,
    trainer: Any,
    loaders: tuple[Any, Any, Any],
    fitted: _Fitted,
    files: RunFolder,
    processes: Processes,
) -> RunResult:
    stages, per_user = _test(config, trainer, loaders[2], fitted)
    if per_user is not None:
        per_user.save(files.per_user)
    result = RunResult(
        model=config["model"],
        dataset=config["dataset"],
        eval_protocol=config["eval_protocol"],
        seed=config["seed"],
        device=str(config["device"]),
        valid_metric=config["valid_metric"],
        modalities=list(getattr(model, "modalities", [])) or None,
        stages=stages,
        last_stage_is_best=_last_is_best(config, stages),
        valid=stages[-1].valid,
        test=stages[-1].test,
        hyperparameters=_hyperparameters(config, model),
        config=config.as_plain(),
        feature_checksums=getattr(model, "feature_checksums", {}),
        parameters=_trained_parameters(model),
        seconds=sum(stage.seconds for stage in stages),
        peak_memory_bytes=peak_memory(),
        versions=versions(),
        processes=processes.count,
        split=config[SPLIT_FINGERPRINT],
        cold=_cold(config, loaders, model),
    )
    _write_weights(model, loaders[0]._dataset, result, files)
    files.write_result(result)
    return result


def _cold(config: Config, loaders: tuple[Any, Any, Any], model: Any) -> dict[str, Any] | None:
    """Return the metrics over the cold items in plain form, of the model as it was tested."""
    if config["cold_items"] is None:
        return None
    if hasattr(model, "eval"):
        model.eval()
    found = evaluate_cold_items(config, loaders, model)
    return asdict(found) if found is not None else None


def _trainer(config: Config, model: Any, processes: Processes) -> Any:
    if processes.count == 1:
        return find_trainer(config.model_class, config["model"])(config, model)
    return distributed_trainer(config.model_class, config["model"])(config, model, processes)


def load_split(config: Config) -> tuple[Any, Any, Any]:
    """Return the loaders of training, validation and test, as `load_and_split` makes them."""
    return load_and_split(config)[1]


@dataclass(frozen=True)
class _Fitted:
    validations: list[tuple[int, float]]
    valid_result: Mapping[str, Any] | None
    seconds: float


def _fit(config: Config, trainer: Any, loaders: tuple[Any, Any, Any]) -> _Fitted:
    validations: list[tuple[int, float]] = []
    options: dict[str, Any] = {}
    if "callback_fn" in inspect.signature(trainer.fit).parameters:  # decision trees take none
        options["callback_fn"] = lambda epoch, score: validations.append((epoch, float(score)))
    started = perf_counter()
    _, valid_result = trainer.fit(
        *loaders[:2],
        show_progress=config["show_progress"] and sys.stderr.isatty(),
        **options,
    )
    return _Fitted(validations, valid_result, perf_counter() - started)


def _test(
    config: Config, trainer: Any, test: Any, fitted: _Fitted
) -> tuple[tuple[StageResult, ...], PerUserMetrics | None]:
    """Test every stage once, and return their results and the test metrics of every user."""
    if not isinstance(trainer, MultimodalTrainer):
        best = trainer.saved_model_file if isinstance(trainer, RankingTrainer) else None
        test_result, per_user = evaluate_per_user(trainer, test, best)
        stage = _recbole_stage(config, trainer.epochs, fitted, test_result)
        _tell_end(config, stage)
        return (stage,), per_user
    stages = []
    for progress in trainer.progress:
        plain = asdict(progress)
        valid = plain.pop("best_result")
        file = trainer.stage_model_file(progress.name)
        test_result, per_user = evaluate_per_user(trainer, test, str(file))
        stages.append(StageResult(**plain, valid=valid, test=test_result))
    return tuple(stages), per_user


def _tell_end(config: Config, stage: StageResult) -> None:
    """Log how a training of RecBole's ended, as ours log the end of a stage."""
    if stage.best_score is not None:
        logging.getLogger().info(
            "%s ended after %d epochs; the best%s had %s %.4f.",
            stage.name,
            stage.epochs,
            f", epoch {stage.best_epoch + 1}," if stage.best_epoch >= 0 else "",
            config["valid_metric"].lower(),
            stage.best_score,
        )


def _trained_parameters(model: Any) -> int:
    found = model.parameters() if hasattr(model, "parameters") else ()  # trees have none
    return sum(parameter.numel() for parameter in found if parameter.requires_grad)


def _last_is_best(config: Config, stages: Sequence[StageResult]) -> bool | None:
    """Return whether no earlier stage is better than the last; none where nothing tells."""
    if len(stages) == 1:
        return True
    first, last = stages[0].best_score, stages[-1].best_score
    if first is None or last is None:
        return None
    return bool(last >= first if config["valid_metric_bigger"] else last <= first)


def _recbole_stage(
    config: Config, epochs: int, fitted: _Fitted, test_result: Mapping[str, Any]
) -> StageResult:
    """Describe the training of one of RecBole's trainers, which keeps the later of two equals."""
    validations = fitted.validations
    sign = 1 if config["valid_metric_bigger"] else -1
    best_epoch, best_score = -1, None
    for epoch, score in validations:
        if best_score is None or sign * score >= sign * best_score:
            best_epoch, best_score = epoch, score
    valid = _floats(fitted.valid_result or {})
    return StageResult(
        name="training",
        epochs=validations[-1][0] + 1 if validations else epochs,
        best_epoch=best_epoch,
        # Some validate without saying when.
        best_score=best_score if validations else valid.get(config["valid_metric"].lower()),
        seconds=fitted.seconds,
        valid=valid,
        test=_floats(test_result),
    )


def _floats(result: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in result.items()}


def _hyperparameters(config: Config, model: Any) -> dict[str, Any]:
    names = ["learning_rate", "train_batch_size", "weight_decay", "epochs", "stopping_step"]
    if isinstance(model, MultimodalRecommender):
        names += list(model.parameters_class.descriptions())
        names += [*FEATURE_SETTINGS, "item_neighbor_search", "matmul_precision"]
    else:
        general = {key for keys in config.parameters.values() for key in keys}
        own = known_keys(config.model_class, {}) - general
        names += [name for name in config.internal_config_dict if name in own]
    return {name: config[name] for name in dict.fromkeys(names)}


def _describe(config: Config, loaders: tuple[Any, Any, Any], processes: Processes) -> str:
    sizes = " / ".join(str(len(loader._dataset)) for loader in loaders)
    train = loaders[0]._dataset
    return (
        f"{config['model']} on {config['dataset']}: {train.user_num - 1} users, "
        f"{train.item_num - 1} items, {sizes} interactions (train / valid / test), seed "
        f"{config['seed']}, protocol {config['eval_protocol']}, device {config['device']}"
        + (f", {processes.count} processes" if processes.count > 1 else "")
    )


def _write_weights(model: Any, dataset: Any, result: RunResult, files: RunFolder) -> None:
    if not hasattr(model, "item_weights") or getattr(model, "stage", None) == "stage1":
        return
    weights = ItemWeights.of_model(model, dataset)
    weights.save(files.weights)
    logging.getLogger().info("Learned weights of %s: %s", result.model, weights.summary())
    title = f"Learned modality weights of {result.model} on {result.dataset}"
    weights.draw(files.weights_figure, title)
