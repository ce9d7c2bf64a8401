"""Two replicas in one process: the same update, independent noise, exact metrics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.export import flat
from tests.quiet import QUIET
from tfbnn.layers import scopes
from tfbnn.training import strategies
from tfbnn.weights import noise
from tfbnn.weights.tracing import LARGE

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype("float32")
Y = RNG.integers(0, 2, 23)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ESTIMATORS = ["Reparameterization", "LocalReparameterization", "Flipout"]


@pytest.fixture
def no_noise(monkeypatch):
    monkeypatch.setattr(noise, "standard_normal", lambda shape, seed: tf.zeros(shape))


def _model(estimator="Reparameterization", rate=0.1, **options):
    layer = getattr(tfbnn.layers, f"Dense{estimator}")
    # Both kinds of bias.
    random = {**QUIET, "bias_posterior": "normal"}
    keras.utils.set_random_seed(1)
    model = tfbnn.Sequential(
        [
            keras.Input((3,)),
            layer(8, activation="relu", seed=1, **random),
            keras.layers.BatchNormalization(synchronized=True),
            layer(2, seed=2, **QUIET),
        ]
    )
    model.compile(keras.optimizers.SGD(rate), loss=LOSS, metrics=["accuracy"], **options)
    return model


def _both(strategy, **options):
    with strategy.scope():
        several = _model(**options)
    return several, _model(**options)


def _assert_same_weights(one, other):
    for weight, expected in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_noise_it_is_the_update_of_one_device(mirrored, no_noise, estimator):
    several, one = _both(mirrored, estimator=estimator)
    # 23 rows in batches of 7: replicas get 4 and 3, and in the last batch 1 each. In batches of 11
    # the last one has a single row, and one replica none.
    for batch_size in (7, 11):
        histories = []
        for model in (several, one):
            options = {"batch_size": batch_size, "epochs": 2, "shuffle": False, "verbose": 0}
            histories.append(model.fit(X, Y, **options).history)
        _assert_same_weights(several, one)
        assert several.num_examples == 23
        # The KL is many times the likelihood here: counted once too often it could not be missed.
        assert histories[1]["weighted_kl"][0] > 3
        for name, values in histories[1].items():
            np.testing.assert_allclose(histories[0][name], values, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("weight_decay", [None, 0.01])
def test_adam_by_the_kernel_and_by_keras_are_those_of_one_device(mirrored, no_noise, weight_decay):
    models = []
    for strategy in (mirrored, tf.distribute.get_strategy()):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            layers = [tfbnn.layers.DenseFlipout(9000), tfbnn.layers.DenseFlipout(2)]
            model = tfbnn.Sequential([keras.Input((3,)), *layers])
            model.compile(keras.optimizers.Adam(0.01, weight_decay=weight_decay), loss=LOSS)
        assert model.count_params() > LARGE
        model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        models.append(model)
    several, one = models
    assert int(tf.convert_to_tensor(several.optimizer.iterations.value)) == 8
    for weight, expected in zip(several.get_weights(), one.get_weights(), strict=True):
        # Adam divides by the root of the second moment: where that is small, rounding shows.
        np.testing.assert_allclose(weight, expected, atol=2e-3)
        assert np.mean(np.abs(weight - expected)) < 1e-5
    for variable in several.trainable_variables:
        first, second = mirrored.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)


def test_an_uneven_data_set_and_its_evaluation(mirrored, no_noise):
    several, one = _both(mirrored)
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    for model in (several, one):
        model.fit(batches, epochs=2, verbose=0)
        assert model.num_examples == 23
    _assert_same_weights(several, one)
    found, expected = (m.evaluate(batches, return_dict=True, verbose=0) for m in (several, one))
    assert found == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        several.predict(X, batch_size=5, verbose=0), one.predict(X, verbose=0), rtol=1e-4
    )


def _gradients(strategy, model, x, y, count):
    """`count` gradients of the loss by the first kernel's means, at the same weights."""
    variable = next(v for v in model.trainable_variables if v.path.endswith("kernel_loc"))

    def one_replica(data):
        with tf.GradientTape() as tape:
            with scopes.collect_draws():
                outputs = model(data[0], training=True)
                loss = model.compute_loss(*data, outputs)
        gradient = tape.gradient(loss, variable.value)
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, gradient), gradient

    # All steps in one graph: to start so small a step takes longer than the step.
    @tf.function(autograph=False)
    def steps(data):
        def step(i, totals, shares):
            total, share = strategy.run(one_replica, (data,))
            total = strategy.experimental_local_results(total)[0]
            share = tf.stack(strategy.experimental_local_results(share))
            return i + 1, totals.write(i, total), shares.write(i, share)

        arrays = [tf.TensorArray(variable.dtype, count) for _ in range(2)]
        _, totals, shares = tf.while_loop(lambda i, *_: i < count, step, [0, *arrays])
        return totals.stack(), shares.stack()

    batches = tf.data.Dataset.from_tensors((x, y))
    batches = iter(strategy.experimental_distribute_dataset(batches))
    totals, shares = steps(next(batches))
    return totals.numpy(), shares.numpy()


