"""The options that commands over several runs have in common."""

from __future__ import annotations

import argparse

from recbole_margo.defaults import parse_yaml
from recbole_margo.errors import ConfigError


def add_run_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of a command that trains several runs.

    Args:
        parser: the command's parser.
        what: what the folder holds, such as `comparison`.
    """
    add = parser.add_argument
    add("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    add("--seeds", default="3", help="how many, or which: 5, or [1, 7, 9] (3)")
    add_pool_options(parser, "runs")
    add("--config_files", default="", help="YAML files, separated by blanks")
    add("--output_dir", help=f"folder of the {what} (runs/<time>-<dataset>)")
    add("--resume", metavar="DIR", help=f"{what} to continue")


def add_pool_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options that say who trains.

    Args:
        parser: the command's parser.
        what: what is trained, in the plural.
    """
    parser.add_argument(
        "--workers",
        type=int,
        help=f"{what} at a time (1; with --cluster as many as it has room for)",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=f"train the {what} on a Ray cluster: auto, local or HOST:PORT",
    )


def read_seeds(text: str) -> list[int]:
    """Return 1 to N for a number N, and a list as it is.

    Args:
        text: the value of `--seeds`.

    Raises:
        ConfigError: if it is neither, or the list is empty.
    """
    seeds = parse_yaml(text, origin="the value of --seeds")
    if type(seeds) is int and seeds > 0:
        return list(range(1, seeds + 1))
    if seeds and isinstance(seeds, list):
        return seeds
    raise ConfigError(f"--seeds must be a number or a list such as [1, 2, 3], found {text!r}")
