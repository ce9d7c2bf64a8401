"""AutoGraph: nothing of ours needs it, and to users it is what it is in Keras.

The fixture `converted` of `conftest.py` looks at every function that a test runs.
"""

import ast
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.export import flat

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = "tfbnn", "trainers", "benchmarks", "tests"
FILES = sorted(f for folder in FOLDERS for f in (ROOT / folder).rglob("*.py"))
X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _traced_with_autograph(tree):
    """Line numbers of `tf.function` without `autograph=False`."""
    calls = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "tf.function":
            call = calls.get(id(node))
            if call is None or "autograph=False" not in map(ast.unparse, call.keywords):
                yield node.lineno


def test_every_function_is_traced_as_it_is_written():
    found = {f: list(_traced_with_autograph(ast.parse(f.read_text()))) for f in FILES}
    found[pathlib.Path(__file__)] = []  # whose layers are a user's
    assert len(found) > 200 and {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source", ["tf.function(f)", "tf.function(f, jit_compile=True)", "@tf.function\ndef f(): ..."]
)
def test_the_check_sees_a_function(source):
    assert list(_traced_with_autograph(ast.parse(source))) == [1]


def test_the_fixture_sees_a_function(converted):
    # Through one of TensorFlow's, which passes on what its callers ask for.
    tf.map_fn(tfbnn.weights.softplus.softplus, tf.zeros([1]))
    assert converted[0] == "tfbnn.weights.softplus.softplus"
    converted.clear()


class Halved(keras.layers.Layer):
    """A user's layer with a loop over a tensor."""

    def call(self, inputs):
        for _ in tf.range(1):
            inputs = inputs / 2
        return inputs


class HalvedByFunction(Halved):
    call = tf.function(Halved.call)


def _model(layer, kind=tfbnn.Sequential, dense=tfbnn.layers.DenseReparameterization):
    keras.utils.set_random_seed(1)
    model = kind([keras.Input((3,)), dense(4), layer, dense(2)])
    model.compile("sgd", loss=LOSS)
    return model


@pytest.mark.parametrize(
    "kind", [(), (keras.Sequential, keras.layers.Dense)], ids=["tfbnn", "keras"]
)
def test_keras_rewrites_no_layer_and_neither_do_we(kind):
    with pytest.raises((RuntimeError, TypeError), match="Halved.call"):
        _model(Halved(), *kind)


def _fitted(model):
    model.fit(X, Y, verbose=0)
    return model.get_weights()


USES = {
    "fit": _fitted,
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "predict": lambda model: model.predict(X, verbose=0),
    "tfbnn.predict": lambda model: list(tfbnn.predict(model, X, num_samples=2, seed=0)),
}


# AutoGraph meets a warning of Python 3.13, and would give up if that were an error here.
converts = pytest.mark.filterwarnings("ignore:.*unexpected keyword argument '___pyct_anno'")


@converts
@pytest.mark.parametrize("use", USES)
def test_a_layer_that_asks_for_it_gets_it(use):
    found, expected = (
        USES[use](_model(layer)) for layer in (HalvedByFunction(), keras.layers.Rescaling(0.5))
    )
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@converts
def test_a_file_of_a_layer_that_asks_for_it(tmp_path):
    model = _model(HalvedByFunction())
    flat.saved_model(model, tmp_path / "file", check_data=X)
    loaded = tf.saved_model.load(tmp_path / "file")
    np.testing.assert_allclose(loaded.mean(X)["prediction"], keras.ops.softmax(model(X)), rtol=1e-5)
