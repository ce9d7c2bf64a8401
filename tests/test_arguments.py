"""Checks of arguments: what each kind takes, gives back and refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbnn import arguments

NO_NUMBERS = [None, "3", b"3", True, np.True_, [1], np.ones(2), 1j, object, {}]


@pytest.mark.parametrize("value", [3, np.int8(3), np.int64(3), np.array(3), tf.constant(3)])
def test_whole_numbers_come_back_plain(value):
    number = arguments.whole_number("n", value, minimum=3)
    assert type(number) is int and number == 3


@pytest.mark.parametrize("value", [*NO_NUMBERS, 3.0, np.float32(3), float("nan")], ids=repr)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match=r"`n` must be a whole number, at least 1. Received: n="):
        arguments.whole_number("n", value, minimum=1)


def test_a_whole_number_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="Received: n=0"):
        arguments.whole_number("n", 0, minimum=1)
    assert arguments.whole_number("n", -2) == -2


@pytest.mark.parametrize(
    "value", [2, 2.0, np.float16(2), np.int32(2), np.array(2.0), tf.constant(2.0)]
)
def test_real_numbers_come_back_plain(value):
    number = arguments.positive("s", value)
    assert type(number) is float and number == 2.0


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS, np.nan, np.inf, -np.inf, 1e39, 10**400, 1e-39, 0.0, -1.0], ids=repr
)
def test_what_is_no_positive_float32_is_refused(value):
    with pytest.raises(ValueError, match=r"`s` must be a positive number, finite in float32. Rec"):
        arguments.positive("s", value)


@pytest.mark.parametrize("value", [0.0, 1.0, 1 - 1e-12, -0.1, 1.1])
def test_limits_hold_in_float32_too(value):
    with pytest.raises(ValueError, match="strictly between 0 and 1. Received: p="):
        arguments.real_number("p", value, 0, 1, exclusive=True)


def test_limits_may_be_allowed_themselves():
    assert [arguments.real_number("p", value, 0, 1) for value in (0, 1)] == [0.0, 1.0]
    with pytest.raises(ValueError, match="a number of at least 0, finite"):
        arguments.real_number("p", -1, minimum=0)
    with pytest.raises(ValueError, match="a number, finite in float32"):
        arguments.real_number("p", np.nan)


@pytest.mark.parametrize("value", [None, "c", ["a"], np.array(["a"]), 1])
def test_a_choice_is_one_of_those_offered(value):
    assert arguments.one_of("c", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"`c` must be one of \('a', 'b'\). Received: c="):
        arguments.one_of("c", value, ("a", "b"))


@pytest.mark.parametrize("value", [None, 0, 1, "yes", [True]])
def test_a_boolean_is_true_or_false(value):
    assert arguments.boolean("b", np.True_) is True
    with pytest.raises(ValueError, match="`b` must be True or False. Received: b="):
        arguments.boolean("b", value)


@pytest.mark.parametrize("value", [[1, 2], (1, 2), np.array([1, 2]), tf.constant([1, 2])], ids=repr)
def test_sequences_come_back_as_lists(value):
    assert arguments.listed("n", value, arguments.count) == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "3",
        b"3",
        memoryview(b"3"),
        keras.layers.Dense,
        {1},
        {1: 2},
        iter([1]),
        np.ones((2, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_sequence_is_refused(value):
    with pytest.raises(ValueError, match="`n` must be a list or a tuple. Received: n="):
        arguments.listed("n", value, arguments.count)


def test_a_standard_deviation_may_be_left_to_the_layer():
    assert arguments.standard_deviation_or_fan_in("s", "fan_in") == "fan_in"
    scale = arguments.standard_deviation_or_fan_in("s", np.float32(0.5))
    assert type(scale) is float and scale == 0.5


@pytest.mark.parametrize("value", [*NO_NUMBERS, "fan_out", np.array(["fan_in"]), 0.0, 1e13])
def test_what_is_neither_a_standard_deviation_nor_fan_in_is_refused(value):
    with pytest.raises(ValueError, match="^'fan_in' or a number: `s` must be .*Received: s="):
        arguments.standard_deviation_or_fan_in("s", value)
