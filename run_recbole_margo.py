"""Train multimodal recommenders, and RecBole's own, on one dataset: `recbole-margo train`."""

import sys

from recbole_margo.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
