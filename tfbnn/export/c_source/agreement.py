"""Agreement: does the C code answer as Keras and TensorFlow do?

Code without variances is compared with the Keras model at the mean of its weights, code with
variances with the same moments in TensorFlow (`tfbnn.prediction.moments`). How far moments are from
drawn networks is no matter of the code: it is measured, for the manifest.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfbnn.export.agreement import UNCERTAINTY_FACTOR
from tfbnn.export.c_source.translator import Settings
from tfbnn.export.c_source.weights import LARGEST_CODE, LARGEST_SCALE_CODE, rounded
from tfbnn.export.laws import FrozenLayer, FrozenModel, FrozenWeight, MeanRule, MomentsRule, freeze
from tfbnn.export.variances import factorise
from tfbnn.layers.keras_layers import record_of
from tfbnn.layers.precision import in_float32
from tfbnn.layers.records import Linear
from tfbnn.layers.scopes import forward_rule
from tfbnn.layers.steps import Steps, steps_of
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.gaussian import AbstractGaussianPosterior
from tfbnn.prediction.moments import outputs_at_points

Run = Callable[[np.ndarray], list[np.ndarray]]

# Largest difference of a prediction that is accepted, by the precision of the weights: of
# probabilities, or of real numbers relative to the largest. The first two as for a LiteRT file.
# Moments in float32 lose more where inputs are large: 1e-6 at inputs of size 1, 7e-4 at 255.
TOLERANCES = {"float32": 1e-4, "int8": 5e-2}
MOMENTS_TOLERANCES = {"float32": 1e-3, "int8": 5e-2}
# Of the check program; see `tight_limits`. Sums of float32 in another order differ by 1e-6 or so.
_FACTOR = 10.0
_LEAST = 1e-5


def expected_answers(
    posterior: AbstractPosterior, settings: Settings, rows: np.ndarray
) -> list[np.ndarray]:
    """The three answers that the code should give, before its weights are rounded."""
    if settings.is_random:
        return answers_as_stored(
            posterior, dataclasses.replace(settings, precision="float32"), rows
        )
    outputs = posterior.network(posterior.mean(), tf.convert_to_tensor(rows))
    return _listed(posterior, outputs[tf.newaxis])


def answers_as_stored(
    posterior: AbstractPosterior, settings: Settings, rows: np.ndarray
) -> list[np.ndarray]:
    """The three answers of TensorFlow with the weights that the code has, in float32."""
    model, inputs = posterior.model, tf.convert_to_tensor(rows)
    frozen = _frozen(posterior, settings)
    steps = steps_of(model)
    with keras.StatelessScope(state_mapping=_rounded_kernels(steps, settings)):
        if settings.is_random:
            rule = MomentsRule(frozen)
            return _listed(posterior, outputs_at_points(steps, inputs, rule, settings.num_points))
        with forward_rule(MeanRule(frozen)), in_float32(model):
            return _listed(posterior, model(inputs, training=False)[tf.newaxis])


def limits(values: list[np.ndarray], tolerance: float) -> tuple[float, ...]:
    """What each answer may differ from `values`, at most, as in `tfbnn.export.agreement`."""
    sizes = [max(1.0, float(np.max(np.abs(part)))) for part in values]
    factors = [1.0, *[UNCERTAINTY_FACTOR] * (len(values) - 1)]
    return tuple(tolerance * f * size for f, size in zip(factors, sizes, strict=True))


def arithmetic_tolerance(settings: Settings, tolerance: float) -> float:
    """The share of a tolerance that is for arithmetic in float32, where weights are the same."""
    table = MOMENTS_TOLERANCES if settings.is_random else TOLERANCES
    return tolerance * table["float32"] / table[settings.precision]


def tight_limits(
    stored: list[np.ndarray], found: list[np.ndarray], largest: tuple[float, ...]
) -> tuple[float, ...]:
    """Limits from what the code was off by where it was compiled, on all rows.

    Other compilers and other functions of libm round in other ways: `_FACTOR` times as much, and at
    least `_LEAST`, may differ there.
    """
    measured = [float(np.max(np.abs(a - b))) for a, b in zip(stored, found, strict=True)]
    sizes = [max(1.0, float(np.max(np.abs(values)))) for values in stored]
    wanted = [max(_FACTOR * m, _LEAST * size) for m, size in zip(measured, sizes, strict=True)]
    return tuple(map(min, wanted, largest))


def _listed(posterior: AbstractPosterior, outputs: tf.Tensor) -> list[np.ndarray]:
    likelihood = posterior.likelihoods[0]
    answers = likelihood.answer(outputs)
    return [answers[name].numpy() for name in likelihood.meanings]


def _rounded_kernels(steps: Steps, settings: Settings) -> list[tuple[keras.Variable, np.ndarray]]:
    """Kernels of Keras' own layers as they are stored."""
    if settings.precision == "float32":
        return []
    linear = [record for record in map(record_of, steps) if isinstance(record, Linear)]
    kernels = [(r.layer.kernel, r.units) for r in linear if not r.is_variational]
    return [
        (kernel, rounded(np.reshape(kernel, (-1, units)), LARGEST_CODE).reshape(kernel.shape))
        for kernel, units in kernels
    ]


def _frozen(posterior: AbstractPosterior, settings: Settings) -> FrozenModel:
    """Weights as they are stored, variances one by one: another way to the same sums as in C."""
    if not isinstance(posterior, AbstractGaussianPosterior):
        return {}
    return {
        layer: FrozenLayer(_as_stored(weights.kernel, settings), weights.bias)
        for layer, weights in freeze(posterior).items()
    }


def _as_stored(kernel: FrozenWeight, settings: Settings) -> FrozenWeight:
    loc, scale, is_rounded = kernel.loc, kernel.scale, settings.precision == "int8"
    if settings.scale != "full":
        scale = np.sqrt(factorise(scale, settings.scale).variance())
    elif is_rounded:
        scale = rounded(scale, LARGEST_SCALE_CODE)
    return FrozenWeight(rounded(loc, LARGEST_CODE) if is_rounded else loc, scale)
