"""RecBole's tuning, made to run with a ray and a hyperopt of today, or without a ray.

RecBole's `quick_start` imports `ray.tune` for one call, the report at the end of a trial. hyperopt,
which drives the trials of RecBole's `HyperTuning`, has no use for that report.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from recbole_margo.recbole_mends import ModuleWith

# From this ray on `ray.train.report` takes what `ray.tune.report` took before.
FIRST_WITH_TRAIN_REPORT = (2, 7)


class _NoTune(ModuleType):
    """Stands for `ray.tune` where there is none: nobody waits for a report."""

    def __init__(self, reason: str) -> None:
        super().__init__("ray.tune")
        self._reason = reason

    def report(self, metrics: dict[str, float]) -> None:
        """Do nothing: hyperopt takes what the trial returns."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no ray.tune.{name}: {self._reason}")


def reporting_tune(tune: ModuleType) -> ModuleType:
    """Return a `ray.tune` that reports in the way which the ray that is there takes."""
    report = _report_of(tune)
    return ModuleWith(tune, report=lambda **metrics: report(metrics))


def _report_of(tune: ModuleType) -> Callable[[dict[str, float]], Any]:
    """Return a function that gives metrics to a ray in the way that it takes them."""
    report = getattr(tune, "report", None)
    if report is not None and "metrics" in inspect.signature(report).parameters:
        return lambda metrics: report(metrics)
    version = getattr(sys.modules.get("ray"), "__version__", "0.0")
    if report is not None and tuple(map(int, version.split(".")[:2])) < FIRST_WITH_TRAIN_REPORT:
        return lambda metrics: report(**metrics)
    return lambda metrics: importlib.import_module("ray.train").report(metrics)


@contextmanager
def ray_for_quick_start() -> Iterator[None]:
    """Let `from ray import tune` succeed, with a ray or without, for as long as the context lasts.

    A ray that is installed is imported here, as RecBole itself does: later, in the middle of a
    trial, hyperopt has replaced the standard output that ray looks at. Outside of the context
    nobody sees the stand-in, so that other libraries are not led to believe that there is a ray.
    """
    reason = _why_no_tune()
    if reason is None:
        yield
        return
    before = sys.modules.get("ray")
    stand_in = ModuleType("ray")
    stand_in.tune = _NoTune(reason)  # type: ignore[attr-defined]
    sys.modules["ray"] = stand_in
    try:
        yield
    finally:
        if before is None:
            del sys.modules["ray"]
        else:
            sys.modules["ray"] = before


def _why_no_tune() -> str | None:
    """Import `ray.tune` and return none, or else why it cannot be."""
    try:
        if "ray" not in sys.modules and importlib.util.find_spec("ray") is None:
            return "ray is not installed"
        importlib.import_module("ray.tune")
    except Exception as error:
        return repr(error)
    return None


def objective_function(
    config_dict: dict[str, Any] | None = None,
    config_file_list: list[str] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Do one trial, as RecBole's function of this name does.

    A process of ray imports this module to find it, and with it what RecBole needs to run there.

    Returns:
        Model, best validation score, whether more is better, validation and test metrics.
    """
    importlib.import_module("recbole.quick_start.quick_start")
    result: dict[str, Any] = _recbole_trial[0](config_dict, config_file_list, saved)
    return result


# RecBole's own function, as soon as its module is imported.
_recbole_trial: list[Callable[..., Any]] = []


def importable_trial(trial: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands for RecBole's `objective_function`."""
    _recbole_trial[:] = [trial]
    return objective_function


class _RandomState(np.random.RandomState):
    """Draws integers under the name of today's generators too, which hyperopt asks for."""

    def integers(self, *arguments: Any, **named: Any) -> Any:
        """Draw integers as `randint` does."""
        return self.randint(*arguments, **named)


def with_old_and_new_draws(numpy: ModuleType) -> ModuleType:
    """Return the NumPy of `recbole.trainer.hyper_tuning`, where only `random` differs."""
    return ModuleWith(numpy, random=ModuleWith(np.random, RandomState=_RandomState))
