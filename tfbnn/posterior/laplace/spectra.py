"""Spectra: a curvature as eigenvalues and the directions that they belong to.

Whatever the structure, the curvature of a block of weights is `U diag(lambda) U^T`. With a prior
`N(0, 1 / delta)` of each weight the covariance of the posterior is `U diag(1 / (lambda + delta))
U^T`, so a draw, a variance, the evidence and the best `delta` are sums over eigenvalues.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Of the largest eigenvalue; what rounding of float32 leaves of a sum over many rows.
_ROUNDING = 1e-3


class AbstractSpectrum(abc.ABC):
    """The curvature of some matrices of weights, which is independent of that of others.

    Args:
        eigenvalues: An array of any shape.
        shapes: Those of the matrices.
    """

    def __init__(self, eigenvalues: np.ndarray, shapes: Sequence[tuple[int, int, int]]):
        self.eigenvalues = tf.constant(eigenvalues, tf.float32)
        self.shapes = list(shapes)

    def scale(self, precision: Any, temperature: float) -> tf.Tensor:
        """Standard deviations in the directions of the eigenvectors, under a prior precision."""
        return tf.sqrt(temperature / (self.eigenvalues + precision))

    def joined(self, matrices: Sequence[tf.Tensor]) -> tf.Tensor:
        """Numbers in the shapes of the matrices, in that of the eigenvalues."""
        flat = tf.concat([tf.reshape(one, [-1]) for one in matrices], axis=0)
        return tf.reshape(flat, self.eigenvalues.shape)

    @abc.abstractmethod
    def along(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        """Gradients `(count, *shape)` of each matrix, by eigenvectors `(count, *eigenvalues)`."""

    @abc.abstractmethod
    def weights(self, coordinates: tf.Tensor) -> list[tf.Tensor]:
        """The matrices whose coordinates in the directions of the eigenvectors are given."""


class Axes(AbstractSpectrum):
    """A diagonal curvature: every weight is a direction of its own."""

    def along(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        (found,) = gradients
        return found

    def weights(self, coordinates: tf.Tensor) -> list[tf.Tensor]:
        return [coordinates]


class Products(AbstractSpectrum):
    """`A x B` of each group of a matrix: directions are products of two vectors.

    Args:
        inputs: Eigenvalues and vectors of `A`, `(groups, inputs)` and `(groups, inputs, inputs)`;
            the latter None where it is diagonal.
        outputs: Those of `B`.
        shape: That of the matrix.
    """

    def __init__(
        self,
        inputs: tuple[np.ndarray, np.ndarray | None],
        outputs: tuple[np.ndarray, np.ndarray],
        shape: tuple[int, int, int],
    ):
        super().__init__(inputs[0][:, :, np.newaxis] * outputs[0][:, np.newaxis], [shape])
        self._inputs = None if inputs[1] is None else tf.constant(inputs[1], tf.float32)
        self._outputs = tf.constant(outputs[1], tf.float32)

    def along(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        (found,) = gradients
        found = tf.einsum("ngio,gop->ngip", found, self._outputs)
        if self._inputs is None:
            return found
        return tf.einsum("gij,ngio->ngjo", self._inputs, found)

    def weights(self, coordinates: tf.Tensor) -> list[tf.Tensor]:
        found = tf.matmul(coordinates, self._outputs, transpose_b=True)
        return [found if self._inputs is None else tf.matmul(self._inputs, found)]


class Vectors(AbstractSpectrum):
    """Any curvature of all weights of some matrices.

    Args:
        eigenvalues: One for each direction.
        vectors: The directions, in columns.
        shapes: Those of the matrices.
    """

    def __init__(
        self,
        eigenvalues: np.ndarray,
        vectors: np.ndarray,
        shapes: Sequence[tuple[int, int, int]],
    ):
        super().__init__(eigenvalues, shapes)
        self._vectors = tf.constant(vectors, tf.float32)

    def along(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.matmul(flat(gradients), self._vectors)

    def weights(self, coordinates: tf.Tensor) -> list[tf.Tensor]:
        found = tf.linalg.matvec(self._vectors, coordinates)
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = tf.split(found, sizes)
        return [tf.reshape(one, shape) for one, shape in zip(parts, self.shapes, strict=True)]


def flat(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Gradients `(count, *shape)` of some matrices side by side, `(count, weights)`."""
    parts = [tf.reshape(one, (tf.shape(one)[0], int(np.prod(one.shape[1:])))) for one in gradients]
    return tf.concat(parts, axis=1)


def eigen(name: str, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of symmetric matrices, in float64."""
    matrix = np.asarray(matrix, np.float64)
    values, vectors = np.linalg.eigh(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))
    return not_negative(name, values), vectors


def not_negative(name: str, values: np.ndarray) -> np.ndarray:
    """Eigenvalues, of which rounding may have put some below zero.

    Raises:
        ValueError: If they are not finite, or some are negative.
    """
    least, most = float(np.min(values, initial=0)), float(np.max(values, initial=0))
    # Also of NaN.
    if not (np.isfinite(values).all() and -least <= _ROUNDING * most):
        raise ValueError(
            "The curvature must be finite and have no negative eigenvalue, or there is no normal "
            "law. Look at the weights, the data and, if it is your own, `likelihood.curvature`. "
            f"Received: eigenvalues of {name} from {least:.3g} to {most:.3g}"
        )
    return np.maximum(values, 0.0)
