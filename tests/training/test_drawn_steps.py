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


def _ivon(loss=LOSS, optimizer=None, **options):
    model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer or tfbnn.optimizers.IVON(0.1, seed=1), loss=loss, **options)
    return model


def _scaled():
    return keras.optimizers.LossScaleOptimizer(tfbnn.optimizers.IVON(0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": tfbnn.losses.NormalNLL(scale="learned")}, "which the noise has not.*'learned'"),
        ({"beta": 0.0}, "0 leaves nothing of.*beta=0.0"),
        ({"optimizer": _scaled()}, "takes no scaled losses.*LossScaleOptimizer"),
        ({"kl_schedule": tfbnn.schedules.LinearWarmUp(3)}, "no KL in its loss"),
    ],
)
def test_what_is_refused_leaves_the_model_as_it_was(options, message):
    with pytest.raises(ValueError, match=message):
        _ivon(**options)
    model = tfbnn.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", loss=LOSS)
    optimizer = model.optimizer
    with pytest.raises(ValueError, match=message):
        options = {"loss": LOSS, "optimizer": tfbnn.optimizers.IVON(0.1), **options}
        model.compile(**options)
    assert model.optimizer is optimizer


def test_another_number_of_examples_leaves_a_law():
    model = _ivon()
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    for number in (10**6, 24, 2):
        model.num_examples = number
        for scale in model.optimizer.scales(model.trainable_variables):
            assert np.isfinite(scale).all() and (np.asarray(scale) > 0).all()
        model.fit(X, Y, batch_size=8, num_examples=number, verbose=0)
        assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_run_that_is_resumed_ends_with_the_same_law(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise InterruptedError

    options = {"batch_size": 8, "epochs": 4, "shuffle": False, "verbose": 0}
    whole, stopped, resumed = ends = [_with_start() for _ in range(3)]
    whole.fit(X, Y, **options)
    resume = [tfbnn.callbacks.ResumeTraining(tmp_path)]
    with pytest.raises(InterruptedError):
        stopped.fit(X, Y, **options, callbacks=[*resume, Interrupt()])
    resumed.fit(X, Y, **options, callbacks=[tfbnn.callbacks.ResumeTraining(tmp_path)])
    whole, _, resumed = ([*m.get_weights(), *m.optimizer.variables] for m in ends)
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


def _with_start():
    keras.utils.set_random_seed(0)
    return _ivon()


@pytest.mark.parametrize("options", [{"recipe": "elbo"}, {"beta": "validation"}])
def test_ivon_with_recipes_and_a_beta_that_is_chosen(options):
    model = _ivon(**options)
    model.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0)
    assert model.objective.beta in (0.03, 0.1, 0.3, 1)
    assert int(model.optimizer.iterations) == 6


def test_what_asks_for_layers_with_laws_says_so(tmp_path):
    model = _ivon()
    model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="no variational layers"):
        logger = tfbnn.callbacks.SigmaLogger(tmp_path / "log", tensorboard=False, picture=False)
        model.fit(X, Y, verbose=0, callbacks=[logger])
    with pytest.raises(ValueError, match="no ELBO"):
        tfbnn.check_elbo(model, X, Y, verbose=0)
