"""Temperatures: closed forms, the choice between draws and mean, and when they are in doubt."""

import copy
import pickle
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

import tfbnn
from tests.quiet import QUIET
from tfbnn.likelihoods import table
from tfbnn.scores import temperature

SPARSE = keras.losses.SparseCategoricalCrossentropy
ONE_HOT = keras.losses.CategoricalCrossentropy
BINARY = keras.losses.BinaryCrossentropy
DRAWS = {"num_samples": 16, "seed": 0, "verbose": 0}
# A loss, and the number of outputs.
KINDS = [(SPARSE, 3), (ONE_HOT, 3), (BINARY, 1), (BINARY, 3)]


def unsure(loss=SPARSE, units=3, from_logits=True, num_rows=2000):
    """A model whose mean weights are right and whose sigma is far too large, and data for it."""
    is_binary = loss is BINARY
    squash = None if from_logits else "sigmoid" if is_binary else "softmax"
    layer = tfbnn.layers.DenseFlipout(units, seed=0, activation=squash, **QUIET)
    model = tfbnn.Sequential([keras.Input((3,)), layer])
    model.compile(loss=loss(from_logits=from_logits))
    kernel = 3 * np.random.default_rng(1).normal(size=(3, units))
    layer.kernel.loc_variable.assign(kernel)
    layer.kernel.rho_variable.assign(np.full((3, units), 6.0))
    rng = np.random.default_rng(2)
    x = rng.normal(size=(num_rows, 3)).astype("float32")
    if is_binary:
        return model, x, (rng.logistic(size=(num_rows, units)) < x @ kernel).astype(int)
    y = (x @ kernel + rng.gumbel(size=(num_rows, units))).argmax(axis=-1)
    return model, x, np.eye(units)[y] if loss is ONE_HOT else y


def halves(x, y):
    return (x[::2], y[::2]), (x[1::2], y[1::2])


# The formula.


@pytest.mark.parametrize("value", [0.3, 1.0, 2.5])
def test_of_the_mean_it_is_a_power(value):
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=(5, 2)).astype("float32")
    power = p.astype(np.float64) ** (1 / value)
    classes = table.likelihood_of(SPARSE()).at(mean_temperature=value)
    expected = power / power.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(classes.tempered_mean(p), expected, rtol=1e-5)
    # Of two classes for each yes or no.
    yes, no = power, (1 - p.astype(np.float64)) ** (1 / value)
    binary = table.likelihood_of(BINARY()).at(mean_temperature=value)
    np.testing.assert_allclose(binary.tempered_mean(p), yes / (yes + no), rtol=1e-5)


@pytest.mark.parametrize("loss", [SPARSE, BINARY])
@pytest.mark.parametrize("value", [0.05, 20.0])
def test_certain_means_stay_in_their_order_and_finite(loss, value):
    p = tf.constant([[0.0, 1.0], [1e-30, 1.0], [0.25, 0.75]])
    likelihood = table.likelihood_of(loss()).at(mean_temperature=value)
    found = likelihood.tempered_mean(p).numpy()
    assert np.isfinite(found).all() and (found[:, 0] < found[:, 1]).all()
    assert (np.diff(found[:, 0]) >= 0).all()


def test_one_network_has_one_temperature():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(400, 3))
    labels = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=-1)
    draws = temperature.fit_temperature(logits[None], labels)
    mean = temperature.fit_temperature(np.log(special.softmax(logits, axis=-1))[None], labels)
    assert mean == pytest.approx(draws, rel=1e-6)
    both = {kind: temperature.examples_of(logits[None], labels, None) for kind in temperature.KINDS}
    # A tie is the simpler one's.
    assert temperature.chosen(both, "best").of == "draws"


def test_value_and_standard_error_by_hand():
    # n rows with log odds z, a share r of them right: T = z / logit(r), and the information about
    # log(T) is n * logit(r)**2 * r * (1 - r).
    z, n, r = 3.0, 200, 0.9
    labels = (np.arange(n) < r * n).astype(int)
    found = temperature.fit_temperature(np.full((1, n, 1), z), labels)
    logit = np.log(r / (1 - r))
    assert found == pytest.approx(z / logit, rel=1e-6)
    assert found.standard_error == pytest.approx((n * logit**2 * r * (1 - r)) ** -0.5, rel=1e-3)
    weighted = temperature.fit_temperature(np.full((1, n, 1), z), labels, np.full(n, 4.0))
    assert weighted.standard_error == pytest.approx(found.standard_error / 2, rel=1e-6)


