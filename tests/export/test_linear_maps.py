"""Every linear map, pruned, through every way of being uncertain in a file."""

import functools

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tests.linear_maps import LINEAR_MAPS
from tfbnn.export.modes import MODES
from tfbnn.pruning.masks import mask_of

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SCALES = {"monte_carlo": "rank_one", "moments": "rank_one"}


@functools.cache
def pruned(name):
    """A model of a layer of the map and a dense one, rows, and its mean over many draws."""
    keras.utils.set_random_seed(0)
    example = LINEAR_MAPS[name]
    family = tfbnn.families.Normal(0.2)
    layers = [
        example.make(activation="relu", kernel_posterior=family, bias_posterior=family, name="it"),
        keras.layers.Flatten(),
        tfbnn.layers.Dense(3, kernel_posterior=family, bias_posterior="point"),
    ]
    model = tfbnn.Sequential([keras.Input(example.shape), *layers])
    model.compile(loss=LOGITS)
    model = tfbnn.prune(model, sparsity=0.5, scope="layer")
    x = example.rows(6)
    return model, x, tfbnn.predict(model, x, 400, seed=0).prediction


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LINEAR_MAPS)
def test_a_file_of_each_map_in_each_mode(name, mode, tmp_path):
    model, x, over_draws = pruned(name)
    path = tmp_path / "m.tflite"
    options = {"scale": SCALES[mode]} if mode in SCALES else {}
    flat.tflite(model, path, mode, num_samples=64, check_data=x, **options)
    found = tfbnn.lite.Model(path).predict(x).prediction
    if mode == "none":
        expected = keras.ops.softmax(model.predict(x, verbose=0))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # 64 networks scatter by their spread over the root of 64.
    assert np.abs(found - over_draws).mean() < 0.05


@pytest.mark.parametrize("name", LINEAR_MAPS)
def test_what_is_pruned_stays_zero(name):
    model, x, _ = pruned(name)
    kernel = model.layers[0].kernel
    mask = mask_of(kernel)
    assert mask.sum() == mask.size - mask.size // 2
    assert np.all(np.asarray(kernel.loc)[mask == 0] == 0)
    assert np.all(np.asarray(kernel.scale)[mask == 0] == 0)
    assert model.layers[0].bias.shape == (model.layers[0].compute_output_shape(x.shape)[-1],)


def test_blocks_are_inputs_of_one_output():
    for name in LINEAR_MAPS:
        model, _, _ = pruned(name)
        if name == "DepthwiseConv2D":
            with pytest.raises(ValueError, match="Each output of 'it' reads one channel alone"):
                tfbnn.prune(model, sparsity=0.7, granularity="block")
        else:
            tfbnn.prune(model, sparsity=0.7, granularity="block", scope="layer")
