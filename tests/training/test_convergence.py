"""`fit` says when sigma has not trained, by a statistic with known values."""

import functools
import warnings

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.training.convergence import LARGEST_PULL, ConvergenceWarning, noise_is_off

RNG = np.random.default_rng(0)
FEATURES = 40
X = RNG.normal(size=(320, FEATURES)).astype("float32")
Y = (X @ RNG.normal(size=(FEATURES, 1)) + 0.5 * RNG.normal(size=(320, 1))).astype("float32")
SMALL = tfbnn.families.Normal(1e-4)
NOISE = tfbnn.losses.NormalNLL(0.5)


def pulls_of(
    epochs,
    optimizer=None,
    initial_scale=0.0067,
    layer=tfbnn.layers.DenseFlipout,
    loc=None,
    **options,
):
    keras.utils.set_random_seed(0)
    posterior = tfbnn.families.Normal(initial_scale)
    one = layer(1, kernel_posterior=posterior, use_bias=False, **options)
    model = tfbnn.Sequential([keras.Input((FEATURES,)), one])
    if loc is not None:
        one.kernel.loc_variable.assign(loc)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss=NOISE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, epochs=epochs, verbose=0)
    found = [one for one in caught if "Sigma" in str(one.message)]
    return model.objective.last_steps.mean_pull(), found


def test_only_the_kl_is_felt_where_sigma_is_small():
    # A posterior scale of .028 is where this regression ends: (N / noise**2 + 1)**-.5.
    (pull, _), warned = pulls_of(2, initial_scale=1e-4)
    assert pull == pytest.approx(1.0, abs=0.02)
    assert "still grows" in str(warned[0].message)


def test_too_large_a_sigma_pulls_the_other_way():
    (pull, _), warned = pulls_of(2, initial_scale=0.3)
    assert pull < -0.5 and "too large" in str(warned[0].message)


@pytest.mark.parametrize(
    "layer",
    [
        tfbnn.layers.DenseFlipout,
        tfbnn.layers.DenseReparameterization,
        tfbnn.layers.DenseLocalReparameterization,
    ],
)
def test_at_the_optimum_there_is_none(layer):
    exact = (len(X) / 0.25 + 1) ** -0.5
    loc = np.linalg.lstsq(X, Y, rcond=None)[0]
    options = {"initial_scale": exact, "layer": layer, "loc": loc}
    (pull, error), warned = pulls_of(5, keras.optimizers.Adam(1e-5), **options)
    # The rows are not exactly standard, and 50 steps are noisy.
    assert abs(pull) < LARGEST_PULL + 2 * error < 0.5 and not warned


def test_adam_by_name_gets_there():
    (pull, error), warned = pulls_of(300, "adam")
    assert abs(pull) < 0.15 + 3 * error < 0.5 and not warned


def test_a_mixture_is_judged_by_its_own_kl():
    """At small sigma the narrow component pulls, not the entropy: more than one nat a weight."""
    prior = tfbnn.priors.ScaleMixture(0.5, 1.0, 0.0025)
    (pull, _), _ = pulls_of(2, initial_scale=1e-4, kernel_prior=prior)
    assert abs(pull) == pytest.approx(1.0, abs=0.1)


def test_pruned_weights_are_left_out():
    keras.utils.set_random_seed(0)
    model = tfbnn.Sequential(
        [keras.Input((FEATURES,)), tfbnn.layers.DenseFlipout(4, kernel_posterior=SMALL)]
    )
    model.compile(keras.optimizers.Adam(1e-5), loss=NOISE)
    model.fit(X, np.repeat(Y, 4, axis=1), epochs=2, verbose=0)
    pruned = tfbnn.prune(model, 0.5)
    pruned.compile(keras.optimizers.Adam(1e-5), loss=NOISE)
    pruned.fit(X, np.repeat(Y, 4, axis=1), epochs=2, verbose=0)
    pull, _ = pruned.objective.last_steps.mean_pull()
    # Half of the mean would be missing otherwise.
    assert pull > 0.9


def test_weights_that_are_not_trained_are_not_warned_of():
    model = tfbnn.Sequential([keras.Input((FEATURES,)), tfbnn.layers.DenseFlipout(1)])
    model.layers[0].trainable = False
    model.add(keras.layers.Dense(1))
    model.compile(loss=NOISE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y, verbose=0)


def test_a_scaled_loss_makes_no_difference():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3), initial_scale=64.0)
    (pull, _), _ = pulls_of(2, scaled, initial_scale=1e-4)
    assert pull == pytest.approx(1.0, abs=0.02)


