"""Train, save, load and test a model of ours and one of RecBole's, inside stock RecBole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy
import scipy
from recbole.utils import get_trainer

import recbole_margo

recbole_margo.register()

from recbole.quick_start import load_data_and_model, run_recbole  # noqa: E402


def main() -> None:
    """Raise an AssertionError if a loaded model scores otherwise than the trained one."""
    for model in ("MARGO", "LightGCN"):
        with tempfile.TemporaryDirectory() as folder:
            settings = {
                "checkpoint_dir": folder,
                "epochs": 2,
                "eval_batch_size": 2_000_000,
                "show_progress": False,
            }
            trained = run_recbole(model=model, dataset="ml-100k", config_dict=settings)
            # MARGO's trainer leaves files of its stages beside the result, under longer names.
            stored = min(Path(folder).glob(f"{model}-*.pth"), key=lambda path: len(path.name))
            config, loaded, _, _, _, test = load_data_and_model(str(stored))
            trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, loaded)
            result = trainer.evaluate(test, load_best_model=False)
            assert result == trained["test_result"], (result, trained["test_result"])
            print(f"{model}: {dict(result)}")
    print(f"numpy {numpy.__version__}, scipy {scipy.__version__}: loaded models equal trained ones")


if __name__ == "__main__":
    main()
