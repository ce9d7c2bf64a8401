"""The unit of the noise: what the first `fit` takes it from, and what it warns of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tfbnn.scores import number_scores
from tfbnn.training.target_units import TargetMoments, TargetsFarOffWarning

NLL = tfbnn.losses.NormalNLL
RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 3)).astype("float32")
Y = RNG.normal([0.0, 1.0], [0.5, 4.0], size=(100, 2)).astype("float32")
FEW = {"epochs": 1, "verbose": 0}


def make_model(loss=None, units=2):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(units)])
    model.compile("adam", loss=loss or NLL())
    return model


def unit_after(*data, **options):
    model = make_model()
    model.fit(*data, **{**FEW, **options})
    return model.likelihood.loss.unit().numpy()


def test_moments_in_parts_are_those_of_the_whole():
    y, weights = RNG.normal(1e4, 2.0, size=(90, 2)), RNG.integers(0, 3, size=(90, 2)) * 1.0
    moments = TargetMoments()
    for rows in np.split(np.arange(90), 6):
        moments.add(y[rows], weights[rows])
    mean = np.average(y, axis=0, weights=weights)
    np.testing.assert_allclose(moments.mean, mean)
    variance = np.average((y - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(moments.deviation, np.sqrt(variance))


def batches(count):
    for number in range(count):
        rows = np.arange(20) + 20 * (number % 5)
        yield X[rows], Y[rows]


class Batches(keras.utils.PyDataset):
    num_batches = 5

    def __getitem__(self, number):
        return X[20 * number : 20 * number + 20], Y[20 * number : 20 * number + 20]


def test_of_arrays_and_data_sets_it_is_exact():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    for found in (unit_after(X, Y), unit_after(dataset), unit_after(X, Y, validation_split=0.0)):
        np.testing.assert_allclose(found, Y.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        unit_after(X, Y, validation_split=0.5), Y[:50].std(axis=0), rtol=1e-5
    )


def test_of_anything_else_it_is_that_of_the_first_batches(capsys):
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    options = {"num_examples": 100, "steps_per_epoch": 3, "verbose": 2}
    found = unit_after(dataset.repeat(), **options)
    np.testing.assert_allclose(found, Y.std(axis=0), rtol=0.2)
    assert "batches for the unit of the noise" in capsys.readouterr().out
    first = Y[:20].std(axis=0)
    np.testing.assert_allclose(unit_after(Batches(), num_examples=100), first, rtol=1e-5)
    model = make_model()
    # The batch that was looked at is trained on: there are three.
    model.fit(batches(3), num_examples=100, steps_per_epoch=3, verbose=0)
    np.testing.assert_allclose(model.likelihood.loss.unit(), first, rtol=1e-5)
    assert model.optimizer.iterations == 3


def test_rows_that_do_not_count_do_not():
    weight = np.repeat([1.0, 0.0], 50).astype("float32")
    found = unit_after(X, Y, sample_weight=weight)
    np.testing.assert_allclose(found, Y[:50].std(axis=0), rtol=1e-5)


def test_targets_that_do_not_vary_have_the_unit_1():
    np.testing.assert_array_equal(unit_after(X, np.full([100, 2], 0.3)), [1.0, 1.0])


def test_later_fits_and_single_steps_leave_it_as_it_is():
    model = make_model()
    model.fit(X, Y, **FEW)
    before = model.likelihood.loss.unit().numpy()
    model.fit(X, 3 * Y, **FEW)
    np.testing.assert_array_equal(model.likelihood.loss.unit(), before)
    model = make_model()
    model.num_examples = 100
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.likelihood.loss.unit(), [1.0, 1.0])
    model.fit(X, Y, **FEW)
    np.testing.assert_array_equal(model.likelihood.loss.unit(), [1.0, 1.0])


def test_outputs_of_their_own_and_targets_by_name():
    inputs = keras.Input((3,))
    named = {name: tfbnn.layers.DenseFlipout(1, name=name)(inputs) for name in ("b", "a")}
    model = tfbnn.Model(inputs, named)
    model.compile("adam", loss={"a": NLL(), "b": NLL(0.5)})
    model.fit(X, {"b": Y[:, :1], "a": Y[:, 1]}, **FEW)
    loss = next(one.loss for one in model.likelihoods if one.loss.has_unit)
    assert float(loss.unit()) == pytest.approx(Y[:, 1].std(), rel=1e-5)


def test_the_noise_starts_at_the_unit_and_steps_are_in_it():
    # The same numbers in another unit give the same training, but for the KL, which is left out.
    scales = []
    for factor in (1.0, 8.0):
        inputs = keras.Input((3,))
        output = keras.layers.Rescaling(factor)(tfbnn.layers.DenseFlipout(2, seed=1)(inputs))
        keras.utils.set_random_seed(0)
        model = tfbnn.Model(inputs, output)
        model.layers[1].kernel.loc_variable.assign(np.full([3, 2], 0.3))
        model.compile(keras.optimizers.Adam(0.01), loss=NLL(), beta=0.0)
        model.fit(X, factor * Y / 2, epochs=3, shuffle=False, verbose=0)
        scales.append(model.likelihood.loss.constant_scale().numpy() / factor)
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-4)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("y", [Y + 9, Y * 40, Y * 0.01], ids=["mean", "large", "small"])
def test_targets_that_are_far_off_are_warned_of_once(y, built):
    layers = [tfbnn.layers.DenseFlipout(2, kernel_initializer="ones")]
    model = tfbnn.Sequential([keras.Input((3,)), *layers] if built else layers)
    model.compile("adam", loss=NLL())
    with pytest.warns(TargetsFarOffWarning, match="Standardise the targets, or end the network"):
        model.fit(X, y, **FEW)
    model.fit(X, y, **FEW)


# 1000 rows with a known noise, in three units.
UNITS, MEANS = np.array([50.0, 1000.0, 1e-3]), np.array([100.0, -4e3, 0.02])
NOISE = np.array([0.3, 0.5, 0.2]) * UNITS


def raw_data(rows, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    signal = np.stack([np.sin(x[:, 0]), np.tanh(x[:, 1]), x[:, 2]], axis=1)
    y = MEANS + UNITS * signal + NOISE * rng.normal(size=signal.shape)
    return x.astype("float32"), y.astype("float32")


@pytest.mark.parametrize("scale", ["learned", "head"])
def test_intervals_of_raw_targets_cover_what_they_say(scale):
    x, y = raw_data(1000, 0)
    mean, variance = y.mean(axis=0), y.var(axis=0)
    if scale == "head":
        mean, variance = np.append(mean, [0, 0, 0]), np.append(variance, [1, 1, 1])
    keras.utils.set_random_seed(0)
    model = tfbnn.Sequential(
        [
            keras.Input((3,)),
            tfbnn.layers.DenseFlipout(32, activation="tanh"),
            tfbnn.layers.DenseFlipout(len(mean)),
            keras.layers.Normalization(mean=mean, variance=variance, invert=True),
        ]
    )
    model.compile(loss=NLL(scale), recipe="calibrated")
    # A warning of the targets would be an error.
    model.fit(x, y, batch_size=50, epochs=60, verbose=0)
    x, y = raw_data(3000, 1)
    answer = tfbnn.predict(model, x, 50, seed=0, keep_samples=True)
    np.testing.assert_allclose(np.sqrt((answer.aleatoric**2).mean(axis=0)), NOISE, rtol=0.12)
    for mass in (0.5, 0.9, 0.95):
        lower, upper = answer.credible_interval(mass)
        for target in range(3):
            ends = lower[:, target], upper[:, target]
            covered = number_scores.interval_coverage(*ends, y[:, target])
            assert covered == pytest.approx(mass, abs=0.04)