def test_it_is_a_number_that_can_be_copied():
    value = temperature.Temperature(1.5, "mean", 0.1)
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == 1.5 and (other.of, other.standard_error) == ("mean", 0.1)
    assert f"{value:.2f} {value}" == "1.50 1.5"


# The choice.


@pytest.mark.parametrize(("loss", "units"), KINDS)
@pytest.mark.parametrize("from_logits", [True, False])
def test_of_draws_that_disagree_too_much_only_the_mean_is_mended(loss, units, from_logits):
    model, x, y = unsure(loss, units, from_logits)
    held_out, test = halves(x, y)
    nll = {"none": tfbnn.evaluate(model, *test, **DRAWS).nll}
    for of in ("draws", "mean"):
        try:
            tfbnn.calibrate(model, *held_out, of=of, **DRAWS)
        except ValueError:
            # There is none: votes would be best.
            assert of == "draws"
            model.likelihood.temperature = 0.05
        nll[of] = tfbnn.evaluate(model, *test, **DRAWS).nll
    found = tfbnn.calibrate(model, *held_out, **DRAWS)
    assert found.of == "mean" and found < 0.9
    assert nll["mean"] < min(nll["none"], nll["draws"]) - 0.01
    assert tfbnn.evaluate(model, *test, **DRAWS).nll == nll["mean"]


@pytest.mark.parametrize(("loss", "units"), KINDS)
@pytest.mark.parametrize("from_logits", [True, False])
def test_the_parts_stay_those_of_the_draws(loss, units, from_logits):
    model, x, y = unsure(loss, units, from_logits, num_rows=200)
    before = tfbnn.predict(model, x, **DRAWS)
    found = tfbnn.calibrate(model, x, y, of="mean", **DRAWS)
    after = tfbnn.predict(model, x, **DRAWS)
    assert (before.mean_temperature, after.mean_temperature) == (1.0, found)
    for name in ("epistemic", "aleatoric", "variation_ratio", "variance"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    # One class for each yes or no, and a softmax of both is what has to come out.
    p = before.prediction.astype(np.float64)
    categories = np.stack([1 - p, p], axis=-1) if loss is BINARY else p
    power = categories ** (1 / found)
    expected = power / power.sum(axis=-1, keepdims=True)
    prediction = expected[..., 1] if loss is BINARY else expected
    np.testing.assert_allclose(after.prediction, prediction, atol=1e-5)
    entropy = -special.xlogy(expected, expected).sum(axis=-1)
    np.testing.assert_allclose(after.uncertainty, entropy.reshape(after[1].shape), atol=1e-4)
    # The likelihood of the labels is that of what is predicted.
    labels = y.argmax(axis=-1) if loss is ONE_HOT else y
    true = np.take_along_axis(expected, labels.reshape(*labels.shape, 1), axis=-1)
    result = tfbnn.evaluate(model, x, y, **DRAWS)
    assert result.nll == pytest.approx(-np.log(true).sum() / len(x), rel=1e-4)
    assert result.error == pytest.approx(np.mean(expected.argmax(axis=-1) != labels))


def test_a_kind_that_has_none_is_left_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=300)
    right = np.where(labels == 1, 3.0, -3.0) * np.where(rng.uniform(size=300) < 0.9, 1, -1)
    fits = temperature.examples_of(right[None, :, None], labels, None)
    none = temperature.examples_of(np.zeros((1, 300, 1)), labels, None)
    for kind, other in (("draws", "mean"), ("mean", "draws")):
        assert temperature.chosen({kind: fits, other: none}, "best").of == kind
        with pytest.raises(ValueError, match="No temperature between 0.05 and 20 is best"):
            temperature.chosen({kind: fits, other: none}, other)
    with pytest.raises(ValueError, match="No temperature between 0.05 and 20 is best"):
        temperature.chosen({"draws": none, "mean": none}, "best")


def test_a_second_calibration_forgets_the_first():
    model, x, y = unsure(num_rows=200)
    once = tfbnn.calibrate(model, x, y, of="mean", **DRAWS)
    model.likelihood.temperature = 3.0
    assert tfbnn.calibrate(model, x, y, of="mean", **DRAWS) == once
    assert model.likelihood.temperature == 1.0


