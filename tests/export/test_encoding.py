"""Sparse storage in LiteRT files: the same answers bit for bit, in fewer bytes, in any runtime."""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfbnn.export import encoding

PLAIN = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
DENSIFY = schema.BuiltinOperator.DENSIFY


def kernel(shape, sparsity, block=1, seed=0):
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(size=(-(-shape[0] // block), *shape[1:])) >= sparsity
    return (rng.normal(size=shape) * blocks.repeat(block, 0)[: shape[0]]).astype(np.float32)


def converted(function, *shape):
    module = tf.Module()
    signature = [tf.TensorSpec(shape, tf.float32, name="x")]
    module.f = tf.function(lambda x: {"y": function(x)}, input_signature=signature, autograph=False)
    graph = module.f.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    return converter.convert()


def answers(content, x, plain):
    options = {"experimental_op_resolver_type": PLAIN} if plain else {}
    interpreter = litert.Interpreter(model_content=content, **options)
    return interpreter.get_signature_runner()(x=x)["y"]


def operations(content):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [model.operatorCodes[op.opcodeIndex] for op in model.subgraphs[0].operators]
    return {max(code.builtinCode, code.deprecatedBuiltinCode) for code in codes}


def dense(w, bias=True):
    offset = np.linspace(-1, 1, w.shape[1]).astype(np.float32)
    return lambda x: tf.nn.relu(x @ tf.constant(w) + (offset if bias else 0.0))


@pytest.mark.parametrize("plain", [False, True], ids=["delegate", "plain"])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("sparsity", [0.6, 0.92, 0.99])
@pytest.mark.parametrize("inputs", [64, 300, 1030])
def test_dense_kernels_keep_their_answers(inputs, sparsity, block, rows, plain):
    # More than 255 and more than 65,535 elements, so that every width of positions occurs.
    w = kernel((inputs, 96), sparsity, block)
    content = converted(dense(w), rows, inputs)
    small = encoding.smaller(content, sparse=True)
    x = np.random.default_rng(1).normal(size=(rows, inputs)).astype(np.float32)
    expected = np.maximum(x @ w + np.linspace(-1, 1, 96), 0)
    np.testing.assert_allclose(answers(small, x, plain), expected, rtol=1e-5, atol=1e-5)
    assert len(small) < 0.9 * len(content)


def test_few_weights_are_multiplied_as_they_are_and_many_written_out():
    few, many = kernel((256, 64), 0.95), kernel((256, 64), 0.6)
    for w, expected in ((few, False), (many, True)):
        small = encoding.smaller(converted(dense(w), 1, 256), sparse=True)
        assert (DENSIFY in operations(small)) == expected


def test_bytes_of_rows_and_of_blocks():
    for block, position in ((1, 2), (4, 1 / 4)):
        w = kernel((800, 500), 0.97, block)
        small = encoding.smaller(converted(dense(w), 1, 800), sparse=True)
        kept = np.count_nonzero(w)
        # A value in 4 bytes and its position; rows begin somewhere, and so does the file.
        assert len(small) <= (4 + position) * kept + 4 * 501 + 4 * 500 + 2500


@pytest.mark.parametrize("plain", [False, True], ids=["delegate", "plain"])
@pytest.mark.parametrize("block", [1, 4])
def test_convolutions_and_float16_are_written_out(block, plain):
    w = kernel((3 * 3 * 16, 32), 0.9, block).reshape(3, 3, 16, 32)
    content = converted(lambda x: tf.nn.conv2d(x, w, 1, "SAME"), 1, 8, 8, 16)
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 16)).astype(np.float32)
    for halved in (False, True):
        small = encoding.smaller(content, sparse=True, halved=halved)
        assert DENSIFY in operations(small) and len(small) < (0.3 if halved else 0.5) * len(content)
        rounded = w.astype(np.float16).astype(np.float32) if halved else w
        expected = tf.nn.conv2d(x, rounded, 1, "SAME")
        np.testing.assert_allclose(answers(small, x, plain), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plain", [False, True], ids=["delegate", "plain"])
def test_small_constants_keep_their_digits_beside_float16(plain):
    w = kernel((64, 96), 0.0)
    content = converted(lambda x: tf.math.rsqrt(tf.nn.relu(x @ w) + 1e-12), 1, 64)
    small = encoding.smaller(content, sparse=False, halved=True)
    assert len(small) < 0.6 * len(content)
    # With a 1e-12 in float16, which is 0, there would be infinities.
    np.testing.assert_allclose(answers(small, np.zeros((1, 64), np.float32), plain), 1e6, rtol=1e-2)


def test_equal_positions_are_stored_once():
    w = kernel((400, 300), 0.97)
    both = converted(lambda x: dense(w)(x) + tf.square(x) @ tf.constant(w**2), 1, 400)
    small = encoding.smaller(both, sparse=True)
    kept = np.count_nonzero(w)
    assert len(small) <= (4 + 4 + 2) * kept + 2 * 4 * 301 + 4 * 300 + 3000


def test_the_file_is_a_fixed_point_and_data_are_aligned():
    small = encoding.smaller(converted(dense(kernel((300, 96), 0.95)), 1, 300), sparse=True)
    assert encoding.smaller(small, sparse=True) == small
    model = schema.Model.GetRootAs(small, 0)
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy()
        if isinstance(data, np.ndarray):
            offset = data.__array_interface__["data"][0]
            start = np.frombuffer(small, np.uint8).__array_interface__["data"][0]
            assert (offset - start) % 16 == 0


def test_a_dense_file_keeps_its_weights():
    w = kernel((64, 96), 0.0)
    content = converted(dense(w), 1, 64)
    small = encoding.smaller(content, sparse=True)
    x = np.ones((1, 64), np.float32)
    np.testing.assert_array_equal(answers(small, x, True), answers(content, x, True))
    assert w.tobytes() in small or w.T.tobytes() in small