def test_a_model_that_its_first_batch_builds_is_watched_too():
    keras.utils.set_random_seed(0)
    model = tfbnn.Sequential([tfbnn.layers.DenseFlipout(1, kernel_posterior=SMALL)])
    model.compile(keras.optimizers.Adam(1e-3), loss=NOISE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, epochs=2, verbose=0)
    assert any("still grows" in str(one.message) for one in caught)
    # The line of the user.
    assert all(one.filename == __file__ for one in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        # Nothing is said of an earlier `fit`.
        model.fit(X, Y, epochs=1, initial_epoch=1, verbose=0)


@pytest.mark.parametrize("batch_size", [320, 160, 32])
def test_few_and_short_epochs_are_no_false_alarm(batch_size):
    """At the exact optimum of orthogonal rows."""
    rows = np.linalg.qr(RNG.normal(size=(320, FEATURES)))[0] * len(X) ** 0.5
    exact = (len(X) / 0.25 + 1) ** -0.5
    warned = 0
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        posterior = tfbnn.families.Normal(exact)
        layer = tfbnn.layers.DenseReparameterization(1, kernel_posterior=posterior, use_bias=False)
        model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
        layer.kernel.loc_variable.assign(np.linalg.lstsq(rows, Y, rcond=None)[0])
        model.compile(keras.optimizers.Adam(1e-9), loss=NOISE)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(rows, Y, batch_size=batch_size, epochs=15, verbose=0)
        warned += any("Sigma" in str(one.message) for one in caught)
    assert warned <= 1


def test_a_step_that_overflows_is_left_out():
    keras.utils.set_random_seed(0)
    layer = tfbnn.layers.DenseFlipout(1, kernel_posterior=SMALL)
    model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-3), initial_scale=2.0**127, dynamic_growth_steps=1
    )
    model.compile(optimizer, loss=NOISE)
    model.fit(X, Y, epochs=4, verbose=0)
    pull, error = model.objective.last_steps.mean_pull()
    assert np.isfinite(pull) and np.isfinite(error)


LABELS = (X[:, 0] > 0).astype("int32")


