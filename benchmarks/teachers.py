"""The unpruned networks of `benchmarks/device.py`, trained once and kept.

    python benchmarks/teachers.py --networks mlp lenet --seeds 0 1 2

Bayesian networks under a scale mixture prior, fitted to 50,000 images of MNIST by the exact ELBO:
the perceptron 784-1200-1200-10 and LeNet-5 with 20 and 50 filters and 500 units. A network whose
file is there already is not trained again.
"""

import argparse
import dataclasses
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tfbnn
from trainers import networks
from trainers.data import Dataset, load
from trainers.settings import RECIPES, Settings

FOLDER = pathlib.Path("saved_models/device")

SETTINGS = {
    "mlp": dataclasses.replace(RECIPES["mnist"], train_on_all=False, width=1200, epochs=30),
    "lenet": dataclasses.replace(
        RECIPES["mnist"], train_on_all=False, layer="Reparameterization", epochs=30
    ),
}


def lenet(settings: Settings) -> tfbnn.Sequential:
    """LeNet-5 as in the literature on pruning: 20 and 50 filters of 5 x 5, 500 units."""
    options = {
        "prior": tfbnn.priors.ScaleMixture(settings.pi, settings.sigma1, settings.sigma2),
        "posterior": tfbnn.families.Normal(initial_scale=settings.initial_scale),
    }
    dense = getattr(tfbnn.layers, f"Dense{settings.layer}")
    convolution = getattr(tfbnn.layers, f"Convolution2D{settings.layer}")
    return tfbnn.Sequential(
        [
            keras.Input((28, 28, 1)),
            convolution(20, 5, activation="relu", **options),
            keras.layers.MaxPooling2D(),
            convolution(50, 5, activation="relu", **options),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            dense(500, activation="relu", **options),
            dense(10, **options),
        ],
        name="lenet",
    )


def teacher(network: str, seed: int, dataset: Dataset, folder: pathlib.Path) -> tfbnn.Sequential:
    """The trained network, from its file if it is there."""
    path = folder / f"{network}-{seed}" / "teacher.keras"
    if path.exists():
        return tfbnn.load_model(path)
    settings = SETTINGS[network]
    keras.utils.set_random_seed(seed)
    model = lenet(settings) if network == "lenet" else networks.build(settings, dataset)
    print(networks.describe(model, settings, len(dataset.train[0])), flush=True)
    networks.train(model, dataset.train, settings, settings.epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def main() -> None:
    """Train what is not there, and score each at its mean on the validation rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["mlp", "lenet"], choices=SETTINGS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="of the networks")
    parser.add_argument("--data-dir", help="folder of tensorflow-datasets; else TFDS_DATA_DIR")
    settings = parser.parse_args()
    dataset = load("mnist", settings.data_dir)
    for seed in settings.seeds:
        for network in settings.networks:
            model = teacher(network, seed, dataset, settings.folder)
            predictions = model.predict(dataset.validation[0], batch_size=1000, verbose=0)
            error = (predictions.argmax(-1) != dataset.validation[1]).mean()
            print(f"{network} {seed}: {error:.2%} of the validation rows wrong", flush=True)


if __name__ == "__main__":
    main()
