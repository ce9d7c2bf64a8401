"""Layer uncertainty: records against NumPy, every route with laws, and what is refused."""

import functools
import math

import keras
import numpy as np
import pytest

import tfbnn
from tests.routes import ROUTES, made
from tfbnn.callbacks import sigma_statistics
from tfbnn.posterior.gaussian import gaussian
from tfbnn.posterior.routes import posterior_of

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(6, 4, 4, 2)).astype("float32")
OPTIONS = {"num_samples": 8, "seed": 0, "verbose": 0}


@functools.cache
def convolutional():
    layers = [
        tfbnn.layers.Conv2D(3, (2, 3), activation="relu", name="window"),
        keras.layers.Flatten(),
        tfbnn.layers.Dense(5, "relu", bias_posterior="normal", bias_prior="normal", name="hidden"),
        tfbnn.layers.Dense(2, name="last"),
    ]
    model = tfbnn.Sequential([keras.Input((4, 4, 2)), *layers])
    model.compile(loss=LOSS)
    rng = np.random.default_rng(1)
    for weight in tfbnn.layers.variational_weights(model):
        shape = weight.shape
        weight.assign(rng.normal(size=shape), rng.uniform(0.1, 0.9, shape).astype("float32"))
    return model


@functools.cache
def found():
    return tfbnn.layer_uncertainty(convolutional(), X, **OPTIONS)


def test_a_record_is_that_of_all_random_weights_of_the_layer():
    kernel, bias = convolutional().layers[2].variational_weights
    parts, record = [sigma_statistics(one) for one in (kernel, bias)], found()["hidden"]
    scale = np.concatenate([np.ravel(one.scale) for one in (kernel, bias)])
    assert record.statistics["weights"] == scale.size
    assert record.statistics["sigma_q5"] == pytest.approx(np.quantile(scale, 0.05))
    assert record.statistics["kl"] == pytest.approx(sum(one["kl"] for one in parts), rel=1e-5)
    assert sum(one.kl_share for one in found()) == pytest.approx(1.0)


def test_units_and_positions_of_a_convolution():
    kernel, record = convolutional().layers[0].kernel, found()["window"]
    loc, scale = np.array(kernel.loc, float), np.array(kernel.scale, float)
    assert record.kernel.loc.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(record.sigma_by_unit, np.sqrt((scale**2).mean((0, 1, 2))), rtol=1e-5)
    np.testing.assert_allclose(record.sigma_by_input, np.sqrt((scale**2).mean(3)), rtol=1e-5)
    ratio = (loc**2).sum((0, 1, 2)) / (scale**2).sum((0, 1, 2))
    np.testing.assert_allclose(record.snr_db_by_unit, 10 * np.log10(ratio), rtol=1e-4)
    ratio = (loc**2).sum(3) / (scale**2).sum(3)
    np.testing.assert_allclose(record.snr_db_by_input, 10 * np.log10(ratio), rtol=1e-4, atol=1e-5)


def test_inputs_that_were_flattened_have_their_places():
    kernel, record = convolutional().layers[2].kernel, found()["hidden"]
    assert record.kernel.scale.shape == (3, 2, 3, 5)
    np.testing.assert_allclose(record.kernel.scale.reshape(-1, 5), kernel.scale, rtol=1e-5)
    assert found()["last"].kernel.scale.shape == (5, 2)


@pytest.mark.parametrize(
    ("layer", "shape", "units"),
    [
        (lambda: tfbnn.layers.DepthwiseConv2D(3, depth_multiplier=2), (3, 3), 4),
        (lambda: tfbnn.layers.Conv2DTranspose(5, 3), (3, 3, 2), 5),
        (lambda: tfbnn.layers.Conv2D(4, 3, groups=2), (3, 3, 1), 4),
    ],
    ids=["depthwise", "transposed", "groups"],
)
def test_positions_are_what_a_unit_sums_over(layer, shape, units):
    model = tfbnn.Sequential([keras.Input((4, 4, 2)), layer()])
    model.compile(loss=tfbnn.losses.NormalNLL(1.0))
    (record,) = tfbnn.layer_uncertainty(model)
    assert record.kernel.scale.shape == (*shape, units)
    kernel = model.layers[0].kernel
    loc = np.array(kernel.loc)
    # Each output has the weights that the map multiplies it from.
    summed = model.layers[0].linear_map.summed_axes(kernel.shape)
    norms = np.sort(np.square(loc).sum(summed).ravel())
    found = np.sort(np.square(record.kernel.loc).sum(tuple(range(len(shape)))))
    np.testing.assert_allclose(found, norms, rtol=1e-4)


def test_pruned_weights_are_left_out():
    pruned = tfbnn.prune(convolutional(), sparsity=0.5)
    records = tfbnn.layer_uncertainty(pruned)
    for record, one in zip(records, tfbnn.layers.random_maps(pruned), strict=True):
        left = int(np.sum(one.kernel.mask))
        assert np.isfinite(record.kernel.scale).sum() == left
        biases = sum(weight.size for weight in one.variational_weights[1:])
        assert record.statistics["weights"] == left + biases
        scale = np.array(one.kernel.scale)
        axes = tuple(range(scale.ndim - 1))
        with np.errstate(invalid="ignore"):
            expected = np.sqrt((scale**2).sum(axes) / (scale > 0).sum(axes))
        np.testing.assert_allclose(record.sigma_by_unit, expected, rtol=1e-5)


