"""Wrong input of every kind, given to every verb: one line, status 2, nobody else's traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo.cli import main
from recbole_margo.testing import NAME, SETTINGS, SMALL, random_world

GIVEN = {**SETTINGS, "epochs": 1, "train_batch_size": 64}
DATASET = f"--dataset={NAME}"


def words(settings: dict[str, Any]) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in settings.items()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset and a good folder of every kind, made once."""
    root = tmp_path_factory.mktemp("made")
    random_world().write(root / "dataset")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        small = words({**GIVEN, **SMALL, "data_path": "dataset"})
        plain = words({**GIVEN, "data_path": "dataset"})
        assert main(["train", "--model=MARGO,DRAGON", DATASET, "--output_dir=run", *small]) == 0
        assert main(["train", "--model=BPR", DATASET, "--output_dir=bpr", *plain]) == 0
        many = ["--seeds=[1, 2]", DATASET]
        assert main(["compare", "--models=BPR,Pop", "--output_dir=cmp", *many, *plain]) == 0
        over = ["--model=BPR", "--over", "learning_rate=0.1,0.2"]
        assert main(["sweep", *over, "--output_dir=swp", *many, *plain]) == 0
        corrupt = ["--corrupt", "text=0.3", "--models=MARGO", "--seeds=[1]", DATASET]
        assert main(["robustness", *corrupt, "--output_dir=rob", *small]) == 0
    # Runs remember where their data were: what is spoiled in a copy must not be found there.
    return root.rename(root.with_name("made-and-moved"))


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of `made` to spoil, the working directory."""
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def text(path: str, content: str) -> Callable[[Path], None]:
    """Return what writes a file."""

    def spoil(folder: Path) -> None:
        for found in folder.glob(path):
            found.write_text(content, encoding="utf-8")
            return
        (folder / path).write_text(content, encoding="utf-8")

    return spoil


def cut(path: str) -> Callable[[Path], None]:
    """Return what leaves the first half of a file."""

    def spoil(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[: len(content) // 2])

    return spoil


def gone(path: str) -> Callable[[Path], None]:
    """Return what removes a file or a folder."""

    def spoil(folder: Path) -> None:
        found = folder / path
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()

    return spoil


def changed(path: str, **values: Any) -> Callable[[Path], None]:
    """Return what changes keys of a JSON file; `...` removes one."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / path).read_text())
        content.update({key: value for key, value in values.items() if value is not ...})
        for key, value in values.items():
            if value is ...:
                del content[key]
        (folder / path).write_text(json.dumps(content))

    return spoil


def row_too_few(folder: Path) -> None:
    path = folder / "dataset" / NAME / f"{NAME}.text.npy"
    np.save(path, np.load(path)[:-1])


def nothing(folder: Path) -> None:
    pass


PLANS = {
    "train": "run/run.json",
    "compare": "cmp/comparison-plan.json",
    "sweep": "swp/comparison-plan.json",
    "robustness": "rob/robustness-plan.json",
}
FOLDER_OF = {verb: path.split("/")[0] for verb, path in PLANS.items()}
INTER = f"dataset/{NAME}/{NAME}.train.inter"
TRAINING = {
    "train": ["--model=MARGO"],
    "compare": ["--models=MARGO,DRAGON"],
    "ablate": [],
    "sweep": ["--model=MARGO", "--over", "alpha=0.5,2"],
    "tune": ["--model=MARGO", "--over=alpha", "--trials=1"],
    "robustness": ["--corrupt", "text=0.3"],
}

Case = tuple[list[str], Callable[[Path], None]]


