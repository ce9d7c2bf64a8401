"""The unpruned networks, trained once and kept.

Bayesian networks under a scale mixture prior, fitted to 50,000 images of MNIST by the ELBO:
the perceptron 784-1200-1200-10 and LeNet-5 with 20 and 50 filters and 500 units.
"""

import dataclasses
import pathlib

import keras

import tfbnn
from trainers import networks
from trainers.data import Dataset
from trainers.settings import BY_DATASET, Settings

_MNIST = dataclasses.replace(
    BY_DATASET["mnist"],
    train_on_all=False,
    prior="scale_mixture",
    pi=0.25,
    initial_scale=0.0067,
    recipe="elbo",
    learning_rate=1e-3,
    epochs=30,
)
SETTINGS = {
    "mlp": dataclasses.replace(_MNIST, width=1200),
    "lenet": dataclasses.replace(_MNIST, layer="Reparameterization"),
}


def lenet(settings: Settings) -> tfbnn.Sequential:
    """LeNet-5 as in the literature on pruning: 20 and 50 filters of 5 x 5, 500 units."""
    options = {
        "kernel_prior": tfbnn.priors.ScaleMixture(settings.pi, settings.sigma1, settings.sigma2),
        "kernel_posterior": tfbnn.families.Normal(initial_scale=settings.initial_scale),
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
    path = folder / "teacher.keras"
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
