"""The variables of a learned noise: how many, whose, and what becomes of them."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.training import noise_variables

NLL = tfbnn.losses.NormalNLL
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X * [1.0, 2.0, 4.0]).astype("float32")


class Subclass(tfbnn.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = tfbnn.layers.DenseFlipout(units)

    def call(self, inputs, training=None):
        return self.dense(inputs, training=training)

    def get_config(self):
        return {"units": self.units, **super().get_config()}


def make_model(loss, units=3):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(units)])
    model.compile("adam", loss=loss)
    return model


@pytest.mark.parametrize(
    ("loss", "units", "shapes"),
    [
        (NLL(), 3, [(3,), (3,)]),
        (NLL(), 1, [(), ()]),
        (NLL(num_scales=1), 3, [(), ()]),
        (NLL(initial_scale=0.5), 3, [(3,)]),
        (NLL("head"), 6, [(3,)]),
        (NLL("head", initial_scale=1.0), 6, []),
        (NLL(0.5), 3, []),
    ],
)
def test_one_for_each_target_or_for_all(loss, units, shapes):
    assert [v.shape for v in make_model(loss, units).likelihood.loss.variables] == shapes


def test_each_target_has_its_own_density():
    model = make_model(NLL())
    loss = model.likelihood.loss
    loss.unit_variable.assign([1.0, 10.0, 0.1])
    loss.assign_scale([0.5, 20.0, 0.3])
    loc, scale = model.likelihood.parameters(tf.zeros([40, 3]))
    np.testing.assert_allclose(scale, np.tile([0.5, 20.0, 0.3], [40, 1]), rtol=1e-5)
    expected = -0.5 * (Y / [0.5, 20.0, 0.3]) ** 2 - np.log([0.5, 20.0, 0.3])
    expected -= 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(model.likelihood.log_prob(Y, loc), expected, rtol=1e-4)


def test_a_number_of_scales_that_does_not_fit_leaves_the_model_as_it_was():
    model = make_model(NLL(0.5))
    before = model.likelihoods
    with pytest.raises(ValueError, match="1 or the number of targets, 3. Received: num_scales=2"):
        model.compile(loss=NLL(num_scales=2))
    assert model.likelihoods is before


@pytest.mark.parametrize("loss", [NLL(), NLL("head")], ids=["learned", "head"])
def test_the_first_fit_splits_the_scale_of_a_model_that_was_not_built(loss, tmp_path):
    units = 6 if loss.scale == "head" else 3
    model = Subclass(units)
    model.compile("adam", loss=loss)
    assert model.likelihood.loss.unit_variable.shape == ()
    model.fit(X, Y, verbose=0)
    np.testing.assert_allclose(model.likelihood.loss.unit(), Y.std(axis=0), rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", {"Subclass": Subclass})
    for one, other in zip(*(m.likelihood.loss.variables for m in (model, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(loaded.weights) == len(model.weights)


def test_a_scale_that_was_learned_goes_on_in_other_variables():
    model = make_model(NLL(num_scales=1, initial_scale=1.0))
    model.likelihood.loss.assign_scale(0.3)
    model.compile(loss=NLL())
    loss = model.likelihood.loss
    np.testing.assert_allclose(loss.constant_scale(), [0.3] * 3, rtol=1e-5)
    assert len(model.weights) == 6
    model.compile(loss=NLL())
    assert model.likelihood.loss.variables == loss.variables


def test_a_file_from_a_time_with_one_scale(tmp_path):
    model = make_model(NLL(initial_scale=0.7, num_scales=1))
    model.fit(X, Y, verbose=0)
    new, old = tmp_path / "new.keras", tmp_path / "old.keras"
    model.save(new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = json.dumps(_without(json.loads(content), "num_scales")).encode()
            target.writestr(name, content)
    loaded = tfbnn.load_model(old)
    (rho,) = loaded.likelihood.loss.variables
    assert rho.shape == () and float(rho) == float(model.likelihood.loss.rho_variable)
    expected = tfbnn.predict(model, X, 3, seed=0).uncertainty
    np.testing.assert_array_equal(tfbnn.predict(loaded, X, 3, seed=0).uncertainty, expected)
    loaded.fit(X, Y, verbose=0)
    assert loaded.likelihood.loss.unit_variable is None


def _without(config, name):
    if isinstance(config, dict):
        return {key: _without(value, name) for key, value in config.items() if key != name}
    return [_without(one, name) for one in config] if isinstance(config, list) else config


def test_copies_take_the_noise_along(tmp_path):
    model = make_model(NLL())
    model.fit(X, Y, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = tfbnn.clone_model(model)
    assert noise_variables.at_start(other.likelihood.loss)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        other.likelihood.loss.constant_scale(), model.likelihood.loss.constant_scale()
    )
