"""`recbole-margo models`: all models with what they learn from, or all about one."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from typing import Any

from recbole_margo.errors import ConfigError

LEGEND = """
negatives  whether training samples items that a user does not know
item ids   whether an item has an embedding of its own beside its content
features   whether the raw features are trained too, by default (`train_features`)"""


def add_parser(verbs: Any) -> None:
    """Add `models` to the verbs."""
    models = verbs.add_parser(
        "models",
        help="list all models, or say all about one",
        description="List the models, or show formula, paper, departures and keys of one.",
        allow_abbrev=False,
    )
    models.add_argument("name", nargs="?", help="a multimodal model to say all about")
    models.add_argument("--all", action="store_true", help="RecBole's own models too")
    models.set_defaults(run=show_models)


def papers_of_models() -> str:
    """Return a line or two for each of our models: its name and its paper."""
    from recbole_margo.registry import multimodal_models

    lines = []
    for entry in multimodal_models().values():
        paper = _paper_of(entry)
        lines.append(
            f"  {entry.name:<8} {paper}"
            if isinstance(paper, str)
            else f"  {entry.name:<8} {paper.title}\n           {paper.authors}; {paper.venue} "
            f"{paper.year}, {paper.link}"
        )
    return "\n".join(lines)


def _paper_of(entry: Any) -> Any:
    """Return the paper of a model, or what there is to say instead."""
    try:
        paper = getattr(entry.load(), "paper", None)
    except ConfigError as error:  # one distribution's fault does not hide the others
        return str(error)
    return paper or f"a model of {entry.source}, without a paper"


def show_models(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the models that a command line asks for, and return the exit status."""
    if rest:
        raise ConfigError(f"`models` does not take {' '.join(rest)}")
    from tabulate import tabulate

    from recbole_margo.registry import find_model, list_models

    if options.name:
        print(_model_page(find_model(options.name)))
        return 0
    rows = []
    for entry in list_models():
        if entry.source != "RecBole":
            rows.append(_model_row(entry))
        elif options.all:
            rows.append([entry.name, entry.source])
    headers = ["model", "from", "venue", "year", "negatives", "item ids", "features", "paper"]
    print(tabulate(rows, headers=headers, maxcolwidths=[*[None] * 7, 48]))
    print(LEGEND)
    return 0


def _model_page(model: Any) -> str:
    from tabulate import tabulate

    if not hasattr(model, "parameters_class"):
        raise ConfigError(f"{model.__name__} is RecBole's own: see RecBole's documentation")
    from recbole_margo.model.parameters import model_defaults

    defaults = model_defaults(model)
    rows = [
        [key, defaults.get(key), known.range_text(), known.paper, known.meaning]
        for key, known in model.parameters_class.descriptions().items()
    ]
    keys = tabulate(
        rows,
        headers=["key", "default", "search range", "paper", "meaning"],
        maxcolwidths=[None, 20, 24, 20, 48],
        disable_numparse=True,
    )
    return f"{model.__name__}: {inspect.getdoc(model)}\n\n{keys}"


def _model_row(entry: Any) -> list[Any]:
    from recbole_margo.model.parameters import model_defaults

    paper = _paper_of(entry)
    try:
        model = entry.load()
    except ConfigError:
        return [entry.name, entry.source, *[""] * 5, paper]
    trained = model_defaults(model).get("train_features", False)
    said = isinstance(paper, str)
    return [
        entry.name,
        entry.source,
        "" if said else paper.venue,
        "" if said else paper.year,
        "sampled" if getattr(model, "uses_negatives", True) else "none",
        "yes" if getattr(model, "uses_item_ids", True) else "no",
        "trained" if trained else "frozen",
        paper if said else f"{paper.title}\n{paper.link}",
    ]
