"""Nothing in RecBole runs what a text or a file says.

`KNOWN` is the whole of RecBole's source that could: what reads it, fails as soon as RecBole has one
place more, or one less.
"""

from __future__ import annotations

import ast
import importlib
import logging
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import recbole
import torch
import yaml
from recbole.config.configurator import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.trainer import HyperTuning
from recbole.utils import InputType, get_model
from recbole.utils.url import extract_zip

from recbole_margo.cli import main
from recbole_margo.compat import TRUST_VARIABLE, load_checkpoint
from recbole_margo.config import Config
from recbole_margo.errors import ConfigError, FeatureError
from recbole_margo.recbole_closures import CLOSURES, STORED_PICKLES, read_literal
from recbole_margo.testing import NAME, random_world

ROOT = Path(recbole.__file__).parent

# Functions that run code or build any object, or open what could; matched by their last name.
DANGEROUS = {
    *("eval", "exec", "compile", "__import__", "import_module", "find_spec", "run_module"),
    *("spec_from_file_location", "run_path", "load", "loads", "load_all", "full_load"),
    *("unsafe_load", "full_load_all", "unsafe_load_all", "Unpickler", "read_pickle"),
    *("load_model", "load_from_checkpoint", "Booster", "system", "popen", "Popen"),
    *("check_call", "check_output", "execv", "spawn", "fork", "urlopen", "urlretrieve"),
    *("Request", "extractall", "unpack_archive", "globals", "locals", "vars", "setattr"),
    *("input", "fromfile", "genfromtxt", "loadtxt", "query", "deserialize", "hub"),
}
MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("subprocess", "ctypes", "cffi", "runpy", "code", "codeop", "imp", "importlib", "pkgutil"),
    *("urllib", "requests", "http", "socket", "ftplib", "xmlrpc", "zipfile", "tarfile"),
    *("shutil", "yaml", "tempfile", "multiprocessing", "h5py", "builtins"),
}
HANDED_ON = {"eval", "exec", "compile", "__import__", "getattr", "setattr", "globals", "open"}
SAFE_LOAD = "torch"  # compat puts load_checkpoint in its place
OF_THE_CODE = "names that RecBole's own code gives, or the name of one of its models"
ATTRIBUTE = "sets data on an object, runs nothing"
NOT_CODE = "reads a format of data that holds no code"
NOTHING_CALLED = "no part of RecBole calls it"
A_METHOD = "a method of the model"
DOWNLOAD = "addresses in RecBole's own table; what arrives stays in the folder of the dataset"

