"""`recbole-margo doctor`: what is installed, what it runs on, and whether RecBole trains."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil
from packaging.requirements import Requirement

from recbole_margo.command_line import command_parser, one_line

DISTRIBUTION = "recbole-margo"
SHOWN = ("recbole-margo", "torch", "recbole", "numpy", "scipy", "pandas")
DESCRIPTION = """\
Say which versions are installed, what they run on, what each extra brings, and whether RecBole
trains: one epoch of RecBole's BPR and of MARGO on a made-up data set in a temporary folder.
"""
# What each extra that a user may want is for; the packages are those of the installation.
EXTRAS = {
    "download": "`convert mmrec --download`: published data sets from Google Drive",
    "encode": "`encode --encoder NAME`: pretrained models of texts, images and sounds",
    "faiss": "`--item_neighbor_search`: item graphs of large catalogues",
    "index": "`vectors`: vectors as parquet, and indices with their recall",
    "ray": "trainings on a Ray cluster",
    "serve": "`serve`: recommendations over HTTP",
    "tables": "parquet tables and safetensors matrices",
    "tune": "`tune`: the search for hyper-parameters",
}
FOR_DEVELOPERS = frozenset({"test", "check", "docs", "dev"})
TRAINED = ("BPR", "MARGO")
GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    about: str
    text: str
    well: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report and return 0 where everything that is needed works, else 1."""
    command_parser("doctor", DESCRIPTION).parse_args(arguments)
    findings: list[Finding] = []
    for part in (_versions, _requirements, _machine, _extras, _trainings):
        for finding in part():
            findings.append(finding)
            mark = " " if finding.well else "!"
            print(f"{mark} {finding.about:<14} {finding.text}", flush=True)
    ill = [finding.about for finding in findings if not finding.well]
    print(f"\nnot well: {', '.join(ill)}" if ill else "\nall well")
    return int(bool(ill))


def _versions() -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()}, {platform.platform()}")
    for package in SHOWN:
        version = _version(package)
        yield Finding(package, version or "not installed", bool(version))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _required(extra: str = "") -> list[Requirement]:
    try:
        listed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []

    def applies(one: Requirement, with_extra: str) -> bool:
        return not one.marker or one.marker.evaluate({"extra": with_extra})

    required = [one for one in map(Requirement, listed) if applies(one, extra)]
    return [one for one in required if not (extra and applies(one, ""))]


def _lacking(requirements: Sequence[Requirement]) -> list[str]:
    lacking = []
    for one in requirements:
        version = _version(one.name)
        if version is None or not one.specifier.contains(version, prereleases=True):
            found = f" (found {version})" if version else ""
            lacking.append(f"{one.name}{one.specifier}{found}")
    return lacking


def _requirements() -> Iterator[Finding]:
    required = _required()
    lacking = _lacking(required)
    if lacking:
        yield Finding("packages", f"needed: {', '.join(lacking)}; pip install them", False)
    elif required:
        yield Finding("packages", f"all {len(required)} that are needed")
    else:
        yield Finding("packages", "unknown: not installed by pip; pip install .", False)


def _machine() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield Finding("cores", f"{_cores()} for this process, {psutil.cpu_count()} in all")
    yield Finding(
        "memory", f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB of it free"
    )
    try:
        import torch
    except Exception as error:  # whatever a broken installation raises
        yield Finding("GPU", f"unknown: torch cannot be imported ({one_line(error)})", False)
        return
    build = f"torch is built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs'}"
    if not torch.cuda.is_available():
        yield Finding("GPU", f"none that torch sees; {build}")
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        size = f"{properties.total_memory / GIB:.0f} GiB"
        yield Finding("GPU", f"{number}: {properties.name}, {size}; {build}")


def _cores() -> int:
    try:
        return len(psutil.Process().cpu_affinity())
    except AttributeError:  # macOS has no affinity
        return psutil.cpu_count() or 1


def _extras() -> Iterator[Finding]:
    for name, brings in EXTRAS.items():
        required = _required(name)
        lacking = _lacking(required)
        if not required:
            state = "unknown"
        elif lacking:
            state = (
                f"not installed, lacks {', '.join(lacking)}: pip install 'recbole-margo[{name}]'"
            )
        else:
            state = "installed"
        yield Finding(f"extra {name}", f"{brings}; {state}")


def _trainings() -> Iterator[Finding]:
    for model in TRAINED:
        begin = perf_counter()
        try:
            device = _train(model)
        except Exception as error:  # the point of a doctor is to say what any of them says
            yield Finding(
                f"trains {model}", f"no: {type(error).__name__}: {one_line(error)}", False
            )
        else:
            seconds = perf_counter() - begin
            yield Finding(f"trains {model}", f"yes, on {device}, in {seconds:.1f} s")


def _train(model: str) -> str:
    import torch

    from recbole_margo.run import run_recbole_margo
    from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings

    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder, _silence():
        root = random_world().write(Path(folder) / "data")
        settings = {
            **SETTINGS,
            **small_settings(model),
            "epochs": 1,
            "data_path": str(root),
            "use_gpu": on_gpu,
        }
        run_recbole_margo(model, NAME, config_dict=settings, output_dir=Path(folder) / "run")
    return "the GPU" if on_gpu else "the CPU"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)
