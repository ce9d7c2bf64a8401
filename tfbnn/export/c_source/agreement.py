"""Agreement: does the C code answer as the Keras model does?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.export import verification
from tfbnn.prediction.answers import answer
from tfbnn.export.c_source.check_program import Expected
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.predictive import sampled_blocks
from tfbnn.prediction.summaries import Prediction, summarise

Run = Callable[[np.ndarray], list[np.ndarray]]

# Largest difference to Keras that is accepted at the mean, by the precision of the weights: of
# probabilities, or of real numbers relative to the largest. As for a LiteRT file.
MEAN_TOLERANCES = {"float32": 1e-4, "int8": 5e-2}
# Of moments: they are an approximation, which is no mistake of the code. Half the sum of absolute
# differences of probabilities, or differences of real numbers in standard deviations, on average
# over the rows.
MOMENTS_TOLERANCE = 0.15
# Entropies differ by up to log(classes) where probabilities differ by up to 1.
_UNCERTAINTY_FACTOR = 2.0
# An entropy moves by up to |log p| times as much as a probability p, and log(1e-4) is -9.
_TOLERANCE_OF_ENTROPY = 10.0
_NUM_DRAWS = 128
# Float32 on another processor, or with other options of the compiler.
_PORTING_TOLERANCE = 1e-4
# The worst row may be this much further off than the mean of all.
_WORST = 4.0


def verify_mean(posterior: AbstractPosterior, run: Run, rows: np.ndarray, tolerance: float) -> dict:
    """Compare code without variances.

    Raises:
        RuntimeError: If an answer is off by more than the tolerance.
    """
    agreement = verification.verify_mean(posterior, lambda x: run(x)[:2], rows, tolerance)
    return {"rows": agreement.rows, "max_error": agreement.max_error}


def verify_moments(
    posterior: AbstractPosterior, run: Run, rows: np.ndarray, tolerance: float
) -> dict[str, float]:
    """Compare code with moments with networks drawn in Keras.

    Raises:
        RuntimeError: If predictions or uncertainties differ by more than an approximation may.
    """
    expected = drawn(posterior, rows)
    prediction, uncertainty, _ = run(rows)
    differ = _differences_of_normals if _is_normal(posterior) else _differences_of_classes
    found, unsure = differ(prediction, uncertainty, expected)
    if not (found <= tolerance and unsure <= _UNCERTAINTY_FACTOR * tolerance):
        raise RuntimeError(
            "The written code disagrees with the Keras model, and was removed: on "
            f"{len(rows)} rows its predictions differ from those of {_NUM_DRAWS} drawn networks "
            f"by {found:.3g} on average (the tolerance is {tolerance:.3g}), its uncertainties by "
            f"{unsure:.3g} (the tolerance is {_UNCERTAINTY_FACTOR * tolerance:.3g}). If moments "
            "are no good approximation for this network, a larger `tolerance` lets it pass."
        )
    return {
        "rows": len(rows),
        "num_draws": _NUM_DRAWS,
        "prediction_difference": found,
        "uncertainty_difference": unsure,
    }


def expected_of_mean(posterior: AbstractPosterior, rows: np.ndarray, tolerance: float) -> Expected:
    """What a program without variances should answer."""
    outputs = posterior.network(posterior.mean(), tf.convert_to_tensor(rows))
    found = answer(posterior.likelihoods[0], outputs[tf.newaxis])
    prediction, uncertainty = found["prediction"].numpy(), found["uncertainty"].numpy()
    tolerances = (
        tolerance * _size(prediction),
        _TOLERANCE_OF_ENTROPY * tolerance * _size(uncertainty),
        0.0,
    )
    answers = (prediction, uncertainty, np.zeros_like(uncertainty))
    return Expected(rows, answers, tolerances, "Answers of the Keras model at its mean.")


def expected_of_draws(posterior: AbstractPosterior, rows: np.ndarray, tolerance: float) -> Expected:
    """What a program with moments should answer, roughly."""
    found = drawn(posterior, rows)
    third = found.epistemic if _is_normal(posterior) else found.mutual_information
    answers = (found.prediction, found.uncertainty, third)
    tolerances = [_WORST * _UNCERTAINTY_FACTOR * tolerance * _size(a) for a in answers]
    origin = f"Means over {_NUM_DRAWS} networks drawn in Keras, which moments only come near to."
    return Expected(rows, answers, tuple(tolerances), origin)


def expected_of_itself(rows: np.ndarray, answers: list[np.ndarray]) -> Expected:
    """What a program answered where it was written, which it should answer elsewhere."""
    tolerances = tuple(_PORTING_TOLERANCE * _size(a) for a in answers)
    origin = "Answers of this code where it was written, when they agreed with draws in Keras."
    return Expected(rows, tuple(answers), tolerances, origin)


def _size(values: np.ndarray) -> float:
    return max(1.0, float(np.max(np.abs(values))))


def drawn(posterior: AbstractPosterior, rows: np.ndarray) -> Prediction:
    """The prediction of networks drawn in Keras, always the same ones."""
    block = next(iter(sampled_blocks(posterior, rows, _NUM_DRAWS, seed=0, verbose=0)))
    return summarise(posterior.likelihoods[0].kind, block[0], keep_samples=False)


def _is_normal(posterior: AbstractPosterior) -> bool:
    return posterior.likelihoods[0].kind == "normal"


def _differences_of_classes(
    prediction: np.ndarray, uncertainty: np.ndarray, expected: Any
) -> tuple[float, float]:
    """Mean total variation, and mean difference of entropies as a share of the largest one."""
    shape = expected.prediction.shape
    is_binary = expected.uncertainty.shape == shape or shape[-1] == 1
    difference = np.abs(prediction - expected.prediction)
    variation = difference if is_binary else 0.5 * difference.sum(axis=-1)
    largest = np.log(2 if is_binary else shape[-1])
    unsure = np.abs(uncertainty - expected.uncertainty) / largest
    return float(variation.mean()), float(unsure.mean())


def _differences_of_normals(
    prediction: np.ndarray, uncertainty: np.ndarray, expected: Any
) -> tuple[float, float]:
    """Mean difference in standard deviations, and mean difference of the latter's logarithms."""
    found = np.abs(prediction - expected.prediction) / expected.uncertainty
    unsure = np.abs(np.log(uncertainty / expected.uncertainty))
    return float(found.mean()), float(unsure.mean())
