"""What a training step of MARGO costs, as a function of the sizes: docs/scaling.md.

`python -m benchmarks.cost_model` prints it for the shapes, beside what this machine can do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.repeated_timing import timed
from benchmarks.shapes import SHAPES, Shape
from benchmarks.shown import cells, duration
from recbole_margo.nn.projection import FeatureLinear
from recbole_margo.report.document import Table, table_text

FLOAT = 4
# An entry of a sparse matrix: its column and its value.
ENTRY = 8
GIBIBYTE = 2**30
GIGA = 1e9
# How often a step reads or writes all nodes' embeddings outside of the sparse products:
# normalising, adding layers, choosing the batch, and the same backwards.
PASSES_OVER_NODES = 24
# Scores that an evaluation holds at a time, and users at least.
CELLS, SCORED_USERS = 2**21, 64


@dataclass(frozen=True)
class CostModel:
    r"""Operations, traffic and memory of MARGO on the DRAGON backbone.

    With U users, I items, E training interactions, modalities m with D_m columns, M of them,
    embedding size d, hidden size h, batch B, k_u co-users and k_i item neighbours, N = U + I:

    .. math:: \text{operations} = \sum_m (4 I D_m h + 6 I h d) + 16 E M d +
        4 B (k_u + 1 + 2 M k_i) M d

    for the projections, the interaction graph and the neighbour graphs, where a user is with the
    co-users.

    Args:
        users: U.
        items: I.
        interactions: E.
        columns: D_m of each modality.
        batch: B.
        embedding: d.
        hidden: h.
        co_users: k_u.
        item_neighbors: k_i of each modality.
    """

    users: int
    items: int
    interactions: int
    columns: tuple[int, ...]
    batch: int = 2048
    embedding: int = 64
    hidden: int = 256
    co_users: int = 40
    item_neighbors: int = 10

    @classmethod
    def of_shape(cls, shape: Shape) -> CostModel:
        """Return the model of a shape."""
        return cls(
            shape.users, shape.items, shape.train, tuple(shape.columns.values()), shape.batch
        )

    @property
    def width(self) -> int:
        """Numbers of a node in all modalities, M d."""
        return len(self.columns) * self.embedding

    @property
    def node_bytes(self) -> int:
        """Bytes of the embeddings of all nodes."""
        return FLOAT * (self.users + self.items) * self.width

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        projections = sum(
            columns * self.hidden + self.hidden + self.hidden * self.embedding + self.embedding
            for columns in self.columns
        )
        return self.users * self.width + projections + self.items * len(self.columns)

    def operations(self) -> dict[str, float]:
        """Return the floating point operations of a step by part; two per multiply and add."""
        neighbors = self.co_users + 1 + 2 * len(self.columns) * self.item_neighbors
        return {
            # Forward and the gradient of the weights; the features take none.
            "projection": sum(
                4.0 * self.items * columns * self.hidden
                + 6.0 * self.items * self.hidden * self.embedding
                for columns in self.columns
            ),
            # Two layers, forward and backward, over every interaction in both directions.
            "graph": 16.0 * self.interactions * self.width,
            "neighbors": 4.0 * self.batch * neighbors * self.width,
        }

    def traffic(self) -> dict[str, float]:
        """Return the bytes of a step by part if no cache held anything."""
        hidden = FLOAT * self.items * self.hidden * len(self.columns)
        return {
            "projection": 2.0 * FLOAT * self.items * sum(self.columns) + 8.0 * hidden,
            "graph": 4.0
            * (
                2.0 * self.interactions * (FLOAT * self.width + len(self.columns) * ENTRY)
                + 2.0 * self.node_bytes
            ),
            "nodes": float(PASSES_OVER_NODES * self.node_bytes),
            # Adam reads value, gradient and two moments and writes all but the gradient.
            "optimizer": 7.0 * FLOAT * self.parameters,
        }

    def memory(self) -> dict[str, float]:
        """Return the bytes that training and evaluation hold by part, beside the libraries."""
        item_edges = self.items * self.item_neighbors * len(self.columns)
        return {
            "features": float(FLOAT * self.items * sum(self.columns)),
            # Value, gradient, two moments, and the best epoch's values.
            "parameters": 5.0 * FLOAT * self.parameters,
            # All graphs are kept with their transposes.
            "graphs": float(
                2 * ENTRY * (self.interactions + self.users * (self.co_users + 1) + item_edges)
            ),
            "activations": 8.0 * self.node_bytes
            + 3.0 * FLOAT * self.items * self.hidden * len(self.columns),
            "scores": 2.0 * FLOAT * max(CELLS, SCORED_USERS * self.items),
        }

    def seconds(self, operations_per_second: float, bytes_per_second: float) -> float:
        """Return how long a step takes on a machine with these speeds and no cache that helps."""
        traffic = self.traffic()
        parts = self.operations()
        dense = max(
            parts["projection"] / operations_per_second, traffic["projection"] / bytes_per_second
        )
        sparse = (traffic["graph"] + traffic["nodes"] + traffic["optimizer"]) / bytes_per_second
        return dense + sparse


def measured_speeds() -> tuple[float, float]:
    """Return operations per second in a projection and bytes per second in a copy, here."""
    features, layer = torch.randn(8192, 4096), FeatureLinear(4096, 256)
    multiply = _median_seconds(lambda: layer(features))
    source, target = torch.randn(2**26), torch.empty(2**26)
    copy = _median_seconds(lambda: target.copy_(source))
    return 2.0 * 8192 * 4096 * 256 / multiply, 2.0 * FLOAT * 2**26 / copy


def _median_seconds(work: Callable[[], object], repeats: int = 7) -> float:
    work()
    return median(timed(work, "cpu")[0] for _ in range(repeats))


def table(operations_per_second: float, bytes_per_second: float) -> Table:
    """Return a row per shape: operations, traffic, time and memory."""
    rows = []
    for shape in SHAPES.values():
        model = CostModel.of_shape(shape)
        operations, traffic, memory = model.operations(), model.traffic(), model.memory()
        rows.append(
            cells(
                shape.name,
                f"{sum(operations.values()) / GIGA:.3g}",
                f"{operations['projection'] / sum(operations.values()):.0%}",
                f"{sum(traffic.values()) / GIGA:.3g}",
                duration(model.seconds(operations_per_second, bytes_per_second)),
                f"{sum(memory.values()) / GIBIBYTE:.3g}",
                f"{memory['features'] / sum(memory.values()):.0%}",
            )
        )
    return Table(
        "A training step of MARGO by the cost model",
        (
            "shape",
            "Gflop",
            "projection",
            "GB moved",
            "time here",
            "GiB held",
            "features",
        ),
        tuple(rows),
        (
            f"Here: {operations_per_second / GIGA:.0f} Gflop/s in a projection, "
            f"{bytes_per_second / GIGA:.0f} GB/s in a copy, {torch.get_num_threads()} threads.",
        ),
    )


def main() -> int:
    """Print the table."""
    found = table(*measured_speeds())
    sys.stdout.write(f"{found.title}\n\n{table_text(found)}\n\n" + "\n".join(found.notes) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
