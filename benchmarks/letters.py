"""What saved models of MNIST answer to letters, beside digits.

    python -m trainers.seeds --dataset mnist --seeds 0 1 2
    python benchmarks/letters.py saved_models/mnist-seed-*/model.keras --data <data>

`<data>` holds `notmnist/`. 256 networks are drawn; areas under the ROC curve are those of telling
letters from the test digits, by predictive entropy and by mutual information.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras

from benchmarks import measuring
from benchmarks.device_parts import inputs, scores
from trainers import means
from trainers.data import load

_COLUMNS = {
    "error": "error",
    "NLL": "nll",
    "letters": "auroc_letters",
    "by information": "auroc_letters_information",
    "own errors": "auroc_errors",
}


def main() -> None:
    """Print a row for each model, and their mean with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help=".keras files of `trainers`")
    parser.add_argument("--data", help="folder that holds notmnist/; else TFBNN_DATA")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    settings = parser.parse_args()
    images, labels = load("mnist", settings.data_dir).test
    asked = {"test": images, "letters": inputs.letters(settings.data)}
    found = []
    for path in settings.models:
        model = keras.saving.load_model(path)
        row = scores.scores(scores.over_draws(model), asked, labels)
        found.append([row[name] for name in _COLUMNS.values()])
    pairs = zip(settings.models, found, strict=True)
    rows = [[path, *(f"{value:.4f}" for value in one)] for path, one in pairs]
    if len(found) > 1:
        rows.append(["mean", *(means.in_words(one, 4) for one in zip(*found, strict=True))])
    print(measuring.table(["", *_COLUMNS], rows))


if __name__ == "__main__":
    main()
