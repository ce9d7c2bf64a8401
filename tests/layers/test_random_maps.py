"""A layer with two random maps, and layers inside loops: what is keyed by a map, not by a layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.export import flat
from tests.linear_maps import ESTIMATORS
from tfbnn.export import laws
from tfbnn.layers import linear_maps, scopes
from tfbnn.pruning.masks import mask_of
from tfbnn.weights.families import Normal, WeightLaw

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.arange(8) % 2
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable("tests")
class GatedDense(tfbnn.layers.AbstractVariationalLayer):
    """`(x @ w + b) * sigmoid(x @ g)`."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        dense, family = linear_maps.Dense(self.units), Normal(0.3)
        bias = WeightLaw(initializer="zeros", posterior=family)
        self.add_map("kernel", dense, input_shape, WeightLaw(posterior=family), bias)
        self.add_map("gate_kernel", dense, input_shape, WeightLaw(posterior=family))

    def call(self, inputs, training=None):
        gate = keras.ops.sigmoid(self.maps["gate_kernel"](inputs, training))
        return self.maps["kernel"](inputs, training) * gate

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _model(estimator="flipout"):
    keras.utils.set_random_seed(0)
    layers = [
        GatedDense(6, estimator=estimator, seed=1, name="gated"),
        tfbnn.layers.Dense(2, kernel_posterior=Normal(0.3), name="last"),
    ]
    model = tfbnn.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", loss=LOGITS)
    return model


@pytest.fixture(scope="module")
def trained():
    model = _model()
    model.fit(X, Y, epochs=1, verbose=0)
    return model


def test_names():
    maps = tfbnn.layers.random_maps(_model())
    assert [one.full_name for one in maps] == ["gated/kernel", "gated/gate_kernel", "last"]
    names = [v.name for v in maps[0].layer.weights]
    assert names == ["kernel_loc", "kernel_rho", "bias_loc", "bias_rho"] + [
        "gate_kernel_loc",
        "gate_kernel_rho",
    ]
    weights = tfbnn.callbacks.sigma_statistics
    assert weights(maps[1].kernel)["weights"] == 24


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_seeds_and_kl_belong_to_maps(estimator):
    model = _model(estimator)
    layer = model.layers[0]
    same = [one.kernel for one in layer.maps.values()]
    same[1].loc_variable.assign(same[0].loc)
    with scopes.collect_draws() as collector:
        first = [one(X, training=True) for one in layer.maps.values()]
        again = [one(X, training=True) for one in layer.maps.values()]
    assert len(collector.divergences) == 3
    assert set(collector.divergences) == set(layer.variational_weights)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first[0] - first[1]).max() > 0.01


def test_every_kl_counts_once(trained):
    kl = sum(float(w.kl()) for w in tfbnn.layers.variational_weights(trained))
    model = _model()
    model.set_weights(trained.get_weights())
    model.compile(keras.optimizers.SGD(0.0), loss=LOGITS)
    logs = model.fit(X, Y, verbose=0).history
    assert logs["kl"][0] == pytest.approx(kl, rel=1e-5)


