"""`tfbnn.to_bayesian` and `tfbnn.to_deterministic`, over models of every kind."""

import keras
import numpy as np
import pytest

import tfbnn
from tests.conversion.architectures import ARCHITECTURES, Block, Net, rows, trained
from tfbnn.layers.variational import variational_layers

K = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Keras says so where a model takes a dict or a list and is given tensors of it, as it does before.
pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")


def outputs(model, x):
    return [np.asarray(one) for one in keras.tree.flatten(model(x, training=False))]


def same(found, expected, atol=1e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_mean_computes_what_the_plain_model_does_and_back(name):
    plain = trained(name)
    x, before = rows(plain), plain.get_weights()
    bayesian = tfbnn.to_bayesian(plain, verbose=0)
    same(outputs(bayesian, x), outputs(plain, x))
    assert bayesian.name == plain.name
    again = tfbnn.to_deterministic(bayesian)
    same(outputs(again, x), outputs(plain, x))
    for one, other in zip(again.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(True for _ in variational_layers(again))
    # The plain model is as it was.
    for one, other in zip(plain.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_is_in_the_coverage(name):
    plain = trained(name)
    found = tfbnn.to_bayesian(plain, verbose=0).coverage
    # Of a composite layer there is a row for itself, without the layers in it.
    assert found.total == plain.count_params()
    assert 0 < found.random <= found.total
    assert all(bool(row.reason) != bool(row.random) for row in found.layers if row.total)


@pytest.mark.parametrize("name", ["sequential", "several", "subclassed", "convolutions"])
def test_a_converted_model_is_trained_and_predicts(name):
    plain = trained(name)
    x = rows(plain, 8)
    bayesian = tfbnn.to_bayesian(plain, estimator="reparameterization", verbose=0)
    losses = {key: LOSS for key in ("one", "two")} if name == "several" else LOSS
    bayesian.compile("adam", loss=losses)
    labels = np.arange(8) % 2
    y = {"one": labels, "two": labels} if name == "several" else labels
    history = bayesian.fit(x, y, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["kl"][0] > 0
    predictions = tfbnn.predict(bayesian, x, num_samples=4, verbose=0)
    for prediction in predictions.values() if name == "several" else [predictions]:
        assert (prediction.mutual_information > 0).any()


def test_what_a_converted_network_is_good_for(tmp_path):
    plain = trained("convolutions")
    plain.compile("adam", loss=LOSS)
    x = rows(plain, 8)
    bayesian = tfbnn.to_bayesian(plain, verbose=0)
    # Compiled as the plain one was.
    assert type(bayesian.likelihood).__name__ == "Categorical"
    bayesian.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras")
    same(outputs(loaded, x), outputs(plain, x))
    pruned = tfbnn.prune(bayesian, sparsity=0.5)
    manifest = tfbnn.export.tflite(pruned, tmp_path / "m.tflite", "ensemble", check_data=x)
    assert manifest["agreement"]["max_error"] < 1e-5


def test_standard_deviations_follow_the_weights():
    plain = trained("sequential")
    kernel = plain.layers[0].kernel.numpy()
    layer = tfbnn.to_bayesian(plain, scale=0.2, verbose=0).layers[0]
    floor = 0.1 * np.sqrt((kernel**2).mean())
    np.testing.assert_allclose(layer.kernel.scale, 0.2 * np.maximum(abs(kernel), floor), rtol=1e-5)
    np.testing.assert_array_equal(layer.kernel.loc, kernel)
    own = tfbnn.to_bayesian(plain, scale=None, verbose=0).layers[0].kernel
    np.testing.assert_allclose(own.scale, own.initial_scale, rtol=1e-5)
    fresh = tfbnn.to_bayesian(plain, fresh=True, verbose=0).layers[0].kernel
    assert not np.allclose(fresh.loc, kernel)


def test_biases_of_zero_keep_the_scale_of_their_layer():
    plain = keras.Sequential([keras.Input((3,)), K.Dense(2)])
    bias = tfbnn.to_bayesian(plain, verbose=0).layers[0].bias
    np.testing.assert_allclose(bias.scale, bias.initial_scale, rtol=1e-5)


def test_an_informative_prior_has_the_trained_weights_for_its_means(tmp_path):
    plain = trained("sequential")
    prior = tfbnn.priors.Informative(scale=0.5)
    bayesian = tfbnn.to_bayesian(plain, prior=prior, num_examples=10, verbose=0)
    bayesian.compile("sgd", loss=LOSS)
    layer = bayesian.layers[0]
    kernel = plain.layers[0].kernel.numpy()
    np.testing.assert_array_equal(layer.kernel.prior.loc, kernel)
    # KL(N(m, s**2) || N(m, t**2)) = log(t / s) + (s / t)**2 / 2 - 1 / 2
    ratio = layer.kernel.scale.numpy() / 0.5
    expected = (-np.log(ratio) + ratio**2 / 2 - 0.5).sum()
    assert float(layer.kernel.kl()) == pytest.approx(expected, rel=1e-5)
    bayesian.fit(rows(plain, 8), np.arange(8) % 3, verbose=0)
    np.testing.assert_array_equal(layer.kernel.prior.loc, kernel)
    bayesian.save(tmp_path / "model.keras")
    loaded = tfbnn.load_model(tmp_path / "model.keras").layers[0].kernel.prior
    np.testing.assert_array_equal(loaded.loc, kernel)
    assert "0.5" in repr(loaded)


def test_a_compacted_layer_keeps_the_priors_of_its_weights():
    plain = trained("sequential")
    prior = tfbnn.priors.Informative()
    bayesian = tfbnn.to_bayesian(plain, prior=prior, verbose=0)
    bayesian.compile("sgd", loss=LOSS)
    small = tfbnn.prune(bayesian, sparsity=0.4, granularity="unit", compact=True)
    first, last = (layer for layer in variational_layers(small))
    assert first.units < 5
    for layer in (first, last):
        np.testing.assert_array_equal(layer.kernel.prior.loc, layer.kernel.loc)


# exp(-num_examples * penalty) is the prior, up to a constant.
@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (keras.regularizers.L2(1e-3), tfbnn.priors.Normal(scale=(2 * 50 * 1e-3) ** -0.5)),
        (keras.regularizers.L1(1e-2), tfbnn.priors.Laplace(scale=2.0)),
        (keras.regularizers.L1L2(l2=1e-3), tfbnn.priors.Normal(scale=(2 * 50 * 1e-3) ** -0.5)),
    ],
)
def test_a_regularizer_becomes_the_prior_that_it_is(regularizer, expected):
    dense = K.Dense(2, kernel_regularizer=regularizer, bias_regularizer="l2")
    plain = keras.Sequential([keras.Input((3,)), dense])
    bayesian = tfbnn.to_bayesian(plain, num_examples=50, verbose=0)
    prior = bayesian.layers[0].kernel_prior
    assert type(prior) is type(expected)
    assert prior.scale == pytest.approx(expected.scale, rel=1e-6)
    assert bayesian.layers[0].bias_prior.scale == pytest.approx((2 * 50 * 0.01) ** -0.5, rel=1e-6)
    assert bayesian.num_examples == 50
    # The penalty of the plain model, and what the prior says of two weights.
    one, two = np.float32([[0.3, -1.0]] * 3), np.float32([[2.0, 0.1]] * 3)
    penalty = [50 * float(regularizer(w)) for w in (one, two)]
    density = [float(np.sum(prior.log_prob(w))) for w in (one, two)]
    assert density[0] - density[1] == pytest.approx(penalty[1] - penalty[0], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("sequential", "last", ["dense_1"]),
        ("several", "last", ["dense_1", "dense_2"]),
        ("nested", "last", ["dense_1"]),
        ("subclassed", "last", ["dense_4"]),
        ("sequential", "dense", ["dense"]),
        ("sequential", lambda layer: layer.units == 5, ["dense"]),
        ("convolutions", K.Conv2D, ["conv2d"]),
        ("convolutions", [K.Conv2D, "dense"], ["conv2d", "dense"]),
    ],
)
def test_some_layers(name, layers, expected):
    keras.backend.clear_session()
    bayesian = tfbnn.to_bayesian(trained(name), layers=layers, verbose=0)
    assert [layer.name for layer in variational_layers(bayesian)] == expected
    others = [row.reason for row in bayesian.coverage.layers if row.kind == "Dense"]
    assert others.count("not in `layers`") == len([r for r in others if r])


def test_reasons_and_the_table_that_is_printed(capsys):
    class Scaled(K.Dense):
        pass

    frozen = K.Dense(3, trainable=False, name="frozen")
    layers = [Scaled(3, name="scaled"), frozen, K.LSTM(2, name="lstm"), K.Dense(2, name="last")]
    model = keras.Sequential([keras.Input((4, 3)), *layers, tfbnn.layers.Dense(2, name="ours")])
    bayesian = tfbnn.to_bayesian(model)
    reasons = {row.name: row.reason for row in bayesian.coverage.layers}
    assert reasons == {
        "scaled": "a subclass of Dense, which may compute something else",
        "frozen": "not trained (trainable=False)",
        "lstm": "tfbnn.layers has no LSTM",
        "last": "",
        "ours": "random already",
    }
    printed = capsys.readouterr().out
    assert "frozen Dense" in printed and "not trained" in printed
    assert f"{bayesian.coverage.random} of {model.count_params()} weights are random" in printed


def test_what_keras_has_in_a_layer_and_tfbnn_has_not_is_dropped():
    dense = K.Dense(4)
    model = keras.Sequential([keras.Input((3,)), dense])
    dense.enable_lora(2)
    config = dense.get_config()
    assert config["lora_rank"] == 2
    bayesian = tfbnn.to_bayesian(model, verbose=0)
    same(outputs(bayesian, np.eye(3, dtype="float32")), outputs(model, np.eye(3, dtype="float32")))


def test_a_method_of_ones_own_stays():
    plain = trained("subclassed")
    bayesian = tfbnn.to_bayesian(plain, verbose=0)
    x = rows(plain)
    np.testing.assert_allclose(bayesian.hidden(x), plain.hidden(x), atol=1e-6)
    assert isinstance(bayesian, Net) and isinstance(bayesian, tfbnn.Model)
    assert type(tfbnn.to_deterministic(bayesian)) is Net


class NoConfig(K.Layer):
    def __init__(self, units):
        super().__init__()
        self.dense = K.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)


