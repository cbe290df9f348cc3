"""The one-way order of the packages and the house rules that a machine can read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom to the top: a module may import what stands before its own entry. What is named
# here is a package of the checkout, or a module or sub-package of recbole_margo. What runs several
# experiments, or looks into a dataset or a finished run, stands above the running of one.
LAYERS = (
    "errors",
    "rules",
    "store",
    "command_line",
    "dataset_converters",
    "output_folder",
    "report",
    "run_folder",
    "defaults",
    "checkpoint_file",
    "recbole_mends",
    "recbole_tuning",
    "recbole_closures",
    "compat",
    "resources",
    "data",
    "encode",
    "graph",
    "nn",
    "evidence",
    "model",
    "registry",
    "settings",
    "config",
    "training",
    "evaluation",
    "run",
    "recbole_bridge",
    "recbole_dropin",
    "inspection",
    "studies",
    "serving",
    "testing",  # for the tests of this package and of others, and for the doctor
    "cli",
    "__init__",  # the public names
    "__main__",
)
# What the converters stand on, without torch and RecBole; nothing of the core stands on them.
UNDER_CONVERTERS = {"errors", "store", "command_line"}
FORBIDDEN = {"torch_sparse", "torch_scatter", "torch_geometric", "ray", "thop"}
FILE_LINES, FUNCTION_LINES = 400, 60
# Rooms whose modules hand each other typed records. Only their plain form for a file is a mapping,
# what a public function of the package has always returned, and `Settings`, which RecBole leaves
# open.
TYPED_ROOMS = ("recbole_margo/report/", "recbole_margo/studies/")
UNTYPED_FUNCTIONS = {"as_plain", "from_plain", "compare"}
UNTYPED = re.compile(r"\b(dict|Mapping)\[str, Any\]")
# compat.py knows versions, and what it hands RecBole's tuning to.
KNOW_VERSIONS = {"compat.py", "recbole_tuning.py"}
LIBRARIES = r"\b(numpy|scipy|pandas|torch|recbole)\b"
VERSION = re.compile(
    rf"{LIBRARIES}[\s<>=~!]{{1,4}}(v|version )?\d+(\.\d+)+|\b__version__\s*[<>=!]{{2}}",
    re.IGNORECASE,
)


def source_files() -> list[Path]:
    found = [
        path
        for package in ("recbole_margo", "dataset_converters")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    assert len(found) > 40
    return found


FILES = source_files()
TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES}
TREES = {path: ast.parse(text) for path, text in TEXTS.items()}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layer_of(parts: tuple[str, ...]) -> str:
    """Return the layer of a dotted name in parts."""
    if parts[0] == "dataset_converters":
        return "dataset_converters"
    return parts[1] if len(parts) > 1 else "__init__"


def layer_of_file(path: Path) -> str:
    return layer_of(path.relative_to(ROOT).with_suffix("").parts)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, modules: Container[str] = ()) -> Iterator[str]:
    """Yield every module that a file imports, also inside a function; of packages what it names.

    Args:
        path: the file.
        modules: those that are imported by `from package import module`.
    """

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: a relative import"
                assert child.module is not None
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    # `from recbole_margo import run` imports the module recbole_margo.run.
                    whole = child.module == "recbole_margo" or name in modules
                    yield name if whole else child.module
            yield from visit(child)

    yield from visit(TREES[path])


def test_every_part_of_the_package_has_its_place():
    parts = {layer_of_file(path) for path in FILES}
    assert parts <= set(LAYERS), f"say in LAYERS where {parts - set(LAYERS)} stands"


def test_imports_go_one_way():
    against = []
    for path in FILES:
        own = layer_of_file(path)
        for name in imports_of(path):
            parts = tuple(name.split("."))
            if parts[0] not in ("recbole_margo", "dataset_converters"):
                continue
            if LAYERS.index(layer_of(parts)) > LAYERS.index(own):
                against.append(f"{name_of(path)} imports {name}")
    assert against == []


def test_no_modules_import_each_other_in_a_circle():
    """Neither inside of functions nor for type checkers alone."""
    names = {module_of(path): path for path in FILES}
    imported = {
        module: {name for name in imports_of(path, names) if name in names and name != module}
        for module, path in names.items()
    }
    circles = []
    try:
        tuple(TopologicalSorter(imported).static_order())
    except CycleError as error:
        circles = error.args[1]
    assert circles == []


def test_the_core_and_the_converters_meet_in_the_store():
    strangers = []
    for path in FILES:
        own = layer_of_file(path)
        for name in imports_of(path):
            parts = tuple(name.split("."))
            if parts[0] not in ("recbole_margo", "dataset_converters"):
                continue
            other = layer_of(parts)
            if own == "dataset_converters":
                allowed = other in {own, *UNDER_CONVERTERS}
            else:
                allowed = other != "dataset_converters"
            if not allowed:
                strangers.append(f"{name_of(path)} imports {name}")
    assert strangers == []


def test_no_forbidden_import():
    forbidden = []
    for path in FILES:
        roots = {name.split(".")[0] for name in imports_of(path)}
        found = roots & FORBIDDEN
        if layer_of_file(path) in {"dataset_converters", *UNDER_CONVERTERS}:
            found |= roots & {"recbole", "torch"}
        forbidden += [f"{name_of(path)} imports {name}" for name in found]
    assert forbidden == []


def test_the_store_and_the_converters_load_neither_torch_nor_recbole():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if layer_of_file(path) in {"dataset_converters", *UNDER_CONVERTERS}
    ]
    assert {"recbole_margo.store.writing", "dataset_converters.__main__"} <= set(modules)
    code = (
        f"import importlib, sys\nfor name in {modules}:\n    importlib.import_module(name)\n"
        "print(sorted({'torch', 'recbole'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_files_and_functions_are_short():
    long = [
        f"{name_of(path)}: {text.count(chr(10))} lines"
        for path, text in TEXTS.items()
        if text.count("\n") > FILE_LINES
    ]
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(f"{name_of(path)}, {node.name}: {lines} lines")
    assert long == []


def test_no_mapping_of_anything_is_handed_over_in_a_typed_room():
    found = []
    for path in FILES:
        if not name_of(path).startswith(TYPED_ROOMS):
            continue
        for record in (node for node in ast.walk(TREES[path]) if isinstance(node, ast.ClassDef)):
            for field in record.body:
                if isinstance(field, ast.AnnAssign) and UNTYPED.search(ast.unparse(field)):
                    found.append(f"{name_of(path)}, {record.name}: {ast.unparse(field)}")
        for node in ast.walk(TREES[path]):
            if not isinstance(node, ast.FunctionDef):
                continue
            signature = [node.args, *([node.returns] if node.returns else [])]
            untyped = any(UNTYPED.search(ast.unparse(part)) for part in signature)
            if untyped and node.name not in UNTYPED_FUNCTIONS:
                found.append(f"{name_of(path)}, {node.name}")
    assert found == []


def test_only_compat_knows_versions():
    found = [
        f"{name_of(path)}: {match.group()}"
        for path, text in TEXTS.items()
        if path.name not in KNOW_VERSIONS
        for match in VERSION.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("# torch >= 2.6 loads safely", True),
        ("RecBole 1.2.1 counts cells", True),
        ("scipy<1.13", True),
        ("if np.__version__ >= x:", True),
        ("numpy 2", False),
        ("a RecBole dataset of 1.5 million rows", False),
    ],
)
def test_a_version_is_recognised(text, known):
    assert bool(VERSION.search(text)) is known


def test_modules_say_what_they_are_for_and_defer_annotations():
    silent = []
    for path, tree in TREES.items():
        if path.name == "__init__.py":
            continue
        if not ast.get_docstring(tree):
            silent.append(f"{name_of(path)} has no docstring")
        if "from __future__ import annotations" not in TEXTS[path]:
            silent.append(f"{name_of(path)} does not defer annotations")
    assert silent == []
