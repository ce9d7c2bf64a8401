"""Agreement: does the C code answer as Keras and TensorFlow do?

Code without variances is compared with the Keras model at the mean of its weights, code with
variances with the same moments in TensorFlow (`tfbnn.prediction.moments`). How far moments are from
drawn networks is no matter of the code: it is measured, for the manifest.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfbnn.export import verification
from tfbnn.export.c_source.check_program import Expected
from tfbnn.export.c_source.translator import Settings
from tfbnn.export.freeze import (
    FrozenLayer,
    FrozenModel,
    FrozenWeight,
    MomentsRule,
    freeze,
)
from tfbnn.export.variances import factorise
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.answers import OUTPUTS, answer
from tfbnn.prediction.moments import outputs_at_points

Run = Callable[[np.ndarray], list[np.ndarray]]

# Largest difference of a prediction that is accepted, by the precision of the weights: of
# probabilities, or of real numbers relative to the largest. The first two as for a LiteRT file.
# Moments in float32 lose more where inputs are large: 1e-6 at inputs of size 1, 7e-4 at 255.
_TOLERANCES = {"float32": 1e-4, "int8": 5e-2}
_MOMENTS_TOLERANCES = {"float32": 1e-3, "int8": 5e-2}


def default_tolerance(posterior: AbstractPosterior, settings: Settings) -> float:
    """The tolerance where the caller gives none."""
    if settings.is_random:
        return _MOMENTS_TOLERANCES[settings.precision]
    # Moments are computed in float32, the mean in the precision of the model.
    return max(_TOLERANCES[settings.precision], verification.keras_tolerance(posterior))


def expected_answers(
    posterior: AbstractPosterior, settings: Settings, rows: np.ndarray
) -> list[np.ndarray]:
    """The three answers that the code should give, before its weights are rounded."""
    inputs = tf.convert_to_tensor(rows)
    if settings.is_random:
        rule = MomentsRule(_frozen(posterior, settings.scale))
        steps = steps_of(posterior.model)
        outputs = outputs_at_points(steps, inputs, rule, settings.num_points)
    else:
        outputs = posterior.network(posterior.mean(), inputs)[tf.newaxis]
    likelihood = posterior.likelihoods[0]
    found = answer(likelihood, outputs)
    return [found[name].numpy() for name in OUTPUTS[likelihood.kind]]


def expected_of_program(
    rows: np.ndarray, answers: list[np.ndarray], tolerance: float, count: int
) -> Expected:
    """What the check program compares with on its rows, the first `count`."""
    limits = [verification.UNCERTAINTY_FACTOR * tolerance] * len(answers)
    limits[0] = tolerance
    # Relative to the largest of all rows, as in `verification`.
    sizes = [max(1.0, float(np.max(np.abs(values)))) for values in answers]
    return Expected(
        rows[:count],
        tuple(values[:count] for values in answers),
        tuple(limit * size for limit, size in zip(limits, sizes, strict=True)),
    )


def _frozen(posterior: AbstractPosterior, scale: str) -> FrozenModel:
    """Variances in the form asked for, one by one: another way to the same sums as in C."""
    frozen = freeze(posterior)
    if scale == "full":
        return frozen
    return {
        layer: FrozenLayer(_in_form(weights.kernel, scale), weights.bias)
        for layer, weights in frozen.items()
    }


def _in_form(kernel: FrozenWeight, scale: str) -> FrozenWeight:
    return FrozenWeight(kernel.loc, np.sqrt(factorise(kernel.scale, scale).variance()))
