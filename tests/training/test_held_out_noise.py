"""Under beta below 1 a learned noise is that of held-out rows."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, stats

import tfbnn
from tests.quiet import QUIET
from tfbnn.training import held_out_noise
from tfbnn.training.convergence import ConvergenceWarning
from tfbnn.weights import noise

NLL = tfbnn.losses.NormalNLL
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype("float32")
Y = (X[:, :2] + RNG.normal(size=(60, 2)) * [0.5, 1.0]).astype("float32")
HELD_OUT = X[40:], Y[40:]


def make_model(loss=None, beta=0.1, **options):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2, **QUIET)])
    model.compile(keras.optimizers.Adam(0.05), loss=loss or NLL(), beta=beta, **options)
    return model


def fit(model, validation=HELD_OUT, **options):
    return model.fit(X[:40], Y[:40], **{"verbose": 0, "validation_data": validation, **options})


def scale_of(model):
    return model.likelihood.loss.constant_scale().numpy()


def brute_force(model, x, y, weights=None):
    """The best scale of each target, by networks drawn and scored one at a time."""
    (kernel,) = (layer.kernel for layer in model.layers)
    bias = model.layers[0].bias.loc.numpy()
    locs = []
    for seed in noise.split(noise.as_seed(0), 32):
        sampled = kernel.sample(noise.split(seed, 1)[0]).numpy()
        locs.append(x @ sampled + bias)

    def nll(log_scale, target):
        density = stats.norm.pdf(y[:, target], np.array(locs)[..., target], np.exp(log_scale))
        return -np.average(np.log(density.mean(axis=0)), weights=weights)

    bounds = {"bounds": (-3, 3), "method": "bounded"}
    return [np.exp(optimize.minimize_scalar(nll, args=(t,), **bounds).x) for t in range(2)]


def test_the_best_scale_is_that_of_a_search():
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(32, 50, 3)) * [0.1, 1.0, 3.0] + rng.normal(size=(50, 3)) * 2
    counts = rng.integers(0, 3, size=(50, 3)) * 1.0
    for target, found in enumerate(held_out_noise.best_scale(errors**2, counts)):

        def nll(log_scale, target=target):
            density = stats.norm.pdf(errors[..., target], scale=np.exp(log_scale)).mean(axis=0)
            return -np.sum(counts[:, target] * np.log(density))

        best = optimize.minimize_scalar(nll, bounds=(-5, 5), method="bounded")
        assert found == pytest.approx(np.exp(best.x), rel=1e-3)


def test_errors_of_zero_and_one_row():
    assert held_out_noise.best_scale(np.zeros([32, 5, 1]), np.ones([5, 1])) >= 0
    assert held_out_noise.best_scale(np.full([2, 1, 1], 9.0), np.ones([1, 1])) == pytest.approx(3)


def test_a_fit_ends_at_the_maximum_and_says_so(capsys):
    model = make_model()
    fit(model, verbose=2, epochs=3)
    np.testing.assert_allclose(scale_of(model), brute_force(model, *HELD_OUT), rtol=2e-3)
    lines = capsys.readouterr().out.splitlines()
    assert "will be refit on the held-out rows" in lines[0]
    assert lines[-1].startswith("noise refit on held-out rows: ") and " -> " in lines[-1]


@pytest.mark.parametrize("kind", ["split", "dataset", "sequence", "steps", "weights"])
def test_whatever_the_held_out_rows_come_as(kind):
    x, y = HELD_OUT
    weights, model = None, make_model()
    if kind == "split":
        model.fit(X, Y, validation_split=1 / 3, verbose=0)
    elif kind == "weights":
        weights = np.arange(20) % 3
        fit(model, (x, y, weights.astype("float32")))
    elif kind == "sequence":
        fit(model, _Batches())
    else:
        dataset = tf.data.Dataset.from_tensor_slices(HELD_OUT).batch(10)
        endless = kind == "steps"
        steps = {"validation_steps": 2} if endless else {}
        fit(model, dataset.repeat() if endless else dataset, **steps)
    np.testing.assert_allclose(scale_of(model), brute_force(model, x, y, weights), rtol=2e-3)


class _Batches(keras.utils.PyDataset):
    num_batches = 2

    def __getitem__(self, number):
        return tuple(one[10 * number : 10 * number + 10] for one in HELD_OUT)


def test_one_scale_for_all_targets_is_that_of_all():
    model = make_model(NLL(num_scales=1))
    fit(model)
    low, high = sorted(brute_force(model, *HELD_OUT))
    assert scale_of(model).shape == () and low < scale_of(model) < high


@pytest.mark.parametrize("change", ["beta", "frozen", "fixed", "head", "no rows"])
def test_the_noise_is_not_refit_where_it_should_not_be(change, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(NLL, "assign_scale", lambda *a: found.append(a))
    model = make_model(NLL(0.5) if change == "fixed" else None, 1.0 if change == "beta" else 0.1)
    if change == "frozen":
        model.likelihood.loss.rho_variable.trainable = False
    if change == "head":
        model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(4, **QUIET)])
        model.compile(loss=NLL("head"), beta=0.1)
    fit(model, None if change == "no rows" else HELD_OUT, verbose=2)
    assert not found
    line = capsys.readouterr().out.splitlines()[0]
    of_the_training_rows = {"no rows": "learned noise", "head": "noise that the network predicts"}
    for case, name in of_the_training_rows.items():
        assert (f"the {name} is that of the training rows" in line) == (change == case)


def test_several_outputs():
    inputs = keras.Input((3,))
    heads = [tfbnn.layers.DenseFlipout(1, name=name, **QUIET)(inputs) for name in ("a", "b", "c")]
    model = tfbnn.Model(inputs, heads)
    model.compile(keras.optimizers.SGD(0.0), loss=[NLL(), NLL(0.5), NLL()], beta=0.1)
    y, held_out = ([part[:, :1], part[:, 1:], part[:, 1:]] for part in (Y[:40], Y[40:]))
    model.fit(X[:40], y, validation_data=(X[40:], held_out), verbose=0)
    for number in (0, 2):
        error = model.predict(X[40:], verbose=0)[number] - held_out[number]
        scale = float(model.likelihoods[number].loss.constant_scale())
        # Weights are hardly random at their start.
        assert scale == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.02)


def test_steps_that_a_mask_leaves_out_do_not_count():
    x = RNG.normal(size=(30, 4, 2)).astype("float32")
    x[:, 2:] = 0.0
    y = RNG.normal(size=(30, 4, 1)).astype("float32")
    far = y.copy()
    far[:, 2:] = 1e3
    scales = []
    for held_out in (y, far):
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Masking(),
            keras.layers.TimeDistributed(tfbnn.layers.DenseFlipout(1, **QUIET)),
        ]
        model = tfbnn.Sequential([keras.Input((4, 2)), *layers])
        model.compile(loss=NLL(), beta=0.1)
        model.fit(x, y, validation_data=(x, held_out), verbose=0)
        scales.append(scale_of(model))
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-5)


def test_a_failure_leaves_all_as_it_was(monkeypatch):
    inputs = keras.Input((3,))
    model = tfbnn.Model(inputs, [tfbnn.layers.DenseFlipout(1, **QUIET)(inputs) for _ in range(2)])
    model.compile(keras.optimizers.SGD(0.0), loss=[NLL(), NLL()], beta=0.1)
    calls = []

    def fail_at_the_second(*errors):
        calls.append(errors)
        if len(calls) == 2:
            raise MemoryError
        return np.array([9.0])

    monkeypatch.setattr(held_out_noise, "best_scale", fail_at_the_second)
    y = [Y[:, :1], Y[:, 1:]]
    with pytest.raises(MemoryError):
        model.fit(X, y, validation_data=(X, y), verbose=0)
    scales = [float(one.loss.constant_scale()) for one in model.likelihoods]
    np.testing.assert_allclose(scales, Y.std(axis=0), rtol=1e-4)


def test_layers_with_a_state_keep_it():
    layers = [
        tfbnn.layers.DenseFlipout(4, **QUIET),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
    ]
    model = tfbnn.Sequential([keras.Input((3,)), *layers, tfbnn.layers.DenseFlipout(2, **QUIET)])
    model.compile(loss=NLL(), beta=0.1)
    model.fit(X, Y, verbose=0)
    rho = model.likelihood.loss.rho_variable
    before = {v.path: v.numpy() for v in model.variables if v is not rho}
    held_out_noise.refit(model, (*HELD_OUT, None), None, print)
    for variable in model.variables:
        if variable is not rho:
            np.testing.assert_array_equal(variable.numpy(), before[variable.path])


def test_under_the_elbo_a_noise_that_overfits_is_left_alone_and_said():
    model = make_model(NLL(initial_scale=0.01), beta=1.0)
    model.optimizer.learning_rate = 1e-6
    with pytest.warns(ConvergenceWarning, match="The noise overfits.* where .* fits held-out"):
        fit(model)
    np.testing.assert_allclose(scale_of(model), 0.01, rtol=1e-3)
    large = make_model(NLL(initial_scale=5.0), beta=1.0)
    large.optimizer.learning_rate = 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(large)
