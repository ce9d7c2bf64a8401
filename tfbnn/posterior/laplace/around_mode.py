"""Normal laws around a mode: draws, and outputs in closed form, from a curvature and a prior."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.posterior.base import AbstractRandomVariables
from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart
from tfbnn.posterior.laplace.output_moments import output_moments, probit
from tfbnn.posterior.laplace.spectra import AbstractSpectrum
from tfbnn.weights import noise


class AbstractAroundMode(AbstractRandomVariables):
    """Weights with a normal law around those that a model has.

        w ~ N(w*, temperature * (H + delta)^-1)

    Attributes:
        temperature: Factor of the covariance.
    """

    temperature: float
    # The linear parts whose weights are random, and the curvatures of blocks of them, in order.
    _parts: Sequence[AbstractLinearPart]
    _spectra: Sequence[AbstractSpectrum]

    @property
    def prior_precisions(self) -> list[float]:
        """`delta` of each block of weights: of each layer, or of all together where they depend on
        each other."""
        return [float(one) for one in self._precisions.numpy()]

    @prior_precisions.setter
    def prior_precisions(self, values: Any) -> None:
        # No variable: a file would want to know where it belongs.
        self._precisions = tf.constant(values, tf.float32)

    @property
    def scales(self) -> list[tf.Tensor]:
        """Standard deviations of each block of weights, along the eigenvectors of its curvature."""
        pairs = zip(self._spectra, self.prior_precisions, strict=True)
        return [one.scale(delta, self.temperature) for one, delta in pairs]

    @functools.cached_property
    def variables(self) -> list[keras.Variable]:
        return [variable for part in self._parts for variable in part.variables]

    def mean(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(variable) for variable in self.variables]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        return self._drawn(seed, self._precisions)

    def draws(self, seed: tf.Tensor, first: int, count: int) -> list[tf.Tensor]:
        numbers = tf.range(first, first + count)
        return self._cached("draws", self._map_drawn)(seed, numbers, self._precisions)

    def _map_drawn(self, seed: tf.Tensor, numbers: tf.Tensor, precisions: tf.Tensor) -> Any:
        return tf.map_fn(
            lambda number: self._drawn(noise.fold_in(seed, number), precisions),
            numbers,
            fn_output_signature=self.random,
        )

    def _drawn(self, seed: tf.Tensor, precisions: tf.Tensor) -> list[tf.Tensor]:
        """A draw under prior precisions, in any graph."""
        # Noise of each variable by its number, as `GaussianPosterior` has it.
        seeds = iter(noise.split(seed, len(self.variables)))
        parts, steps = iter(self._parts), []
        for spectrum, precision in zip(self._spectra, tf.unstack(precisions), strict=True):
            mine = [next(parts) for _ in spectrum.shapes]
            normals = [
                part.matrix([noise.standard_normal(v.shape, next(seeds)) for v in part.variables])
                for part in mine
            ]
            scale = spectrum.scale(precision, self.temperature)
            for part, step in zip(
                mine, spectrum.weights(scale * spectrum.joined(normals)), strict=True
            ):
                steps += part.values(step)
        pairs = zip(self.mean(), steps, strict=True)
        return [mode + tf.cast(step, mode.dtype) for mode, step in pairs]

    def output_moments(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the outputs of linearised networks, without any draw.

            N(f(x; w*), J(x) Sigma J(x)^T)

        Args:
            inputs: A batch.

        Returns:
            Arrays `(rows, outputs)` and `(rows, outputs, outputs)`; what a network says of several
            steps is one vector.

        Raises:
            ValueError: If the model has several outputs.
        """
        return output_moments(self, self._parts, self._spectra, self.scales, inputs)

    def probit(self, inputs: Any) -> np.ndarray:
        """Probabilities of classes from `output_moments`, without any draw.

            softmax(m / sqrt(1 + pi / 8 * diag(S)))

        (a sigmoid for yes or no): approximately the mean over networks.

        Args:
            inputs: A batch.

        Returns:
            An array `(rows, classes)`.

        Raises:
            ValueError: If the model has several outputs, or none of logits.

        Reference:
            MacKay 1992, "The Evidence Framework Applied to Classification Networks"; for several
            classes Gibbs 1997, "Bayesian Gaussian Processes for Regression and Classification".
        """
        return probit(self.likelihoods, *self.output_moments(inputs))
