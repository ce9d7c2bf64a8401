"""Steps of plain and of variational optimizers, in models that are built by their first batch."""

import keras
import numpy as np
import pytest

import tfbnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.integers(0, 2, 24)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Unbuilt(tfbnn.Model):
    """A model that has no weights before its first batch."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("name", ["adam", "ivon"])
def test_the_first_batch_may_build_the_model(name, eager):
    optimizer = tfbnn.optimizers.IVON(0.1, seed=1) if name == "ivon" else "adam"
    model = Unbuilt(keras.layers.Dense(2))
    model.compile(optimizer, loss=LOSS, run_eagerly=eager)
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (tfbnn.layers.Dense(2), "take the layers of Keras"),
        (keras.layers.Dense(2, kernel_regularizer="l2"), "prior of its own"),
    ],
)
def test_what_ivon_is_not_for_is_refused_with_the_first_batch(layer, message):
    model = Unbuilt(layer)
    # What a model has before it is built is found by `compile`.
    with pytest.raises(ValueError, match=message):
        model.compile(tfbnn.optimizers.IVON(0.1), loss=LOSS)
        model.fit(X, Y, verbose=0)