def training_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for verb, own in TRAINING.items():
        base = [verb, *own, "--output_dir=out", *words(GIVEN)]
        good = [*base, DATASET]
        found |= {
            f"{verb}: missing dataset": ([*base, "--dataset=absent"], nothing),
            f"{verb}: empty dataset": ([*base, "--dataset="], nothing),
            f"{verb}: dataset is a path": ([*base, "--dataset=../x"], nothing),
            f"{verb}: misspelt key": ([*good, "--learing_rate=1"], nothing),
            f"{verb}: misspelt option": ([*good, "--worker=1=2"], nothing),
            f"{verb}: a word alone": ([*good, "word"], nothing),
            f"{verb}: a value of another kind": ([*good, "--epochs=many"], nothing),
            f"{verb}: wrong modality": ([*good, "--modalities=[smell]"], nothing),
            f"{verb}: no YAML": ([*good, "--topk=[5"], nothing),
            f"{verb}: missing config file": ([*good, "--config_files=absent.yaml"], nothing),
            f"{verb}: config file is a list": (
                [*good, "--config_files=l.yaml"],
                text("l.yaml", "[1]"),
            ),
            f"{verb}: output_dir is a file": ([*good, "--output_dir=file"], text("file", "")),
            f"{verb}: resume of nothing": ([verb, "--resume=absent"], nothing),
            f"{verb}: resume of another kind": ([verb, "--resume=dataset"], nothing),
            f"{verb}: two parts only": ([*good, "--benchmark_filename=[train, test]"], nothing),
        }
        if verb != "train":
            found |= {
                f"{verb}: no workers": ([*good, "--workers=0"], nothing),
                f"{verb}: workers are a word": ([*good, "--workers=two"], nothing),
                f"{verb}: no seeds": ([*good, "--seeds=[]"], nothing),
                f"{verb}: seeds are a word": ([*good, "--seeds=abc"], nothing),
                f"{verb}: seeds twice": ([*good, "--seeds=[1, 1]"], nothing),
                f"{verb}: seeds are lists": ([*good, "--seeds=[[1]]"], nothing),
                f"{verb}: several processes": ([*good, "--nproc=2"], nothing),
            }
        if verb not in ("ablate", "robustness"):
            option = "--models" if verb == "compare" else "--model"
            found |= {
                f"{verb}: misspelt model": ([*good, f"{option}=MARG0"], nothing),
                f"{verb}: no model": ([*good, f"{option}=,"], nothing),
            }
    for verb, plan in PLANS.items():
        resume = [verb, f"--resume={FOLDER_OF[verb]}"]
        found |= {
            f"{verb}: cut plan": (resume, cut(plan)),
            f"{verb}: plan is a list": (resume, text(plan, "[]")),
            f"{verb}: plan of nothing": (resume, text(plan, "{}")),
            f"{verb}: no plan": (resume, gone(plan)),
            f"{verb}: resume with a setting": ([*resume, "--epochs=2"], nothing),
        }
    return found


RESULTS = {
    "train": "run/MARGO/result.json",
    "compare": "cmp/seed-1/BPR/result.json",
    "sweep": "swp/seed-1/BPR/result.json",
    "robustness": "rob/comparison/seed-1/MARGO-0/result.json",
}


def result_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for verb, result in RESULTS.items():
        resume = [verb, f"--resume={FOLDER_OF[verb]}"]
        found |= {
            f"{verb}: cut result": (resume, cut(result)),
            f"{verb}: result is a list": (resume, text(result, "[]")),
            f"{verb}: result without a test": (resume, changed(result, test=...)),
            f"{verb}: result without stages": (resume, changed(result, stages=[])),
        }
    found["compare: cut per_user.npz"] = (
        ["compare", "--resume=cmp"],
        cut("cmp/seed-1/BPR/per_user.npz"),
    )
    for verb in ("reliability", "agreement"):
        run = [verb, "--run=run", "--output_dir=out"]
        result = "run/MARGO/result.json"
        found |= {
            f"{verb}: no run": ([verb], nothing),
            f"{verb}: missing folder": ([verb, "--run=absent", "--output_dir=out"], nothing),
            f"{verb}: a dataset": ([verb, "--run=dataset", "--output_dir=out"], nothing),
            f"{verb}: without MARGO": ([verb, "--run=bpr", "--output_dir=out"], nothing),
            f"{verb}: comparison without MARGO": (
                [verb, "--run=cmp", "--output_dir=out"],
                nothing,
            ),
            f"{verb}: cut result": (run, cut(result)),
            f"{verb}: result is a list": (run, text(result, "[]")),
            f"{verb}: result without its config": (run, changed(result, config=...)),
            f"{verb}: result of another model": (run, changed(result, model="Nothing")),
            f"{verb}: config of nothing": (run, changed(result, config={})),
            f"{verb}: missing dataset": (run, gone(f"dataset/{NAME}")),
            f"{verb}: bad header": (run, text(INTER, "a\tb\nu0\ti0\n")),
            f"{verb}: unknown option": ([*run, "--nothing=1"], nothing),
            f"{verb}: other interactions": (run, text(INTER, "user_id:token\titem_id:token\nu\ti")),
        }
    found |= {
        "reliability: no checkpoint": (
            ["reliability", "--run=run", "--output_dir=out"],
            gone("run/MARGO/checkpoint.pth"),
        ),
        "reliability: cut checkpoint": (
            ["reliability", "--run=run", "--output_dir=out"],
            cut("run/MARGO/checkpoint.pth"),
        ),
        "agreement: no checkpoint": (
            ["agreement", "--run=run", "--output_dir=out"],
            gone("run/MARGO/checkpoint-stage1.pth"),
        ),
        "agreement: cut checkpoint": (
            ["agreement", "--run=run", "--output_dir=out"],
            cut("run/MARGO/checkpoint-stage1.pth"),
        ),
        "reliability: unknown label": (["reliability", "--run=run", "--label=x"], nothing),
        "reliability: no items": (["reliability", "--run=run", "--items=0"], nothing),
        "reliability: items are a word": (["reliability", "--run=run", "--items=x"], nothing),
        "reliability: missing images": (["reliability", "--run=run", "--images=absent"], nothing),
        "agreement: no epochs": (["agreement", "--run=run", "--epochs=0"], nothing),
        "agreement: unknown label": (["agreement", "--run=run", "--labels=x"], nothing),
        "agreement: empty labels": (["agreement", "--run=run", "--labels=,"], nothing),
        "agreement: two folders": (["agreement", "--run", "run", "bpr"], nothing),
        "train: cut checkpoint": (
            ["train", "--resume=run/MARGO/checkpoint-last.pth"],
            cut("run/MARGO/checkpoint-last.pth"),
        ),
        "train: best checkpoint": (["train", "--resume=run/MARGO/checkpoint.pth"], nothing),
        "train: folder in use": (
            ["train", "--model=BPR", DATASET, "--output_dir=run", *words(GIVEN)],
            nothing,
        ),
        "compare: folder in use": (
            ["compare", "--models=BPR", DATASET, "--output_dir=run", *words(GIVEN)],
            nothing,
        ),
        "compare: unknown reference": (
            ["compare", "--models=BPR", "--reference=x", DATASET, *words(GIVEN)],
            nothing,
        ),
        "sweep: of a comparison": (["sweep", "--resume=cmp"], nothing),
        "sweep: over nothing": (["sweep", DATASET, *words(GIVEN)], nothing),
        "sweep: over an unknown key": (["sweep", DATASET, "--over", "nothing=1"], nothing),
        "robustness: a share too large": (
            ["robustness", DATASET, "--corrupt", "text=2", *words(GIVEN)],
            nothing,
        ),
        "robustness: unknown kind": (["robustness", DATASET, "--kind=x"], nothing),
        "robustness: no steps": (["robustness", DATASET, "--steps=x"], nothing),
        "robustness: unknown model": (["robustness", DATASET, "--models=BPR"], nothing),
        "tune: no trials": (["tune", DATASET, "--trials=0", *words(GIVEN)], nothing),
        "tune: a space of nothing": (["tune", DATASET, "--space=alpha=[]", *words(GIVEN)], nothing),
        "models: unknown": (["models", "MARG0"], nothing),
        "models: a setting": (["models", "--x=1"], nothing),
        "no verb": ([], nothing),
        "unknown verb": (["trian"], nothing),
    }
    return found