# Module, what stands there -> the name of which a closure takes the place, or why none has to.
KNOWN = {
    ("config.configurator", "eval(param)"): "eval",
    ("config.configurator", "import yaml"): "yaml",
    ("config.configurator", "yaml.load(f.read(), Loader=self.yaml_loader)"): "yaml",
    ("trainer.hyper_tuning", "eval(para_value)"): "eval",
    ("model.context_aware_recommender.kd_dagfm", "eval(f\"{config['teacher']}\")"): "eval",
    ("data.utils", "import pickle"): "pickle",
    ("data.utils", "pickle.load(f)"): "pickle",
    ("data.dataset.dataset", "import pickle"): "pickle",
    ("model.general_recommender.ldiffrec", "np.load(emb_path, allow_pickle=True)"): "np",
    ("model.context_aware_recommender.kd_dagfm", "torch.load(config['warm_up'])"): SAFE_LOAD,
    ("model.general_recommender.convncf", "torch.load(self.pre_model_path)"): SAFE_LOAD,
    ("model.general_recommender.nais", "torch.load(self.pretrain_path)"): SAFE_LOAD,
    (
        "model.general_recommender.neumf",
        "torch.load(self.mf_pretrain_path, map_location='cpu')",
    ): SAFE_LOAD,
    (
        "model.general_recommender.neumf",
        "torch.load(self.mlp_pretrain_path, map_location='cpu')",
    ): SAFE_LOAD,
    ("model.general_recommender.ract", "torch.load(self.pre_model_path)"): SAFE_LOAD,
    ("model.sequential_recommender.s3rec", "torch.load(self.pre_model_path)"): SAFE_LOAD,
    (
        "trainer.trainer",
        "torch.load(checkpoint_file, map_location=self.device)",
    ): SAFE_LOAD,
    ("trainer.trainer", "torch.load(resume_file, map_location=self.device)"): SAFE_LOAD,
    # compat replaces the function that this stands in.
    ("quick_start.quick_start", "torch.load(model_file)"): "load_data_and_model",
    ("model.exlib_recommender.lightgbm", "lgb.Booster(model_file=model_file)"): NOT_CODE,
    ("model.exlib_recommender.xgboost", "self.load_model(model_file)"): NOT_CODE,
    ("trainer.trainer", "self.lgb.Booster(model_file=checkpoint_file)"): NOT_CODE,
    ("trainer.trainer", "self.model.load_model(checkpoint_file)"): NOT_CODE,
    ("trainer.trainer", "__import__('lightgbm')"): OF_THE_CODE,
    ("trainer.trainer", "__import__('xgboost')"): OF_THE_CODE,
    ("data.dataset.dataset", "import yaml"): OF_THE_CODE,
    (
        "data.dataset.dataset",
        "yaml.load(f.read(), Loader=self.config.yaml_loader)",
    ): "reads RecBole's own table of downloads",
    ("data.utils", "import importlib"): OF_THE_CODE,
    ("data.utils", "importlib.import_module('recbole.data.dataset')"): OF_THE_CODE,
    ("data.utils", "getattr(dataset_module, config['model'] + 'Dataset')"): OF_THE_CODE,
    ("data.utils", "getattr(dataset_module, type2class[model_type])"): OF_THE_CODE,
    ("utils.utils", "import importlib"): OF_THE_CODE,
    ("utils.utils", "importlib.import_module('recbole.trainer')"): OF_THE_CODE,
    ("utils.utils", "importlib.import_module(module_path, __name__)"): OF_THE_CODE,
    ("utils.utils", "importlib.util.find_spec(module_path, __name__)"): OF_THE_CODE,
    ("utils.utils", "getattr(model_module, model_name)"): OF_THE_CODE,
    (
        "utils.utils",
        "getattr(importlib.import_module('recbole.trainer'), model_name + 'Trainer')",
    ): OF_THE_CODE,
    (
        "quick_start.quick_start",
        "mp.spawn(run_recboles, args=(model, dataset, config_file_list, kwargs), nprocs=nproc, "
        "join=True)",
    ): OF_THE_CODE,
    ("evaluator.utils", "getattr(np, method)"): NOTHING_CALLED,
    ("data.dataset.dataset", "setattr(self, f'{suf}_feat', feat)"): ATTRIBUTE,
    (
        "data.dataset.dataset",
        "setattr(self, feat_name, self._dataframe_to_interaction(feat))",
    ): ATTRIBUTE,
    ("data.dataset.decisiontree_dataset", "setattr(self, feat_name, feat)"): ATTRIBUTE,
    (
        "data.dataset.sequential_dataset",
        "setattr(self, f'{field}_list_field', list_field)",
    ): ATTRIBUTE,
    ("evaluator.register", "setattr(self, info, True)"): ATTRIBUTE,
    ("model.abstract_recommender", "setattr(self, key, value)"): ATTRIBUTE,
    ("model.layers", "self.query(input_tensor)"): A_METHOD,
    ("utils.url", "import urllib.request as ur"): DOWNLOAD,
    ("utils.url", "ur.urlopen(url)"): DOWNLOAD,
    ("utils.url", "import zipfile"): DOWNLOAD,
    ("utils.url", "f.extractall(folder)"): DOWNLOAD,
    (
        "utils.url",
        "input('This will download %.2fGB. Will you proceed? (y/N)\\n' % size)",
    ): DOWNLOAD,
}
CLOSED = {"eval", "yaml", "pickle", "np", "torch", "load_data_and_model"}


