"""Equal runs end in equal bits, however many threads run the operations.

TensorFlow's `AddN` begins with the first of its inputs whose memory nobody else reads any more. If
there are three or more, and the first is read elsewhere too, the order is a matter of time: too
rare to wait for in a test, and plain to see in the graph that TensorFlow runs.
"""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import tfbnn
from tfbnn.weights import realisation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype("float32")
Y = RNG.integers(0, 3, 48)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ESTIMATORS = "Flipout", "LocalReparameterization", "Reparameterization"
# Operations that hand on the memory of their input.
ALIASES = "Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims"


def _graphs(run):
    """The graphs that TensorFlow runs, after its optimizations."""
    context.enable_run_metadata()
    try:
        run()
        return [g.post_optimization_graph for g in context.export_run_metadata().function_graphs]
    finally:
        context.disable_run_metadata()


def _name(text):
    """`"node:2"` as a pair."""
    node, _, number = text.partition(":")
    return node, int(number or 0)


def _ordered_by_time(nodes):
    """Names of the sums whose order depends on what is ready first."""
    by_name = {node.name: node for node in nodes}

    def origin(text):
        node, number = _name(text)
        while node in by_name and by_name[node].op in ALIASES:
            inputs = by_name[node].input
            node, number = _name(inputs[number if by_name[node].op == "IdentityN" else 0])
        return node, number

    readers = collections.Counter(
        origin(text)
        for node in nodes
        if node.op not in ALIASES
        for text in node.input
        if not text.startswith("^")
    )
    for node in nodes:
        inputs = [origin(text) for text in node.input if not text.startswith("^")]
        if node.op == "AddN" and len(inputs) > 2 and readers[inputs[0]] > 1:
            yield node.name


def _sums_ordered_by_time(run):
    return [name for graph in _graphs(run) for name in _ordered_by_time(graph.node)]


def test_the_check_sees_a_sum():
    @tf.function(autograph=False)
    def of_three(x):
        # TensorFlow sorts the inputs of a sum by name.
        read_twice = tf.multiply(x, 2.0, name="A")
        return tf.add_n([read_twice, tf.sin(x), tf.cos(x)]), read_twice @ x

    assert len(_sums_ordered_by_time(lambda: of_three(tf.eye(3)))) == 1


@functools.cache
def _model(estimator, jit_compile=False):
    """Three draws and a layer called twice: each weight has several gradients."""
    dense = getattr(tfbnn.layers, f"Dense{estimator}")
    options = {"kernel_prior": "scale_mixture", "bias_posterior": "normal"}
    shared = dense(6, activation="relu", activity_regularizer="l2", **options)
    inputs = keras.Input((6,))
    model = tfbnn.Model(inputs, dense(3, **options)(shared(shared(inputs))))
    adam = keras.optimizers.Adam(0.01)
    model.compile(adam, loss=LOSS, num_draws=3, jit_compile=jit_compile)
    return model


def _fitted(model):
    """All that a short run leaves behind, in bits."""
    history = model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    return [variable.numpy().tobytes() for variable in model.variables], history


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_sum_of_a_training_step_is_ordered_by_time(estimator):
    if estimator == "Reparameterization":
        # What weights of one shape share has been traced before, for a step that XLA compiles.
        realisation._of_kind.cache_clear()
        _fitted(_model(estimator, jit_compile=True))
    assert _sums_ordered_by_time(lambda: _fitted(_model(estimator))) == []


def test_equal_runs_end_in_equal_bits():
    model = _model("Flipout")
    _fitted(model)
    state = model.variables + model.optimizer.variables
    start = [variable.numpy() for variable in state]
    ends = []
    for _ in range(5):
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)
        ends.append(_fitted(model))
    assert all(end == ends[0] for end in ends)
    assert ends[0][0] != [value.tobytes() for value in start]
