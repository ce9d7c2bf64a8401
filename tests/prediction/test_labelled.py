"""Scores agree with the objective on the same rows, whatever the rows carry."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.quiet import QUIET
from tfbnn import search
from tfbnn.posterior import posterior_of

ROWS, STEPS, FEATURES = 20, 5, 3
LOSSES = {
    "classes": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3, None),
    "probabilities": (keras.losses.SparseCategoricalCrossentropy(), 3, "softmax"),
    "one-hot": (keras.losses.CategoricalCrossentropy(from_logits=True), 3, None),
    "yes or no": (keras.losses.BinaryCrossentropy(from_logits=True), 1, None),
    "several yes or no": (keras.losses.BinaryCrossentropy(), 2, "sigmoid"),
    "normal": (tfbnn.losses.NormalNLL(scale=0.5), 2, None),
    "head": (tfbnn.losses.NormalNLL(scale="head"), 4, None),
    "counts": (tfbnn.losses.PoissonNLL(), 2, None),
}
KINDS = ("classes", "several yes or no", "normal")


def kernel_of(units):
    return np.random.default_rng(0).normal(size=(FEATURES, units))


def make_model(name, steps, scale):
    """A model whose weights are known but for `scale`; `steps` for sequences with masks."""
    loss, units, activation = LOSSES[name]
    layer = tfbnn.layers.DenseFlipout(units, activation=activation, **QUIET)
    inputs = [keras.Input((None, FEATURES)), keras.layers.Masking()] if steps else []
    model = tfbnn.Sequential([*(inputs or [keras.Input((FEATURES,))]), layer])
    model.compile("sgd", loss=loss, run_eagerly=True)
    [weight] = posterior_of(model).weights
    weight.loc_variable.assign(kernel_of(units))
    weight.rho_variable.assign(
        np.full(weight.shape, -100.0 if not scale else np.log(np.expm1(scale)))
    )
    return model


# Evaluated, never trained: what is traced for one test serves the next.
shared_model = functools.cache(make_model)


def make_data(name, steps, seed):
    """Rows of which some steps are masked, one row as a whole, and targets that the model makes."""
    rng = np.random.default_rng(seed)
    shape = (ROWS, STEPS) if steps else (ROWS,)
    x = rng.normal(size=(*shape, FEATURES)).astype("float32")
    if steps:
        x[rng.uniform(size=shape) < 0.4] = 0
        x[3] = 0
    logits = x @ kernel_of(LOSSES[name][1])
    if "yes or no" in name:
        return x, (rng.logistic(size=logits.shape) < logits).astype("float32")
    if name in ("normal", "head"):
        return x, logits[..., :2] + rng.normal(size=(*shape, 2))
    if name == "counts":
        return x, rng.poisson(np.exp(logits)).astype("float32")
    # Gumbel-max: a draw from the softmax.
    classes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)
    return x, np.eye(3, dtype="float32")[classes] if name == "one-hot" else classes


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(tuple(a for a in arrays if a is not None)).batch(4)


@pytest.mark.parametrize("steps", [False, True], ids=["rows", "sequences"])
@pytest.mark.parametrize("name", LOSSES)
def test_without_noise_the_nll_is_that_of_the_objective(name, steps):
    model = shared_model(name, steps, 0.0)
    rng = np.random.default_rng(5)
    shapes = [None, (ROWS,), (ROWS, 1)] + ([(ROWS, STEPS)] if steps else [])
    for seed, shape in enumerate(shapes):
        x, y = make_data(name, steps, seed)
        weight = None if shape is None else rng.uniform(0, 2, size=shape).astype("float32")
        if weight is not None:
            weight[::4] = 0
        options = {"sample_weight": weight, "verbose": 0, "batch_size": 4}
        expected = model.evaluate(x, y, return_dict=True, **options)["nll"]
        value = tfbnn.evaluate(model, x, y, num_samples=2, **options).nll
        assert value == pytest.approx(expected, rel=1e-5)
        result = tfbnn.evaluate(model, dataset(x, y, weight), num_samples=2)
        assert result.nll == pytest.approx(expected, rel=1e-5)


def scores_of(model, *data, **options):
    scores = tfbnn.evaluate(model, *data, num_samples=3, seed=1, verbose=0, **options).scores()
    if model.likelihood.name != "normal":
        options |= {"num_samples": 3, "seed": 1, "verbose": 0}
        scores["temperature"] = tfbnn.calibrate(model, *data, **options)
        model.likelihood.take_temperatures(model.likelihood.at())
    return scores


@pytest.mark.parametrize("name", KINDS)
def test_padding_changes_no_score(name):
    model = shared_model(name, True, 0.5)
    x, y = make_data(name, True, 0)
    # A few steps more, at both ends, with targets that are wrong.
    wide = [(0, 0), (2, 3)]
    x_wide = np.pad(x, [*wide, (0, 0)])
    y_wide = np.pad(y, [*wide, (0, 0)][: y.ndim], constant_values=1)
    expected = scores_of(model, x, y)
    assert scores_of(model, x_wide, y_wide) == pytest.approx(expected, rel=1e-5)
    # And they are the scores of the steps that count, each as a sequence of its own.
    counts = x.any(axis=-1)
    alone = scores_of(model, x[counts][:, None], y[counts][:, None])
    alone["nll"] *= counts.sum() / ROWS
    assert alone == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_weight_counts_observations(name):
    model = shared_model(name, False, 0.5)
    x, y = make_data(name, False, 1)
    weight = np.random.default_rng(2).integers(0, 4, size=ROWS)
    rows = np.repeat(np.arange(ROWS), weight)
    expected = scores_of(model, x[rows], y[rows])
    expected["nll"] *= len(rows) / ROWS
    assert scores_of(model, x, y, sample_weight=weight) == pytest.approx(expected, rel=1e-5)
    assert scores_of(model, dataset(x, y, weight)) == pytest.approx(expected, rel=1e-5)


def test_masked_steps_as_they_were_met():
    layer = tfbnn.layers.DenseFlipout(2, **QUIET)
    model = tfbnn.Sequential([keras.Input((4, 1)), keras.layers.Masking(), layer])
    model.compile(loss=LOSSES["classes"][0])
    layer.kernel.loc_variable.assign([[5.0, -5.0]])
    layer.kernel.rho_variable.assign([[-100.0, -100.0]])
    x, y = np.zeros((3, 4, 1), "float32"), np.ones((3, 4), int)
    x[:, 0], y[:, 0] = 1, 0
    result = tfbnn.evaluate(model, x, y, num_samples=2)
    assert result.error == 0
    assert result.nll == pytest.approx(np.log1p(np.exp(-10.0)), rel=1e-3)
    assert (result.labels.tolist(), result.weights.tolist()) == ([0] * 3, [1] * 3)
    title = result.reliability_diagram().axes[0].get_title()
    assert "3 examples" in title
    prediction = tfbnn.predict(model, x, num_samples=2)
    np.testing.assert_array_equal(prediction.mask, [[True, False, False, False]] * 3)
    assert tfbnn.predict(shared_model("classes", False, 0.0), x[:, :3, 0]).mask is None


def test_empty_targets_of_masked_steps():
    model = shared_model("one-hot", True, 0.0)
    x, y = make_data("one-hot", True, 0)
    expected = tfbnn.evaluate(model, x, y, num_samples=2).scores()
    y[~x.any(axis=-1)] = 0
    assert tfbnn.evaluate(model, x, y, num_samples=2).scores() == expected
    nll = model.evaluate(x, y, verbose=0, return_dict=True)["nll"]
    assert expected["nll"] == pytest.approx(nll, rel=1e-5)


def test_batches_of_other_lengths():
    model = shared_model("classes", True, 0.0)
    x, y = make_data("classes", True, 2)
    parts = [(x[:4], y[:4]), (x[4:6, :3], y[4:6, :3]), (x[6:, :4], y[6:, :4])]
    kinds = (tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, None), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=kinds)
    nll = sum(len(x) * model.evaluate(x, y, verbose=0, return_dict=True)["nll"] for x, y in parts)
    assert tfbnn.evaluate(model, data, num_samples=2).nll == pytest.approx(nll / ROWS, rel=1e-5)
    with pytest.raises(ValueError, match="pad the sequences to one length"):
        tfbnn.predict(model, data, num_samples=2)


def test_curves_and_searches_leave_masked_steps_out():
    model = shared_model("classes", True, 0.5)
    x, y = make_data("classes", True, 3)
    weight = np.random.default_rng(0).uniform(size=ROWS)
    wide = np.pad(x, [(0, 0), (0, 4), (0, 0)]), np.pad(y, [(0, 0), (0, 4)])
    options = {"sparsities": [0.0, 0.5], "num_samples": 3, "verbose": 0}
    rows = tfbnn.pruning_curve(model, x, y, sample_weight=weight, **options).rows
    padded = tfbnn.pruning_curve(model, *wide, sample_weight=weight, **options).rows
    scored = tfbnn.evaluate(model, x, y, 3, seed=0, sample_weight=weight).scores()
    for row, other in zip(rows, padded, strict=True):
        assert row == pytest.approx(other, rel=1e-5)
    assert {name: rows[0][name] for name in scored} == pytest.approx(scored, rel=1e-5)
    objective = search.MonteCarloNLL(num_samples=3)
    assert objective(model, *wide, weight)["validation_nll"] == pytest.approx(scored["nll"])


def test_two_outputs_have_masks_of_their_own():
    inputs = keras.Input((STEPS, FEATURES))
    masked = keras.layers.Masking()(inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(masked)
    make = tfbnn.layers.DenseFlipout
    model = tfbnn.Model(inputs, [make(3)(masked), make(3)(pooled)])
    model.compile(loss=[LOSSES["classes"][0]] * 2)
    x, _ = make_data("classes", True, 0)
    x[3, 2] = 1  # The mean over no step is NaN.
    steps, whole = tfbnn.predict(model, x, num_samples=2, batch_size=4)
    np.testing.assert_array_equal(steps.mask, x.any(axis=-1))
    assert whole.mask is None


@pytest.mark.parametrize("function", [tfbnn.evaluate, tfbnn.calibrate])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"`x` and `sample_weight` must have the same number of rows. Received: 20"),
        (np.full(ROWS, np.nan), "must be finite and not negative. Received: from nan"),
        (np.full(ROWS, -1.0), "must be finite and not negative. Received: from -1.0"),
        (np.zeros(ROWS), "No label counts.*Received: masks or sample weights"),
        (np.ones((ROWS, 2)), r"the rows and the steps.*shape \[20  5\] at most. Received: shape"),
        (np.ones((ROWS, 5, 7)), r"the rows and the steps.*Received: shape \(20, 5, 7\)"),
    ],
)
def test_bad_weights(function, weight, message):
    model = shared_model("classes", True, 0.0)
    x, y = make_data("classes", True, 0)
    with pytest.raises(ValueError, match=message):
        function(model, x, y, num_samples=2, sample_weight=weight)


def test_weights_of_a_data_set_come_from_it():
    model = shared_model("classes", True, 0.0)
    x, y = make_data("classes", True, 0)
    with pytest.raises(ValueError, match="the sample weights come from it. Received: sample_wei"):
        tfbnn.evaluate(model, dataset(x, y), sample_weight=np.ones(ROWS))
    with pytest.raises(ValueError, match="No label counts"):
        tfbnn.evaluate(model, 0 * x, y, num_samples=2)


def test_targets_by_the_name_of_the_output():
    model = shared_model("classes", False, 0.0)
    x, y = make_data("classes", False, 0)
    expected = tfbnn.evaluate(model, x, y, num_samples=2).nll
    named = tfbnn.evaluate(model, dataset(x, {"classes": y}), num_samples=2)
    assert named.nll == tfbnn.evaluate(model, x, {"classes": y}, num_samples=2).nll == expected