def suspects(tree: ast.Module) -> Iterator[str]:
    """Yield every expression and import that could run what it is given."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            owner = getattr(getattr(function, "value", None), "id", "")
            dynamic = name == "getattr" and not isinstance(node.args[1], ast.Constant)
            # model.eval() and re.compile() are other things; an attribute of itself is data.
            other = (name, owner) == ("compile", "re") or (
                name == "eval" and isinstance(function, ast.Attribute) and not node.args
            )
            if (name in DANGEROUS and not other) or (
                dynamic and ast.unparse(node.args[0]) != "self"
            ):
                yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            if any(alias.name.split(".")[0] in MODULES for alias in node.names):
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield ast.unparse(node)
        elif isinstance(node, ast.Name) and id(node) not in called and node.id in HANDED_ON:
            yield f"the function {node.id}"


def test_every_place_of_recbole_that_could_run_something_is_known() -> None:
    found = {
        (".".join(path.relative_to(ROOT).with_suffix("").parts), expression)
        for path in sorted(ROOT.rglob("*.py"))
        for expression in suspects(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - set(KNOWN) == set(), "new in RecBole: close it, or say why that is not needed"
    assert set(KNOWN) - found == set(), "gone from RecBole"


def test_the_search_finds_what_it_is_for() -> None:
    source = """
import pickle, os
from subprocess import run
eval(x); map(eval, texts); os.system(x); getattr(module, name)()
model.eval(); re.compile(x); getattr(self, name); getattr(module, "fixed")
np.load(x); loader.load(x)
"""
    assert set(suspects(ast.parse(source))) == {
        *("import pickle, os", "from subprocess import run", "eval(x)", "the function eval"),
        *("os.system(x)", "getattr(module, name)", "np.load(x)", "loader.load(x)"),
    }


@pytest.mark.parametrize(
    ("module", "name"),
    sorted({(module, how) for (module, _), how in KNOWN.items() if how in CLOSED}),
)
def test_what_the_table_calls_closed_is_replaced(module: str, name: str) -> None:
    loaded = importlib.import_module(f"recbole.{module}")
    original = __import__(name) if name in ("yaml", "pickle", "torch") else {"np": np}.get(name)
    if name == "eval":
        original = eval
    replaced = vars(loaded)[name]
    assert replaced is not original
    if name == "load_data_and_model":
        assert replaced.__module__.startswith("recbole_margo.")
    elif name == "torch":
        assert replaced.load is load_checkpoint


def test_every_closure_is_in_place() -> None:
    for module, name, _ in CLOSURES:
        replaced = vars(importlib.import_module(module))[name]
        assert "recbole_margo" in (
            getattr(replaced, "__module__", None) or type(replaced).__module__
        )
    # The originals are everybody else's.
    assert eval("1 + 1") == 2  # noqa: S307
    assert yaml.load is not sys.modules["recbole.config.configurator"].yaml.load
    assert pickle.loads(pickle.dumps({1})) == {1}  # noqa: S301


def test_what_is_imported_first_or_again_is_closed_too() -> None:
    names = [(module, name) for module, name, _ in CLOSURES]
    code = f"""
import importlib, sys
for module, _ in {names!r}:
    importlib.import_module(module)
import recbole_margo

def closed():
    for module, name in {names!r}:
        value = vars(sys.modules[module])[name]
        maker = value if name in ("eval", "open") else type(value)
        assert maker.__module__.startswith("recbole_margo."), (module, name)

closed()
for module in dict.fromkeys(module for module, _ in {names!r}):
    importlib.reload(sys.modules[module])
closed()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- text that is evaluated -----------------------------------------------------------------------

PAYLOADS = (
    "__import__('os').mkdir({target!r})",
    "[__import__('os').mkdir({target!r})]",
    "(lambda: __import__('os').mkdir({target!r}))()",
    "{{'a': open({target!r}, 'w')}}",
    "[open({target!r}, 'w') for _ in [1]]",
    "f'{{open({target!r}, chr(119))}}'",
    "CrossNet if open({target!r}, 'w') else CIN",
    "torch.hub.load({target!r})",
    "().__class__.__base__.__subclasses__()",
    "InputType.__class__",
)


# RecBole reads its file of ranges with these, and hyperopt is not needed for the reading.
HYPEROPT = SimpleNamespace(
    hp=SimpleNamespace(
        choice=lambda name, values: values, loguniform=lambda name, low, high: (low, high)
    )
)


