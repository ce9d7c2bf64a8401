"""Every linear map, pruned, through every way of being uncertain in a file."""

import functools

import keras
import numpy as np
import pytest

import tfbnn
from tests.export import flat
from tests.linear_maps import LINEAR_MAPS
from tfbnn.export.c_source.c_compiler import compiler
from tfbnn.export.modes import MODES
from tfbnn.layers.keras_layers import MAPS
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


@pytest.mark.parametrize("name", LINEAR_MAPS)
def test_blocks_are_inputs_of_one_output(name):
    model, _, _ = pruned(name)
    kernel = model.layers[0].kernel
    if not model.layers[0].linear_map.has_blocks(kernel.shape):
        with pytest.raises(ValueError, match="Neighbours in the kernel of 'it' are no inputs of"):
            tfbnn.prune(model, sparsity=0.7, granularity="block")
        return
    tfbnn.prune(model, sparsity=0.7, granularity="block", scope="layer")


@functools.cache
def between(name):
    """A network in which a layer of the map reads units and has units, and rows."""
    keras.utils.set_random_seed(1)
    example, family = LINEAR_MAPS[name], tfbnn.families.Normal(0.1)
    laws = {"kernel_posterior": family, "bias_posterior": family}
    before = tfbnn.layers.Dense(example.shape[-1], "relu", name="before", **laws)
    after = tfbnn.layers.Dense(3, name="after", **laws)
    it = example.make(activation="relu", name="it", **laws)
    layers = [before, it, keras.layers.Flatten(), after]
    model = tfbnn.Sequential([keras.Input(example.shape), *layers])
    model.compile(loss=LOGITS)
    return model, example.rows(6)


@pytest.mark.parametrize("name", LINEAR_MAPS)
def test_units_around_each_map(name, tmp_path):
    """Removed from the network they leave the answers of the masked one, and its file's."""
    model, x = between(name)
    if not model.get_layer("it").linear_map.has_rows_and_columns:
        # What it reads and gives is held: nothing is left to remove.
        with pytest.raises(ValueError, match="No unit of the model can be removed"):
            tfbnn.prune(model, sparsity=0.4, granularity="unit")
        assert tfbnn.compact(model).count_params() == model.count_params()
        return
    masked = tfbnn.prune(model, sparsity=0.4, granularity="unit")
    small = tfbnn.compact(masked)
    assert small.count_params() < model.count_params()
    expected = np.asarray(masked(x))
    np.testing.assert_allclose(np.asarray(small(x)), expected, atol=1e-5)
    draws = {"num_samples": 200, "seed": 0}
    one, other = (tfbnn.predict(m, x, **draws) for m in (small, masked))
    assert np.abs(one.mutual_information - other.mutual_information).mean() < 0.03
    tfbnn.export.saved_model(small, tmp_path / "m", check_data=x)


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("mode", ["none", "moments"])
@pytest.mark.parametrize("name", LINEAR_MAPS)
def test_c_of_each_map(name, mode, tmp_path):
    """The export compiles what it wrote and compares it with the posterior."""
    model, x, _ = pruned(name)
    if type(model.layers[0].linear_map) not in MAPS or name == "Conv3D":
        with pytest.raises(ValueError, match="There is no C code for .*'it'"):
            flat.c(model, tmp_path / "net", mode, check_data=x)
        assert not list(tmp_path.iterdir())
        return
    manifest = flat.c(model, tmp_path / "net", mode, check_data=x)
    assert manifest["agreement"]["max_error"] < 1e-4


@pytest.mark.parametrize("name", LINEAR_MAPS)
def test_a_saved_model_of_each_map(name, tmp_path):
    model, x, _ = pruned(name)
    manifest = tfbnn.export.saved_model(model, tmp_path / "m", check_data=x)
    assert manifest["agreement"]["max_error"] < 1e-5
