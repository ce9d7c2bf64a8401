"""Steps: the order of the layers, who reads what, and networks whose layers cannot be told."""

import keras
import numpy as np
import pytest

import tfbnn
from tfbnn.layers.steps import steps_of

K = keras.layers


def _dense(units=3, **options):
    return tfbnn.layers.DenseFlipout(units, **options)


def _names(model):
    return [step.layer.name for step in steps_of(model)]


def _check_chain(steps):
    """Each step reads the one before."""
    values = [steps.input, *(step.output for step in steps)]
    for step, value in zip(steps, values, strict=False):
        assert step.inputs == (value,)
    assert steps.output is values[-1]


def test_a_sequential_is_a_chain():
    model = tfbnn.Sequential(
        [keras.Input((4, 2)), _dense(3, name="a"), K.Flatten(name="b"), _dense(2, name="c")]
    )
    steps = steps_of(model)
    assert [step.layer for step in steps] == model.layers
    assert steps.input.shape == (None, 4, 2)
    assert [step.output.shape for step in steps] == [(None, 4, 3), (None, 12), (None, 2)]
    assert [step.name for step in steps] == [
        "'a' (DenseFlipout)",
        "'b' (Flatten)",
        "'c' (DenseFlipout)",
    ]
    _check_chain(steps)


@pytest.mark.parametrize("kind", [keras.Sequential, tfbnn.Sequential])
def test_a_sequential_without_an_input_has_steps_once_it_is_called(kind):
    model = kind([_dense(name="a"), K.ReLU(name="b")])
    with pytest.raises(ValueError, match="begin it with a `keras.Input`, or call it.*built=False"):
        steps_of(model)
    model(np.zeros((2, 4), "float32"))
    assert _names(model) == ["a", "b"]
    _check_chain(steps_of(model))


def test_every_layer_comes_after_those_it_reads():
    inputs = keras.Input((4,))
    # Made in another order than computed in.
    late = _dense(name="late")
    a = _dense(name="a")(inputs)
    b = K.ReLU(name="b")(_dense(name="long")(a))
    outputs = K.Concatenate(name="join")([late(b), a, inputs])
    steps = steps_of(tfbnn.Model(inputs, outputs))
    seen = [steps.input]
    for step in steps:
        assert all(value in seen for value in step.inputs)
        seen.append(step.output)
    assert sorted(step.layer.name for step in steps) == ["a", "b", "join", "late", "long"]
    by_name = {step.layer.name: step for step in steps}
    # In the order in which the layer takes them.
    expected = (by_name["late"].output, by_name["a"].output, steps.input)
    assert by_name["join"].inputs == expected
    assert steps.output is by_name["join"].output


def test_layers_that_the_output_does_not_need_are_no_steps():
    inputs = keras.Input((4,))
    a = _dense(name="a")(inputs)
    _dense(name="beside")(a)
    assert _names(tfbnn.Model(inputs, a)) == ["a"]


def test_a_model_of_nothing_has_no_steps():
    inputs = keras.Input((4,))
    steps = steps_of(keras.Model(inputs, inputs))
    assert not steps.steps and steps.output is steps.input


def test_models_inside_are_opened():
    inner = keras.Sequential([_dense(name="a"), K.ReLU(name="b")])
    middle = keras.Sequential([keras.Input((4,)), inner, K.Dropout(0.1, name="c")])
    inputs = keras.Input((4,))
    model = tfbnn.Model(inputs, _dense(name="d")(middle(inputs)))
    assert _names(model) == ["a", "b", "c", "d"]
    _check_chain(steps_of(model))


def test_a_shared_layer_is_a_step_for_each_call():
    layer = _dense(4, name="twice")
    inputs = keras.Input((4,))
    steps = steps_of(tfbnn.Model(inputs, layer(layer(inputs))))
    assert [step.layer for step in steps] == [layer, layer]
    _check_chain(steps)


def test_a_shared_model_is_opened_for_each_call():
    inner = keras.Sequential([keras.Input((4,)), _dense(4, name="a"), K.ReLU(name="b")])
    inputs = keras.Input((4,))
    steps = steps_of(tfbnn.Model(inputs, K.Add(name="sum")([inner(inputs), inner(inputs)])))
    names = [step.layer.name for step in steps]
    assert names == ["a", "b", "a", "b", "sum"]
    firsts = [step for step in steps if step.layer.name == "a"]
    assert all(step.inputs == (steps.input,) for step in firsts)
    assert firsts[0].output is not firsts[1].output
    assert steps.steps[-1].inputs == tuple(s.output for s in steps if s.layer.name == "b")