def config_of_recbole(tmp_path: Path, **values: Any) -> RecBoleConfig:
    """Return RecBole's own config of BPR on a small world."""
    root = random_world().write(tmp_path / "data")
    settings = {"data_path": str(root), "use_gpu": False, "benchmark_filename": None, **values}
    return RecBoleConfig(model="BPR", dataset=NAME, config_dict=settings)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_is_not_run(payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "ran"
    text = payload.format(target=str(target))
    with pytest.raises(ValueError, match="no "):
        read_literal(text)
    config = config_of_recbole(tmp_path, mine=text)
    assert config["mine"] == text
    monkeypatch.setattr("sys.argv", ["run_recbole.py", f"--mine={text.replace('=', ' ')}"])
    assert isinstance(config_of_recbole(tmp_path)["mine"], str)
    ranges = tmp_path / "ranges.test"
    ranges.write_text(f"learning_rate choice {text}\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "hyperopt", HYPEROPT)
    with pytest.raises(ConfigError, match="must be a list of values"):
        HyperTuning._build_space_from_file(str(ranges))
    assert not target.exists()


@pytest.mark.parametrize(
    "text",
    [
        *("1", "-1", "+1", "1e-3", "0.5", "True", "None", "'text'", '"it\'s"', "[]", "()", "{}"),
        *("[64, 32]", "(1, 2)", "{'valid': 'full', 'test': [1, 2.5]}", "['[64]', '[128, 64]']"),
        *("[-1, 1e-4, None, True]", "2**-4", "1/3", "3*1024", "10-2.5", "[1e-3*2]", "-2**2"),
        *(" [1,2]", "1_000", "0x10"),
    ],
)
def test_values_are_read_as_python_reads_them(text: str) -> None:
    value = read_literal(text)
    expected = eval(text.strip())  # noqa: S307
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "name", "a.b", "a b", "[", "1/0", "9**9**9", "9**999999999", "'a'*9", "[0]*9"),
        *("1e999*2", "(-8)**0.5 + 1", "{1, 2}", "b'x'", "...", "1j", "{**a}", "[*a]", "not 1"),
        *("(" * 5_000, "[" * 190 + "]" * 190 + "x", "-" * 100_000 + "1", "\0", "\ud800"),
        *("InputType.nothing", "os.system", "Enum.x", "1 if 1 else 2", "x" * (1 << 21)),
    ],
)
def test_other_text_is_no_value(text: str) -> None:
    with pytest.raises(ValueError):
        read_literal(text)


def test_config_of_recbole_has_the_values_that_it_had(tmp_path: Path) -> None:
    values = {
        "mlp_hidden_size": "[64, 32]",
        "learning_rate": "1e-3",
        "weight_decay": "2**-4",
        "clip_grad_norm": "None",
        "mine": "true",
        "type": "InputType.PAIRWISE",
        "path": "a/b c.txt",
    }
    config = config_of_recbole(tmp_path, **values)
    assert config["mlp_hidden_size"] == [64, 32]
    assert config["learning_rate"] == 0.001
    assert config["weight_decay"] == 0.0625
    assert config["clip_grad_norm"] is None
    assert config["mine"] is True
    assert config["type"] is InputType.PAIRWISE
    assert config["path"] == "a/b c.txt"


def test_a_file_of_search_ranges_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ranges.test").write_text(
        "learning_rate loguniform -8,0\ntrain_batch_size choice [512, 1024]\n"
        "mlp_hidden_size choice ['[64, 32]', '[128]']\ndropout choice [0.1, 0.5]\n"
    )
    monkeypatch.setitem(sys.modules, "hyperopt", HYPEROPT)
    assert HyperTuning._build_space_from_file("ranges.test") == {
        "learning_rate": (-8, 0),
        "train_batch_size": [512, 1024],
        "mlp_hidden_size": ["[64,32]", "[128]"],
        "dropout": [0.1, 0.5],
    }


# --- KD_DAGFM -------------------------------------------------------------------------------------


