"""Two processes have the numbers of one, write one set of files, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from process_work import CPU, fail, hang
from test_data_parallel import MISSING, VARIANTS, gradient

from recbole_margo import resume_run, run_recbole_margo
from recbole_margo.errors import TrainingError
from recbole_margo.settings.processes import ProcessGroup
from recbole_margo.testing import NAME, SETTINGS, World, prepare, random_world, small_settings
from recbole_margo.training.distributed import distributed_trainer
from recbole_margo.training.launch import launch
from recbole_margo.training.outputs import silent
from recbole_margo.training.processes import Processes, join

pytestmark = pytest.mark.slow
GROUP = ProcessGroup(2, 2)
ROOT = Path(__file__).resolve().parents[2]
WORLD = random_world(users=21).without(MISSING)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WORLD.write(tmp_path_factory.mktemp("world"))


# --- the numbers ----------------------------------------------------------------------------------


def outcomes(root: Path, processes: Processes) -> list[dict[str, Any]]:
    """Return gradients, parameters and validations of every variant."""
    return [outcome(root, model, settings, processes) for model, settings in VARIANTS]


def outcome(root: Path, model: str, settings: dict, processes: Processes) -> dict[str, Any]:
    # With Adam a gradient that is zero but for rounding would move a parameter by a full step.
    settings = {"learner": "sgd", "learning_rate": 0.1, "epochs": 2, **settings}
    # What two processes draw after different histories must be equal all the same.
    experiment = prepare(root, model, train_batch_size=17, **settings)
    torch.manual_seed(processes.rank)
    np.random.seed(processes.rank)
    trainer, validations = trainer_of(experiment, processes), []
    batches = [experiment.random_triplets(rows) for rows in (1, 2, 15)]
    if processes.count == 1:
        gradients = [gradient(experiment, batch) for batch in batches]
    else:
        with trainer.hooks():
            gradients = [gradient(experiment, batch, trainer.shared_loss) for batch in batches]
    experiment.model.zero_grad()
    torch.manual_seed(0)
    np.random.seed(0)
    trainer.fit(
        *experiment.loaders[:2],
        verbose=False,
        saved=False,
        callback_fn=lambda epoch, score: validations.append(score),
    )
    return {
        "gradients": gradients,
        "state": {name: value.clone() for name, value in experiment.model.state_dict().items()},
        "validations": validations,
        "losses": list(trainer.train_loss_dict.values()),
        "figures": [stage.figures for stage in getattr(trainer, "progress", [])],
    }


def trainer_of(experiment: Any, processes: Processes) -> Any:
    """Return the trainer of one of the processes."""
    alone = experiment.trainer()
    if processes.count == 1:
        return alone
    shared = distributed_trainer(type(experiment.model), experiment.config["model"])
    return shared(experiment.config, experiment.model, processes)


def write_outcomes(root: Path, folder: Path) -> None:
    processes = join(CPU, seconds=60)
    with silent():
        torch.save(outcomes(root, processes), folder / f"{processes.rank}.pt")


@pytest.fixture(scope="module")
def by_processes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict]]:
    """Return what each of two processes has, and last what one alone has."""
    folder = tmp_path_factory.mktemp("outcomes")
    launch(write_outcomes, (root, folder), GROUP)
    with silent():
        alone = outcomes(root, Processes())
    return [*(torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)), alone]


@pytest.mark.parametrize("number", range(len(VARIANTS)), ids=[str(v) for v in VARIANTS])
def test_two_processes_have_the_numbers_of_one(by_processes, number):
    first, second, alone = (each[number] for each in by_processes)
    for one, other, expected in zip(
        first["gradients"], second["gradients"], alone["gradients"], strict=True
    ):
        assert torch.equal(one, other)
        torch.testing.assert_close(
            one, expected, rtol=1e-4, atol=2e-6 * float(expected.abs().max())
        )
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
        torch.testing.assert_close(value, alone["state"][name], rtol=1e-4, atol=1e-5)
    assert first["validations"] == second["validations"]
    assert first["validations"] == pytest.approx(alone["validations"], rel=1e-9)
    assert len(alone["validations"]) >= 2
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-4)
    for one, expected in zip(first["figures"], alone["figures"], strict=True):
        assert one == pytest.approx(expected, rel=1e-4)


# --- one run --------------------------------------------------------------------------------------


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    return {**SETTINGS, **small_settings("MARGO"), "data_path": str(root), **changes}


@pytest.fixture(scope="module")
def together(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """Return record and folder of a run in two processes."""
    folder = tmp_path_factory.mktemp("together")
    values = settings(root, nproc=2)
    return run_recbole_margo("MARGO", NAME, config_dict=values, output_dir=folder), folder


def test_a_run_in_two_processes_writes_one_set_of_files(together, root, tmp_path):
    record, folder = together
    alone = run_recbole_margo("MARGO", NAME, config_dict=settings(root), output_dir=tmp_path)
    assert record["processes"] == 2 and alone["processes"] == 1
    for stage, expected in zip(record["stages"], alone["stages"], strict=True):
        assert stage["epochs"] == expected["epochs"]
        assert stage["valid"] == pytest.approx(expected["valid"], rel=1e-6)
        assert stage["test"] == pytest.approx(expected["test"], rel=1e-6)

    def files(path: Path) -> list[str]:
        found = [file for file in path.rglob("*") if "tensorboard" not in file.parts]
        return sorted(str(file.relative_to(path)) for file in found)

    assert files(folder) == files(tmp_path)
    log = (folder / "MARGO" / "train.log").read_text()
    assert log.count("stage1 epoch 1 train") == 1 and "2 processes" in log
    assert json.loads((folder / "MARGO" / "result.json").read_text()) == record


def train_until_batch(values: dict, folder: Path, batches: int) -> None:
    """Do what a process of a run does, but end all as Ctrl-C would after some batches."""
    from recbole_margo import run
    from recbole_margo.model.margo import MARGO

    calculate_loss, done = MARGO.calculate_loss, []

    def calculate(self: Any, interaction: Any) -> Any:
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(1)
        return calculate_loss(self, interaction)

    MARGO.calculate_loss = calculate
    run._run_in_process(values, MARGO, folder, None)


@pytest.mark.parametrize("count", [2, 1])
def test_an_interrupted_run_goes_on_with_any_number_of_processes(
    together, interrupted, tmp_path, count
):
    import shutil

    folder = tmp_path / "MARGO"
    shutil.copytree(interrupted, folder)
    record = resume_run(folder / "checkpoint-last.pth", {"nproc": count})
    whole, before = together
    assert record["processes"] == count
    if count == 1:
        assert record["test"] == pytest.approx(whole["test"], rel=1e-6)
        return
    assert record["test"] == whole["test"]
    one, other = (
        torch.load(path / "checkpoint.pth", weights_only=True)["state_dict"]
        for path in (folder, before / "MARGO")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def interrupted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was interrupted in its second epoch."""
    from recbole_margo.config import Config

    folder = tmp_path_factory.mktemp("interrupted") / "MARGO"
    config = Config("MARGO", NAME, config_dict=settings(root, nproc=2))
    batches = 84 // SETTINGS["train_batch_size"] + 3
    with pytest.raises(TrainingError, match="ended with 130"):
        launch(train_until_batch, (Config.as_plain(config), folder, batches), GROUP)
    assert (folder / "checkpoint-last.pth").is_file()
    assert not (folder / "result.json").exists()
    return folder