def _l1_and_l2():
    dense = K.Dense(2, kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1))
    return keras.Sequential([keras.Input((3,)), dense])


def _regularized():
    return keras.Sequential([keras.Input((3,)), K.Dense(2, kernel_regularizer="l2")])


def _dense():
    return keras.Sequential([keras.Input((3,)), K.Dense(2, name="dense")])


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda: 3, {}, TypeError, "`model` must be a Keras model"),
        (lambda: keras.Sequential([K.Dense(2)]), {}, ValueError, "no weights yet.*built=False"),
        (
            lambda: keras.Sequential([keras.Input((3, 2)), K.LSTM(2, name="lstm")]),
            {},
            ValueError,
            "No layer of the model can be made random.*'lstm': 'tfbnn.layers has no LSTM'",
        ),
        (_dense, {"layers": "first"}, ValueError, r"are \['dense'\].*layers='first'"),
        (_dense, {"layers": 3}, TypeError, "`layers` must be None, 'last'.*type int"),
        (_dense, {"layers": K.Conv2D}, ValueError, "can be made random.*not in `layers`"),
        (_dense, {"estimator": "best"}, ValueError, "`estimator` must be one of"),
        (_dense, {"scale": 0.0}, ValueError, "`scale`"),
        (_dense, {"prior": "flat"}, ValueError, "`prior`"),
        (_regularized, {}, ValueError, "`num_examples=`.*L2.*num_examples=None"),
        (_l1_and_l2, {"num_examples": 9}, ValueError, "Only an L1 or an L2 regularizer is a prior"),
        (
            lambda: keras.Sequential([keras.Input((3,)), NoConfig(2)]),
            {},
            ValueError,
            "give its class a `get_config`.*NoConfig",
        ),
    ],
)
def test_bad_arguments_are_errors(make, options, error, message):
    with pytest.raises(error, match=message):
        tfbnn.to_bayesian(make(), **options)


