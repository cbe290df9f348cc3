# %% [markdown]
# # Your shop: from a CSV and pictures to recommendations
#
# You have a table of orders, a table of products and a folder of photographs. This tutorial makes
# such a shop up, small enough to train in a minute, so that you can swap in your own files later.
#
#     python docs/tutorials/shop.py        # writes into ./shop-tutorial
#
# ## The files of the shop
#
# Four kinds of products, each with a colour of its own on the photographs. Customers buy two kinds.
# Three photographs are missing, as they are in every shop.

# %%
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

folder = Path("shop-tutorial")
(folder / "photos").mkdir(parents=True, exist_ok=True)
draw = np.random.default_rng(7)
kinds = {
    "kettle": (180, 60, 50),
    "tent": (70, 140, 70),
    "guitar": (140, 100, 50),
    "lamp": (230, 210, 120),
}
products = [(f"{kind}-{number:02d}", kind) for kind in kinds for number in range(20)]

with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["sku", "title"])
    for sku, kind in products:
        table.writerow([sku, f"{draw.choice(['Small', 'Large', 'Old'])} {kind}, model {sku[-2:]}"])

for sku, kind in products[3:]:
    noise = draw.normal(0, 25, (32, 32, 3))
    picture = np.clip(np.array(kinds[kind]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(picture).save(folder / "photos" / f"{sku}.png")

with (folder / "orders.csv").open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["customer", "sku", "date"])
    for customer in range(200):
        liked = draw.choice(list(kinds), 2, replace=False)
        choice = [sku for sku, kind in products if kind in liked]
        for day, sku in enumerate(draw.choice(choice, 12, replace=False)):
            table.writerow([f"c{customer}", sku, f"2026-01-{day + 1:02d}"])


# %% [markdown]
# ## Convert
#
# `convert tabular` guesses separators, columns and formats, and says each guess as the option that
# would set it. Texts become a modality by TF-IDF.


# %%
def recbole_margo(*words: str) -> None:
    """Run a command in the folder of the shop, as one would in a shell."""
    print("$ recbole-margo", *words, flush=True)
    program = "import sys; from recbole_margo.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", program, *words], cwd=folder, check=True)


recbole_margo(
    *("convert", "tabular", "--source", "orders.csv", "--items", "products.csv"),
    *("--images", "photos", "--split", "time", "--name", "shop", "--overwrite"),
)

# %% [markdown]
# ## Features of the photographs
#
# Without an encoder named, `encode` takes colours and textures, which need no download. For real
# photographs name a model: `--encoder openai/clip-vit-base-patch32`.

# %%
recbole_margo("encode", "--dataset", "shop", "--modality", "image")

# %% [markdown]
# ## Do the rows belong to the items?
#
# Look before you train. `inspect` says for each modality whether items with similar rows are bought
# by the same customers, more than they would by chance.

# %%
recbole_margo("inspect", "--dataset", "shop")

# %% [markdown]
# ## Train
#
# Five epochs are enough here; leave `--epochs` out on your data, early stopping on validation ends
# the training. The three products without a photograph *miss* the modality: their weight for it
# is 0.

# %%
recbole_margo(
    *("train", "--model=MARGO", "--dataset=shop", "--modalities=[text, image]", "--epochs=5"),
    *("--embedding_size=16", "--train_batch_size=512", "--output_dir=run"),
)

# %% [markdown]
# ## Recommend
#
# A bundle holds what serving needs and nothing else. It opens with NumPy alone.

# %%
recbole_margo("bundle", "--run=run", "--output_dir=bundle")
recbole_margo("recommend", "--bundle=bundle", "--users=c0,c1", "--top=5")
recbole_margo("recommend", "--bundle=bundle", "--history=tent-01,tent-02,lamp-04", "--top=5")
recbole_margo("explain", "--bundle=bundle", "--user=c0")

# %% [markdown]
# The same from Python. Identifiers are those of the CSV files.

# %%
from recbole_margo import Recommender

recommender = Recommender.load(folder / "bundle")
print(recommender.recommend(["c0", "c1"], n=3))
print(recommender.similar_items("guitar-05", n=3, modality="image"))

# %% [markdown]
# `recbole-margo serve --bundle=bundle` shows it as pages.
