"""C code against Keras, and against the formulas in NumPy."""

import ctypes
import json
import re
import shutil
import subprocess
import threading

import keras
import numpy as np
import pytest

import tfbnn
from tests.export.c_source import models, reference
from tfbnn.export.c_source import compilation, exporter
from tfbnn.export.c_source.compilation import CompiledNetwork, compile_network

pytestmark = pytest.mark.skipif(
    compilation.compiler() is None, reason="there is no C compiler `cc` to run the code"
)
ROWS = 1000


def exported(model, shape, folder, x=None, **options):
    """The manifest and a function that runs the code."""
    x = models.inputs_of(shape) if x is None else x
    options = {"check_data": x, "tolerance": options.pop("tolerance", None), **options}
    manifest = tfbnn.export.c(model, folder, **options)
    return manifest, running(model, folder, options.get("input_type", "float32"))


def running(model, folder, input_type="float32", flags=None):
    build = folder.parent / f"build_{len(list(folder.parent.iterdir()))}"
    build.mkdir()
    flags = compilation.FLAGS if flags is None else flags
    program = compile_network(folder, build, folder.name, flags)
    examples = models.inputs_of(model.input_shape[1:], 2)
    shapes = [answer.shape[1:] for answer in reference.answers_of(model, examples, "none")]
    return CompiledNetwork(program, input_type, shapes).answers


def close(found, expected, tolerance=1e-4):
    """Each of the three answers is within the tolerance of the largest."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        size = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_mean_is_that_of_keras(name, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net", uncertainty="none")
    found = run(x)
    close(found, reference.answers_of(model, x, "none"))
    keras_output = model.predict(x, verbose=0)
    likelihood = model.likelihood
    parameters = likelihood.parameters(keras_output)
    np.testing.assert_allclose(found[0], parameters[0].numpy(), rtol=0, atol=1e-4)
    assert not found[2].any()


@pytest.mark.parametrize("name", models.MODELS)
def test_moments_are_those_of_the_formulas(name, tmp_path):
    shape, make = models.MODELS[name]
    model, x = make(), models.inputs_of(shape)
    _, run = exported(model, shape, tmp_path / "net")
    close(run(x), reference.answers_of(model, x))