def test_what_cannot_be_made_deterministic():
    with pytest.raises(ValueError, match="nothing random"):
        tfbnn.to_deterministic(_dense())

    class Own(tfbnn.Model):
        def __init__(self):
            super().__init__()
            self.dense = tfbnn.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(TypeError, match="A subclass of `tfbnn.Model`.*Own"):
        tfbnn.to_deterministic(model)


def test_pruned_weights_are_zero_in_the_plain_model():
    bayesian = tfbnn.to_bayesian(trained("sequential"), verbose=0)
    bayesian.compile("sgd", loss=LOSS)
    plain = tfbnn.to_deterministic(tfbnn.prune(bayesian, sparsity=0.5))
    kernels = [layer.kernel.numpy() for layer in plain.layers if isinstance(layer, K.Dense)]
    assert np.mean(np.concatenate([k.ravel() for k in kernels]) == 0) == pytest.approx(0.5, abs=0.1)


def test_a_layer_of_ones_own_is_another_object():
    plain = trained("block")
    bayesian = tfbnn.to_bayesian(plain, verbose=0)
    (old,), (new,) = ([o for o in m.layers if isinstance(o, Block)] for m in (plain, bayesian))
    assert new is not old
    assert isinstance(new.dense[0], tfbnn.layers.Dense)
    assert isinstance(old.dense[0], K.Dense)
