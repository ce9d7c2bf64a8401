"""Bits from the posterior: the rule, and files that follow it."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tfbnn.export import bits
from tfbnn.export.laws import freeze
from tfbnn.posterior.routes import posterior_of

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(*scales):
    keras.utils.set_random_seed(0)
    layers = [
        tfbnn.layers.DenseFlipout(32, "relu", kernel_posterior=tfbnn.families.Normal(scale))
        for scale in scales
    ]
    layers.append(tfbnn.layers.DenseFlipout(3, kernel_posterior=tfbnn.families.Normal(1e-4)))
    model = tfbnn.Sequential([keras.Input((48,)), *layers])
    model.compile(loss=LOGITS)
    return model


def rows(count=50):
    return np.random.default_rng(1).normal(size=(count, 48)).astype(np.float32)


def needed(model):
    posterior = posterior_of(model)
    return list(bits.needed(posterior, freeze(posterior), rows()).values())


def test_the_wider_the_posterior_the_fewer_bits():
    assert needed(network(0.3, 0.01)) == [4, 8, 16]


@pytest.mark.parametrize("width", bits.WIDTHS)
def test_rounding_has_the_variance_that_the_rule_assumes(width):
    kernel = np.random.default_rng(0).normal(size=(5000, 4))
    step = bits.steps(kernel, width)
    errors = np.rint(kernel / step) * step - kernel
    # A variance of 20,000 uniform numbers scatters by 0.6 %; five times that.
    assert np.mean(errors**2 / step**2) == pytest.approx(1 / 12, rel=0.03)
    assert np.abs(np.rint(kernel / step)).max() == 2 ** (width - 1) - 1


def test_the_added_variance_is_within_the_share():
    model = network(0.3, 0.3)
    layer = model.layers[0]
    width = needed(model)[0]
    kernel = layer.kernel.loc.numpy()
    step = bits.steps(kernel, width)
    rounded = np.rint(kernel / step) * step
    x = rows(2000)
    posterior_variance = np.mean(np.square(x) @ np.square(layer.kernel.scale.numpy()))
    # The law of the errors stands for their values: the realised sum is near its expectation.
    assert np.mean(np.square(x @ (rounded - kernel))) < 1.3 * posterior_variance / 16


@pytest.mark.parametrize("mode", ["moments", "monte_carlo", "none"])
def test_files_have_fewer_bytes_and_say_their_bits(mode, tmp_path):
    model, x = network(0.3, 0.01), rows()
    sizes = {}
    for precision in ("float32", "posterior"):
        path = tmp_path / f"{precision}.tflite"
        options = {"precision": precision, "scale": "rank_one", "check_data": x, "num_samples": 4}
        manifest = flat.tflite(model, path, mode, **options)
        sizes[precision] = manifest["bytes"]
    assert list(manifest["bits"].values()) == [4, 8, 16]
    saved = 48 * 32 * (4 - 1 / 2) + 32 * 32 * (4 - 1)
    assert sizes["float32"] - sizes["posterior"] > 0.7 * saved


def test_ensembles_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no standard deviations.*uncertainty='ensemble'"):
        flat.tflite(
            network(0.1),
            tmp_path / "m.tflite",
            "ensemble",
            precision="posterior",
            check_data=rows(),
        )
