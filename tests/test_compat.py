"""RecBole's own code on today's libraries."""

from __future__ import annotations

import importlib
import io
import math
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recbole
import recbole.quick_start
import recbole.utils
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer
from recbole.utils import get_flops, get_model, init_seed
from scipy.sparse import coo_matrix, csr_matrix, dok_matrix

from recbole_margo import compat
from recbole_margo.compat import TRUST_VARIABLE, load_checkpoint, patch_recbole
from recbole_margo.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Train RecBole's BPR for an epoch on twelve users and eight items."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    rows = [f"u{user}\ti{(user * step) % 8}" for user in range(12) for step in (1, 2, 3, 5, 7)]
    text = "\n".join(["user_id:token\titem_id:token", *dict.fromkeys(rows)])
    (folder / "toy.inter").write_text(text + "\n", encoding="utf-8")
    settings: dict[str, Any] = {
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id"]},
        "checkpoint_dir": str(tmp_path / "saved"),
        "epochs": 1,
        "embedding_size": 4,
        "topk": [3],
        "valid_metric": "NDCG@3",
        "use_gpu": False,
    }
    config = Config(model="BPR", dataset="toy", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, get_model("BPR")(config, train.dataset))
    trainer.fit(train, valid, show_progress=False)
    return trainer


def run_python(code: str, *paths: Path) -> str:
    """Run code in a new interpreter that finds `paths` first, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def archive(path: Path, pickled: bytes) -> Path:
    """Write a file as `torch.save` does, with a pickle of our own in it."""
    torch.save({}, path)
    crafted = path.with_name(f"crafted-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(crafted, "w") as target:
        for name in source.namelist():
            content = pickled if name.endswith("/data.pkl") else source.read(name)
            target.writestr(name, content)
    return crafted


def test_names_that_numpy_dropped_are_there() -> None:
    for name, expected in (
        ("float_", np.float64),
        ("complex_", np.complex128),
        ("unicode_", np.str_),
    ):
        assert getattr(np, name) is expected


def test_a_dok_matrix_takes_the_entries_that_recbole_gives_it() -> None:
    rows = np.array([0, 2, 2, 1], dtype=np.int32)
    columns = np.array([1, 0, 3, 3], dtype=np.int32)
    matrix = dok_matrix((3, 4), dtype=np.float32)
    matrix._update(dict(zip(zip(rows, columns, strict=True), [1] * 4, strict=True)))
    expected = coo_matrix((np.ones(4, dtype=np.float32), (rows, columns)), shape=(3, 4))
    assert np.array_equal(matrix.toarray(), expected.toarray())
    assert matrix.tocoo().dtype == np.float32
    assert np.array_equal((matrix > 0).sum(axis=1), (expected.tocsr() > 0).sum(axis=1))


def test_importing_the_package_imports_neither_torch_nor_recbole() -> None:
    code = """
        import sys, recbole_margo
        print(sorted({"torch", "recbole", "ray", "pandas"} & set(sys.modules)))
    """
    assert run_python(code).strip() == "[]"


def test_recbole_imported_first_is_mended_too() -> None:
    code = """
        import sys
        import recbole.utils, recbole.trainer, torch
        original = recbole.utils.get_flops
        import recbole_margo
        import recbole.quick_start.quick_start
        assert recbole.utils.get_flops is not original
        assert recbole.quick_start.quick_start.get_flops is recbole.utils.get_flops
        print(recbole.trainer.trainer.torch.load.__name__, torch.load.__name__)
    """
    assert run_python(code).strip() == "load_checkpoint load"


def test_flops_are_nan_without_thop(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thop", None)
    dataset = create_dataset(trainer.config)
    data_preparation(trainer.config, dataset)
    lines: list[str] = []

    class Logger:
        info = staticmethod(lines.append)

    flops = get_flops(trainer.model, dataset, "cpu", Logger(), lambda _, rows: rows)
    assert math.isnan(flops)
    assert "FLOPs are not counted" in lines[-1]
    assert "thop" in lines[-1]


def test_a_checkpoint_of_recbole_gives_the_same_results_again(trainer: Trainer) -> None:
    stored = trainer.saved_model_file
    init_seed(trainer.config["seed"], trainer.config["reproducibility"])
    _, _, test = data_preparation(trainer.config, create_dataset(trainer.config))
    before = trainer.evaluate(test, load_best_model=True)

    config, model, _, _, _, test = load_data_and_model(stored)
    assert isinstance(config, Config)
    assert config.final_config_dict == trainer.config.final_config_dict
    assert config.model_class is trainer.config.model_class
    assert Trainer(config, model).evaluate(test, load_best_model=False) == before

    resumed = Trainer(config, get_model("BPR")(config, test.dataset))
    resumed.resume_checkpoint(stored)
    assert resumed.start_epoch == 1
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_what_models_keep_beside_their_parameters_is_read(tmp_path: Path) -> None:
    dense = np.array([[0.0, 1.5], [2.0, 0.0]], dtype=np.float32)
    kept = {
        "csr": csr_matrix(dense),
        "csc": csr_matrix(dense).tocsc(),
        "lil": csr_matrix(dense).tolil(),
        "matrix": np.asmatrix(dense),
        "array": dense,
    }
    others = {
        "scalar": np.float64(0.25),
        "sparse": torch.tensor(dense).to_sparse(),
        "dtype": torch.float16,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "lists": defaultdict(list, {1: [2, 3]}),
    }
    path = tmp_path / "model.pth"
    torch.save({"other_parameter": kept | others}, path, pickle_protocol=4)
    loaded = load_checkpoint(path)["other_parameter"]
    for name, value in kept.items():
        assert type(loaded[name]) is type(value)
        found = loaded[name].toarray() if hasattr(value, "toarray") else loaded[name]
        assert np.array_equal(found, dense)
    assert loaded["scalar"] == 0.25
    assert torch.equal(loaded["sparse"].to_dense(), torch.tensor(dense))
    assert loaded["dtype"] is torch.float16
    assert torch.equal(loaded["parameter"], torch.ones(2))
    assert loaded["lists"][1] == [2, 3]
    assert loaded["lists"]["absent"] == []


def test_a_module_is_mended_in_several_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two_names.py").write_text("def one():\n    return eval('1')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "two_names", raising=False)
    mends = (
        ("two_names", "one", lambda original: lambda: [original()]),
        ("two_names", "eval", lambda original: lambda text: (text, original is eval)),
    )
    monkeypatch.setattr(compat, "_MENDS", mends)
    module = importlib.import_module("two_names")
    assert module.one() == [("1", True)]
    patch_recbole()
    assert module.one() == [("1", True)]
    assert eval("1") == 1  # noqa: S307  the built-in function is everybody else's


def test_layers_are_stored_with_the_parameters_only(trainer: Trainer) -> None:
    model = trainer.model
    model.other_parameter_name = ["item_embedding", "answer"]
    model.answer = 42
    assert model.other_parameter() == {"answer": 42}
    assert "item_embedding.weight" in model.state_dict()


def test_mending_twice_changes_nothing() -> None:
    before = (get_flops, load_data_and_model)
    patch_recbole()
    assert (recbole.utils.get_flops, recbole.quick_start.load_data_and_model) == before


class Attack:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_foreign_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    path, target = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"config": Attack(target)}, path, pickle_protocol=protocol)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert not target.exists()
    for part in (str(path), f"{os.name}.mkdir", "trust_checkpoint=True", TRUST_VARIABLE):
        assert part in str(caught.value)

    load_checkpoint(path, trust=True)
    assert target.exists()
    target.rmdir()
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    load_checkpoint(path)
    assert target.exists()


def test_the_trainer_refuses_foreign_code_as_well(trainer: Trainer, tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"config": trainer.config, "epoch": Attack(target)}, path, pickle_protocol=4)
    with pytest.raises(CheckpointError, match="mkdir"):
        trainer.resume_checkpoint(path)
    with pytest.raises(CheckpointError, match="mkdir"):
        load_data_and_model(str(path))
    assert not target.exists()


def test_a_config_is_not_called_because_it_evaluates_text(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    text = f"__import__('os').mkdir({str(target)!r})"

    class Call:
        def __reduce__(self) -> Any:
            return Config, ("BPR", "ml-100k", None, {"epochs": text})

    buffer = io.BytesIO()
    pickle.Pickler(buffer, 4).dump({"config": Call()})
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(archive(tmp_path / "evil.pth", buffer.getvalue()))
    assert not target.exists()


def test_a_model_class_is_not_called(tmp_path: Path, trainer: Trainer) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return trainer.config.model_class, ()

    path = tmp_path / "evil.pth"
    torch.save({"config": Call()}, path, pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"names recbole\.model.*bpr\.BPR"):
        load_checkpoint(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "missing.pth")

    text = tmp_path / "text.pth"
    text.write_text("no archive", encoding="utf-8")
    bare = tmp_path / "bare.pth"
    bare.write_bytes(pickle.dumps(Attack(tmp_path / "ran")))
    script = tmp_path / "script.pth"
    torch.jit.script(torch.nn.Linear(1, 1)).save(script)
    prefixed = tmp_path / "prefixed.pth"
    torch.save({}, prefixed)
    prefixed.write_bytes(bare.read_bytes() + prefixed.read_bytes())
    for path in (text, bare, script, prefixed):
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            load_checkpoint(path)
    assert not (tmp_path / "ran").exists()

    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, whole)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(archive(whole, b"\x80\x04}q"))
