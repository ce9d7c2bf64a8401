"""The law of the outputs of linearised networks in closed form, and probabilities made of it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.laplace.any_rows import AnyRows
from tfbnn.posterior.laplace.curvature import unit_gradients
from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart
from tfbnn.posterior.laplace.recording import recorded
from tfbnn.posterior.laplace.spectra import AbstractSpectrum


def output_moments(
    posterior: Any,
    parts: Sequence[AbstractLinearPart],
    spectra: Sequence[AbstractSpectrum],
    scales: Sequence[tf.Tensor],
    inputs: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the outputs; see `Laplace.output_moments`.

    Args:
        posterior: The posterior.
        parts: Its linear parts.
        spectra: The curvatures of blocks of them, in order.
        scales: Standard deviations along the eigenvectors of each block.
        inputs: A batch.
    """
    if len(posterior.likelihoods) != 1:
        raise ValueError(
            "The outputs of one likelihood have one law: use `tfbnn.predict`. Received: a model "
            f"with {len(posterior.likelihoods)} outputs"
        )

    def moments(inputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        with tf.GradientTape(persistent=True) as tape, recorded(parts, tape, rows) as recording:
            (output,) = tf.nest.flatten(posterior.model(inputs, training=False))
        by_call = unit_gradients(output, recording.outputs, tape)
        by_part = [
            recording.operand(part, rows).weight_gradients(recording.gradients(part, by_call, rows))
            for part in parts
        ]
        count, rest, covariance = tf.shape(by_part[0])[0], iter(by_part), 0.0
        for spectrum, scale in zip(spectra, scales, strict=True):
            found = [_merged(next(rest)) for _ in spectrum.shapes]
            along = spectrum.along(found) * scale
            along = tf.reshape(along, (count, rows, -1))
            covariance += tf.einsum("krp,lrp->rkl", along, along)
        return tf.reshape(tf.cast(output, tf.float32), (rows, -1)), covariance

    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    mean, covariance = AnyRows(moments)(inputs)
    return mean.numpy(), covariance.numpy()


def _merged(gradients: tf.Tensor) -> tf.Tensor:
    return tf.reshape(gradients, (-1, *gradients.shape[2:]))


def probit(
    likelihoods: Sequence[AbstractLikelihood], mean: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Probabilities of classes; see `Laplace.probit`."""
    (likelihood,) = likelihoods
    if not getattr(likelihood, "from_logits", False):
        raise ValueError(
            "Only outputs that are logits have a probit approximation: use `tfbnn.predict`. "
            f"Received: a model with a {likelihood.name} likelihood"
        )
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    moderated = mean / np.sqrt(1 + math.pi / 8 * variances)
    return likelihood.probabilities(tf.constant(moderated)).numpy()