# --- how it ends ----------------------------------------------------------------------------------


def running(pids: list[int]) -> list[int]:
    """Return which processes run, zombies aside, after a moment for those that are ending."""

    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    end = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return [pid for pid in pids if runs(pid)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", r"process 1 of 2 failed: ValueError: no more"),
        ("is killed", r"process 1 of 2 was ended by SIGKILL, as it is when memory runs out"),
    ],
)
def test_when_one_process_fails_all_end_and_the_reason_is_its_own(how, message, tmp_path):
    started = time.monotonic()
    with pytest.raises(TrainingError, match=message):
        launch(fail, (how, tmp_path), GROUP)
    assert time.monotonic() - started < 45
    pids = [int(file.read_text()) for file in tmp_path.iterdir()]
    assert len(pids) == 2 and not running(pids)


def test_a_process_that_does_not_answer_is_not_waited_for_forever():
    with pytest.raises(TrainingError, match="process 0 of 2 cannot reach the others"):
        launch(hang, (), GROUP)


def command(root: Path, *words: str) -> list[str]:
    values = settings(root, epochs=100_000, stopping_step=100_000)
    options = [f"--{key}={json.dumps(value)}" for key, value in values.items()]
    return [*words, "--model=MARGO", f"--dataset={NAME}", *options]


