"""Networks that are exported and compiled once, and what TensorFlow says they should answer."""

import copy
import dataclasses
import functools
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export import flat
from tests.export.c_source import models
from tfbnn.export import agreement
from tfbnn.export.c_source import c_compiler, exporter
from tfbnn.export.laws import FrozenLayer, FrozenWeight, MeanRule, MomentsRule
from tfbnn.export.variances import factorise
from tfbnn.layers.scopes import forward_rule
from tfbnn.layers.steps import steps_of
from tfbnn.layers.variational import random_maps
from tfbnn.prediction.moments import current_weights, outputs_at_points

ROWS = 100
# Compiled fast; the tests of the code's quality have the compiler optimise it.
QUICK = ("-std=c99", "-O0", "-fstack-usage")


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, its C code, and a function that runs it."""

    model: keras.Model
    x: np.ndarray
    manifest: dict
    folder: pathlib.Path
    network: c_compiler.CompiledNetwork

    def __call__(self, x=None):
        return self.network.answers(self.x if x is None else x)

    def compiled(self, build, flags):
        """The answers of the same code, compiled in another way."""
        program = c_compiler.compile_network(self.folder, build, self.folder.name, flags)
        network = copy.copy(self.network)
        network.program = program
        return network.answers(self.x)


@functools.cache
def model_of(name):
    keras.utils.set_random_seed(0)
    return models.MODELS[name][1]()


def written(model, folder, x, **options):
    """Export a model with a quick compiler, and keep what it compiled."""
    networks = []

    def compile_network(sources, build, name):
        program = c_compiler.compile_network(sources, build, name, QUICK)
        return shutil.copy(program, folder.parent / f"program_of_{name}")

    def network(*arguments):
        networks.append(c_compiler.CompiledNetwork(*arguments))
        return networks[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "compile_network", compile_network)
        patch.setattr(exporter, "CompiledNetwork", network)
        # Drawing networks takes longer than all the rest.
        patch.setattr(agreement, "draws_difference", lambda *_: 0.0)
        manifest = flat.c(model, folder, check_data=x, **options)
    return Network(model, x, manifest, folder, networks[0])


def answers_of(model, x, uncertainty="moments", precision="float32", scale="full", num_points=64):
    """The three answers for each row, by TensorFlow, with weights rounded as they should be."""
    exact = precision == "float32" and scale == "full"
    frozen = (
        None if exact and uncertainty == "moments" else rounded_weights(model, precision, scale)
    )
    inputs = tf.constant(x, tf.float32)
    if uncertainty == "moments":
        rule = current_weights if frozen is None else MomentsRule(frozen)
        outputs = outputs_at_points(steps_of(model), inputs, rule, num_points)
    else:
        with forward_rule(MeanRule(frozen)):
            outputs = model(inputs, training=False)[tf.newaxis]
    found = model.likelihood.answer(outputs)
    return [found[name].numpy() for name in model.likelihood.meanings]


def rounded_weights(model, precision, scale):
    frozen = {}
    for layer in random_maps(model):
        loc, deviation = layer.kernel.loc.numpy(), layer.kernel.scale.numpy()
        if precision == "int8":
            loc = rounded(loc, 127)
        if scale != "full":
            deviation = np.sqrt(factorise(deviation, scale).variance())
        elif precision == "int8":
            deviation = rounded(deviation, 255)
        bias = layer.bias and FrozenWeight(
            layer.bias.loc.numpy(), layer.bias.scale.numpy() if layer.bias.is_random else None
        )
        frozen[layer] = FrozenLayer(FrozenWeight(loc, deviation), bias)
    return frozen


def rounded(values, codes):
    """Multiples of a step for each unit: the largest value over the largest code."""
    axes = tuple(range(values.ndim - 1))
    steps = (np.abs(values).max(axes) / codes).astype(np.float32)
    return np.rint(values / np.where(steps, steps, 1)) * steps


def close(found, expected, tolerance=1e-5):
    """Each of the three answers is within the tolerance of the largest."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        size = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * size)
