"""RecBole's own tuning, with a ray and a hyperopt of today, of its time, and without a ray."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recbole
import recbole.quick_start
import recbole.trainer.hyper_tuning
from recbole.trainer.hyper_tuning import exhaustive_search

ROOT = Path(__file__).resolve().parents[1]
METRICS = {"ndcg@3": 0.5, "recall@3": 0.25}

# The ways in which rays of different years take a report; `reports` is what came.
RAYS = {
    "2.6": {
        "__init__": "__version__ = '2.6.3'\nreports = []",
        "tune": "import ray\ndef report(_metric=None, **kwargs): ray.reports.append(kwargs)",
        "train": "def report(metrics): raise AssertionError",
    },
    "2.9": {
        "__init__": "__version__ = '2.9.3'\nreports = []",
        "tune": "def report(_metric=None, **kwargs): raise DeprecationWarning('use ray.train')",
        "train": "import ray\ndef report(metrics, *, checkpoint=None): ray.reports.append(metrics)",
    },
    "2.40": {
        "__init__": "__version__ = '2.40.0'\nreports = []",
        "tune": "",
        "train": "import ray\ndef report(metrics, *, checkpoint=None): ray.reports.append(metrics)",
    },
    "2.60": {
        "__init__": "__version__ = '2.60.0'\nreports = []",
        "tune": "import ray\ndef report(metrics, *, checkpoint=None): ray.reports.append(metrics)",
        "train": "def report(metrics): raise AssertionError",
    },
}


@pytest.fixture
def import_quick_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that imports RecBole's quick start anew beside a ray of given modules."""
    for name in list(sys.modules):
        if name.split(".")[0] == "ray" or name.startswith("recbole.quick_start"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(recbole, "quick_start", recbole.quick_start)
    monkeypatch.syspath_prepend(tmp_path)

    def function(modules: dict[str, str]) -> Any:
        (tmp_path / "ray").mkdir()
        for name, source in modules.items():
            (tmp_path / "ray" / f"{name}.py").write_text(source, encoding="utf-8")
        return importlib.import_module("recbole.quick_start.quick_start")

    yield function
    for name in list(sys.modules):
        if name.split(".")[0] == "ray":
            del sys.modules[name]


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ({"__init__": "raise ModuleNotFoundError('No module named ray')"}, "No module named ray"),
        ({"__init__": "import resources_are_gone"}, "No module named 'resources_are_gone'"),
        ({"__init__": "raise AttributeError('np.float_ is gone')"}, "np.float_ is gone"),
        ({"__init__": "", "tune": "import pyarrow_is_absent"}, "pyarrow_is_absent"),
    ],
    ids=["absent", "broken import", "broken otherwise", "broken tune"],
)
def test_quick_start_does_without_ray(
    import_quick_start: Callable[..., Any], modules: dict[str, str], reason: str
) -> None:
    quick_start = import_quick_start(modules)
    assert quick_start.run_recbole.__module__ == "recbole.quick_start.quick_start"
    quick_start.tune.report(**METRICS)
    with pytest.raises(AttributeError, match=reason):
        quick_start.tune.run  # noqa: B018
    # Nobody else is led to believe that there is a ray.
    with pytest.raises((ImportError, AttributeError), match=reason):
        importlib.import_module("ray.tune")


@pytest.mark.parametrize("year", RAYS)
def test_a_ray_gets_the_report_as_it_takes_it(
    import_quick_start: Callable[..., Any], year: str
) -> None:
    quick_start = import_quick_start(RAYS[year])
    # At once, as without us: later hyperopt has replaced the standard output.
    assert Path(sys.modules["ray.tune"].__file__).name == "tune.py"
    quick_start.tune.report(**METRICS)
    assert sys.modules["ray"].reports == [METRICS]
    assert quick_start.tune.__name__ == "ray.tune"


def run_python(code: str, folder: Path) -> str:
    """Run code in a new interpreter in a folder, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def write_trial(folder: Path) -> None:
    """Write a data set, a config and a search space that RecBole's tuning takes."""
    (folder / "data" / "toy").mkdir(parents=True)
    rows = [f"u{user}\ti{(user * step) % 8}" for user in range(12) for step in (1, 2, 3, 5, 7)]
    text = "\n".join(["user_id:token\titem_id:token", *dict.fromkeys(rows)])
    (folder / "data" / "toy" / "toy.inter").write_text(text + "\n", encoding="utf-8")
    (folder / "config.yaml").write_text(
        f"dataset: toy\nmodel: BPR\nepochs: 1\nstate: ERROR\ndata_path: {folder / 'data'}\n"
        "topk: [3]\nvalid_metric: NDCG@3\nmetrics: [Recall, NDCG]\nuse_gpu: false\n"
        "load_col: {inter: [user_id, item_id]}\n",
        encoding="utf-8",
    )
    space = "embedding_size choice [4,8]\ntrain_batch_size choice [16,32]\n"
    (folder / "space.txt").write_text(space, encoding="utf-8")