def test_certain_probabilities_have_a_temperature():
    # A sigmoid that is 1 in float32 has no logit.
    model, x, _ = unsure(BINARY, 1, from_logits=False, num_rows=400)
    model.layers[0].kernel.loc_variable.assign([[20.0], [0.0], [0.0]])
    model.layers[0].kernel.rho_variable.assign(np.zeros((3, 1)))
    y = (np.random.default_rng(0).logistic(size=(400, 1)) < 2 * x[:, :1]).astype(int)
    assert (tfbnn.predict(model, x, keep_samples=True, **DRAWS).samples[0] == 1).any()
    for of in ("draws", "mean"):
        assert tfbnn.calibrate(model, x, y, of=of, **DRAWS) > 1


# Files and configurations.


def test_a_configuration_from_before_has_no_temperature_of_the_mean():
    likelihood = table.likelihood_of(SPARSE(from_logits=True)).at(1.7, 0.4)
    config = likelihood.get_config()
    both = table.from_config(config)
    assert (both.temperature, both.mean_temperature) == (1.7, 0.4)
    del config["mean_temperature"]
    old = table.from_config(config)
    assert (old.temperature, old.mean_temperature) == (1.7, 1.0)


def test_a_file_from_before_is_what_it_was(tmp_path):
    model, x, _ = unsure(num_rows=20)
    model.likelihood.temperature = 1.7
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new:
        parts = {name: new.read(name) for name in new.namelist()}
    text = parts["config.json"].decode()
    assert '"mean_temperature": 1.0' in text
    parts["config.json"] = text.replace(', "mean_temperature": 1.0', "").encode()
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name, content in parts.items():
            old.writestr(name, content)
    loaded = keras.models.load_model(tmp_path / "old.keras")
    assert (loaded.likelihood.temperature, loaded.likelihood.mean_temperature) == (1.7, 1.0)
    one, other = (tfbnn.predict(m, x, **DRAWS).prediction for m in (model, loaded))
    np.testing.assert_allclose(one, other, atol=1e-6)


# Doubts.


def doubts_of(*arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        temperature.warn_if_doubtful(*arguments)
    assert all(one.category is UserWarning for one in caught)
    return " ".join(str(one.message) for one in caught)


def test_a_temperature_that_is_known_is_in_no_doubt():
    for value in (0.4, 1.0, 2.9):
        assert not doubts_of(temperature.Temperature(value, "draws", 0.1), 10)


@pytest.mark.parametrize(
    ("value", "error", "num_wrong", "message"),
    [
        (0.3, 0.1, 50, "not within a factor of 3 of 1.*Train the model otherwise"),
        (3.1, 0.1, 50, "not within a factor of 3 of 1"),
        (1.2, 0.1, 9, "Only 9 of the held-out answers are wrong.*pass more held-out data"),
        (1.2, 0.25, 50, r"to a factor of 1.6 only \(two standard errors\): pass more"),
        (1.2, np.inf, 50, "to a factor of inf only"),
    ],
)
def test_each_doubt_has_its_remedy(value, error, num_wrong, message):
    with pytest.warns(
        UserWarning, match=f"temperature {value:g} of the mean is in doubt.*{message}"
    ):
        temperature.warn_if_doubtful(temperature.Temperature(value, "mean", error), num_wrong)


def test_a_guess_from_few_rows_is_not_silent():
    model, x, y = unsure(num_rows=2000)
    with pytest.warns(UserWarning, match="is in doubt") as caught:
        tfbnn.calibrate(model, x[:35], y[:35], **DRAWS)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tfbnn.calibrate(model, x, y, **DRAWS)
    assert found.standard_error < 0.2


def test_wrong_answers_are_counted_once_and_without_those_that_do_not_count():
    logits = np.array([[[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]])
    examples = temperature.examples_of(logits, [1, 0, 0, 0], [5.0, 1.0, 1.0, 0.0])
    assert examples.num_wrong() == 2


@pytest.mark.parametrize("of", ["draw", None, 1, ["mean"]])
def test_what_it_may_divide(of):
    model, x, y = unsure(num_rows=40)
    with pytest.raises(ValueError, match=r"`of` must be one of \('best', 'draws', 'mean'\).*of="):
        tfbnn.calibrate(model, x, y, of=of)
