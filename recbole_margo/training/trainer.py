"""The trainer of the multimodal models: stages, exact resumption, unrounded early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from recbole.trainer import Trainer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_margo.errors import CheckpointError, ConfigError, TrainingError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.training.checkpoint import (
    CHECKPOINT_FORMAT,
    id_maps,
    plain_config,
    random_states,
    read_checkpoint,
    restore_random_states,
    write_checkpoint,
)
from recbole_margo.training.epoch_losses import EpochLosses
from recbole_margo.training.stages import StageProgress

# RecBole's metrics can only be had rounded; 15 decimals are all that a double in [0, 1] has.
UNROUNDED = 15


class MultimodalTrainer(Trainer):  # type: ignore[misc]
    """Trains a `MultimodalRecommender` through its stages.

    Each stage has its own optimiser and its own early stopping on the unrounded validation metric,
    ends with its best parameters restored, and hands them to the next. After every epoch the
    whole state is written to `<model>-last.pth`; the best epoch of the last stage is in
    `saved_model_file`, that of an earlier stage in `<model>-<stage>.pth`.

    Args:
        config: RecBole's `Config`.
        model: the model, on its device.

    Raises:
        ConfigError: if several processes are asked for.
    """

    model: MultimodalRecommender

    def __init__(self, config: Any, model: MultimodalRecommender) -> None:
        if not config["single_spec"]:
            raise ConfigError(
                "training in several processes is not supported for multimodal models: "
                "run without --nproc and --world_size"
            )
        super().__init__(config, model)
        for metric in self.evaluator.metric_class.values():
            metric.decimal_place = UNROUNDED
        self.progress: list[StageProgress] = []
        self._best_state: dict[str, Tensor] = {}
        self._resumed: dict[str, Any] | None = None
        self._last_score = 0.0

    @property
    def last_model_file(self) -> Path:
        """The checkpoint from which an interrupted run goes on."""
        return self._beside("last")

    def stage_model_file(self, stage: str) -> Path:
        """The checkpoint of a stage's best epoch; that of the last stage is the result."""
        if stage == self.model.training_stages[-1]:
            return Path(self.saved_model_file)
        return self._beside(stage)

    def _beside(self, suffix: str) -> Path:
        path = Path(self.saved_model_file)
        return path.with_name(f"{path.stem}-{suffix}{path.suffix}")

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float | None, dict[str, float] | None]:
        """Train all stages.

        Args:
            train_data: RecBole's training loader.
            valid_data: RecBole's validation loader; without it no stage stops early.
            verbose: whether to log every epoch.
            saved: whether to write checkpoints; needed to resume.
            show_progress: whether to show a progress bar per epoch.
            callback_fn: called after each validation with the epoch and the score.

        Returns:
            Best validation score and all validation metrics of the last stage, unrounded; -1 and
            none without validation data, as RecBole does.

        Raises:
            TrainingError: if the loss is not a finite number.
            KeyboardInterrupt: passed on after the log said how to resume.
        """
        self.eval_collector.data_collect(train_data)
        if self.config["train_neg_sample_args"].get("dynamic", False):
            train_data.get_model(self.model)
        log = self.logger.info if verbose else self.logger.debug
        try:
            for name in self.model.training_stages[max(len(self.progress) - 1, 0) :]:
                self._begin_stage(name, train_data, saved)
                self._fit_stage(train_data, valid_data, log, saved, show_progress, callback_fn)
                self._end_stage(log)
        except KeyboardInterrupt:
            if saved and self.last_model_file.is_file():
                self.logger.warning(
                    f"Interrupted. Continue with: recbole-margo train "
                    f"--resume={self.last_model_file}"
                )
            raise
        final = self.progress[-1]
        self._compare_stages()
        self._add_hparam_to_tensorboard(final.best_score if valid_data else 0.0)
        self.tensorboard.flush()
        return (final.best_score, final.best_result) if valid_data else (-1, None)

    def _begin_stage(self, name: str, train_data: Any, saved: bool) -> None:
        if self._resumed is not None:
            self._continue_stage(self._resumed, train_data)
            self._resumed = None
            return
        self.model.begin_stage(name)
        self.optimizer = self._stage_optimizer()
        self.progress.append(StageProgress(name))
        self._best_state = {}
        if saved:
            self._save_last(train_data)

    def _stage_optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self._build_optimizer(
            params=self.model.parameter_groups(self.learning_rate)
        )
        return optimizer

    def _fit_stage(
        self,
        train_data: Any,
        valid_data: Any,
        log: Callable[[str], None],
        saved: bool,
        show_progress: bool,
        callback_fn: Callable[[int, float], None] | None,
    ) -> None:
        stage = self.progress[-1]
        while not stage.finished and stage.epochs < self.epochs:
            started = perf_counter()
            self.model.begin_epoch(stage.epochs)
            losses = self._train_epoch(train_data, stage.epochs, show_progress=show_progress)
            stage.figures = self.model.epoch_statistics()
            stage.epochs += 1
            self._log_epoch(stage, losses, perf_counter() - started, log)
            if not valid_data:
                self._keep_best(train_data, saved)
            elif stage.epochs % self.eval_step == 0:
                self._validate(stage, valid_data, train_data, log, saved, show_progress)
            stage.seconds += perf_counter() - started
            if saved:
                self._save_last(train_data)
            if callback_fn and valid_data and stage.epochs % self.eval_step == 0:
                callback_fn(stage.epochs - 1, self._last_score)
        stage.finished = True

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: Callable[[Any], Any] | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """Train one epoch and return the mean of each loss term."""
        self.model.train()
        loss_func = loss_func or self.model.calculate_loss
        losses = EpochLosses(self.model.loss_names)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        description = f"{self.progress[-1].name} epoch {epoch_idx + 1}"
        with tqdm(
            train_data, description, disable=not show_progress, leave=False, dynamic_ncols=True
        ) as batches:
            for interaction in batches:
                self.optimizer.zero_grad()
                with torch.autocast(self.device.type, enabled=self.enable_amp):
                    terms = loss_func(interaction.to(self.device))
                terms = terms if isinstance(terms, tuple) else (terms,)
                scaler.scale(sum(terms[1:], start=terms[0])).backward()
                if self.clip_grad_norm:
                    scaler.unscale_(self.optimizer)
                    clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
                scaler.step(self.optimizer)
                scaler.update()
                if losses.add(terms):
                    self._check_losses(losses, epoch_idx)
                    batches.set_postfix(
                        {name: f"{mean:.4f}" for name, mean in losses.means().items()}
                    )
        self._check_losses(losses, epoch_idx)
        return losses.means()

    def _check_losses(self, losses: EpochLosses, epoch_idx: int) -> None:
        failure = losses.first_failure()
        if failure is None:
            return
        batch, name, value = failure
        raise TrainingError(
            f"the {name} loss of {self.config['model']} became {value} in stage "
            f"{self.progress[-1].name}, epoch {epoch_idx + 1}, batch {batch + 1}: try a smaller "
            f"`learning_rate` (now {self.learning_rate}), `clip_grad_norm: {{max_norm: 1}}`, or "
            "`feature_normalization: l2` if the features are large; the state before this epoch "
            f"is in {self.last_model_file}"
        )

    def _validate(
        self,
        stage: StageProgress,
        valid_data: Any,
        train_data: Any,
        log: Callable[[str], None],
        saved: bool,
        show_progress: bool,
    ) -> None:
        started = perf_counter()
        result = self.evaluate_unrounded(valid_data, show_progress=show_progress)
        score = self._last_score = result[self.valid_metric]
        if stage.record(score, result, self.valid_metric_bigger, self.stopping_step):
            self._keep_best(train_data, saved)
        self.best_valid_score, self.best_valid_result = stage.best_score, stage.best_result
        self.cur_step = stage.waited
        shown = ", ".join(f"{name} {value:.4f}" for name, value in result.items())
        log(
            f"{stage.name} epoch {stage.epochs} valid [{perf_counter() - started:.1f}s]: {shown}"
            + (" (best so far)" if stage.waited == 0 else f" ({stage.waited} since the best)")
        )
        step = self._global_epoch()
        self.tensorboard.add_scalar("valid_score", score, step)
        self.wandblogger.log_metrics({**result, "valid_step": step}, head="valid")

    def _keep_best(self, train_data: Any, saved: bool) -> None:
        self._best_state = {
            name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()
        }
        if saved:
            path = self.stage_model_file(self.progress[-1].name)
            write_checkpoint(path, self._state(train_data))

    def _end_stage(self, log: Callable[[str], None]) -> None:
        stage = self.progress[-1]
        if self._best_state:
            self.model.load_state_dict(self._best_state)
        if stage.best_score is not None:
            log(
                f"{stage.name} ended after {stage.epochs} epochs; the best, epoch "
                f"{stage.best_epoch + 1}, had {self.valid_metric} {stage.best_score:.4f}."
            )

    def _compare_stages(self) -> None:
        scores = [stage.best_score for stage in self.progress]
        if len(scores) < 2 or scores[0] is None or scores[-1] is None:
            return
        if not self.progress[0].improves(scores[-1], self.valid_metric_bigger):
            self.logger.warning(
                f"No epoch of {self.progress[-1].name} reached the best validation score of "
                f"{self.progress[0].name} ({scores[-1]:.4f} against {scores[0]:.4f}); the result "
                f"is the best epoch of {self.progress[-1].name} all the same."
            )

    def _global_epoch(self) -> int:
        return sum(stage.epochs for stage in self.progress)

    def _log_epoch(
        self,
        stage: StageProgress,
        losses: dict[str, float],
        seconds: float,
        log: Callable[[str], None],
    ) -> None:
        step = self._global_epoch()
        self.train_loss_dict[step] = sum(losses.values())
        figures = {f"loss/{name}": value for name, value in losses.items()} | stage.figures
        for name, value in figures.items():
            self.tensorboard.add_scalar(name, value, step)
        self.wandblogger.log_metrics(
            {"epoch": step, "train_step": step, "stage": stage.name, **figures}, head="train"
        )
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        log(f"{stage.name} epoch {stage.epochs} train [{seconds:.1f}s]: {shown}")

    @torch.no_grad()
    def evaluate_unrounded(
        self, eval_data: Any, model_file: str | None = None, show_progress: bool = False
    ) -> dict[str, float]:
        """Evaluate and return the metrics as they are.

        Args:
            eval_data: RecBole's validation or test loader.
            model_file: a checkpoint to load first; none: the model as it is.
            show_progress: whether to show a progress bar.

        Returns:
            Metric name -> value.
        """
        result = super().evaluate(eval_data, model_file is not None, model_file, show_progress)
        return {name: float(value) for name, value in result.items()}

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """Evaluate as RecBole's trainer does, with its rounding; see `Trainer.evaluate`."""
        if not eval_data:
            return None
        file = (model_file or self.saved_model_file) if load_best_model else None
        result = self.evaluate_unrounded(eval_data, file, show_progress)
        return {
            name: round(value, self.config["metric_decimal_place"])
            for name, value in result.items()
        }

    def _state(self, train_data: Any) -> dict[str, Any]:
        return {
            "format": CHECKPOINT_FORMAT,
            "config": plain_config(self.config),
            "epoch": self.progress[-1].epochs - 1,
            "cur_step": self.progress[-1].waited,
            "best_valid_score": self.progress[-1].best_score,
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizer": self.optimizer.state_dict(),
            "stages": [stage.as_plain() for stage in self.progress],
            "modalities": list(self.model.modalities),
            "feature_checksums": dict(self.model.feature_checksums),
            **id_maps(train_data._dataset),
        }

    def _save_last(self, train_data: Any) -> None:
        state = self._state(train_data)
        state["best_state"] = self._best_state
        state["random_states"] = random_states(train_data)
        write_checkpoint(self.last_model_file, state)

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Go on from the last state of an interrupted run; `fit` continues with equal numbers.

        Args:
            resume_file: a `...-last.pth` file of the same model and data.

        Raises:
            CheckpointError: if the file does not hold such a state.
        """
        path = Path(resume_file)
        state = read_checkpoint(path, self.device)
        if "random_states" not in state:
            raise CheckpointError(
                f"{path} holds the best parameters, not a state to resume from: "
                f"give {path.stem}-last{path.suffix}"
            )
        if state["config"]["model"] != self.config["model"]:
            raise CheckpointError(
                f"{path} is of model {state['config']['model']}, not {self.config['model']}"
            )
        if path.stem.endswith("-last"):
            name = path.stem.removesuffix("-last") + path.suffix
            self.saved_model_file = str(path.with_name(name))
        self.progress = [StageProgress(**stage) for stage in state["stages"]]
        self._resumed = state
        self.model.load_other_parameter(state["other_parameter"])
        self.model.load_state_dict(state["state_dict"])
        self.logger.info(
            f"Resuming {self.progress[-1].name} after epoch {self.progress[-1].epochs} from {path}"
        )

    def _continue_stage(self, state: dict[str, Any], train_data: Any) -> None:
        current = id_maps(train_data._dataset)
        for name, tokens in current.items():
            if state[name] != tokens:
                raise CheckpointError(
                    f"the {name.replace('_', ' ')} of the checkpoint ({len(state[name]) - 1}) are "
                    f"not those of the dataset ({len(tokens) - 1}): resume with the same data"
                )
        if state["feature_checksums"] != self.model.feature_checksums:
            raise CheckpointError(
                "the feature files changed since the checkpoint was written: resume with the same "
                "features, or start a new run"
            )
        self.model.resume_stage(self.progress[-1].name)
        self.model.load_state_dict(state["state_dict"])
        self.optimizer = self._stage_optimizer()
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._best_state = dict(state["best_state"])
        restore_random_states(state["random_states"], train_data)