TUNE = """
    import sys
    sys.argv = ["tune"]
    import recbole_margo
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    tuning = HyperTuning(
        objective_function, algo={algorithm!r}, early_stop=10, max_evals=2,
        params_file="space.txt", fixed_config_file_list=["config.yaml"],
    )
    tuning.run()
    sizes = {{eval("dict(" + text.replace(":", "=") + ")")["embedding_size"]
             for text in tuning.params2result}}
    assert sizes <= {{4, 8}}, sizes
    assert all("ndcg@3" in each["test_result"] for each in tuning.params2result.values())
    print(len(tuning.score_list), "ray" in sys.modules)
"""


@pytest.mark.parametrize(("algorithm", "trials"), [("exhaustive", 4), ("random", 2), ("bayes", 2)])
def test_hyperopt_tunes_without_ray(tmp_path: Path, algorithm: str, trials: int) -> None:
    pytest.importorskip("hyperopt", reason="RecBole's HyperTuning needs hyperopt")
    write_trial(tmp_path)
    (tmp_path / "ray.py").write_text("raise ImportError('there is no ray')\n", encoding="utf-8")
    printed = run_python(TUNE.format(algorithm=algorithm), tmp_path)
    assert printed.splitlines()[-1] == f"{trials} False"


def test_hyperopt_tunes_beside_a_real_ray(tmp_path: Path) -> None:
    pytest.importorskip("hyperopt", reason="RecBole's HyperTuning needs hyperopt")
    pytest.importorskip("ray", reason="this is about a ray that is installed")
    write_trial(tmp_path)
    printed = run_python(TUNE.format(algorithm="random"), tmp_path)
    assert printed.splitlines()[-1] == "2 True"


@pytest.mark.slow
def test_a_real_ray_tunes_with_recboles_objective(tmp_path: Path) -> None:
    pytest.importorskip("ray.tune", reason="RecBole's tuning by ray needs ray[tune]")
    write_trial(tmp_path)
    code = """
        import sys
        sys.argv = ["tune"]
        import recbole_margo
        import ray
        from ray import tune
        from recbole.quick_start import objective_function

        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        try:
            analysis = tune.run(
                tune.with_parameters(
                    objective_function, config_file_list=[{config!r}], saved=False
                ),
                config={{"embedding_size": tune.grid_search([4, 8])}},
                storage_path={folder!r},
                verbose=0,
            )
            found = [(t.config, t.metric_analysis) for t in analysis.trials]
        finally:
            ray.shutdown()
        print(sorted((c["embedding_size"], "ndcg@3" in metrics) for c, metrics in found))
    """
    code = code.format(config=str(tmp_path / "config.yaml"), folder=str(tmp_path / "ray_results"))
    assert run_python(code, tmp_path).splitlines()[-1] == "[(4, True), (8, True)]"


def test_a_quick_start_imported_before_us_is_mended(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    for name, source in RAYS["2.60"].items():
        (tmp_path / "ray" / f"{name}.py").write_text(source, encoding="utf-8")
    code = """
        import numpy, sys
        import scipy.sparse
        import recbole.quick_start.quick_start as quick_start
        import ray, recbole_margo
        quick_start.tune.report(recall=1.0)
        print(ray.reports)
    """
    assert run_python(code, tmp_path).strip() == "[{'recall': 1.0}]"


def test_exhaustive_search_draws_for_old_and_new_hyperopt() -> None:
    state = recbole.trainer.hyper_tuning.np.random.RandomState(7)
    same = np.random.RandomState(7)
    assert isinstance(state, np.random.RandomState)
    assert state.integers(0, 9, ()) == same.randint(0, 9, ())
    assert state.uniform() == same.uniform()
    assert recbole.trainer.hyper_tuning.np.prod([2, 3]) == 6
    assert exhaustive_search.__globals__["np"] is recbole.trainer.hyper_tuning.np
