"""SWAG: moments of what was collected, of draws, of a known stationary law; statistics; errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.posterior.swag import SWAG, WeightMoments, collected_variables
from tfbnn.posterior.swag_callback import RunningMoments
from tfbnn.weights import noise

K = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SEED = noise.as_seed(5)
# A chance of 6e-5 for each of the few numbers that a test compares.
ERRORS = 4


def classifier(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers, K.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS)
    return model


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def fitted(model, epochs=6, callbacks=(), **options):
    swag = tfbnn.callbacks.SWAG(**options)
    y = np.arange(20) % 3
    model.fit(rows(20, 4), y, 5, epochs, verbose=0, callbacks=[swag, *callbacks], shuffle=False)
    return swag


class Recorded(keras.callbacks.Callback):
    """The variables after each epoch."""

    def __init__(self, collected):
        super().__init__()
        self.collected, self.values = collected, []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append([np.array(variable, np.float64) for variable in self.collected])


def by_numpy(values, rank):
    """Algorithm 1 of the paper, from all that was recorded."""
    series = np.stack(values)
    means = np.cumsum(series, axis=0) / np.arange(1, len(series) + 1).reshape(
        -1, *[1] * (series.ndim - 1)
    )
    deviations = (series - means)[len(series) - min(rank, len(series)) :]
    return series.mean(axis=0), series.var(axis=0), deviations


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, range(9)),
        ({"start": 4, "rank": 3}, range(4, 9)),
        ({"start": 1, "rank": 2, "every": 3}, (1, 4, 7)),
        ({"rank": 0}, range(9)),
    ],
)
def test_moments_of_what_training_passed_by(options, taken):
    model = classifier(K.Dense(5, "tanh"))
    recorded = Recorded(model.trainable_variables)
    swag = fitted(model, 9, [recorded], **options)
    assert swag.num_collected == len(taken)
    found = swag.moments()
    for index in range(len(model.trainable_variables)):
        series = [recorded.values[epoch][index] for epoch in taken]
        wanted = by_numpy(series, options.get("rank", 20))
        for one, other in zip((part[index] for part in found), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_small_variances_keep_their_digits():
    running, values = RunningMoments(0), 1e3 + 1e-4 * np.random.default_rng(0).normal(size=(50, 3))
    for value in values:
        running.add([value])
    np.testing.assert_allclose(running.moments().variance[0], values.var(axis=0), rtol=1e-6)


def test_the_model_stays_as_it_was_trained():
    model, twin = classifier(K.Dense(5)), classifier(K.Dense(5))
    twin.set_weights(model.get_weights())
    posterior = fitted(model).posterior()
    twin.fit(rows(20, 4), np.arange(20) % 3, 5, 6, verbose=0, shuffle=False)
    tfbnn.predict(posterior, rows(2, 4), verbose=0)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.allclose(model.get_weights()[0], posterior.mean()[0])


@pytest.mark.parametrize("rank", [0, 2, 5])
def test_moments_of_draws(rank):
    model, rng = classifier(), np.random.default_rng(1)
    shapes = [tuple(variable.shape) for variable in model.variables]
    mean, variance, deviations = (
        [rng.normal(size=(*front, *shape)) for shape in shapes] for front in ((), (), (rank,))
    )
    variance = [np.square(one) for one in variance]
    posterior = SWAG(model, WeightMoments(mean, variance, deviations))
    flat, deviations = (
        np.concatenate([np.reshape(o, (len(o), -1)) for o in part], axis=1)
        if len(part[0])
        else np.zeros((0, sum(map(np.prod, shapes))))
        for part in (posterior.draws(SEED, 0, 4000), deviations)
    )
    mean, variance = (np.concatenate([one.ravel() for one in part]) for part in (mean, variance))
    share = 0.5 if rank else 1.0
    wanted = np.diag(share * variance) + deviations.T @ deviations / (2 * max(rank - 1, 1))
    standard = np.sqrt(np.diag(wanted))
    assert (np.abs(flat.mean(axis=0) - mean) < ERRORS * standard / np.sqrt(len(flat))).all()
    # The variance of a product of two normals is that of Isserlis 1918.
    error = np.sqrt((np.square(wanted) + np.outer(standard, standard) ** 2) / len(flat))
    assert (np.abs(np.cov(flat.T) - wanted) < (ERRORS + 0.5) * error).all()


# Linear regression: the law of what stochastic gradient descent passes by is known.

SCALE, PRIOR, RATE, BATCH = 0.5, 1.0, 0.04, 4


def stationary(x, y):
    """The posterior mean, and the covariance of SGD about it, on batches of independent rows.

        S = E[(I - r H) S (I - r H)] + r^2 E[g g^T]

    with the Hessian `H` and the gradient `g` at the mean, of a batch.
    """
    size, decay = x.shape[1], np.eye(x.shape[1]) / (PRIOR**2 * len(x))
    precision = len(x) * (x.T @ x / len(x) / SCALE**2 + decay)
    mean = np.linalg.solve(precision, x.T @ y / SCALE**2)
    hessians = np.einsum("ni,nj->nij", x, x) / SCALE**2
    gradients = x * (x @ mean - y)[:, None] / SCALE**2 + decay @ mean
    products = np.mean([np.kron(one, one) for one in hessians], axis=0)
    average = hessians.mean(axis=0)
    spread = (products - np.kron(average, average)) / BATCH
    step = np.eye(size) - RATE * (average + decay)
    noise_of_gradients = RATE**2 * gradients.T @ gradients / len(x) / BATCH
    operator = np.eye(size**2) - np.kron(step, step) - RATE**2 * spread
    return mean, np.linalg.solve(operator, noise_of_gradients.ravel()).reshape(size, size)


def test_linear_regression():
    rng, start, epochs, steps = np.random.default_rng(0), 10, 90, 30
    x = rng.normal(size=(50, 3))
    y = x @ [1.0, -2.0, 0.5] + SCALE * rng.normal(size=50)
    mean, covariance = stationary(x, y)
    decay = keras.regularizers.L2(1 / (2 * PRIOR**2 * len(x)))
    layer = K.Dense(1, use_bias=False, kernel_regularizer=decay)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(RATE), loss=tfbnn.losses.NormalNLL(scale=SCALE))
    swag = tfbnn.callbacks.SWAG(start)
    # The closed form is of rows that are drawn anew for each batch.
    rows_drawn = rng.integers(len(x), size=epochs * steps * BATCH)
    data = tf.data.Dataset.from_tensor_slices((x[rows_drawn], y[rows_drawn, None])).batch(BATCH)
    model.fit(data.repeat(), epochs=epochs, steps_per_epoch=steps, callbacks=[swag], verbose=0)
    (found,), (variance,), _ = swag.moments()
    # After so many steps what is collected is independent.
    slowest = 1 - RATE * np.linalg.eigvalsh(x.T @ x / len(x) / SCALE**2).min()
    assert slowest**steps < 0.05
    count, expected = epochs - start, np.diag(covariance)
    assert (np.abs(found[:, 0] - mean) < ERRORS * np.sqrt(expected / count)).all()
    assert (np.abs(variance[:, 0] - expected) < ERRORS * expected * np.sqrt(2 / count)).all()


# Moving statistics.


def normalized():
    return classifier(K.Dense(6), K.BatchNormalization(momentum=0.8), K.ReLU())


def test_statistics_are_collected_and_drawn():
    model = normalized()
    posterior = fitted(model, 9).posterior()
    normalization = model.layers[1]
    names = [variable.path for variable in posterior.variables]
    assert set(names) == {variable.path for variable in model.variables}
    place = names.index(normalization.moving_variance.path)
    variances = posterior.draws(SEED, 0, 200)[place].numpy()
    assert (variances >= 0).all() and (variances.std(axis=0) > 0).all()
    logarithms = np.log(variances + normalization.epsilon)
    error = logarithms.std(axis=0) / np.sqrt(len(variances))
    mean = posterior.moments.mean[place]
    assert (np.abs(logarithms.mean(axis=0) - mean) < ERRORS * error).all()


def test_statistics_go_with_the_weights_they_belong_to():
    # Two networks of opposite biases, and the statistics that these bring.
    model = normalized()
    dense, normalization, *_ = model.layers
    x, running = rows(50, 4), RunningMoments(2)
    collected = collected_variables(model)
    for value in (-1.0, 1.0, -1.0, 1.0):
        dense.bias.assign(np.full(6, value))
        normalization.moving_mean.assign(np.mean(dense(x), axis=0))
        running.add([one.coordinates() for one in collected])
    mean, variance, deviations = running.moments()
    posterior = SWAG(model, WeightMoments(mean, [0 * one for one in variance], deviations))
    draws = dict(
        zip([v.path for v in posterior.variables], posterior.draws(SEED, 0, 5), strict=True)
    )
    means = x.mean(axis=0) @ dense.kernel.numpy() + draws[dense.bias.path]
    assert np.ptp(means[:, 0]) > 0.1
    np.testing.assert_allclose(draws[normalization.moving_mean.path], means, atol=1e-5)


def test_what_is_frozen_stays():
    model = normalized()
    model.layers[0].trainable = model.layers[1].trainable = False
    posterior = fitted(model).posterior()
    assert len(posterior.variables) == 2
    assert all(v is w for v, w in zip(posterior.variables, model.trainable_variables, strict=True))


# Uses.


def test_the_mean_as_a_model():
    model = normalized()
    posterior, x = fitted(model).posterior(), rows(7, 4)
    np.testing.assert_allclose(posterior.as_model()(x), posterior.network(posterior.mean(), x))
    assert not np.allclose(model(x), posterior.as_model()(x))


def test_files_hold_the_moments(tmp_path):
    posterior, x = fitted(normalized(), rank=3).posterior(), rows(7, 4)
    posterior.save(tmp_path / "swag")
    loaded = tfbnn.load_posterior(tmp_path / "swag")
    for part, other in zip(posterior.moments, loaded.moments, strict=True):
        for one, two in zip(part, other, strict=True):
            np.testing.assert_array_equal(one, two)
    one, two = (tfbnn.predict(p, x, 8, seed=1, verbose=0) for p in (posterior, loaded))
    np.testing.assert_allclose(one.prediction, two.prediction, atol=1e-6)


def test_several_are_one_ensemble():
    members, x = [fitted(classifier(K.Dense(5)), rank=2).posterior() for _ in range(2)], rows(7, 4)
    found = tfbnn.predict(tfbnn.posteriors.Ensemble(members), x, 8, seed=1, verbose=0)
    assert found.num_samples == 8 and (found.mutual_information > 0).all()


def test_a_second_fit_collects_anew():
    model, swag = classifier(), tfbnn.callbacks.SWAG(start=2)
    for epochs in (5, 4):
        model.fit(rows(20, 4), np.arange(20) % 3, epochs=epochs, callbacks=[swag], verbose=0)
        assert swag.num_collected == epochs - 2


# A diagonal covariance of dense layers is a law of each weight.


def test_a_diagonal_has_laws():
    posterior, x = fitted(classifier(K.Dense(5, "relu")), rank=0).posterior(), rows(7, 4)
    random = posterior.with_laws()
    for law, mean, variance in zip(
        random.laws().values(), posterior.moments.mean, posterior.moments.variance, strict=True
    ):
        np.testing.assert_allclose(law.loc, mean, rtol=1e-6)
        np.testing.assert_allclose(law.scale, np.sqrt(variance), rtol=1e-4, atol=1e-9)
    one, two = (tfbnn.predict(p, x, 8, seed=1, verbose=0) for p in (posterior, random))
    np.testing.assert_allclose(one.prediction, two.prediction, atol=1e-5)
    pruned = tfbnn.prune(posterior, sparsity=0.5)
    assert pruned.predict(x, verbose=0).shape == (7, 3)


@pytest.mark.parametrize(
    ("layers", "rank"), [((), 2), ((K.BatchNormalization(),), 0), ((K.PReLU(),), 0)]
)
def test_others_have_none(layers, rank):
    posterior = fitted(classifier(*layers), rank=rank).posterior()
    assert posterior.with_laws() is None
    with pytest.raises(TypeError, match="needs the mean and the standard deviation"):
        tfbnn.prune(posterior, sparsity=0.5)


def test_temperatures_go_into_the_laws():
    posterior = fitted(classifier(), rank=0).posterior()
    posterior.likelihoods[0].temperature = 2.0
    assert posterior.with_laws().likelihoods[0].temperature == 2.0


# Errors.


@pytest.mark.parametrize("options", [{"start": 5}, {"start": 9}, {"every": 6}])
def test_too_few_epochs(options):
    with pytest.raises(ValueError, match="needs 2 networks.*more epochs.*Received: [01] collected"):
        fitted(classifier(), **options).posterior()


def test_before_fit():
    with pytest.raises(ValueError, match="give `fit` this callback.*Received: 0 collected"):
        tfbnn.callbacks.SWAG().posterior()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "`start` must be .*Received: start=-1"),
        ({"start": 2.5}, "`start` must be .*Received: start=2.5"),
        ({"rank": 1}, "`rank` must be 0, for a diagonal covariance, or at least 2.*rank=1"),
        ({"rank": -2}, "`rank` must be .*Received: rank=-2"),
        ({"every": 0}, "`every` must be .*Received: every=0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        tfbnn.callbacks.SWAG(**options)


@pytest.mark.parametrize("built", [True, False])
def test_random_weights_are_refused(built):
    front = [keras.Input((4,))] if built else []
    model = tfbnn.Sequential([*front, tfbnn.layers.Dense(3)])
    model.compile("sgd", loss=LOSS)
    with pytest.raises(TypeError, match="random already.*SWAG is for a plain Keras model"):
        fitted(model)


def test_a_loss_that_is_no_likelihood():
    model = keras.Sequential([keras.Input((4,)), K.Dense(1)])
    model.compile("sgd", "mse")
    swag = fitted(model)
    with pytest.raises(ValueError, match="likelihood"):
        swag.posterior()
    # Afterwards is early enough.
    model.compile("sgd", tfbnn.losses.NormalNLL(scale=0.5))
    assert swag.posterior().rank == 6


def test_moments_that_do_not_fit():
    moments = fitted(classifier()).moments()
    with pytest.raises(ValueError, match="other variables than the model has"):
        SWAG(normalized(), moments)
    with pytest.raises(TypeError, match="moments of a SWAG callback"):
        SWAG(classifier(), [1.0])
    with pytest.raises(ValueError, match="divides by `rank - 1`.*one deviation"):
        one = [deviations[:1] for deviations in moments.deviations]
        SWAG(classifier(), moments._replace(deviations=one))
    with pytest.raises(ValueError, match="has no weights yet"):
        unbuilt = keras.Sequential([K.Dense(3)])
        unbuilt.compile(loss=LOSS)
        SWAG(unbuilt, moments)
