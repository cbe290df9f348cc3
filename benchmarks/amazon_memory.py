"""Peak memory of the Amazon converter on generated reviews in the proportions of Electronics 2018.

python benchmarks/amazon_memory.py 1000000 3000000
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Electronics 2018: 20,994,353 reviews by 9,838,676 users of 756,489 products.
USERS_PER_REVIEW, ITEMS_PER_REVIEW = 0.47, 0.036
CHILD = (
    "import resource, sys\n"
    "from dataset_converters.__main__ import main\n"
    "status = main(sys.argv[1:])\n"
    "print(f'peak memory   {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB')\n"
    "sys.exit(status)\n"
)


def reviews(rows: int) -> Iterator[dict[str, object]]:
    """Yield reviews of skewed users and products, every user at least once."""
    generator = np.random.default_rng(0)
    user_count, item_count = int(rows * USERS_PER_REVIEW), int(rows * ITEMS_PER_REVIEW)
    repeated = user_count * generator.random(rows - user_count) ** 3
    users = np.concatenate([np.arange(user_count), repeated.astype(int)])
    items = (item_count * generator.random(rows) ** 4).astype(int)
    generator.shuffle(users)
    text = "works as described, fine quality and a fair price; the cable could be longer. " * 5
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        yield {
            "overall": float(1 + (user + item) % 5),
            "verified": True,
            "reviewTime": "09 18, 2009",
            "reviewerID": f"A{user:013d}",
            "asin": f"B{item:09d}",
            "style": {"Format:": " Cable"},
            "reviewerName": "J. Doe",
            "reviewText": text[: 60 + user % 340],
            "summary": "A fine cable",
            "unixReviewTime": 900_000_000 + 37 * user,
        }


def main() -> None:
    """Write one file a number on the command line, and convert it in a process of its own."""
    for rows in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            size = 0
            with gzip.open(Path(folder) / "Electronics.json.gz", "wt", compresslevel=1) as file:
                for review in reviews(rows):
                    size += file.write(json.dumps(review) + "\n")
            options = ["amazon", "--source", folder, "--name", "electronics", "--dry_run"]
            start = time.perf_counter()
            child = subprocess.run(  # noqa: S603 - our own command
                [sys.executable, "-c", CHILD, *options], check=True, capture_output=True, text=True
            )
            seconds = time.perf_counter() - start
        sys.stdout.write(f"{child.stdout}{size / 1e9:.2f} GB of JSON in {seconds:.0f} s\n\n")


if __name__ == "__main__":
    main()
