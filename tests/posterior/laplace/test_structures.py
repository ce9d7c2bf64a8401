"""What is kept of the curvature is that of its definition, for layers wherever they are."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.posterior.laplace.brute_force import curvature
from tests.posterior.laplace.networks import LOSS, NETWORKS, made
from tfbnn.posterior.laplace.any_rows import AnyRows
from tfbnn.posterior.laplace.fitting import Pass, batches
from tfbnn.posterior.laplace.structures import STRUCTURES

K = keras.layers
network = functools.cache(made)


def fitted(name, structure, curvature="exact", **options):
    model, x, y = network(name)
    options = {"prior_precision": 1.0, "verbose": 0, **options}
    return tfbnn.posteriors.Laplace(model, x, y, structure, curvature, **options)


def close(found, expected, tolerance=1e-4):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def placed(posterior, whole, expected):
    """The elements of the curvature of all weights that belong to those of a posterior."""
    size, kept = 0, []
    mine = [id(part.layer) for part in posterior._structure.parts]
    for part in whole._structure.parts:
        if id(part.layer) in mine:
            kept += range(size, size + part.size)
        size += part.size
    return expected[np.ix_(kept, kept)]


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_curvatures_are_those_of_jacobians(name):
    model, x, _ = network(name)
    full, diagonal, last = (fitted(name, one) for one in ("full", "diagonal", "last_layer"))
    expected = curvature(full._structure.parts, model, x)
    close(full.arrays["full"], expected)
    found = np.concatenate([one.ravel() for one in diagonal.arrays.values()])
    close(found, np.diag(expected))
    close(last.arrays["full"], placed(last, full, expected))
    # All weights of these networks are covered, and of the last layer those before an output.
    trained = sum(np.prod(variable.shape) for variable in model.trainable_variables)
    assert full.coverage.random == trained
    heads = [part.layer for part in last._structure.parts]
    assert heads == [layer for layer in model.layers if isinstance(layer, K.Dense)][-len(heads) :]
    assert len(heads) == len(last.likelihoods)


@pytest.mark.parametrize("name", NETWORKS)
def test_of_a_single_place_the_product_of_kronecker_factors_is_the_curvature(name):
    # Of one row with one place the product of the factors is the curvature of a layer.
    model, x, y = network(name)
    one = [part[:1] for part in y] if isinstance(y, list) else y[:1]
    options = {"curvature": "exact", "prior_precision": 1.0, "verbose": 0}
    full, kronecker = (
        tfbnn.posteriors.Laplace(model, x[:1], one, kind, **options)
        for kind in ("full", "kronecker")
    )
    first = 0
    for number, part in enumerate(kronecker._structure.parts):
        inputs, outputs, places = (
            kronecker.arrays[f"{number}.{kind}"] for kind in ("inputs", "outputs", "places")
        )
        block = full.arrays["full"][first : first + part.size, first : first + part.size]
        first += part.size
        if places == 1 and inputs.ndim == 3:
            groups, size, width = part.shape
            split = block.reshape(groups, size, width, groups, size, width)
            expected = np.einsum("giogjp->giojp", split)
            close(np.einsum("gij,gop->giojp", inputs, outputs), expected)


def test_kronecker_factors_are_averages_over_patches():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4, 4, 2))
    before = K.Conv2D(3, 2, name="convolution")(inputs)
    model = keras.Model(inputs, K.Dense(2)(K.Flatten()(K.Activation("tanh")(before))))
    model.compile(loss=LOSS)
    rest = keras.Model(before, model.output)
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 2)).astype("float32")
    found = tfbnn.posteriors.Laplace(
        model, x, np.zeros(5, int), "kronecker", "exact", 1.0, verbose=0
    ).arrays
    squares = np.zeros((9, 9))
    outer = np.zeros((3, 3))
    (likelihood,) = tfbnn.posteriors.MAP(model).likelihoods
    for row in x:
        middle = tf.Variable(keras.Model(inputs, before)(row[None]))
        with tf.GradientTape() as tape:
            outputs = rest(middle)
        jacobian = tape.jacobian(outputs, middle).numpy()[0, :, 0]
        small = likelihood.curvature(outputs)[0].numpy()
        for top in range(3):
            for left in range(3):
                patch = np.append(row[top : top + 2, left : left + 2].ravel(), 1.0)
                squares += np.outer(patch, patch)
                outer += jacobian[:, top, left].T @ small @ jacobian[:, top, left]
    close(found["0.inputs"][0], squares)
    close(found["0.outputs"][0], outer)
    assert found["0.places"] == 45


def test_kronecker_factors_of_a_shared_layer_and_of_an_embedding():
    inputs = keras.Input((3,), dtype="int32")
    layer = K.Dense(2)
    x = layer(layer(K.Embedding(4, 2)(inputs)))
    model = keras.Model(inputs, K.Dense(2)(K.GlobalAveragePooling1D()(x)))
    model.compile(loss=LOSS)
    words = np.array([[0, 1, 1], [3, 3, 3]])
    found = tfbnn.posteriors.Laplace(
        model, words, np.zeros(2, int), "kronecker", "exact", 1.0, verbose=0
    ).arrays
    np.testing.assert_array_equal(found["0.inputs"], [[1, 2, 0, 3]])
    assert (found["0.places"], found["1.places"], found["2.places"]) == (6, 12, 2)
    first = model.layers[1](words).numpy().reshape(-1, 2)
    rows = np.concatenate([first, first @ layer.kernel + layer.bias])
    rows = np.concatenate([rows, np.ones((12, 1))], axis=1)
    close(found["1.inputs"][0], rows.T @ rows)


def test_kronecker_takes_the_inputs_of_some_rows_where_they_have_many_places(monkeypatch):
    model = keras.Sequential([keras.Input((4, 4, 2)), K.Conv2D(3, 2), K.Flatten(), K.Dense(2)])
    model.compile(loss=LOSS)
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 2)).astype("float32")

    def arrays(x):
        y = np.zeros(len(x), int)
        return tfbnn.posteriors.Laplace(model, x, y, "kronecker", "exact", 1.0, verbose=0).arrays

    some, whole = arrays(x[:2]), arrays(x)
    # Nine places a row.
    monkeypatch.setattr(STRUCTURES["kronecker"], "most_places", 20)
    found = arrays(x)
    assert (found["0.places"], found["1.places"]) == (18, 5)
    close(found["0.inputs"], some["0.inputs"])
    for name in ("0.outputs", "1.inputs", "1.outputs"):
        close(found[name], whole[name])


@pytest.mark.parametrize("name", ["dense", "several", "steps"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_sampled_curvature_is_the_exact_one_on_average(name, structure):
    posterior = fitted(name, structure)
    model, x, y = network(name)
    run = Pass(model, posterior.likelihoods, posterior._structure, "sampled", 0)
    step, (batch,) = AnyRows(run._step), batches(model, x, y)
    drawn = [step(batch, tf.constant(seed))[0] for seed in range(200)]
    for key, expected in posterior.arrays.items():
        draws = np.array([one[key] for one in drawn], np.float64)
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        floor = 1e-5 * np.abs(expected).max()
        far = np.abs(draws.mean(axis=0) - expected) > 4 * error + floor
        # Of many elements some are further off, by chance and because squares have long tails.
        assert far.mean() < 0.005, key


def test_sample_weights_are_numbers_of_observations():
    model, x, y = network("dense")
    options = {"curvature": "exact", "prior_precision": 1.0, "verbose": 0}
    twice = tfbnn.posteriors.Laplace(
        model, np.concatenate([x, x]), np.concatenate([y, y]), **options
    )
    data = tf.data.Dataset.from_tensor_slices((x, y, np.full(len(x), 2.0))).batch(4)
    weighted = tfbnn.posteriors.Laplace(model, data, **options)
    close(twice.arrays["full"], weighted.arrays["full"])
    found, expected = (one._fitted.log_likelihood for one in (weighted, twice))
    assert found == pytest.approx(expected, rel=1e-5)


def test_data_sets_give_what_arrays_give():
    model, x, y = network("several")
    data = tf.data.Dataset.from_tensor_slices((x, tuple(y))).batch(4)
    options = {"curvature": "exact", "prior_precision": 1.0, "verbose": 0}
    one, other = (tfbnn.posteriors.Laplace(model, *d, **options) for d in ((x, y), (data,)))
    close(one.arrays["full"], other.arrays["full"])
    assert one._fitted.num_rows == other._fitted.num_rows == len(x)
