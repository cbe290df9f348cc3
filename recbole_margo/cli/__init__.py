"""The command line: `recbole-margo VERB`."""

from recbole_margo.cli.verbs import main

__all__ = ["main"]