def data_cases() -> dict[str, Case]:
    inspect = ["inspect", DATASET]
    encode = ["encode", DATASET, "--modality=titles", "--kind=text"]
    features = f"dataset/{NAME}/{NAME}.text"
    return {
        "inspect: no dataset": (["inspect"], nothing),
        "inspect: missing dataset": (["inspect", "--dataset=absent"], nothing),
        "inspect: wrong modality": ([*inspect, "--modalities=smell"], nothing),
        "inspect: bad header": (inspect, text(INTER, "a\tb\nu0\ti0\n")),
        "inspect: header without types": (inspect, text(INTER, "user_id\titem_id\nu0\ti0\n")),
        "inspect: empty file": (inspect, text(INTER, "")),
        "inspect: other separator": (inspect, text(INTER, "user_id:token,item_id:token\nu0,i0\n")),
        "inspect: a row of features too few": (inspect, row_too_few),
        "inspect: cut features": (inspect, cut(f"{features}.npy")),
        "inspect: no features": (inspect, gone(f"{features}.npy")),
        "inspect: cut manifest": (inspect, cut(f"dataset/{NAME}/{NAME}.features.json")),
        "inspect: manifest is a list": (
            inspect,
            text(f"dataset/{NAME}/{NAME}.features.json", "[]"),
        ),
        "inspect: dataset's YAML is a list": (inspect, text(f"dataset/{NAME}/{NAME}.yaml", "[1]")),
        "inspect: output is a file": ([*inspect, "--output=file"], text("file", "")),
        "inspect: unknown option": ([*inspect, "--nothing"], nothing),
        "encode: no modality": (["encode", DATASET], nothing),
        "encode: missing dataset": (["encode", "--dataset=absent", "--modality=text"], nothing),
        "encode: no source": (encode, nothing),
        "encode: missing source": ([*encode, "--source=absent"], nothing),
        "encode: empty folder": (["encode", DATASET, "--modality=x", "--source=bpr"], nothing),
        "encode: unknown kind": ([*encode, "--kind=smell"], nothing),
        "encode: batch of nothing": ([*encode, "--batch_size=0"], nothing),
        "encode: a table without the column": (
            [*encode, "--source=t.csv", "--text-columns=y"],
            text("t.csv", "item_id,x\ni0,a\n"),
        ),
        "train: a row of features too few": (
            ["train", "--model=VBPR", DATASET, "--output_dir=out", *words(GIVEN)],
            row_too_few,
        ),
    }


CASES = {**training_cases(), **result_cases(), **data_cases()}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_is_one_line_and_status_2(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, spoil = CASES[name]
    if given[:1] == ["tune"]:
        pytest.importorskip("optuna")
    spoil(here)
    capsys.readouterr()
    status = main(given)
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed.err + printed.out
    assert status == 2, (status, printed.err[-600:], printed.out[-300:])
    assert len(errors) == 1, printed.err
    assert printed.err.splitlines()[-1] == errors[0]
    assert "unexpected" not in errors[0], errors[0]
    assert len(errors[0]) > len("error: ") + 10, errors[0]