def test_files_predictions_and_masks(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config() == trained.layers[0].get_config()
    mine, theirs = (tfbnn.predict(m, X, 4, seed=3).prediction for m in (trained, loaded))
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    pruned = tfbnn.prune(trained, sparsity=0.75, scope="layer")
    masks = [mask_of(one.kernel) for one in tfbnn.layers.random_maps(pruned)]
    assert [mask.sum() for mask in masks] == [6, 6, 3]
    pruned.fit(X, Y, verbose=0)
    for one, mask in zip(tfbnn.layers.random_maps(pruned), masks, strict=True):
        assert np.all(np.asarray(one.kernel.loc)[mask == 0] == 0)
    pruned.save(tmp_path / "pruned.keras")
    again = tfbnn.load_model(tmp_path / "pruned.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), pruned.predict(X, verbose=0))


@pytest.mark.parametrize("mode", ["none", "monte_carlo"])
def test_exports(mode, trained, tmp_path):
    path = tmp_path / "model.tflite"
    flat.tflite(trained, path, mode, num_samples=64, check_data=X)
    answer = tfbnn.lite.Model(path).predict(X)
    expected = tfbnn.predict(trained, X, 400, seed=1).prediction
    mean = keras.ops.softmax(trained.predict(X, verbose=0))
    expected = mean if mode == "none" else expected
    assert np.abs(answer.prediction - expected).max() < (1e-5 if mode == "none" else 0.15)


def test_frozen_weights_and_unknown_routes(trained, tmp_path):
    frozen = laws.freeze(tfbnn.posterior.posterior_of(trained))
    assert list(frozen) == tfbnn.layers.random_maps(trained)
    with pytest.raises(ValueError, match="Moments cannot pass through the layer 'gated'"):
        tfbnn.export.tflite(trained, tmp_path / "m.tflite", "moments", check_data=X)


class Cell(keras.layers.Layer):
    """`h = x @ w + 0 * h`: its outputs show the weights of a step."""

    def __init__(self, estimator, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = 3
        self.dense = tfbnn.layers.Dense(
            3, estimator=estimator, kernel_posterior=Normal(0.5), bias_posterior="point", seed=1
        )

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1]))
        self.built = True

    def call(self, inputs, states, training=None):
        outputs = self.dense(inputs, training=training)
        return outputs, [outputs]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_loop_goes_through_one_draw(estimator, unroll, jit_compile):
    cell = Cell(estimator)
    layer = keras.layers.RNN(cell, return_sequences=True, unroll=unroll)
    x = np.repeat(X[:2, np.newaxis], 5, axis=1)

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step():
        with scopes.collect_draws() as collector, tf.GradientTape() as tape:
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(outputs)
        gradients = tape.gradient(loss, [v.value for v in cell.trainable_weights])
        return outputs, gradients, list(collector.maps) == [cell.dense.random_map]

    layer.build(x.shape)
    outputs, gradients, recorded = step()
    assert recorded
    np.testing.assert_allclose(outputs, np.repeat(outputs[:, :1], 5, axis=1), atol=1e-5)
    assert np.abs(outputs - step()[0]).max() > 0.01
    # Of the loss, which is 5 times that of a step: noise of one draw grows with it.
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_a_model_with_a_loop_is_trained_and_drawn():
    model = tfbnn.Sequential([keras.Input((5, 4)), keras.layers.RNN(Cell("flipout"))])
    model.compile("adam", loss=tfbnn.losses.NormalNLL())
    x = np.repeat(X[:4, np.newaxis], 5, axis=1)
    logs = model.fit(x, np.zeros((4, 3), "float32"), epochs=2, verbose=0).history
    assert logs["kl"][0] == pytest.approx(float(model.layers[0].cell.dense.kernel.kl()), rel=0.5)
    assert np.isfinite(tfbnn.predict(model, x, 2).prediction).all()


def test_draws_in_a_file_are_made_before_a_loop():
    model = tfbnn.Sequential(
        [keras.Input((5, 4)), keras.layers.RNN(Cell("flipout"), return_sequences=True)]
    )
    model.compile(loss=tfbnn.losses.NormalNLL())
    x = tf.constant(np.repeat(X[:2, np.newaxis], 5, axis=1))
    frozen = laws.freeze(tfbnn.posterior.MeanFieldPosterior(model))
    calls = {one: 5 for one in frozen}

    @tf.function(autograph=False)
    def outputs():
        rule = laws.MonteCarloRule(frozen, 3, 2, calls)
        with scopes.forward_rule(rule):
            return model(tf.tile(x, [3, 1, 1]))

    drawn = outputs().numpy()
    np.testing.assert_allclose(drawn, np.repeat(drawn[:, :1], 5, axis=1), atol=1e-5)
    assert np.abs(drawn[:2] - drawn[2:4]).max() > 0.01