def _large_scales(strategy, estimator):
    with strategy.scope():
        layer = getattr(tfbnn.layers, f"Dense{estimator}")
        model = tfbnn.Sequential(
            [
                keras.Input((3,)),
                layer(2, seed=1, kernel_posterior=tfbnn.families.Normal(initial_scale=0.5)),
            ],
            num_examples=10,
        )
        model.compile("sgd", loss=LOSS)
    model.layers[0].kernel.loc_variable.assign(np.array([[1, -1], [0.5, 0.2], [-0.3, 0.4]]))
    return model


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_expected_gradient_is_that_of_one_device_and_noise_is_independent(mirrored, estimator):
    count = 1500
    # Both replicas see the same rows, so that all variance comes from the noise.
    x, y = np.tile(X[:4], (2, 1)), np.tile(Y[:4], 2)
    one = _gradients(
        tf.distribute.get_strategy(),
        _large_scales(tf.distribute.get_strategy(), estimator),
        x,
        y,
        count,
    )[0]
    several, shares = _gradients(mirrored, _large_scales(mirrored, estimator), x, y, count)
    error = np.sqrt((one.var(0) + several.var(0)) / count)
    assert np.all(np.abs(one.mean(0) - several.mean(0)) < 5 * error)
    first, second = ((s - s.mean(0)).ravel() for s in (shares[:, 0], shares[:, 1]))
    correlation = np.mean(first * second) / (first.std() * second.std())
    assert abs(correlation) < 5 / np.sqrt(count)
    if estimator == "Reparameterization":
        # One draw for a whole batch against one for each replica: half the variance.
        ratio = several.var(0).sum() / one.var(0).sum()
        assert ratio == pytest.approx(0.5, abs=0.1)


def test_afterwards_the_model_is_like_any_other(mirrored, tmp_path):
    with mirrored.scope():
        model = _model("Flipout")
    model.fit(X, Y, batch_size=8, verbose=0)
    prediction, uncertainty = tfbnn.predict(model, X, num_samples=3, seed=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras")
    for again in (loaded, tfbnn.prune(model, sparsity=0.0)):
        others = tfbnn.predict(again, X, num_samples=3, seed=1, verbose=0)
        for found, expected in zip(others, (prediction, uncertainty), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    pruned = tfbnn.prune(model, sparsity=0.5)
    assert np.count_nonzero(pruned.layers[0].kernel.loc) < 24
    flat.tflite(model, tmp_path / "model.tflite", check_data=X, num_samples=2)
    probabilities, _ = tfbnn.lite.Model(tmp_path / "model.tflite").predict(X)
    assert probabilities.shape == (23, 2)


def test_the_noise_of_a_regression_is_that_of_one_device(mirrored, no_noise):
    y = (X[:, :2] * [1.0, 3.0]).astype("float32")
    scales = []
    for strategy in (mirrored, tf.distribute.get_strategy()):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseReparameterization(2)])
            model.compile(keras.optimizers.SGD(0.0), tfbnn.losses.NormalNLL(), beta=0.1)
        options = {"batch_size": 10, "verbose": 0}
        model.fit(X, y, **options)
        loss = model.likelihood.loss
        np.testing.assert_allclose(loss.unit(), y.std(axis=0), rtol=1e-5)
        model.fit(X, y, validation_data=(X, y), **options)
        scales.append(loss.constant_scale().numpy())
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-4)
    assert not np.isclose(scales[0], y.std(axis=0)).any()


def test_a_batch_smaller_than_the_replicas_is_refused(mirrored):
    with mirrored.scope():
        model = _model()
    with pytest.raises(ValueError, match="batches of 1 for 2 replicas"):
        model.fit(X, Y, batch_size=1, verbose=0)
    with pytest.raises(ValueError, match="batches of 1 for 2 replicas"):
        model.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(1), verbose=0)


@pytest.mark.xfail(strict=True, reason="Keras averages an uneven first batch over the replicas")
def test_keras_takes_an_uneven_first_batch(mirrored):
    with mirrored.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", loss=LOSS)
    model.fit(X[:7], Y[:7], batch_size=7, verbose=0)


@pytest.mark.gpu
def test_on_gpus_it_is_the_update_of_one_device(no_noise):
    if len(tf.config.list_physical_devices("GPU")) < 2:
        pytest.skip("TensorFlow sees a single GPU")
    several, one = _both(strategies.get("mirrored"))
    for model in (several, one):
        model.fit(X, Y, batch_size=7, epochs=2, shuffle=False, verbose=0)
    _assert_same_weights(several, one)