def kd_dagfm(tmp_path: Path, teacher: Any) -> Any:
    """Return RecBole's KD_DAGFM with a teacher of some name."""
    root = random_world().write(tmp_path / "data")
    settings = {
        "data_path": str(root),
        "use_gpu": False,
        "benchmark_filename": None,
        "eval_args": {"mode": "labeled"},
        "metrics": ["AUC"],
        "valid_metric": "AUC",
        "embedding_size": 4,
        "teacher": teacher,
    }
    config = Config("KD_DAGFM", NAME, config_dict=settings)
    (root / NAME / f"{NAME}.inter").write_text(
        "user_id:token\titem_id:token\tlabel:float\n"
        + "".join(f"u{n % 7}\ti{n % 5}\t{n % 2}\n" for n in range(35))
    )
    config["load_col"] = {"inter": ["user_id", "item_id", "label"]}
    config["data_path"] = str(root / NAME)
    return get_model("KD_DAGFM")(config, create_dataset(config))


@pytest.mark.parametrize("teacher", ["CrossNet", "CIN"])
def test_a_teacher_is_found_by_its_name(teacher: str, tmp_path: Path) -> None:
    assert type(kd_dagfm(tmp_path, teacher).teacher_network).__name__ == teacher


@pytest.mark.parametrize("teacher", [*PAYLOADS, "KD_DAGFM", "nn.Linear", "deepcopy", "", None, 3])
def test_a_teacher_is_only_a_name(teacher: Any, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    name = teacher.format(target=str(target)) if isinstance(teacher, str) else teacher
    with pytest.raises(ConfigError, match=r"`teacher` must be one of \['CIN'.*'CrossNet'"):
        kd_dagfm(tmp_path, name)
    assert not target.exists()


# --- files ----------------------------------------------------------------------------------------


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_embeddings_of_ldiffrec_are_numbers(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    config = Config(
        "LDiffRec",
        NAME,
        config_dict={
            "data_path": str(random_world().write(tmp_path / "data")),
            "use_gpu": False,
            "eval_batch_size": 100,
            "n_cate": 2,
        },
    )
    train, _, _ = data_preparation(config, create_dataset(config))
    path = tmp_path / "data" / NAME / "item_emb.npy"
    np.save(path, np.array([Attack(target)], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureError, match=r"item_emb\.npy: expected an array of numbers"):
        get_model("LDiffRec")(config, train.dataset)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="found a named pipe"):
        get_model("LDiffRec")(config, train.dataset)
    assert not target.exists()

    path.unlink()
    numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(path, numbers)
    module = sys.modules["recbole.model.general_recommender.ldiffrec"]
    assert np.array_equal(module.np.load(path, allow_pickle=True), numbers)
    assert module.np.float32 is np.float32


def test_yaml_of_recboles_own_config_builds_plain_values(tmp_path: Path) -> None:
    root = random_world().write(tmp_path / "data")
    path = tmp_path / "mine.yaml"
    path.write_text(f"data_path: {root}\nrate: 1e-3\nother: 1.5E2\nlist: &a [1]\nsame: *a\n")
    config = RecBoleConfig(model="BPR", dataset=NAME, config_file_list=[str(path)])
    assert (config["rate"], config["other"]) == (0.001, 150.0)
    assert config["list"] == config["same"] == [1]
    for text in (
        "mine: !!python/name:os.mkdir",
        "mine: !!python/object/apply:os.mkdir [ran]",
        "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e]",
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="not valid YAML"):
            RecBoleConfig(model="BPR", dataset=NAME, config_file_list=[str(path)])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="found a named pipe"):
        RecBoleConfig(model="BPR", dataset=NAME, config_file_list=[str(path)])
    assert not Path("ran").exists()


def test_an_archive_stays_in_its_folder(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "inside"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("../out.inter", "/../../out.inter", "a/../../out.inter", "in.inter"):
            file.writestr(name, "harmless")
    folder.mkdir()
    extract_zip(str(archive), str(folder))
    assert not list(tmp_path.glob("out*"))
    assert (folder / "in.inter").is_file()


# --- pickles --------------------------------------------------------------------------------------


def planted(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(Attack(target)))
    return path


STORED = {
    "dataset_save_path": f"{NAME}-Dataset.pth",
    "dataloaders_save_path": f"{NAME}-for-BPR-dataloader.pth",
}


@pytest.mark.parametrize("key", STORED)
@pytest.mark.parametrize("named", [True, False])
def test_a_planted_pickle_is_not_run_and_said_to_be_left(
    key: str, named: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "ran"
    path = planted(tmp_path / "saved" / ("a.pth" if named else STORED[key]), target)
    config = config_of_recbole(tmp_path, **({key: str(path)} if named else {}))
    config["benchmark_filename"] = ["train", "valid", "test"]
    with caplog.at_level(logging.WARNING):
        loaders = data_preparation(config, create_dataset(config))
    assert len(loaders[0].dataset) == 80
    assert not target.exists()
    (said,) = (record.getMessage() for record in caplog.records if "not read" in record.message)
    assert path.name in said
    assert TRUST_VARIABLE in said


@pytest.mark.parametrize("key", STORED)
def test_a_trusted_pickle_is_read(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "ran"
    planted(tmp_path / "saved" / STORED[key], target)
    config = config_of_recbole(tmp_path)
    config["benchmark_filename"] = ["train", "valid", "test"]
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    with pytest.raises((AttributeError, TypeError)):  # what mkdir returned is no dataset
        data_preparation(config, create_dataset(config))
    assert target.exists()


def test_what_this_process_has_written_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of_recbole(tmp_path, save_dataset=True, save_dataloaders=True)
    config["benchmark_filename"] = ["train", "valid", "test"]
    first = data_preparation(config, create_dataset(config))
    files = [tmp_path / "saved" / name for name in STORED.values()]
    assert all(file.is_file() for file in files)
    with caplog.at_level(logging.INFO):
        dataset = create_dataset(config)
        again = data_preparation(config, dataset)
    text = caplog.text
    assert "Load filtered dataset from" in text
    assert "Load split dataloaders from" in text
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.dataset.inter_feat["item_id"], other.dataset.inter_feat["item_id"])

    # Another's content under the same name is not what this process has written.
    target = tmp_path / "ran"
    for file in files:
        planted(file, target)
    assert len(data_preparation(config, create_dataset(config))[0].dataset) == 80
    assert not target.exists()


def test_a_pipe_in_the_place_of_a_pickle_is_not_waited_for(tmp_path: Path) -> None:
    config = config_of_recbole(tmp_path)
    (tmp_path / "saved").mkdir()
    os.mkfifo(tmp_path / "saved" / STORED["dataset_save_path"])
    with pytest.raises(ConfigError, match="found a named pipe"):
        create_dataset(config)


@pytest.mark.parametrize("key", STORED_PICKLES)
def test_our_config_refuses_to_name_a_pickle(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(STORED_PICKLES) == set(STORED)
    values = {"data_path": str(tmp_path), key: "made.pth"}
    with pytest.raises(
        ConfigError, match=rf"`{key}` names a pickle, made\.pth.*{TRUST_VARIABLE}=1"
    ):
        Config("BPR", NAME, config_dict=values)
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    assert Config("BPR", NAME, config_dict=values)[key] == "made.pth"


def test_a_resumed_run_does_not_run_what_lies_in_its_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = random_world().write(tmp_path / "data")
    words = [f"--dataset={NAME}", f"--data_path={root}", "--epochs=1", "--use_gpu=false"]
    words += ["--output_dir=out", "--topk=[5]", "--valid_metric=Recall@5"]
    assert main(["train", "--model=BPR,LightGCN", *words]) == 0
    target = tmp_path / "ran"
    for model in ("BPR", "LightGCN"):
        planted(tmp_path / "out" / model / STORED["dataset_save_path"], target)
        planted(tmp_path / "out" / model / f"{NAME}-for-{model}-dataloader.pth", target)
        (tmp_path / "out" / model / "result.json").unlink()
    capfd.readouterr()
    assert main(["train", "--resume=out"]) == 0
    assert not target.exists()
    said = capfd.readouterr().err
    for model in ("BPR", "LightGCN"):
        for name in (STORED["dataset_save_path"], f"{NAME}-for-{model}-dataloader.pth"):
            assert f"{Path('out') / model / name} is not read" in said
