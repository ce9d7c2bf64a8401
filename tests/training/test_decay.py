"""Weight decay leaves alone what has a law, and decays the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.quiet import QUIET
from tfbnn.training.decay import exclude_from_decay

X = np.zeros((8, 3), "float32")
Y = np.zeros((8, 1), "float32")

# A decay takes `weight * weight_decay * rate` at each step. Inputs of zero give the kernels no
# gradient, and without beta the KL gives them none. A random bias has one, which is why the first
# layer has none.
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.5, weight_decay=0.5),
    "Adam": lambda: keras.optimizers.Adam(0.5, weight_decay=0.5),
    "AdamW": lambda: keras.optimizers.AdamW(0.5, weight_decay=0.5),
    "Lion": lambda: keras.optimizers.Lion(0.5, weight_decay=0.5),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5, weight_decay=0.5)
    ),
}


def _model(optimizer, build_first=True, **options):
    layers = [
        tfbnn.layers.DenseReparameterization(4, name="first", kernel_initializer="ones", **QUIET),
        keras.layers.Dense(1, name="plain", kernel_initializer="ones"),
        tfbnn.layers.DenseFlipout(1, name="last", bias_initializer="ones"),
    ]
    model = tfbnn.Sequential([keras.Input((3,)), *layers] if build_first else layers)
    loss = tfbnn.losses.NormalNLL("learned", initial_scale=2.0)
    model.compile(optimizer, loss=loss, beta=0.0, run_eagerly=True, **options)
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_laws_do_not_decay_and_plain_weights_do(name):
    model = _model(OPTIMIZERS[name]())
    before = {v.path: v.numpy() for v in model.variables}
    model.fit(X, Y, verbose=0)
    after = {v.path: v.numpy() for v in model.variables}
    kernel = next(path for path in after if path.endswith("plain/kernel"))
    if name in ("SGD", "scaled"):
        # Its gradient is zero, as the first layer gives zeros.
        np.testing.assert_allclose(after[kernel], 0.75 * before[kernel], rtol=1e-6)
    else:
        assert (after[kernel] < 0.8).all()
    for layer in ("first/kernel_loc", "first/kernel_rho"):
        path = next(path for path in after if path.endswith(layer))
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)


def test_the_learned_noise_and_a_random_bias_are_left_out(monkeypatch):
    optimizer = keras.optimizers.SGD(0.0, weight_decay=0.5)
    model = _model(optimizer)
    names = {v.path for v in model.trainable_variables if not optimizer._use_weight_decay(v)}
    assert {name.split("/", 1)[-1] for name in names} == {
        "first/kernel_loc",
        "first/kernel_rho",
        "last/kernel_loc",
        "last/kernel_rho",
        "last/bias_loc",
        "last/bias_rho",
        next(name.split("/", 1)[-1] for name in names if "noise_rho" in name),
    }


def test_what_the_user_leaves_out_stays_out():
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["plain"])
    model = _model(optimizer, build_first=False)
    model.fit(X, Y, verbose=0)
    plain = next(v for v in model.variables if v.path.endswith("plain/kernel"))
    law = next(v for v in model.variables if v.path.endswith("first/kernel_rho"))
    assert not optimizer._use_weight_decay(plain) and not optimizer._use_weight_decay(law)
    np.testing.assert_array_equal(law.numpy(), np.full(law.shape, law.numpy().flat[0]))
    scale = QUIET["kernel_posterior"].initial_scale
    assert np.log1p(np.exp(law.numpy().flat[0])) == pytest.approx(scale, rel=1e-5)


def test_a_step_of_the_user_s_own_leaves_laws_alone_too():
    """Its model may be built by its first step."""

    class Own(tfbnn.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    model = Own([tfbnn.layers.DenseReparameterization(1), keras.layers.Dense(1)])
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=1.0)
    model.compile(optimizer, loss=tfbnn.losses.NormalNLL(1.0), run_eagerly=True)
    model.fit(X, Y, verbose=0)
    decays = {v.path.split("/", 1)[-1]: optimizer._use_weight_decay(v) for v in model.variables}
    laws = {name for name in decays if name.endswith(("_loc", "_rho"))}
    assert len(laws) == 4 and not any(decays[name] for name in laws)
    assert decays["dense/kernel"]


def test_fit_says_that_laws_are_left_out(capsys):
    _model(keras.optimizers.AdamW()).fit(X, Y, verbose=2)
    assert "random weights, which weight decay leaves out" in capsys.readouterr().out
    _model("sgd").fit(X, Y, verbose=2)
    assert "decay" not in capsys.readouterr().out


def test_a_penalty_that_cannot_leave_weights_out_is_refused():
    optimizer = keras.optimizers.Ftrl(l2_regularization_strength=0.1)
    with pytest.raises(ValueError, match="leave `l2_regularization_strength` at 0. Received: l2_"):
        _model(optimizer)
    assert exclude_from_decay(optimizer, []) is False
    _model(keras.optimizers.Ftrl()).fit(X, Y, verbose=0)


def test_decay_does_not_change_what_sigma_ends_at():
    """The issue that this guards against: sigma .27 in place of .036 under `weight_decay=1`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype("float32")
    y = x @ np.ones((3, 1), "float32")
    sigmas = []
    for decay in (None, 1.0):
        keras.utils.set_random_seed(0)
        layer = tfbnn.layers.DenseReparameterization(1, use_bias=False, seed=1)
        model = tfbnn.Sequential([keras.Input((3,)), layer])
        loss = tfbnn.losses.NormalNLL(0.3)
        model.compile(keras.optimizers.Adam(0.05, weight_decay=decay), loss=loss)
        model.fit(x, y, epochs=10, batch_size=16, verbose=0)
        sigmas.append(layer.kernel.scale.numpy())
    np.testing.assert_allclose(sigmas[1], sigmas[0], rtol=1e-5)
