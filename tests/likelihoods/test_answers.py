"""Answers in TensorFlow against the measures in NumPy, for every likelihood."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.likelihoods.table import LIKELIHOODS, likelihood_of
from tfbnn.scores import class_uncertainty, number_uncertainty

SPARSE = keras.losses.SparseCategoricalCrossentropy
CATEGORICAL = keras.losses.CategoricalCrossentropy
BINARY = keras.losses.BinaryCrossentropy
NLL = tfbnn.losses.NormalNLL
# The event axes of the outputs; those of classes come last.
SHAPES = [(3,), (4, 3)]


def _outputs(shape, num_samples=7, batch=5):
    return np.random.default_rng(0).normal(0, 2, (num_samples, batch, *shape)).astype("float32")


def _softmax(x):
    p = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def _check_classes(found, mean, categories):
    np.testing.assert_allclose(found["prediction"], mean, rtol=1e-5, atol=1e-7)
    expected = (
        class_uncertainty.predictive_entropy(categories),
        class_uncertainty.mutual_information(categories),
    )
    for name, value in zip(("uncertainty", "mutual_information"), expected, strict=True):
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_every_likelihood_has_a_name_and_three_answers(loss):
    likelihood = likelihood_of(loss())
    prediction, uncertainty, third = likelihood.meanings
    assert (prediction, uncertainty) == ("prediction", "uncertainty")
    assert third in ("mutual_information", "epistemic")
    assert likelihood.answer_names == tuple(likelihood.meanings)
    assert likelihood_of(loss.__name__).name == likelihood.name


CLASSES = ("prediction", "uncertainty", "mutual_information")
NUMBERS = ("prediction", "uncertainty", "epistemic")


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("loss", [SPARSE, CATEGORICAL])
@pytest.mark.parametrize("shape", SHAPES)
def test_classes(shape, loss, from_logits, temperature):
    likelihood = likelihood_of(loss(from_logits=from_logits))
    likelihood.temperature = temperature
    logits = _outputs(shape)
    outputs = logits if from_logits else _softmax(logits).astype("float32")
    found = likelihood.answer(tf.constant(outputs))
    assert tuple(found) == CLASSES
    probabilities = _softmax(logits / temperature)
    _check_classes(found, probabilities.mean(axis=0), probabilities)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("shape", [(1,), (3,), (4, 1), (4, 2)])
def test_yes_or_no(shape, from_logits, temperature):
    likelihood = likelihood_of(BINARY(from_logits=from_logits))
    likelihood.temperature = temperature
    logits = _outputs(shape)
    outputs = logits if from_logits else _sigmoid(logits).astype("float32")
    found = likelihood.answer(tf.constant(outputs))
    assert tuple(found) == CLASSES
    p = _sigmoid(logits / temperature)
    categories = np.stack([1 - p, p], axis=-1)
    # One question has one answer, without an axis for it.
    categories = categories[..., 0, :] if shape[-1] == 1 else categories
    _check_classes(found, p.mean(axis=0), categories)


def _scales(kind, outputs):
    """Mean and standard deviation of the noise, as the loss has them."""
    if kind == "head":
        loc, rho = np.split(outputs.astype(np.float64), 2, axis=-1)
        return loc, np.logaddexp(0, rho) + 1e-6
    return outputs.astype(np.float64), np.full(outputs.shape, 0.3)


@pytest.mark.parametrize("kind", ["fixed", "learned", "head"])
@pytest.mark.parametrize("shape", [(2,), (4, 2)])
def test_real_numbers(shape, kind):
    likelihood = likelihood_of(NLL(0.3 if kind == "fixed" else kind))
    if kind == "learned":
        # A model makes it, when it is compiled.
        likelihood.loss.rho_variable = keras.Variable(np.log(np.expm1(0.3)), dtype="float32")
    outputs = _outputs(shape)
    found = likelihood.answer(tf.constant(outputs))
    assert tuple(found) == NUMBERS
    loc, scale = _scales(kind, outputs)
    expected = {
        "prediction": loc.mean(axis=0),
        "uncertainty": number_uncertainty.total_standard_deviation(loc, scale),
        "epistemic": np.sqrt(number_uncertainty.epistemic_variance(loc)),
    }
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "loss, outputs", [(SPARSE(from_logits=True), 3), (BINARY(from_logits=True), 1), (NLL(0.3), 2)]
)
def test_one_network_blames_nothing_on_the_weights(loss, outputs):
    likelihood = likelihood_of(loss)
    found = likelihood.answer(tf.constant(_outputs((outputs,), num_samples=1)))
    *_, last = likelihood.meanings
    assert not found[last].numpy().any()


@pytest.mark.parametrize("loss", [SPARSE(from_logits=False), BINARY(from_logits=False)])
def test_certainty_is_zero_and_not_nan(loss):
    outputs = np.zeros((4, 2, 2), "float32")
    outputs[..., 0] = 1.0
    found = likelihood_of(loss).answer(tf.constant(outputs))
    assert not found["uncertainty"].numpy().any()
    assert not found["mutual_information"].numpy().any()


def test_networks_that_agree_have_no_mutual_information_below_zero():
    one = np.random.default_rng(0).normal(size=(1, 1000, 10))
    outputs = tf.constant(np.repeat(one, 33, axis=0), tf.float32)
    found = likelihood_of(SPARSE(from_logits=True)).answer(outputs)["mutual_information"].numpy()
    assert found.min() >= 0 and found.max() < 1e-5


@pytest.mark.parametrize("loss", [SPARSE(from_logits=True), BINARY(from_logits=True), NLL(0.3)])
def test_in_a_graph_it_is_the_same(loss):
    likelihood = likelihood_of(loss)
    outputs = tf.constant(_outputs((2,)))
    traced = tf.function(lambda x: likelihood.answer(x), autograph=False)(outputs)
    for name, value in likelihood.answer(outputs).items():
        np.testing.assert_allclose(traced[name], value, rtol=1e-5, atol=1e-7)


def test_a_head_without_a_scale_for_each_target_is_an_error():
    with pytest.raises(ValueError, match="two outputs for each target"):
        likelihood_of(NLL("head")).answer(tf.constant(_outputs((3,))))