@pytest.mark.parametrize(
    "operation, name",
    [
        (lambda x, y: keras.ops.add(x, y), "Add"),
        (lambda x, y: x + y, "Add"),
        (lambda x, y: keras.ops.concatenate([x, y], axis=-1), "Concatenate"),
        (lambda x, y: x - y, "Subtract"),
    ],
)
def test_operations_on_values_alone_are_steps(operation, name):
    inputs = keras.Input((4,))
    x, y = _dense(name="x")(inputs), _dense(name="y")(inputs)
    steps = steps_of(tfbnn.Model(inputs, operation(x, y)))
    *before, last = steps
    assert type(last.layer).__name__ == name
    outputs = {step.layer.name: step.output for step in before}
    assert last.inputs == (outputs["x"], outputs["y"])


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + 1.0,
        lambda x: 2.0 * x,
        lambda x: keras.ops.add(x, np.ones(3, "float32")),
        lambda x: K.Add(name="add")([x, keras.ops.ones((1, 3))]),
    ],
)
def test_a_number_beside_the_values_is_refused(operation):
    inputs = keras.Input((4,))
    model = tfbnn.Model(inputs, operation(_dense()(inputs)))
    with pytest.raises(
        ValueError, match=r"operation '(add|multiply).*' takes a number.*type (Add|Multiply)"
    ):
        steps_of(model)


@pytest.mark.parametrize("training", [True, False, None])
def test_options_of_a_layer_are_no_numbers(training):
    inputs = keras.Input((4,))
    assert _names(tfbnn.Model(inputs, _dense(name="a")(inputs, training=training))) == ["a"]


class WithCall(tfbnn.Model):
    def __init__(self):
        super().__init__(name="own")
        self.layer = _dense()

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.parametrize("inside", [False, True])
def test_a_model_with_a_call_of_its_own_is_refused(inside):
    model = WithCall()
    if inside:
        inputs = keras.Input((4,))
        model = tfbnn.Model(inputs, model(inputs))
    else:
        model(np.zeros((2, 4), "float32"))
    with pytest.raises(ValueError, match="model 'own' .* `call` of its own.*type WithCall"):
        steps_of(model)


def test_several_inputs_are_refused():
    a, b = keras.Input((4,)), keras.Input((4,))
    model = tfbnn.Model([a, b], K.Add()([_dense()(a), _dense()(b)]))
    with pytest.raises(ValueError, match="Received: 2 inputs, 1 outputs"):
        steps_of(model)


def test_several_outputs_are_refused():
    inputs = keras.Input((4,))
    model = tfbnn.Model(inputs, [_dense()(inputs), _dense()(inputs)])
    with pytest.raises(ValueError, match="Received: 1 inputs, 2 outputs"):
        steps_of(model)


def test_a_model_of_several_inputs_inside_is_refused():
    a, b, inputs = (keras.Input((4,)) for _ in range(3))
    inner = keras.Model([a, b], K.Add()([a, b]), name="inner")
    model = tfbnn.Model(inputs, _dense()(inner([inputs, inputs])))
    with pytest.raises(ValueError, match="'inner' .*Received: 2 inputs, 1 outputs"):
        steps_of(model)


class Split(K.Layer):
    def call(self, inputs):
        return inputs, inputs


def test_a_layer_of_several_outputs_is_refused():
    inputs = keras.Input((4,))
    first, _ = Split(name="split")(inputs)
    with pytest.raises(ValueError, match="'split' .*Received: 1 inputs, 2 outputs"):
        steps_of(tfbnn.Model(inputs, _dense()(first)))


def test_models_inside_begin_at_entries():
    deep = keras.Sequential([keras.Input((3,), name="deep"), _dense(4)])
    inner = keras.Sequential([keras.Input((3,), name="inner"), deep, _dense(3)])
    inputs = keras.Input((3,))
    steps = steps_of(tfbnn.Model(inputs, inner(inner(inputs))))
    assert [entry.layer.name for entry in steps.entries] == ["inner", "deep", "inner", "deep"]
    values = [steps.input, steps.input, *[steps.steps[1].output] * 2]
    assert [entry.value for entry in steps.entries] == values