def test_the_interval_is_that_of_each_law():
    low, high = found()["last"].interval(0.5)
    kernel = convolutional().layers[3].kernel
    # A quartile of the standard normal.
    np.testing.assert_allclose(low, kernel.loc - 0.67449 * kernel.scale, atol=1e-5)
    np.testing.assert_allclose(high, kernel.loc + 0.67449 * kernel.scale, atol=1e-5)
    both = posterior_of(convolutional()).interval(0.5)
    np.testing.assert_allclose(both["last/kernel"], (low, high), atol=1e-5)
    assert both["hidden/bias"][0].shape == (5,)
    with pytest.raises(ValueError, match="`mass` must be a number strictly between 0 and 1"):
        found()["last"].interval(1)


def test_laws_that_are_given_are_those_that_count():
    posterior = made("other laws")
    laws = posterior.laws()
    record = next(iter(tfbnn.layer_uncertainty(posterior)))
    np.testing.assert_allclose(record.kernel.scale, laws[posterior.weights[0]].scale, rtol=1e-5)
    # The layers of the model are as they were.
    assert not np.allclose(posterior.weights[0].scale, record.kernel.scale)


def test_layers_that_stay_where_they_began_are_named():
    laws = {"kernel_posterior": tfbnn.families.Normal(0.2), "kernel_prior": "normal"}
    layers = [
        tfbnn.layers.Dense(4, use_bias=False, name=name, **laws)
        for name in ("start", "prior", "learnt")
    ]
    model = tfbnn.Sequential([keras.Input((4,)), *layers])
    model.compile(loss=tfbnn.losses.NormalNLL(1.0))
    model.layers[1].kernel.assign(np.full((4, 4), 0.5), np.full((4, 4), 1.05, "float32"))
    model.layers[2].kernel.assign(np.full((4, 4), 0.5), np.full((4, 4), 0.3, "float32"))
    found = tfbnn.layer_uncertainty(model)
    assert found.unidentified == ["start", "prior"]
    assert [layer.unidentified for layer in found] == [1, 1, 0]


def test_without_data_there_is_all_but_the_shares():
    found = tfbnn.layer_uncertainty(convolutional())
    assert math.isnan(found["last"].variance_share) and math.isnan(found.interaction)
    assert found.num_samples == 0 and "variance:" not in str(found)
    assert "  -  " in str(found).splitlines()[1]


def test_the_table_has_a_row_for_each_layer():
    lines = str(found()).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["layer", "window", "hidden", "last"]
    assert len({line.index(" / ") for line in lines[1:-1]}) <= 3
    assert "36 weights" not in lines[-1] and "8 networks" in lines[-1]


def test_a_name_that_is_not_there_says_which_are():
    with pytest.raises(KeyError, match=r"but \['window', 'hidden', 'last'\]. Received: name='no'"):
        found()["no"]


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_with_laws_is_taken_and_others_are_told(name):
    posterior = made(name)
    if "laws" not in ROUTES[name].has:
        with pytest.raises(TypeError, match="The uncertainty of layers needs the mean"):
            tfbnn.layer_uncertainty(posterior, ROUTES[name].x, **OPTIONS)
        return
    found = tfbnn.layer_uncertainty(posterior, ROUTES[name].x, **OPTIONS)
    laws = gaussian(posterior, "a test").laws()
    assert sum(layer.kernel.loc.size for layer in found) <= sum(w.size for w in laws)
    for layer in found:
        assert layer.variance_share > 0 and layer.variance_share_error > 0
        assert np.isfinite([layer.kl_share, *layer.sigma_by_unit]).all()


def _kl(loc, sigma, scale):
    """From `N(0, scale**2)`, summed."""
    ratio = np.square(sigma) + np.square(loc)
    return np.sum(np.log(scale / sigma) + ratio / (2 * scale**2) - 0.5)


def test_the_kl_of_ivon_is_from_the_prior_of_its_optimizer():
    layers = [keras.layers.Dense(4, "relu"), keras.layers.Dense(2)]
    model = tfbnn.Sequential([keras.Input((3,)), *layers])
    optimizer = tfbnn.optimizers.IVON(0.1, prior_scale=0.4, seed=0)
    model.compile(optimizer, loss=LOSS)
    model.fit(np.eye(3), np.arange(3) % 2, verbose=0)
    posterior = tfbnn.posteriors.IVON(model)
    pairs = zip(posterior.variables, optimizer.scales(posterior.variables), strict=True)
    exact = sum(_kl(np.array(m), np.array(s), 0.4) for m, s in pairs)
    total = sum(layer.statistics["kl"] for layer in tfbnn.layer_uncertainty(posterior))
    assert total == pytest.approx(exact, rel=1e-4)


def test_the_kl_of_laplace_is_from_the_prior_that_its_precision_is_of():
    posterior = made("laplace, diagonal")
    laws = gaussian(posterior, "a test").laws().values()
    exact = sum(_kl(np.array(m), np.array(s), 1.0) for m, s in laws)
    total = sum(layer.statistics["kl"] for layer in tfbnn.layer_uncertainty(posterior))
    assert total == pytest.approx(exact, rel=1e-4)
    assert posterior.prior_precisions == [1.0] * len(posterior.prior_precisions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 1}, "`num_samples` must be a whole number, at least 2"),
        ({"x": np.ones((2, 3), "float32")}, "x"),
        ({"seed": "a"}, "`seed`"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        tfbnn.layer_uncertainty(convolutional(), **{"x": X, **OPTIONS, **options})
