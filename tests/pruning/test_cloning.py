"""Copies in memory need nothing to be registered: the code of the model is there."""

import functools
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.saving import object_registration

import tfbnn
from tests.pruning.models import spread

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.integers(0, 3, size=12)
FACTOR = 0.5  # of the module: a copy of the bytes of a function would not see it
Dense = tfbnn.layers.DenseFlipout


def scaled(factor):
    def function(x):
        return tf.nn.tanh(x) * factor

    return function


def relu(x):
    """Called as one of Keras' own, and another function."""
    return x * FACTOR


class Scaling:
    def __init__(self, factor):
        self.factor = factor

    def method(self, x):
        return x * self.factor

    def __call__(self, x):
        return x + self.factor


class Unregistered(keras.layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def build(self, input_shape):
        self.factor = self.add_weight(shape=input_shape[-1:], initializer="ones", name="factor")

    def call(self, inputs):
        return self.function(inputs) * self.factor

    def get_config(self):
        return {**super().get_config(), "function": self.function}

    @classmethod
    def from_config(cls, config):
        config["function"] = keras.saving.deserialize_keras_object(config["function"])
        return cls(**config)


class OwnInitializer(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return tf.fill(shape, FACTOR)

    def get_config(self):
        return {}


class OwnConstraint(keras.constraints.Constraint):
    def __call__(self, w):
        return w


class OwnOptimizer(keras.optimizers.SGD):
    pass


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1

    def get_config(self):
        return {}


class Warm(tfbnn.schedules.LinearWarmUp):
    pass


class OwnMetric(keras.metrics.SparseCategoricalAccuracy):
    pass


class Uncopyable(keras.optimizers.SGD):
    def get_config(self):
        raise NotImplementedError("this optimizer has no configuration")


def own_metric(y_true, y_pred):
    return tf.reduce_mean(y_pred, axis=-1)


def two_of_one_name():
    return [keras.layers.Activation(scaled(factor)) for factor in (2.0, 3.0)]


def lambdas_of_one_line():
    return [keras.layers.Lambda(lambda x, f=f: x * f + FACTOR * f) for f in (2.0, -3.0)]


# Layers between two random ones, made anew for each test.
LAYERS = {
    "a lambda": lambda: [keras.layers.Lambda(lambda x: x * FACTOR)],
    "a lambda with a closure": lambda: [
        (lambda array: keras.layers.Lambda(lambda x: x + array))(np.arange(6.0, dtype="float32"))
    ],
    "lambdas of one line": lambdas_of_one_line,
    "a named function": lambda: [keras.layers.Lambda(relu)],
    "a partial function": lambda: [keras.layers.Lambda(functools.partial(tf.multiply, FACTOR))],
    "an activation of one's own": lambda: [keras.layers.Dense(6, activation=relu)],
    "an activation that is a lambda": lambda: [Dense(6, activation=lambda x: x * FACTOR)],
    "an activation that is partial": lambda: [
        Dense(6, activation=functools.partial(tf.nn.leaky_relu, alpha=FACTOR))
    ],
    "an activation that is a method": lambda: [Dense(6, activation=Scaling(2.0).method)],
    "an activation that is an object": lambda: [Dense(6, activation=Scaling(2.0))],
    "an activation of TensorFlow": lambda: [Dense(6, activation=tf.nn.relu6), Dense(6)],
    "two functions of one name": two_of_one_name,
    "a layer": lambda: [Unregistered(lambda x: x * FACTOR)],
    "an inner model": lambda: [keras.Sequential([keras.Input((6,)), Unregistered(scaled(2.0))])],
    "an initializer": lambda: [
        keras.layers.Dense(6, kernel_initializer=OwnInitializer()),
        Dense(6, kernel_initializer=lambda shape, dtype=None: tf.fill(shape, FACTOR)),
    ],
    "a constraint": lambda: [Dense(6, kernel_constraint=OwnConstraint(), bias_constraint=relu)],
}
COMPILED = {
    "an optimizer": lambda: {"optimizer": OwnOptimizer(0.1)},
    "a learning rate": lambda: {"optimizer": keras.optimizers.Adam(OwnSchedule())},
    "metrics": lambda: {"metrics": [OwnMetric(), own_metric, lambda y, p: tf.reduce_max(p, -1)]},
    "a schedule of the KL": lambda: {"kl_schedule": Warm(epochs=2)},
}
COPIES = {
    "clone_model": tfbnn.clone_model,
    "prune": lambda model: tfbnn.prune(model, 0.0),
    "compact": tfbnn.compact,
}


def _compiled(layers, functional=False, **options):
    layers = [Dense(6, bias_posterior="normal"), *layers, Dense(3)]
    if functional:
        outputs = inputs = keras.Input((4,))
        for layer in layers:
            outputs = layer(outputs)
        model = tfbnn.Model(inputs, outputs)
    else:
        model = tfbnn.Sequential([keras.Input((4,)), *layers])
    model.compile(**{"optimizer": "adam", "loss": LOSS, "run_eagerly": True, **options})
    return spread(model)


def _check(model, copy, name):
    if name == "clone_model":
        copy.set_weights(model.get_weights())
    expected = keras.ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(copy(X)), expected, rtol=1e-5)
    assert type(copy.optimizer) is type(model.optimizer)
    found, wanted = (m.evaluate(X, Y, verbose=0, return_dict=True) for m in (copy, model))
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    """The registry is as it was, and so are the names of functions."""
    before = dict(object_registration.GLOBAL_CUSTOM_NAMES), dict(keras.saving.get_custom_objects())
    yield
    assert object_registration.GLOBAL_CUSTOM_NAMES == before[0]
    assert keras.saving.get_custom_objects() == before[1]


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layers_that_are_not_registered(make):
    model = _compiled(make())
    for name, copied in COPIES.items():
        _check(model, copied(model), name)


@pytest.mark.parametrize("make", COMPILED.values(), ids=COMPILED)
def test_what_a_model_is_compiled_with(make):
    model = _compiled([], **make())
    for name, copied in COPIES.items():
        copy = copied(model)
        _check(model, copy, name)
        assert type(copy.objective.kl_schedule) is type(model.objective.kl_schedule)


def test_functions_are_the_same_and_keep_their_names():
    model = _compiled(LAYERS["a lambda with a closure"]() + LAYERS["a partial function"]())
    pruned = tfbnn.prune(model, 0.5)
    for old, new in zip(model.layers[1:3], pruned.layers[1:3], strict=True):
        assert new is not old and new.function is old.function
    assert model.layers[1].function.__name__ == "<lambda>"
    assert not hasattr(model.layers[2].function, "__name__")


def test_a_copy_of_a_copy_and_the_original_afterwards():
    model = _compiled(LAYERS["a layer"]())
    copy = tfbnn.compact(tfbnn.prune(tfbnn.prune(model, 0.2), 0.4))
    assert copy.layers[1].function is model.layers[1].function
    assert tfbnn.pruning.masks.sparsity_of(model) == 0


def test_a_class_that_was_defined_twice_stays_the_one_of_the_model():
    # As where a cell of a notebook was run again.
    def define(factor):
        @keras.saving.register_keras_serializable("notebook")
        class Twice(keras.layers.Layer):
            def call(self, inputs):
                return inputs * factor

        return Twice

    model = _compiled([define(2.0)()])
    define(3.0)
    _check(model, tfbnn.prune(model, 0.0), "prune")
    del keras.saving.get_custom_objects()["notebook>Twice"]
    names = object_registration.GLOBAL_CUSTOM_NAMES
    for cls in [cls for cls, name in names.items() if name == "notebook>Twice"]:
        del names[cls]


def test_a_subclass_that_is_not_registered():
    class Own(tfbnn.Model):
        def __init__(self, activation, **kwargs):
            super().__init__(**kwargs)
            self.activation = activation
            self.out = Dense(3)

        def get_config(self):
            return {**super().get_config(), "activation": self.activation}

        @classmethod
        def from_config(cls, config):
            activation = keras.saving.deserialize_keras_object(config["activation"])
            return super().from_config({**config, "activation": activation})

        def call(self, inputs, training=None):
            return self.out(self.activation(inputs), training=training)

    model = Own(lambda x: x * FACTOR)
    model(X)
    model.compile("adam", loss=LOSS, run_eagerly=True)
    _check(spread(model), tfbnn.prune(model, 0.0), "prune")


def test_curves_and_distillation_of_all_kinds_at_once():
    layers = [layer for make in LAYERS.values() for layer in make()]
    options = {name: value for make in COMPILED.values() for name, value in make().items()}
    model = _compiled(layers, functional=True, **options)
    for name, copied in COPIES.items():
        _check(model, copied(model), name)
    curve = tfbnn.pruning_curve(model, X, Y, [0.0, 0.5], num_samples=2, verbose=0)
    scores = tfbnn.evaluate(model, X, Y, num_samples=2, seed=0, verbose=0).scores()
    assert {name: curve.rows[0][name] for name in scores} == pytest.approx(scores, rel=1e-5)
    pruned = tfbnn.prune(model, sparsity=0.5)
    answers = tfbnn.predict(model, X, num_samples=2, seed=0, verbose=0)
    logs = tfbnn.distill(pruned, X, answers, uncertainty="none", epochs=1, verbose=0).history
    assert np.isfinite(logs["cross_entropy"]).all()


def test_a_curve_needs_no_optimizer():
    model = _compiled([], optimizer=Uncopyable(), metrics=[own_metric])
    curve = tfbnn.pruning_curve(model, X, Y, [0.0], num_samples=2, verbose=0)
    assert curve.rows[0]["weights"] == 42
    # A model to train again does.
    with pytest.raises(NotImplementedError, match="has no configuration"):
        tfbnn.prune(model, sparsity=0.5)


def test_threads_copy_one_after_the_other():
    model = _compiled(LAYERS["a lambda with a closure"]())
    copies = []

    def copy_once():
        copies.append(tfbnn.prune(model, 0.0))

    threads = [threading.Thread(target=copy_once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 2
    for copy in copies:
        _check(model, copy, "prune")
