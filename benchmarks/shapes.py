"""The sizes at which everything is measured."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shape:
    """The size of a dataset and of what is trained on it.

    Attributes:
        name: what it is called on the command line.
        users: number of users, each with an interaction in every split.
        items: number of items.
        train: interactions to train on.
        valid: interactions to validate on.
        test: interactions to test on.
        columns: modality -> columns of its features.
        reduced: modality -> columns after a reduction, the third contender.
        batch: training triplets a batch.
        settings: hyper-parameters that differ from the shipped ones.
    """

    name: str
    users: int
    items: int
    train: int
    valid: int
    test: int
    columns: dict[str, int] = field(default_factory=lambda: {"image": 4096, "text": 384})
    reduced: dict[str, int] = field(default_factory=lambda: {"image": 512})
    batch: int = 2048
    settings: dict[str, int] = field(default_factory=dict)

    @property
    def interactions(self) -> int:
        """Interactions of all splits."""
        return self.train + self.valid + self.test


TINY = Shape(
    "tiny",
    users=60,
    items=40,
    train=300,
    valid=64,
    test=68,
    columns={"image": 24, "text": 12},
    reduced={"image": 6},
    batch=64,
    settings={
        "embedding_size": 8,
        "projection_size": 16,
        "item_neighbors": 4,
        "user_neighbors": 5,
    },
)
# The published splits of MMRec; of Electronics only the sum is published, and its parts are in the
# proportions of the others.
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("baby", 19_445, 7_050, 118_551, 20_559, 21_682),
        Shape("sports", 35_598, 18_357, 218_409, 37_899, 40_029),
        Shape("clothing", 39_387, 23_033, 197_338, 40_150, 41_189),
        Shape("electronics", 192_403, 63_001, 1_269_750, 203_947, 215_491),
        TINY,
    )
}
