"""Layers trained in a plain Keras model can be used: predicted, scored, calibrated and checked."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.export import flat
from tfbnn.posterior import posterior_of
from tfbnn.training import plain_models

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X @ RNG.normal(size=(3, 3)) + RNG.gumbel(size=(40, 3))).argmax(-1)


def dense(units=3, kl_weight=1 / 40, **options):
    return tfbnn.layers.DenseFlipout(units, kl_weight=kl_weight, seed=1, **options)


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = dense()

    # Without `training`: Keras passes it on to the layers.
    def call(self, inputs):
        return self.layer(inputs)


def sequential():
    return keras.Sequential([keras.Input((3,)), dense()])


def functional():
    inputs = keras.Input((3,), name="x")
    return keras.Model(inputs, dense()(inputs))


def subclass():
    model = Net()
    model(X)
    return model


MODELS = (sequential, functional, subclass)


@functools.cache
def trained(make, loss=SPARSE):
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(keras.optimizers.Adam(0.05), loss=loss, run_eagerly=True)
    model.fit(X, Y, epochs=3, verbose=0)
    return model


def twin_of(model, loss=SPARSE):
    """A model of tfbnn with the same weights."""
    layer = tfbnn.layers.DenseFlipout(3, seed=1)
    twin = tfbnn.Sequential([keras.Input((3,)), layer], num_examples=40)
    twin.compile(loss=loss)
    twin.set_weights(model.get_weights())
    return twin


@pytest.mark.parametrize("make", MODELS)
def test_it_is_used_as_a_model_of_tfbnn_with_the_same_weights(make):
    model, draws = trained(make), {"num_samples": 3, "seed": 2, "verbose": 0}
    twin = twin_of(model)
    one, other = (tfbnn.predict(m, X, **draws) for m in (model, twin))
    np.testing.assert_allclose(one.prediction, other.prediction, atol=1e-6)
    scores = [tfbnn.evaluate(m, X, Y, **draws).scores() for m in (model, twin)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    temperatures = [tfbnn.calibrate(m, X, Y, of="draws", **draws) for m in (model, twin)]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-5)
    # It is used, as long as the model is compiled so.
    assert posterior_of(model).likelihoods[0].temperature == temperatures[0]
    assert tfbnn.evaluate(model, X, Y, **draws).nll < scores[0]["nll"]
    posterior_of(model).likelihoods[0].temperature = 1.0


@pytest.mark.parametrize("make", MODELS)
def test_check_elbo_reads_the_kl_weight(make):
    model = trained(make)
    report, expected = (tfbnn.check_elbo(m, X, Y, verbose=0) for m in (model, twin_of(model)))
    assert (report.num_examples, report.beta, report.likelihood) == (40, 1.0, "categorical")
    assert report.kl_weight == pytest.approx(1 / 40)
    assert report.kl == pytest.approx(expected.kl, rel=1e-5)
    assert report.nll_at_mean == pytest.approx(expected.nll_at_mean, rel=1e-5)
    error = 5 * np.hypot(report.nll_standard_error, expected.nll_standard_error)
    assert abs(report.nll - expected.nll) < error
    # And it is what Keras reports: without event axes its loss is the objective.
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(
        report.nll_at_mean + report.weighted_kl, rel=1e-5
    )


def test_the_posterior_follows_the_compilation():
    model = sequential()
    model.compile(loss=SPARSE)
    posterior = posterior_of(model)
    assert posterior_of(model) is posterior
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    assert posterior_of(model) is not posterior
    assert not posterior_of(model).likelihoods[0].sparse


def test_losses_by_the_names_of_outputs():
    inputs = keras.Input((3,))
    heads = {"z": dense(3, name="z")(inputs), "a": dense(2, name="a")(inputs)}
    losses = {"z": SPARSE, "a": tfbnn.losses.NormalNLL(scale=0.5)}
    model = keras.Model(inputs, list(heads.values()))
    model.compile(loss=losses, loss_weights={"a": 2.0})
    objective = plain_models.objective_of(model)
    assert [one.name for one in objective.likelihoods] == ["categorical", "normal"]
    assert objective.loss_weights == [1.0, 2.0]
    classes, numbers = tfbnn.predict(model, X, num_samples=2)
    assert classes.prediction.shape == (40, 3)
    np.testing.assert_allclose(numbers.aleatoric, 0.5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (None, r"no likelihood: call `compile\(loss=...\)` first. Received: model="),
        ("mse", "a negative log likelihood.*Received: loss='mse'"),
        (
            keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
            "leave `label_smoothing` at 0.0. Received: label_smoothing=0.1",
        ),
        (
            tfbnn.losses.NormalNLL(scale="learned"),
            "plain Keras model does not have: choose `scale='head'` or a number.*Sequential",
        ),
        ([SPARSE, SPARSE], "one loss for each of its outputs.*Received: 2 losses for 1 outputs"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        lambda model: tfbnn.predict(model, X),
        lambda model: tfbnn.check_elbo(model, X, Y),
    ],
    ids=["predict", "check_elbo"],
)
def test_losses_that_are_no_likelihood(function, loss, message):
    model = sequential()
    if loss is not None:
        model.compile(loss=loss)
    with pytest.raises(ValueError, match=message):
        function(model)


@pytest.mark.parametrize(
    ("kl_weights", "received"),
    [((None, None), "None"), ((0.0, 0.0), "0.0"), ((0.1, 0.2), "0.1, 0.2")],
)
def test_check_elbo_needs_one_kl_weight(kl_weights, received):
    layers = [dense(kl_weight=kl_weight) for kl_weight in kl_weights]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(loss=SPARSE)
    with pytest.raises(
        ValueError, match=f"same `kl_weight=1 / num_examples`.*kl_weight={received}$"
    ):
        tfbnn.check_elbo(model, X, Y)


NEED_OURS = {
    "prune": lambda model, path: tfbnn.prune(model, sparsity=0.5),
    "pruning_curve": lambda model, path: tfbnn.pruning_curve(model, X, Y),
    "compact": lambda model, path: tfbnn.compact(model),
    "c": lambda model, path: flat.c(model, path / "m", check_data=X),
}


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("name", NEED_OURS)
def test_what_needs_a_model_of_tfbnn_says_how_to_make_one(name, make, tmp_path):
    remedy = {
        sequential: r"tfbnn.Sequential\(\[keras.Input\(.*\), \*model.layers\]\)",
        functional: r"tfbnn.Model\(model.input, model.output\)",
        subclass: "Derive the class from `tfbnn.Model`",
    }
    message = (
        f"Only a `tfbnn.Sequential` or `tfbnn.Model` can be .*{remedy[make]}.*Received: model of"
    )
    with pytest.raises(TypeError, match=message):
        NEED_OURS[name](trained(make), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", MODELS)
def test_files_have_the_networks_that_predict(make, tmp_path):
    model = trained(make)
    options = {"num_samples": 4, "seed": 3, "check_data": X}
    flat.tflite(model, tmp_path / "m.tflite", "ensemble", **options)
    flat.saved_model(model, tmp_path / "m", "ensemble", **options)
    expected = tfbnn.predict(model, X, num_samples=4, seed=3)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    answers = (
        tfbnn.lite.Model(tmp_path / "m.tflite").predict(X).outputs,
        loaded.signatures["predict_with_uncertainty"](inputs=tf.constant(X)),
    )
    for answer in answers:
        for name in ("prediction", "uncertainty", "mutual_information"):
            np.testing.assert_allclose(answer[name], getattr(expected, name), atol=1e-5)


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("mode", ["moments", "monte_carlo", "none"])
def test_files_of_other_modes_are_written(mode, make, tmp_path):
    model = trained(make)
    manifest = flat.tflite(model, tmp_path / "m.tflite", mode, check_data=X)
    assert manifest["mode"] == mode and manifest["posterior"] == "mean_field"
    if mode == "none":
        prediction, _ = tfbnn.lite.Model(tmp_path / "m.tflite").predict(X)
        np.testing.assert_allclose(prediction, tf.nn.softmax(model(X)), atol=1e-5)


@pytest.mark.parametrize("make", [sequential, functional])
def test_the_remedy_works(make):
    model = trained(make)
    if make is sequential:
        bayesian = tfbnn.Sequential([keras.Input(model.input_shape[1:]), *model.layers])
    else:
        bayesian = tfbnn.Model(model.input, model.output)
    bayesian.compile(loss=SPARSE)
    np.testing.assert_array_equal(bayesian(X), model(X))
    pruned = tfbnn.prune(bayesian, sparsity=0.5)
    assert np.count_nonzero(pruned.get_weights()[0]) in (4, 5)
