"""Structures: which elements of the curvature are kept, how they are summed, and what they are.

| structure | kept of the curvature | size |
|---|---|---|
| `"diagonal"` | its diagonal | as the weights |
| `"kronecker"` | of each layer a product of two matrices | squares of the layers' widths |
| `"full"` | all of it | square of the number of weights |
| `"last_layer"` | all of it, of the last layer | square of the number of its weights |
"""

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart, EmbeddingPart
from tfbnn.posterior.laplace.operands import AbstractOperand
from tfbnn.posterior.laplace.spectra import (
    AbstractSpectrum,
    Axes,
    Products,
    Vectors,
    eigen,
    flat,
    not_negative,
)

# A matrix of 5000 x 5000: 100 MB, and about a minute for its eigenvectors.
LARGEST_FULL = 5000


class Pairs(NamedTuple):
    """What a batch says of the weights of one layer.

    The curvature is the sum over columns and rows of `left x right`, gradients of the weights.
    """

    operand: AbstractOperand
    left: tf.Tensor
    right: tf.Tensor


class AbstractStructure(abc.ABC):
    """Which elements of the curvature are kept.

    Args:
        parts: The linear parts whose weights are random.

    Attributes:
        name: Its name.
        last_alone: Whether it is of the last layer alone.
        curvature: How the curvature is summed by default.
        most_places: How many places of a batch are enough to sum over its inputs; None: all.
    """

    name: ClassVar[str]
    last_alone: ClassVar[bool] = False
    curvature: ClassVar[str] = "sampled"
    most_places: ClassVar[int | None] = None

    def __init__(self, parts: Sequence[AbstractLinearPart]):
        self.parts = list(parts)

    @abc.abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the sums by name."""

    @abc.abstractmethod
    def sums(self, pairs: Sequence[Pairs]) -> dict[str, tf.Tensor]:
        """The sums over a batch, of the pairs of each part."""

    @abc.abstractmethod
    def spectra(self, sums: dict[str, np.ndarray]) -> list[AbstractSpectrum]:
        """The curvature of blocks of parts, in their order."""

    @abc.abstractmethod
    def trace(self, sums: dict[str, np.ndarray]) -> float:
        """Sum of the diagonal of the curvature."""


class Diagonal(AbstractStructure):
    """The diagonal: independent weights."""

    name = "diagonal"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"{number}.diagonal": part.shape for number, part in enumerate(self.parts)}

    def sums(self, pairs: Sequence[Pairs]) -> dict[str, tf.Tensor]:
        found = (operand.products(left, right) for operand, left, right in pairs)
        return dict(zip(self.shapes(), found, strict=True))

    def spectra(self, sums: dict[str, np.ndarray]) -> list[AbstractSpectrum]:
        return [
            Axes(not_negative(f"layer {part.layer.name!r}", sums[name]), [part.shape])
            for name, part in zip(self.shapes(), self.parts, strict=True)
        ]

    def trace(self, sums: dict[str, np.ndarray]) -> float:
        return float(sum(one.sum() for one in sums.values()))


class Kronecker(AbstractStructure):
    """For each layer a product of two factors, as if inputs and gradients were independent:

        curvature = mean over places of a a^T  x  sum over places of g g^T

    A place of an example (a pixel, a step, a call of a shared layer) counts as an example. The mean
    is over enough of them: the places of an image are many, and much alike.

    References:
        Martens and Grosse 2015, "Optimizing Neural Networks with Kronecker-factored Approximate
        Curvature"; Grosse and Martens 2016, "A Kronecker-factored Approximate Fisher Matrix for
        Convolution Layers"; Eschenhagen et al. 2023, "Kronecker-Factored Approximate Curvature for
        Modern Neural Network Architectures" ("expand").
    """

    name = "kronecker"
    most_places = 8192

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for number, part in enumerate(self.parts):
            groups, inputs, outputs = part.shape
            diagonal = isinstance(part, EmbeddingPart)
            found[f"{number}.inputs"] = (groups, inputs) if diagonal else (groups, inputs, inputs)
            found[f"{number}.outputs"] = (groups, outputs, outputs)
            found[f"{number}.places"] = ()
        return found

    def sums(self, pairs: Sequence[Pairs]) -> dict[str, tf.Tensor]:
        found = []
        for operand, left, right in pairs:
            outer = tf.einsum("kntgo,kntgp->gop", left, right)
            found += [operand.squares(), outer, operand.num_places]
        return dict(zip(self.shapes(), found, strict=True))

    def spectra(self, sums: dict[str, np.ndarray]) -> list[AbstractSpectrum]:
        found: list[AbstractSpectrum] = []
        for number, part in enumerate(self.parts):
            layer = f"layer {part.layer.name!r}"
            inputs = sums[f"{number}.inputs"] / sums[f"{number}.places"]
            if inputs.ndim == 2:
                factor = not_negative(f"inputs of {layer}", inputs), None
            else:
                factor = eigen(f"inputs of {layer}", inputs)
            outputs = eigen(f"outputs of {layer}", sums[f"{number}.outputs"])
            found.append(Products(factor, outputs, part.shape))
        return found

    def trace(self, sums: dict[str, np.ndarray]) -> float:
        total = 0.0
        for number in range(len(self.parts)):
            inputs, outputs = (_traces(sums[f"{number}.{one}"]) for one in ("inputs", "outputs"))
            total += float((inputs * outputs).sum() / sums[f"{number}.places"])
        return total


class Full(AbstractStructure):
    """All elements.

    Raises:
        ValueError: If there are too many.
    """

    name = "full"
    curvature = "exact"

    def __init__(self, parts: Sequence[AbstractLinearPart]):
        super().__init__(parts)
        self._size = sum(part.size for part in parts)
        if self._size > LARGEST_FULL:
            raise ValueError(
                f"All elements of the curvature are kept for up to {LARGEST_FULL:,} weights: use "
                "`structure='kronecker'` or `'diagonal'`, or `'last_layer'` if the last layer is "
                f"small enough. Received: structure={self.name!r} with {self._size:,} weights in "
                f"{[part.layer.name for part in parts]}"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"full": (self._size, self._size)}

    def sums(self, pairs: Sequence[Pairs]) -> dict[str, tf.Tensor]:
        if len(pairs) == 1:
            return {"full": pairs[0].operand.outer(pairs[0].left, pairs[0].right)}
        left, right = (
            flat(
                [
                    _by_row(pair.operand.weight_gradients(one))
                    for pair, one in zip(pairs, side, strict=True)
                ]
            )
            for side in zip(*((pair.left, pair.right) for pair in pairs), strict=True)
        )
        return {"full": tf.matmul(left, right, transpose_a=True)}

    def spectra(self, sums: dict[str, np.ndarray]) -> list[AbstractSpectrum]:
        found = eigen("all weights", sums["full"])
        return [Vectors(*found, [part.shape for part in self.parts])]

    def trace(self, sums: dict[str, np.ndarray]) -> float:
        return float(np.trace(sums["full"]))


class LastLayer(Full):
    """All elements, of the layer before each output."""

    name = "last_layer"
    last_alone = True


STRUCTURES: dict[str, type[AbstractStructure]] = {
    one.name: one for one in (Diagonal, Kronecker, Full, LastLayer)
}
"""The structures by name; the tests run over this table."""


def _by_row(gradients: tf.Tensor) -> tf.Tensor:
    """Gradients `(columns, rows, ...)` as `(columns * rows, ...)`."""
    return tf.reshape(gradients, (-1, *gradients.shape[2:]))


def _traces(factor: np.ndarray) -> np.ndarray:
    return factor.sum(-1) if factor.ndim == 2 else np.trace(factor, axis1=-2, axis2=-1)
