"""Writes the files of this folder, with the code as it is: run it for a folder that is not there.

    python -m tests.written_before.write tests/written_before/<name>

`test_written_before.py` reads them with the code of its own day. A folder that is there is never
written again: its files are what users have.
"""

import argparse
import pathlib
import zipfile

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfbnn
from tests.export import flat

tfd = tfp.distributions
SHAPES = {"Dense": (6,), "Convolution1D": (6, 2), "Convolution2D": (4, 4, 2)}
SHAPES["Convolution3D"] = (3, 3, 3, 2)
ESTIMATORS = ("Reparameterization", "LocalReparameterization", "Flipout")
PRIORS = {
    "normal": tfbnn.priors.Normal(0.1, 0.8),
    "scale_mixture": tfbnn.priors.ScaleMixture(0.4, 1.2, 0.01),
    "laplace": tfbnn.priors.Laplace(0.0, 0.7),
    "student_t": tfbnn.priors.StudentT(4.0, 0.1, 0.9),
    "cauchy": tfbnn.priors.Cauchy(0.0, 0.6),
    "fan_in": tfbnn.priors.FanIn(1.1),
    "automatic_relevance": tfbnn.priors.AutomaticRelevance(),
    "distribution": tfd.Logistic(0.0, 0.5),
}


def rows(shape, count=6):
    """Inputs that do not depend on any generator."""
    size = count * int(np.prod(shape))
    return np.sin(np.arange(size) * 0.7).astype("float32").reshape(count, *shape)


def layer_model(map_name, estimator, **kwargs):
    """A model with the layer of a map and an estimator, then a dense one."""
    cls = getattr(tfbnn.layers, map_name + estimator)
    sizes = (3,) if map_name == "Dense" else (3, 2)
    first = cls(*sizes, activation="relu", seed=1, name="first", **kwargs)
    last = tfbnn.layers.DenseFlipout(3, seed=2, name="last", **kwargs)
    layers = [keras.Input(SHAPES[map_name]), first, keras.layers.Flatten(), last]
    return tfbnn.Sequential(layers, name="written_before")


def classes(model, **kwargs):
    """The model, trained for two steps on three classes."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss=loss, **kwargs)
    return _trained(model, np.arange(6) % 3)


def real_numbers(scale):
    units = 4 if scale == "head" else 2
    model = tfbnn.Sequential([keras.Input((6,)), tfbnn.layers.DenseFlipout(units, seed=1)])
    model.compile(keras.optimizers.Adam(0.05), loss=tfbnn.losses.NormalNLL(scale=scale))
    return _trained(model, rows((2,)))


def yes_or_no():
    model = tfbnn.Sequential([keras.Input((6,)), tfbnn.layers.DenseFlipout(1, seed=1)])
    model.compile(keras.optimizers.Adam(0.05), loss=keras.losses.BinaryCrossentropy())
    model.layers[-1].activation = keras.activations.sigmoid
    model = _trained(model, np.arange(6) % 2)
    model.likelihood.temperature, model.likelihood.mean_temperature = 1.3, 0.8
    return model


def two_outputs():
    inputs = keras.Input((6,), name="x")
    hidden = tfbnn.layers.DenseFlipout(4, activation="relu", seed=1)(inputs)
    label = tfbnn.layers.DenseFlipout(3, seed=2, name="label")(hidden)
    size = tfbnn.layers.DenseFlipout(1, seed=3, name="size")(hidden)
    model = tfbnn.Model(inputs, {"label": label, "size": size})
    losses = {
        "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "size": tfbnn.losses.NormalNLL(scale="learned"),
    }
    model.compile(keras.optimizers.Adam(0.05), loss=losses, recipe="sparse")
    return _trained(model, {"label": np.arange(6) % 3, "size": rows((1,))})


def _trained(model, y):
    keras.utils.set_random_seed(0)
    x = rows(model.input_shape[1:])
    for _ in range(2):
        model.fit(x, y, epochs=1, batch_size=6, verbose=0, shuffle=False)
    return model


def keras_models():
    """Every model of the folder, by the name of its file."""
    priors = list(PRIORS)
    for number, map_name in enumerate(SHAPES):
        for estimator in ESTIMATORS:
            prior = PRIORS[priors[number]]
            yield (
                f"{map_name}{estimator}",
                classes(layer_model(map_name, estimator, kernel_prior=prior)),
            )
    for name, prior in PRIORS.items():
        model = layer_model("Dense", "Flipout", kernel_prior=prior, bias_prior=prior)
        yield f"prior_{name}", classes(model)
    point = layer_model("Dense", "Flipout", bias_posterior="point", kernel_prior="normal")
    yield "point_biases", classes(point)
    pruned = classes(layer_model("Convolution2D", "Flipout", kernel_prior="scale_mixture"))
    yield "pruned", tfbnn.prune(pruned, sparsity=0.5)
    for scale in ("learned", "head", 0.3):
        yield f"normal_{scale}", real_numbers(scale)
    yield "yes_or_no", yes_or_no()
    yield "two_outputs", two_outputs()


def said(model):
    """What a model says: the outputs at the mean, the mean over four draws, and the KL."""
    x = rows(model.input_shape[1:])
    predictions = tfbnn.predict(model, x, 4, seed=3)
    several = isinstance(predictions, dict)
    predictions = predictions.values() if several else [predictions]
    weights = tfbnn.layers.variational_weights(model)
    drawn = np.concatenate([np.ravel(array) for one in predictions for array in one])
    mean = np.concatenate([np.ravel(o) for o in tf.nest.flatten(model(x, training=False))])
    kl = [float(weight.kl(tf.constant([0, 7]))) for weight in weights]
    return {"mean": mean, "drawn": drawn, "kl": np.array(kl)}


def write_files(model, folder):
    """One model as every kind of file for a device."""
    x = rows(model.input_shape[1:])
    for mode in ("moments", "monte_carlo", "ensemble", "none"):
        yield _tflite(model, folder / f"{mode}.tflite", x, uncertainty=mode)
    for precision in ("float16", "int8", "posterior"):
        yield _tflite(model, folder / f"{precision}.tflite", x, "moments", precision=precision)
    rank_one = folder / "rank_one.tflite"
    yield _tflite(model, rank_one, x, "moments", scale="rank_one", class_names=["a", "b", "c"])


def _tflite(model, path, x, *args, **kwargs):
    flat.tflite(model, path, *args, check_data=x, **kwargs)
    answer = tfbnn.lite.Model(path).predict(x)
    return path.name, np.concatenate([np.ravel(one) for one in answer])


def compress(path):
    """The same archive in a quarter of the bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    answers = {}
    for name, model in keras_models():
        model.save(folder / f"{name}.keras")
        compress(folder / f"{name}.keras")
        answers |= {f"{name}.{key}": value for key, value in said(model).items()}
    exported = keras.models.load_model(folder / "Convolution2DFlipout.keras")
    answers |= dict(write_files(exported, folder))
    x = rows(SHAPES["Convolution2D"])
    flat.saved_model(exported, folder / "saved_model", check_data=x)
    flat.c(exported, folder / "network", check_data=x)
    np.savez_compressed(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main()
