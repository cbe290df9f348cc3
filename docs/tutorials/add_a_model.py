# %% [markdown]
# # Add a model in one file and one YAML
#
# A model is a class with its typed hyper-parameters, and a YAML with their values. It trains,
# resumes, compares and serves like the others as soon as its package names it. This tutorial writes
# such a package and runs the public contract on it.
#
#     python docs/tutorials/add_a_model.py     # writes into ./model-tutorial
#
# ## The model
#
# Users and items have embeddings; what an item's features say is projected and added, and a gate of
# the item's own decides how much of it counts.

# %%
import os
import subprocess
import sys
from pathlib import Path

package = Path("model-tutorial") / "gated"
package.mkdir(parents=True, exist_ok=True)
(package / "__init__.py").write_text("")
(package / "gated.py").write_text('''
"""Gated content: an item's features count as far as the item's gate lets them."""

from dataclasses import dataclass

import torch
from torch import nn

from recbole_margo import MultimodalRecommender
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter


@dataclass(frozen=True, kw_only=True)
class GatedParameters(MultimodalParameters):
    reg_weight: float = hyperparameter(
        "weight of the penalty on the embeddings", low=0.0, search=(1e-5, 1e-1, "log")
    )


class Gated(MultimodalRecommender):
    r"""An item is its embedding and, as far as its gate lets it, its projected features.

    .. math:: s_{ui} = p_u^T (q_i + \\sigma(g_i) \\sum_m W_m f_{im})

    Source: you, "Add a model in one file and one YAML", tutorial, 2026.

    Departures from the paper: none.
    """

    parameters_class = GatedParameters
    paper = Paper(
        title="Add a model in one file and one YAML",
        authors="you",
        venue="tutorial",
        year=2026,
        link="https://recbole.io",
    )

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        size = self.hyperparameters.embedding_size
        self.users = nn.Embedding(self.n_users, size)
        self.items = nn.Embedding(self.n_items, size)
        nn.init.xavier_normal_(self.users.weight)
        nn.init.xavier_normal_(self.items.weight)
        self.gates = nn.Parameter(torch.zeros(self.n_items, 1))
        self.projections = nn.ModuleList(
            nn.Linear(matrix.shape[1], size, bias=False) for matrix in self.features
        )

    def scoring_tables(self):
        content = sum(self.project_features(self.projections))
        return self.users.weight, self.items.weight + torch.sigmoid(self.gates) * content

    def calculate_loss(self, interaction):
        users, items = self.scoring_tables()
        ranking, penalty = self.ranking_and_penalty(interaction, users, items)
        return ranking + self.hyperparameters.reg_weight * penalty
''')

# %% [markdown]
# ## Its values
#
# `Gated.yaml` lies beside the module. A test of the contract holds that its keys are the typed
# fields, no more and no fewer.

# %%
(package / "Gated.yaml").write_text(
    "embedding_size: 64\ntrain_features: false\nlearning_rate_decay: 1.0\nreg_weight: 0.0001\n"
)

# %% [markdown]
# ## The contract
#
# Every trainable parameter gets a gradient; a planted world's held-out item ranks first;
# `full_sort_predict` equals `predict`; the padding item is never recommended; a run that was
# interrupted and resumed equals one that was not; and so on. A class with two attributes runs it.

# %%
(package.parent / "test_gated.py").write_text("""
from gated.gated import Gated

from recbole_margo.testing import ModelContract


class TestGated(ModelContract):
    model = Gated
""")
environment = {**os.environ, "PYTHONPATH": str(package.parent.resolve())}
subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gated.py"],
    cwd=package.parent,
    env=environment,
    check=True,
)

# %% [markdown]
# ## Train it
#
# From Python a class can be given as it is. To name it on the command line, your package declares
# an entry point: after `pip install .` in its folder the name stands in `recbole-margo models`, and
# `recbole-margo train --model=Gated,BPR --dataset=ml-100k` trains it. The YAML is package data:
# without that line it would stay behind.

# %%
(package.parent / "pyproject.toml").write_text("""
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "gated"
version = "0.1.0"
dependencies = ["recbole-margo"]

[project.entry-points."recbole_margo.models"]
Gated = "gated.gated:Gated"

[tool.setuptools]
packages = ["gated"]

[tool.setuptools.package-data]
gated = ["*.yaml"]
""")

# %%
sys.path.insert(0, str(package.parent))
from gated.gated import Gated

from recbole_margo import run_recbole_margo

result = run_recbole_margo(
    model=Gated,
    dataset="ml-100k",
    config_dict={"epochs": 2, "embedding_size": 16},
    output_dir=package.parent / "run",
)
print(result["test"])
