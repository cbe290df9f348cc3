# %% [markdown]
# # MARGO's ablations on your data
#
# Table IV of the paper takes MARGO apart: without weights, without the calibration loss, without
# two stages, without the stopped gradient, with one modality alone. `ablate` trains them all on one
# split and tests each against MARGO over the users.
#
#     python docs/tutorials/table_iv.py        # writes into ./ablation-tutorial
#
# Name your dataset instead of ml-100k, and leave `epochs` and `embedding_size` out: these are small
# so that the tutorial ends within a minute or two. With such a training nothing is significant.

# %%
import csv
import json
import subprocess
import sys
from pathlib import Path

folder = Path("ablation-tutorial")
program = "import sys; from recbole_margo.cli import main; sys.exit(main())"
subprocess.run(
    [
        *(sys.executable, "-c", program, "ablate", "--dataset=ml-100k", "--seeds=1"),
        *("--epochs=2", "--embedding_size=8", f"--output_dir={folder}"),
    ],
    check=True,
)

# %% [markdown]
# Interrupted with Ctrl-C, the same command with `--resume=ablation-tutorial` goes on: what has
# finished is not trained again, and runs that differ only in the second stage share the first.
#
# `comparison.html` is the page to look at. The same numbers lie beside it as Markdown, LaTeX, CSV
# and JSON:

# %%
for path in sorted(path for path in folder.iterdir() if path.is_file()):
    print(path.name)

# %% [markdown]
# A tidy table, for your own figures:

# %%
with next(folder.glob("*.csv")).open(encoding="utf-8") as file:
    for row in list(csv.DictReader(file))[:5]:
        print(row)
print(list(json.loads((folder / "summary.json").read_text(encoding="utf-8"))))
