"""`tfbnn.pruning_curve`: every point is prune and evaluate at the same seed."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import image

import tfbnn
from tests.pruning.models import spread
from tfbnn.pruning import masks

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype("float32")
Y = RNG.integers(0, 3, size=50)
SETTINGS = {"num_samples": 4, "seed": 3}


def make_model(loss=SPARSE, units=3):
    layers = [
        keras.Input((6,)),
        tfbnn.layers.DenseFlipout(8, "relu", kernel_prior="normal"),
        tfbnn.layers.DenseFlipout(units, kernel_prior="normal"),
    ]
    model = tfbnn.Sequential(layers)
    model.compile("adam", loss)
    return spread(model)


@pytest.mark.parametrize("criterion, scope", [("snr", "global"), ("savage_dickey", "layer")])
def test_points_are_prune_and_evaluate(criterion, scope):
    model, how = make_model(), {"criterion": criterion, "scope": scope}
    curve = tfbnn.pruning_curve(model, X, Y, [0.0, 0.5, 0.9], **how, **SETTINGS)
    assert [row["sparsity"] for row in curve.rows] == [0.0, 0.5, 0.9]
    assert [row["weights"] for row in curve.rows] == [72, 36, 7]
    for row in curve.rows:
        pruned = tfbnn.prune(model, row["sparsity"], criterion=criterion, scope=scope)
        expected = tfbnn.evaluate(pruned, X, Y, **SETTINGS).scores()
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_the_model_is_unchanged():
    model = make_model()
    before = [v.numpy() for v in model.variables]
    tfbnn.pruning_curve(model, X, Y, [0.9], **SETTINGS)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_sparsities_in_any_order_and_container():
    model = make_model()
    expected = tfbnn.pruning_curve(model, X, Y, (0.25, 0.5, 0.9), **SETTINGS).rows
    shuffled = np.array([0.9, 0.25, 0.5, 0.9])
    rows = tfbnn.pruning_curve(model, X, Y, shuffled, **SETTINGS).rows
    assert rows == expected
    assert json.loads(json.dumps(rows)) == rows


def test_a_data_set_as_data():
    model = make_model()
    expected = tfbnn.pruning_curve(model, X, Y, [0.0, 0.8], **SETTINGS).rows
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(50).batch(16)
    rows = tfbnn.pruning_curve(model, dataset, sparsities=[0.0, 0.8], **SETTINGS).rows
    for one, other in zip(rows, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_a_model_that_is_pruned_already():
    pruned = tfbnn.prune(make_model(), sparsity=0.5)
    curve = tfbnn.pruning_curve(pruned, X, Y, [0.0, 0.25, 0.75], **SETTINGS)
    assert [(row["sparsity"], row["weights"]) for row in curve.rows] == [(0.5, 36), (0.75, 18)]


def test_temperature_is_used():
    model = make_model()
    plain = tfbnn.pruning_curve(model, X, Y, [0.5], **SETTINGS).rows[0]
    model.likelihood.temperature = 4.0
    softer = tfbnn.pruning_curve(model, X, Y, [0.5], **SETTINGS).rows[0]
    assert softer["mean_entropy"] > plain["mean_entropy"]


@pytest.mark.parametrize(
    "kind, sparsities",
    [("classes", [0.0, 0.5, 0.7, 0.8, 0.9, 0.95]), ("real numbers", [0.0])],
)
def test_picture(kind, sparsities, tmp_path):
    if kind == "classes":
        model, y, panels = make_model(), Y, ["error (%)", "NLL (nats)"]
    else:
        model, y, panels = (
            make_model(tfbnn.losses.NormalNLL(1.0), 1),
            X[:, 0],
            ["NLL (nats)", "RMSE"],
        )
    curve = tfbnn.pruning_curve(model, X, y, sparsities, **SETTINGS)
    figure = curve.plot(tmp_path / "curve.png", "12 validation rows")
    assert figure.get_suptitle() == "12 validation rows"
    assert curve.plot().get_suptitle() == curve.shows == f"{len(X)} rows"
    pixels = image.imread(tmp_path / "curve.png")
    assert pixels.ndim == 3 and pixels.std() > 0.01
    labels = {axes.get_title() for axes in figure.axes}
    assert len(labels) == 4 and set(panels) <= labels
    rows = figure.axes[0].lines[1]
    assert len(rows.get_xdata()) == len(sparsities)
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sparsities": []},
            r"`sparsities` must be one or more. Received: sparsities=\[\]",
        ),
        ({"sparsities": [0.5, 1.0]}, r"Received: sparsities\[1\]=1.0"),
        ({"sparsities": [np.nan]}, r"Received: sparsities\[0\]=nan"),
        ({"criterion": "size"}, "Received: criterion='size'"),
        ({"scope": "row"}, "Received: scope='row'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfbnn.pruning_curve(make_model(), X, Y, **arguments)


def test_diverged_weights():
    model = make_model()
    model.layers[0].kernel.loc_variable.assign(np.full((6, 8), np.nan))
    with pytest.raises(ValueError, match="training has diverged"):
        tfbnn.pruning_curve(model, X, Y, [0.5])


@pytest.mark.parametrize("granularity", ["block", "unit"])
def test_blocks_and_units(granularity):
    model = make_model()
    options = {"granularity": granularity, **SETTINGS}
    curve = tfbnn.pruning_curve(model, X, Y, [0.0, 0.5, 0.7], **options)
    assert len(curve.rows) == 3
    for wanted, row in zip([0.0, 0.5, 0.7], curve.rows, strict=True):
        pruned = tfbnn.prune(model, wanted, granularity=granularity)
        assert row["weights"] == masks.num_weights(pruned)
        assert row["sparsity"] == masks.sparsity_of(pruned) <= wanted + 0.01
        expected = tfbnn.evaluate(pruned, X, Y, **SETTINGS).scores()
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_the_curve_ends_where_a_layer_would_be_empty():
    model = make_model()
    curve = tfbnn.pruning_curve(model, X, Y, [0.5, 0.9999], **SETTINGS)
    assert [row["sparsity"] for row in curve.rows] == [0.5]
    with pytest.raises(
        ValueError, match=r"Every sparsity would leave.*sparsities=\[0.9999\], scope='global'"
    ):
        tfbnn.pruning_curve(model, X, Y, [0.9999], **SETTINGS)


def test_a_data_set_that_can_be_read_once_is_scored_and_counted():
    left = iter([(X, Y)])
    specifications = (tf.TensorSpec((None, X.shape[1])), tf.TensorSpec((None,), tf.int64))
    once = tf.data.Dataset.from_generator(lambda: left, output_signature=specifications)
    curve = tfbnn.pruning_curve(make_model(), once, sparsities=[0.0], **SETTINGS)
    assert curve.shows == f"{len(X)} rows"