def classifier(bias=0.0, units=2):
    keras.utils.set_random_seed(0)
    layer = tfbnn.layers.DenseFlipout(units, kernel_posterior=SMALL, bias_posterior="point")
    model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
    model.compile(
        keras.optimizers.SGD(1e-9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model, layer.kernel.loc_variable


def messages_of(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [str(one.message) for one in caught if issubclass(one.category, ConvergenceWarning)]


def test_the_gain_is_what_the_inputs_say():
    """Logits of +-a: a row is worth `a` if half of the other rows are of its class."""
    model, loc = classifier()
    a, x = 1.5, np.sign(X)
    loc.assign(np.eye(FEATURES, 2) * 0 + np.outer(np.eye(FEATURES)[0], [-a / 2, a / 2]))
    said = messages_of(lambda: model.fit(x, LABELS, epochs=12, verbose=0))
    gain, error = model.objective.last_steps.gain()
    share = LABELS.mean()
    expected = 2 * share * (1 - share) * a
    assert gain == pytest.approx(expected, abs=4 * error) and error < 0.1
    assert not any("Nothing was learnt" in one for one in said)


def test_a_network_that_does_not_look_at_its_inputs_has_learnt_nothing():
    model, loc = classifier()
    loc.assign(np.zeros(loc.shape))
    said = messages_of(lambda: model.fit(X, LABELS, epochs=12, verbose=0))
    assert any("Nothing was learnt" in one for one in said)


def test_a_posterior_that_fell_back_to_its_prior_has_learnt_nothing():
    keras.utils.set_random_seed(0)
    layers = [tfbnn.layers.DenseFlipout(30, activation="relu"), tfbnn.layers.DenseFlipout(2)]
    model = tfbnn.Sequential([keras.Input((FEATURES,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, beta=200)
    said = messages_of(lambda: model.fit(X, LABELS, epochs=60, verbose=0))
    assert any("Nothing was learnt" in one for one in said)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_ratio_of_the_noise_is_that_of_the_errors(factor):
    """Errors of deviation .5 around known means, in three columns with a scale each or one."""
    keras.utils.set_random_seed(0)
    targets = np.repeat(X @ np.linalg.lstsq(X, Y, rcond=None)[0], 3, axis=1)
    targets += 0.5 * RNG.normal(size=targets.shape)
    for num_scales in (1, 3):
        layer = tfbnn.layers.DenseFlipout(3, kernel_posterior=SMALL, bias_posterior="point")
        model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
        loc = np.repeat(np.linalg.lstsq(X, Y, rcond=None)[0], 3, axis=1)
        layer.kernel.loc_variable.assign(loc)
        loss = tfbnn.losses.NormalNLL(initial_scale=0.5 * factor, num_scales=num_scales)
        model.compile(keras.optimizers.SGD(1e-9), loss=loss)
        said = messages_of(functools.partial(model.fit, X, targets, epochs=12, verbose=0))
        ratio, error = model.objective.last_steps.noise_ratio()
        assert ratio == pytest.approx(factor**-2, abs=4 * error + 0.1 * factor**-2)
        assert any("The noise has not trained" in one for one in said) == (factor != 1)


@pytest.mark.parametrize(
    ("ratio", "error", "off"),
    [
        (2.5, 0.2, True),
        (2.5, 0.3, False),
        (0.4, 0.04, True),
        (0.4, 0.06, False),
        (1.0, 0.0, False),
        (np.nan, np.nan, False),
    ],
)
def test_a_ratio_is_as_far_off_below_one_as_above(ratio, error, off):
    assert noise_is_off(ratio, error) is off


def test_without_enough_steps_nothing_is_known_nor_said():
    model, _ = classifier()
    said = messages_of(lambda: model.fit(X, LABELS, batch_size=64, epochs=1, verbose=0))
    assert np.isnan(model.objective.last_steps.gain()).all() and not said


def test_early_stopping_does_not_end_a_training_of_sigma_without_a_word():
    """The loss that it watches is that of the mean, which is best long before sigma has trained."""
    model, loc = classifier()
    loc.assign(np.outer(np.eye(FEATURES)[0], [-1, 1]))
    model.optimizer.learning_rate = 1e-3
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=1.0)
    rows = {"epochs": 50, "callbacks": [stop], "validation_data": (X[:50], LABELS[:50])}
    said = messages_of(lambda: model.fit(X, LABELS, verbose=0, **rows))
    assert stop.stopped_epoch and any("Sigma has not trained" in one for one in said)


def test_watching_takes_no_variable_from_the_model():
    """Keras resets what belongs to a metric; the noise is the model's."""
    model, _ = regression(tfbnn.losses.NormalNLL(initial_scale=0.3))
    model.fit(X, Y, epochs=2, verbose=0)
    before = model.likelihood.loss.constant_scale().numpy()
    assert len(model.objective.last_steps.variables) == 1
    model.optimizer.learning_rate = 0.0
    model.fit(X, Y, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.likelihood.loss.constant_scale().numpy(), before)


def regression(loss, columns=1, **options):
    keras.utils.set_random_seed(0)
    layer = tfbnn.layers.DenseFlipout(columns, kernel_posterior=SMALL, bias_posterior="point")
    model = tfbnn.Sequential([keras.Input((FEATURES,)), layer])
    exact = np.linalg.lstsq(X, Y, rcond=None)[0]
    layer.kernel.loc_variable.assign(np.repeat(exact, columns, axis=1))
    model.compile(keras.optimizers.SGD(1e-9), loss=loss, **options)
    return model, np.mean((X @ exact - Y) ** 2)


@pytest.mark.parametrize("weights", ["loss", "sample"])
def test_weights_do_not_change_the_ratio_of_the_noise(weights):
    loss = tfbnn.losses.NormalNLL(initial_scale=1.0)
    model, square = regression(loss, **({"loss_weights": [0.1]} if weights == "loss" else {}))
    rows = np.ones(len(X)) * 5.0 if weights == "sample" else None
    if weights == "sample":
        # Rows that do not count are no part of it.
        rows[::2] = 0.0
        square = np.mean((model.predict(X, verbose=0) - Y)[1::2] ** 2)
    model.fit(X, Y, sample_weight=rows, epochs=12, verbose=0)
    ratio, error = model.objective.last_steps.noise_ratio()
    assert ratio == pytest.approx(square, abs=4 * error)


def test_another_number_of_scales_is_watched_anew():
    model, _ = regression(tfbnn.losses.NormalNLL(num_scales=1), columns=2)
    targets = np.repeat(Y, 2, axis=1)
    model.fit(X, targets, epochs=2, verbose=0)
    model.compile(keras.optimizers.SGD(1e-9), loss=tfbnn.losses.NormalNLL(num_scales=2))
    model.fit(X, targets, epochs=2, verbose=0)
    assert np.isfinite(model.objective.last_steps.noise_ratio()).all()


def test_rows_in_the_order_of_their_classes_are_no_false_alarm():
    model, loc = classifier()
    loc.assign(np.outer(np.eye(FEATURES)[0], [-1, 1]))
    order = np.argsort(LABELS)
    # Half of each batch is of either class.
    order = np.reshape(np.reshape(order, [2, -1, 16]).swapaxes(0, 1), [-1])
    rows = {"shuffle": False, "epochs": 12, "verbose": 0}
    said = messages_of(lambda: model.fit(np.sign(X)[order], LABELS[order], **rows))
    assert not any("Nothing was learnt" in one for one in said)


def test_eleven_steps_are_enough():
    for batch_size, is_known in ((32, False), (29, True)):
        model, _ = classifier()
        model.fit(X, LABELS, batch_size=batch_size, verbose=0)
        assert np.isfinite(model.objective.last_steps.gain()).all() == is_known