def hear_ctrl_c() -> None:
    """Undo what a process inherits that a shell has put into the background: deafness to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(root, tmp_path):
    shim = str(ROOT / "run_recbole_margo.py")
    run = subprocess.Popen(
        command(root, sys.executable, shim, "--nproc=2", f"--output_dir={tmp_path}"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    try:
        last, end = tmp_path / "MARGO" / "checkpoint-last.pth", time.monotonic() + 60
        while not last.is_file() and time.monotonic() < end and run.poll() is None:
            time.sleep(0.1)
        children = [child.pid for child in psutil.Process(run.pid).children()]
        # The terminal sends it to every process of the group.
        os.killpg(run.pid, signal.SIGINT)
        _, shown = run.communicate(timeout=45)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 130
    assert f"--resume={tmp_path}" in shown
    assert "Traceback" not in shown
    assert len(children) >= 2 and not running(children)


def test_torchrun_trains_the_same_model(together, root, tmp_path):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    values = [f"--{key}={json.dumps(value)}" for key, value in settings(root).items()]
    words += [str(ROOT / "run_recbole_margo.py"), "--model=MARGO,BPR", f"--dataset={NAME}"]
    done = subprocess.run(
        [*words, *values, f"--output_dir={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "MARGO" / "result.json").read_text())
    assert record["test"] == together[0]["test"]
    assert (tmp_path / "BPR" / "result.json").is_file()


def test_worlds_do_not_divide_evenly():
    """The shares of users and of rows differ, or the tests above would show less."""
    assert isinstance(WORLD, World)
    assert len({user for user, _ in WORLD.splits["valid"]}) % 2 == 1


@pytest.mark.parametrize(
    "kind",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(
                not (torch.cuda.is_available() and torch.distributed.is_nccl_available()),
                reason="NCCL needs a CUDA device",
            ),
        ),
    ],
)
def test_a_group_of_one_process_speaks_and_trains_as_no_group_does(kind, root, tmp_path):
    """Through NCCL on a GPU, through gloo on the CPU: what several processes do, with one."""
    script = tmp_path / "one.py"
    script.write_text(GROUP_OF_ONE)
    values = {**settings(root), "use_gpu": kind == "cuda", "cuda_graphs": False}
    arguments = [json.dumps(values), NAME, str(tmp_path)]
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    done = subprocess.run(
        [*words, str(script), *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["backend"] == ("nccl" if kind == "cuda" else "gloo")
    assert found["gathered"] == [{"a": 1}]
    assert found["together"] == pytest.approx(found["alone"], rel=1e-4 if kind == "cuda" else 1e-6)


GROUP_OF_ONE = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from recbole.utils import init_seed
from recbole_margo.config import Config
from recbole_margo.data.protocol import load_and_split
from recbole_margo.training.distributed import distributed_trainer
from recbole_margo.training.processes import join, leave, own_device
from recbole_margo.training.trainer import MultimodalTrainer

values, dataset, folder = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def scores(several):
    config = Config("MARGO", dataset, config_dict={**values, "checkpoint_dir": str(folder)})
    processes = None
    if several:
        config["device"] = own_device(config)
        processes = join(config["device"])
    loaders = load_and_split(config)[1]
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, loaders[0]._dataset).to(config["device"])
    if several:
        trainer = distributed_trainer(config.model_class, "MARGO")(config, model, processes)
    else:
        trainer = MultimodalTrainer(config, model)
    trainer.fit(*loaders[:2], verbose=False, saved=False)
    losses = [trainer.train_loss_dict[epoch] for epoch in sorted(trainer.train_loss_dict)]
    return processes, losses

_, alone = scores(False)
processes, together = scores(True)
found = {"backend": dist.get_backend(), "gathered": processes.gathered({"a": 1})}
(folder / "found.json").write_text(json.dumps({**found, "alone": alone, "together": together}))
leave()
"""
