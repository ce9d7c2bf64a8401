"""What Keras documents for subclassing and for own loops behaves as in a `keras.Model`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.layers import scopes, variational_weights
from tfbnn.weights import noise

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype("float32")
Y = RNG.integers(0, 2, 20)
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def no_noise(monkeypatch):
    """So that two ways of training meet the same draws."""
    monkeypatch.setattr(noise, "standard_normal", lambda shape, seed: tf.zeros(shape))


def _compiled(kind, prior="normal", **options):
    keras.utils.set_random_seed(1)
    layers = [tfbnn.layers.DenseReparameterization(4, "relu", kernel_prior=prior), _last(prior)]
    model = kind([keras.Input((3,)), *layers])
    options = {"metrics": ["accuracy"], "run_eagerly": True, **options}
    model.compile(keras.optimizers.Adam(0.1), loss=LOGITS, **options)
    return model


def _last(prior):
    return tfbnn.layers.DenseFlipout(2, kernel_prior=prior, bias_posterior="normal")


class OwnStep(tfbnn.Sequential):
    """The training step of Keras' guide "Customizing what happens in fit()"."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


def _assert_same_weights(one, other):
    for weight, expected in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("eager", [True, False])
def test_a_step_of_the_user_s_own_is_the_built_in_one(no_noise, eager):
    own = _compiled(OwnStep, run_eagerly=eager)
    expected = _compiled(tfbnn.Sequential, run_eagerly=eager)
    logs = own.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0).history
    kept = expected.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0).history
    _assert_same_weights(own, expected)
    for name in ("loss", "nll", "kl", "kl_weight", "weighted_kl"):
        np.testing.assert_allclose(logs[name], kept[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
def test_a_loop_adds_the_losses_of_the_model(no_noise, prior):
    """The loop of Keras' guide "Writing a training loop from scratch"."""
    own, expected = (_compiled(tfbnn.Sequential, prior, num_draws=1) for _ in range(2))
    own.num_examples = len(X)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = LOGITS(Y, own(X, training=True))
            loss += sum(own.losses)
        gradients = tape.gradient(loss, own.trainable_weights)
        own.optimizer.apply_gradients(zip(gradients, own.trainable_weights, strict=True))
    expected.fit(X, Y, batch_size=len(X), epochs=2, shuffle=False, verbose=0)
    _assert_same_weights(own, expected)


def test_compute_loss_in_a_loop_is_the_objective():
    model = _compiled(tfbnn.Sequential)
    model.num_examples = 50
    outputs = model(X, training=True)
    nll = float(LOGITS(Y, outputs))
    kl = sum(float(weight.kl()) for weight in variational_weights(model))
    assert float(model.compute_loss(X, Y, outputs)) == pytest.approx(nll + kl / 50, rel=1e-5)
    assert float(sum(model.losses)) == pytest.approx(kl / 50, rel=1e-5)
    assert float(model.compute_loss(X, Y, outputs, training=False)) == pytest.approx(nll, rel=1e-5)


def test_a_collector_gives_the_loss_the_kl_of_the_same_draws():
    model = _compiled(tfbnn.Sequential, "scale_mixture")
    model.num_examples = 50
    with scopes.collect_draws() as collector:
        outputs = model(X, training=True)
        loss = model.compute_loss(X, Y, outputs)
    kl = float(tf.add_n(list(collector.divergences.values())))
    assert float(loss) == pytest.approx(float(LOGITS(Y, outputs)) + kl / 50, rel=1e-5)


def test_losses_of_layers_and_of_calls_stay_in_the_list():
    class Extra(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(3.0 + 0.0 * keras.ops.sum(inputs))
            return inputs

    regular = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(1.0))
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2), Extra(), regular])
    model.compile("adam", loss=LOGITS, run_eagerly=True)
    model(X)
    others = 3.0 + float(np.square(regular.kernel.numpy()).sum())
    # Before a number of examples is known, and before anything was trained, there is no KL to add.
    assert float(sum(model.losses)) == pytest.approx(others, rel=1e-5)
    # With it there is, and to look at them does nothing else.
    model.num_examples = 20
    weighted_kl = sum(float(weight.kl()) for weight in variational_weights(model)) / 20
    assert float(sum(model.losses)) == pytest.approx(others + weighted_kl, rel=1e-5)
    assert [float(term.result()) for term in model._terms] == [0.0] * 4
    logs = model.fit(X, Y, batch_size=20, verbose=0).history
    assert logs["loss"][0] == pytest.approx(logs["nll"][0] + others + weighted_kl, rel=1e-4)


def test_a_loop_without_the_number_of_examples_says_what_to_set():
    model = _compiled(tfbnn.Sequential)
    outputs = model(X, training=True)
    for ask in (lambda: model.losses, lambda: model.compute_loss(X, Y, outputs)):
        with pytest.raises(ValueError, match=r"`model.num_examples = ...`. Received: num_exam"):
            ask()


def test_own_losses_and_metrics_are_logged_as_in_keras():
    class Own(tfbnn.Sequential):
        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs) + 5.0

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "mine": 7.0}

    model = _compiled(Own)
    logs = model.fit(X, Y, batch_size=20, verbose=0).history
    assert logs["mine"] == [7.0]
    assert logs["loss"][0] == pytest.approx(logs["nll"][0] + logs["weighted_kl"][0] + 5, rel=1e-5)
    scores = model.evaluate(X, Y, batch_size=20, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(scores["nll"] + 5, rel=1e-5)


def test_lists_hold_the_loss_and_the_compiled_metrics():
    model = _compiled(tfbnn.Sequential)
    model.fit(X, Y, verbose=0)
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    scores = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(scores) == {"loss", "nll", "accuracy"}
    assert (loss, accuracy) == pytest.approx((scores["nll"], scores["accuracy"]))
    assert model.test_on_batch(X, Y) == pytest.approx([loss, accuracy])
    assert len(model.train_on_batch(X, Y)) == 2
    logs = model.fit(X, Y, validation_data=(X, Y), verbose=0).history
    assert {"val_loss", "val_nll", "val_accuracy"} <= set(logs)
    model = _compiled(tfbnn.Sequential, metrics=None)
    assert isinstance(model.evaluate(X, Y, verbose=0), float)
