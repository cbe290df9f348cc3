"""The trainer of the multimodal models: stages, exact resumption, unrounded early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from logging import DEBUG, INFO
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam, AdamW, Optimizer
from tqdm import tqdm

from recbole_margo.checkpoint_file.fitting import check_optimizer, check_parameters, load_into
from recbole_margo.checkpoint_file.schema import RandomStates, TrainerState
from recbole_margo.config import Config
from recbole_margo.errors import CheckpointError, ConfigError, TrainingError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.resources import keep_freed_memory
from recbole_margo.training.checkpoint import TrainingData, read_resumable, write_checkpoint
from recbole_margo.training.cuda_graphs import CapturedSteps, Step, as_configured, products_in
from recbole_margo.training.ranking_trainer import RankingTrainer
from recbole_margo.training.stages import (
    EpochLog,
    EpochLosses,
    StageProgress,
    moments_by_name,
    rate_schedule,
    shortfall,
    with_moments,
)
from recbole_margo.training.training_batches import training_batches


@dataclass(frozen=True)
class _Fit:
    train_data: Any
    batches: Any
    valid_data: Any
    saved: bool
    show_progress: bool
    callback: Callable[[int, float], None] | None


class MultimodalTrainer(RankingTrainer):
    """Trains a `MultimodalRecommender` through its stages.

    Each stage has its own optimiser and its own early stopping on the unrounded validation metric,
    ends with its best parameters restored, and hands them to the next. After every epoch the
    whole state is written to `<model>-last.pth`; the best epoch of the last stage is in
    `saved_model_file`, that of an earlier stage in `<model>-<stage>.pth`.

    Raises:
        ConfigError: if several processes are asked for as RecBole does it; a
            `DistributedMultimodalTrainer` is one of several.
    """

    model: MultimodalRecommender

    def __init__(self, config: Any, model: MultimodalRecommender) -> None:
        if not config["single_spec"]:
            raise ConfigError(
                "RecBole's way to train in several processes does not fit multimodal models: start "
                "them with `recbole-margo train --nproc=N` or run_recbole_margo"
            )
        super().__init__(config, model)
        self.progress: list[StageProgress] = []
        self._best_state: dict[str, Tensor] = {}
        # What the optimiser kept of each parameter then, by name, for a stage that goes on with it.
        self._best_moments: dict[str, dict[str, Any]] = {}
        self._resumed: TrainerState | None = None
        self._resumed_from = Path()
        self._last_score = 0.0
        self._data: TrainingData  # while `fit` runs and after it
        self._epoch_log = EpochLog(self.logger, self.tensorboard, self.wandblogger)

    @property
    def last_model_file(self) -> Path:
        """The checkpoint from which an interrupted run goes on."""
        return self._beside("last")

    def stage_model_file(self, stage: str) -> Path:
        """The checkpoint of a stage's best epoch; that of the last stage is the result."""
        if stage == self.model.training_stages[-1]:
            return Path(self.saved_model_file)
        return self._beside(stage)

    @property
    def graph_launches(self) -> int:
        """How many steps of the current stage a CUDA graph took."""
        return self._captured.launches

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
            valid_data: RecBole's validation loader; without it no stage stops early.
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
        keep_freed_memory()
        if self._resumed is None:
            self.progress = []
        self._data = TrainingData.of(self.model, train_data)
        self.eval_collector.data_collect(train_data)
        if self.config["train_neg_sample_args"].get("dynamic", False):
            train_data.get_model(self.model)
        self._epoch_log.level = INFO if verbose else DEBUG
        self.model.trainer_announces_epochs = True
        if self.eval_step <= 0:  # RecBole's way to switch validation off
            valid_data = None
        batches = training_batches(train_data, self.device)
        fit = _Fit(train_data, batches, valid_data, saved, show_progress, callback_fn)
        try:
            for name in self.model.training_stages[max(len(self.progress) - 1, 0) :]:
                self._begin_stage(name, fit)
                self._fit_stage(fit)
                self._end_stage(fit)
        except KeyboardInterrupt:
            if saved and self.last_model_file.is_file():
                self.logger.warning(
                    f"Interrupted. Continue with: recbole-margo train "
                    f"--resume={self.last_model_file}"
                )
            raise
        final = self.progress[-1]
        warning = shortfall(self.progress, self.valid_metric_bigger)
        if warning is not None:
            self.logger.warning(warning)
        self._add_hparam_to_tensorboard(0.0 if final.best_score is None else final.best_score)
        self.tensorboard.flush()
        return (final.best_score, final.best_result) if valid_data else (-1, None)

    def _begin_stage(self, name: str, fit: _Fit) -> None:
        if self._resumed is not None:
            self._continue_stage(self._resumed, fit.train_data)
            self._resumed = None
            return
        self.model.begin_stage(name)
        self._build_stage_optimizer(self._best_moments)
        self.progress.append(StageProgress(name))
        self._best_state, self._best_moments = {}, {}
        if fit.saved:
            self._save_last(fit.train_data)

    def _build_optimizer(self, **settings: Any) -> Optimizer:
        """Build RecBole's optimiser, which takes a step in one kernel where torch has it."""
        optimizer: Optimizer = super()._build_optimizer(**settings)
        if type(optimizer) in (Adam, AdamW) and self.device.type in ("cpu", "cuda"):
            for group in optimizer.param_groups:
                group["fused"] = True
        return optimizer

    def _build_stage_optimizer(
        self,
        moments: Mapping[str, Any],
        state: dict[str, Any] | None = None,
        epochs_done: int = 0,
    ) -> None:
        """Build the optimiser of the current stage and the schedule of its learning rates.

        Its state is that of an interrupted run, or has what a stage before it kept of parameters.
        """
        self.optimizer = self._build_optimizer(
            params=self.model.parameter_groups(self.learning_rate)
        )
        if state is None:
            state = with_moments(self.model, self.optimizer, moments)
        check_optimizer(self.optimizer, state, self._resumed_from)
        self.optimizer.load_state_dict(copy.deepcopy(state))
        self._schedule = rate_schedule(self.model, self.optimizer, epochs_done)
        self._captured = CapturedSteps(self.optimizer)

    def _fit_stage(self, fit: _Fit) -> None:
        stage = self.progress[-1]
        while not stage.finished and stage.epochs < self.epochs:
            started = perf_counter()
            self.model.begin_epoch(stage.epochs)
            losses = self._train_epoch(fit.batches, stage.epochs, show_progress=fit.show_progress)
            self._schedule.step()
            stage.figures = self._epoch_statistics()
            stage.epochs += 1
            step = sum(each.epochs for each in self.progress)
            self.train_loss_dict[step - 1] = sum(losses.values())
            seconds = perf_counter() - started
            self._epoch_log.trained(stage, losses, seconds, step - 1, len(fit.batches))
            validated = bool(fit.valid_data) and stage.epochs % self.eval_step == 0
            if validated:
                self._validate(stage, fit, step)
            elif not fit.valid_data:
                self._keep_best(fit)
            stage.seconds += perf_counter() - started
            if fit.saved:
                self._save_last(fit.train_data)
            if validated and fit.callback:
                fit.callback(step - 1, self._last_score)
        stage.finished = True

    def _epoch_statistics(self) -> dict[str, float]:
        return self.model.epoch_statistics()

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: Callable[[Any], Any] | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        self.model.train()
        take = self._step_of_epoch(loss_func or self.model.calculate_loss)
        losses = EpochLosses(self.model.loss_names)
        description = f"{self.progress[-1].name} epoch {epoch_idx + 1}"
        bar = tqdm(
            train_data, description, disable=not show_progress, leave=False, dynamic_ncols=True
        )
        with bar as batches, self.products():
            for interaction in batches:
                if losses.add(take(interaction.to(self.device)).unbind()):
                    self._check_losses(losses, epoch_idx)
                    batches.set_postfix(
                        {name: f"{mean:.4f}" for name, mean in losses.means().items()}
                    )
        self._check_losses(losses, epoch_idx)
        return losses.means()

    def products(self) -> AbstractContextManager[None]:
        """Return the context in which steps multiply as `matmul_precision` says."""
        return products_in(self.config["matmul_precision"] or "highest", self.device)

    def _step_of_epoch(self, loss_func: Callable[[Any], Any]) -> Step:
        """Return what takes a step in this epoch, through a CUDA graph where one can be used."""
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)

        def step(interaction: Any) -> Tensor:
            self.optimizer.zero_grad(set_to_none=not self.model.keeps_zero_gradients)
            with torch.autocast(self.device.type, enabled=self.enable_amp):
                terms = loss_func(interaction)
            stacked = torch.stack(terms if isinstance(terms, tuple) else (terms,))
            scaler.scale(stacked.sum()).backward()  # type: ignore[no-untyped-call]
            if self.clip_grad_norm:
                scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
            scaler.step(self.optimizer)
            scaler.update()
            return stacked.detach()

        return as_configured(self, step, self._captured)

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

    def _validate(self, stage: StageProgress, fit: _Fit, step: int) -> None:
        started = perf_counter()
        result = self.evaluate_unrounded(fit.valid_data, show_progress=False)
        score = self._last_score = result[self.valid_metric]
        if stage.record(score, result, self.valid_metric_bigger, self.stopping_step):
            self._keep_best(fit)
        self.best_valid_score, self.best_valid_result = stage.best_score, stage.best_result
        self.cur_step = stage.waited
        validation = sum(each.epochs // self.eval_step for each in self.progress) - 1
        seconds = perf_counter() - started
        self._epoch_log.validated(stage, result, score, seconds, step - 1, validation)

    def _keep_best(self, fit: _Fit) -> None:
        self._best_state = {
            name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()
        }
        if self.model.keeps_optimizer:
            self._best_moments = moments_by_name(self.model, self.optimizer)
        if fit.saved:
            path = self.stage_model_file(self.progress[-1].name)
            write_checkpoint(path, self._state().as_plain())

    def _end_stage(self, fit: _Fit) -> None:
        if not self._best_state:
            # No epoch was trained, or validation never gave a number: the last state is the result.
            self._keep_best(fit)
        self.model.load_state_dict(self._best_state)
        self._epoch_log.stage_ended(self.progress[-1], self.valid_metric)

    def _state(self) -> TrainerState:
        stage = self.progress[-1]
        return TrainerState(
            config=Config.as_plain(self.config),
            epoch=stage.epochs - 1,
            cur_step=stage.waited,
            best_valid_score=stage.best_score,
            state_dict=self.model.state_dict(),
            other_parameter=self.model.other_parameter(),
            optimizer=self.optimizer.state_dict(),
            stages=[asdict(each) for each in self.progress],
            **vars(self._data),
        )

    def _save_last(self, train_data: Any) -> None:
        state, stage = self._state(), self.progress[-1]
        # Tensors that are named twice are written once.
        newest_is_best = 0 <= stage.best_epoch == stage.epochs - 1
        state = replace(
            state,
            best_state=state.state_dict if newest_is_best else self._best_state,
            random_states=RandomStates.of(train_data),
            best_moments=self._best_moments or None,
        )
        write_checkpoint(self.last_model_file, state.as_plain())

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Go on from the last state of an interrupted run; `fit` continues with equal numbers.

        Raises:
            CheckpointError: if the file is not a `...-last.pth` of the same model.
        """
        path = Path(resume_file)
        state = read_resumable(path, self.config["model"], self.device)
        if path.stem.endswith("-last"):
            name = path.stem.removesuffix("-last") + path.suffix
            self.saved_model_file = str(path.with_name(name))
        names = tuple(stage["name"] for stage in state.stages)
        if names != self.model.training_stages[: len(names)]:
            raise CheckpointError(
                f"{path}, `stages`: expected {', '.join(self.model.training_stages)} or the first "
                f"of them, found {', '.join(names)}"
            )
        self._resumed_from = path
        self.progress = [StageProgress(**stage) for stage in state.stages]
        self._resumed = state
        self.logger.info(
            f"Resuming {self.progress[-1].name} after epoch {self.progress[-1].epochs} from {path}"
        )

    def _continue_stage(self, state: TrainerState, train_data: Any) -> None:
        self._data.require_same(state)
        self.model.resume_stage(self.progress[-1].name)
        load_into(self.model, state.state_dict, state.other_parameter, self._resumed_from)
        self._best_state = dict(state.best_state or {})
        if self._best_state:
            check_parameters(self.model, self._best_state, self._resumed_from, "best_state")
        self._best_moments = dict(state.best_moments or {})
        self._build_stage_optimizer({}, state.optimizer, self.progress[-1].epochs)
        if state.random_states is not None:
            state.random_states.restore(train_data)
