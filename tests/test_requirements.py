"""What cannot be learnt from is refused: by every way in, eager or traced, and in later fits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbnn
from tests.quiet import QUIET
from tfbnn.requirements import clear_errors, require, require_finite

# A stream without a known end ends with Keras' warning.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")
LABELS = RNG.integers(0, 2, 8)
ONE_HOT = np.eye(2, dtype="float32")[LABELS]
REAL = RNG.normal(size=(8, 1)).astype("float32")

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
HOT = keras.losses.CategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)

# Loss, outputs of the network, right targets.
RIGHT = {
    "sparse": (SPARSE, 2, LABELS),
    "one-hot": (HOT, 2, ONE_HOT),
    "binary": (BINARY, 1, LABELS.astype("float32")[:, np.newaxis]),
    "normal": (tfbnn.losses.NormalNLL(1.0), 1, REAL),
    "head": (tfbnn.losses.NormalNLL("head"), 2, REAL),
    "count": (tfbnn.losses.PoissonNLL(), 1, LABELS.astype("float32")[:, np.newaxis]),
}

SHAPE, ONE = "ask for targets of shape", "that sum to 1"
WRONG = [
    ("sparse", np.stack([LABELS, LABELS], 1), SHAPE),
    ("sparse", LABELS + 1, "Labels must be whole numbers from 0 to 1"),
    ("sparse", LABELS - 1, "Labels must be whole numbers from 0 to 1"),
    ("sparse", LABELS + 0.5, "Labels must be whole numbers from 0 to 1"),
    ("one-hot", ONE_HOT[:, :1], SHAPE),
    ("one-hot", np.tile(ONE_HOT, 2), SHAPE),
    ("one-hot", -ONE_HOT, ONE),
    ("one-hot", 2 * ONE_HOT, ONE),
    ("one-hot", np.full((8, 2), 0.4), ONE),
    ("binary", np.tile(LABELS[:, np.newaxis], 2), SHAPE),
    ("binary", LABELS + 1.0, "must be between 0 and 1"),
    ("binary", -LABELS.astype(float) - 1, "must be between 0 and 1"),
    ("normal", np.tile(REAL, 2), SHAPE),
    ("normal", np.full((8, 1), np.nan), "`y` has NaN or infinite"),
    ("normal", np.full((8, 1), 1e39), "`y` has NaN or infinite"),
    ("head", np.tile(REAL, 2), SHAPE),
    ("count", np.tile(REAL, 2), SHAPE),
    ("count", LABELS - 1.0, "are counts: they must be whole numbers from 0 on"),
    ("count", LABELS + 0.5, "are counts: they must be whole numbers from 0 on"),
]
IDS = [f"{kind}-{number}" for number, (kind, _, _) in enumerate(WRONG)]


class Subclass(tfbnn.Model):
    """It does not know its outputs before a step is traced."""

    def __init__(self, units):
        super().__init__()
        self.dense = tfbnn.layers.DenseReparameterization(units, **QUIET)

    def call(self, inputs, training=None):
        return self.dense(inputs, training=training)


@pytest.fixture(scope="module")
def models():
    """For each loss a model that has been fitted on right arrays and right streams of two sizes.

    TensorFlow has forgotten by then what it knew of the shapes.
    """
    fitted = {}
    for name, (loss, units, targets) in RIGHT.items():
        model = fitted[name] = Subclass(units)
        model.compile(keras.optimizers.SGD(0.0), loss=loss)
        model(X)
        for rows in (8, 7):
            model.fit(_stream(X[:rows], targets[:rows]), num_examples=8, verbose=0)
    return fitted


def _stream(x, y, *weights):
    rows = tf.data.Dataset.from_tensors((x, y, *weights))
    # Nothing of their shapes is known.
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None] * len(t.shape), t.dtype), (x, y))
    return tf.data.Dataset.from_generator(
        lambda: iter(rows), output_signature=(*spec, *[tf.TensorSpec([None])] * len(weights))
    )


@pytest.mark.parametrize("kind, targets, message", WRONG, ids=IDS)
def test_streams_of_wrong_targets_are_refused_by_a_traced_step(models, kind, targets, message):
    with np.errstate(over="ignore"):
        targets = targets.astype(RIGHT[kind][2].dtype) if kind != "sparse" else targets
    for method in ("fit", "evaluate"):
        options = {"num_examples": 8} if method == "fit" else {}
        with pytest.raises(ValueError, match=f"{message}.*Received"):
            getattr(models[kind], method)(_stream(X, targets), verbose=0, **options)


@pytest.mark.parametrize("kind", ["sparse", "binary", "normal"])
def test_a_last_axis_of_one_may_be_there_or_not(models, kind):
    model, targets = models[kind], RIGHT[kind][2].reshape(8)
    found = [
        model.fit(_stream(X, y), num_examples=8, verbose=0).history["nll"][0]
        for y in (targets, targets[:, np.newaxis], targets)
    ]
    expected = model.evaluate(X, targets, batch_size=8, verbose=0)
    assert np.ptp(found) < 0.5 and found[0] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("kind, targets, message", WRONG, ids=IDS)
def test_arrays_of_wrong_targets_are_refused_before_anything_is_done(kind, targets, message):
    loss, units, right = RIGHT[kind]
    layer = tfbnn.layers.DenseReparameterization(units)
    model = tfbnn.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(0.1), loss=loss, run_eagerly=True)
    before = model.get_weights()
    for refused in (
        lambda: model.fit(X, targets, verbose=0),
        lambda: model.fit(X, right, validation_data=(X, targets), verbose=0),
        lambda: model.evaluate(X, targets, verbose=0),
    ):
        with pytest.raises(ValueError, match=f"{message.replace('`y`', 'y`')}.*Received"):
            refused()
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    "kind, targets, message",
    [
        ("sparse", LABELS + 7, "Labels must be whole numbers"),
        ("one-hot", -ONE_HOT, ONE),
        ("normal", np.full((8, 1), np.inf, "float32"), "`y` has NaN or infinite"),
    ],
    ids=["sparse", "one-hot", "normal"],
)
def test_what_xla_compiles_is_checked_on_its_way(kind, targets, message):
    loss, units, right = RIGHT[kind]
    layers = [keras.Input((3,)), tfbnn.layers.DenseReparameterization(units)]
    model = tfbnn.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.0), loss=loss, jit_compile=True)
    dataset = tf.data.Dataset.from_tensors
    model.fit(dataset((X, right)), num_examples=8, verbose=0)
    assert np.isfinite(model.evaluate(dataset((X, right)), verbose=0))
    weights = np.full(8, np.nan, "float32")
    for element, words in [
        ((X, targets), message),
        ((np.float32(np.nan) * X, right), "`x` has NaN or infinite"),
        ((X, right, weights), "weights must be finite"),
    ]:
        for method, options in ((model.fit, {"num_examples": 8}), (model.evaluate, {})):
            with pytest.raises(ValueError, match=f"{words}.*Received"):
                method(dataset(element), verbose=0, **options)


@pytest.mark.parametrize("policy, limit", [("mixed_float16", 65504.0), ("mixed_bfloat16", 3e38)])
def test_inputs_must_fit_in_the_type_of_the_computation(policy, limit):
    keras.config.set_dtype_policy(policy)
    layers = [keras.Input((3,)), tfbnn.layers.DenseReparameterization(2)]
    model = tfbnn.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.0), loss=SPARSE, run_eagerly=True)
    wrong = np.where(np.arange(3) == 1, 1.05 * limit if limit < 1e5 else 1e39, X.astype(float))
    for refused in (
        lambda: model.fit(wrong, LABELS, verbose=0),
        lambda: model.evaluate(wrong, LABELS, verbose=0),
        lambda: model.predict(wrong, verbose=0),
    ):
        with pytest.raises(ValueError, match="beyond the range of float.*Received: 8 of 24"):
            refused()
    assert np.isfinite(model.fit(X, LABELS, verbose=0).history["loss"][0])


def test_batches_are_checked_too(models):
    model = models["sparse"]
    model.num_examples = 8
    for method in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="Labels must be whole numbers.*Received"):
            method(X, LABELS + 1)
        method(X, LABELS)


BAD_NUMBERS = [np.nan, np.inf, 1e39]


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_inputs_that_float32_does_not_hold_are_refused(models, bad):
    wrong = X.astype("float64")
    wrong[3, 1] = bad
    model = models["sparse"]
    for refused in (
        lambda: model.fit(wrong, LABELS, verbose=0),
        lambda: model.fit(X, LABELS, validation_data=(wrong, LABELS), verbose=0),
        lambda: model.fit(np.concatenate([X, wrong]), np.tile(LABELS, 2), validation_split=0.5),
        lambda: model.evaluate(wrong, LABELS, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"x` has NaN or infinite.*Received: 1 of"):
            refused()
    with np.errstate(over="ignore"):
        stream = _stream(wrong.astype("float32"), LABELS)
    with pytest.raises(ValueError, match="`x` has NaN or infinite.*Received: 1 of"):
        model.fit(stream, num_examples=8, verbose=0)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, -1.0])
def test_weights_of_examples_are_numbers_of_observations(models, bad):
    weights = np.ones(8)
    weights[2] = bad
    model = models["sparse"]
    message = "(S|s)ample.weight.*(NaN|finite).*Received"
    for refused in (
        lambda: model.fit(X, LABELS, sample_weight=weights, verbose=0),
        lambda: model.fit(X, LABELS, validation_data=(X, LABELS, weights), verbose=0),
        lambda: model.evaluate(X, LABELS, sample_weight=weights, verbose=0),
        lambda: model.fit(_stream(X, LABELS, weights.astype("float32")), num_examples=8, verbose=0),
    ):
        with pytest.raises(ValueError, match=message), np.errstate(over="ignore"):
            refused()
    with pytest.raises(ValueError, match=r"`class_weight\[1\]` must be .* Received: class_weight"):
        model.fit(X, LABELS, class_weight={0: 1.0, 1: bad}, verbose=0)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, -1.0, "1"])
def test_weights_of_losses_are_checked_before_compile_changes_anything(bad):
    model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    model.compile(keras.optimizers.SGD(0.5), loss=SPARSE, beta=0.5)
    with pytest.raises(ValueError, match="`loss_weights` must be .* Received: loss_weights="):
        model.compile("adam", loss=HOT, loss_weights=[bad])
    with pytest.raises(ValueError, match="`beta` must be .* Received: beta="):
        model.compile("adam", loss=HOT, beta=np.nan)
    assert type(model.optimizer) is keras.optimizers.SGD and model.objective.beta == 0.5
    assert model.likelihood.sparse


def test_weights_of_another_shape_are_refused(models):
    stream = _stream(X, LABELS, np.ones(7, "float32"))
    with pytest.raises(ValueError, match="weights and masks must have the rows.*Received: shape"):
        models["sparse"].fit(stream, num_examples=8, verbose=0)


def test_one_hot_rows_that_do_not_count_may_be_empty():
    steps = np.ones((2, 3, 1), "float32")
    steps[:, 2] = 0.0
    targets = np.zeros((2, 3, 2), "float32")
    targets[:, :2, 1] = 1.0
    layers = [keras.Input((3, 1)), keras.layers.Masking(), tfbnn.layers.DenseReparameterization(2)]
    model = tfbnn.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.0), loss=HOT)
    assert np.isfinite(model.fit(steps, targets, verbose=0).history["loss"][0])
    targets[0, 1] = 0.0
    with pytest.raises(ValueError, match="that sum to 1.*Received"):
        model.fit(steps, targets, verbose=0)


def test_eager_and_graph_say_the_same():
    def check(value):
        require(value > 0, "It must be positive. Received: value =", value)
        require_finite("value", value)

    graph = tf.function(check, autograph=False)
    for value in (tf.constant([1.0, 2.0]), tf.constant(3.0)):
        check(value)
        graph(value)
    messages = []
    for function in (check, graph):
        with pytest.raises(ValueError, match="It must be positive") as error, clear_errors():
            function(tf.constant([1.0, -2.0]))
        messages.append(str(error.value))
    # NumPy and TensorFlow write numbers in their own ways.
    eager, traced = (message.partition(" = ") for message in messages)
    assert eager[:2] == traced[:2] and eager[2] == "[ 1. -2.]" and traced[2] == "1 -2"


def test_errors_of_others_pass():
    with pytest.raises(tf.errors.InvalidArgumentError), clear_errors():
        tf.debugging.Assert(False, ["other"])
