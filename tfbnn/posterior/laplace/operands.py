"""Operands: what a matrix of weights is multiplied with, and the sums that are made of it.

Gradients of outputs are `(columns, rows, places, groups, outputs)`: one of each row for each column
of a factor of the curvature, or for each output.
"""

import abc
import math

import numpy as np
import tensorflow as tf

# Gradients of single examples that are held at once, in numbers: 64 MB.
_HELD = 2**24


class AbstractOperand(abc.ABC):
    """What the weights of a layer are multiplied with, for the rows of a batch.

    Attributes:
        shape: `(groups, inputs, outputs)` of the weights.
        num_places: Number of all places of all rows.
    """

    def __init__(self, shape: tuple[int, int, int], places: tf.Tensor):
        self.shape = shape
        self._places = places

    @property
    def num_places(self) -> tf.Tensor:
        return tf.cast(tf.reduce_prod(tf.shape(self._places)[:2]), tf.float32)

    @abc.abstractmethod
    def squares(self) -> tf.Tensor:
        """Sum of outer products over all places, `(groups, inputs, inputs)` or its diagonals."""

    @abc.abstractmethod
    def weight_gradients(self, gradients: tf.Tensor) -> tf.Tensor:
        """Gradient of each row by the weights, `(columns, rows, *shape)`, summed over places."""

    def outer(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Products of all elements of two `weight_gradients`, summed over columns and rows."""
        size = math.prod(self.shape)
        one, other = (tf.reshape(self.weight_gradients(g), (-1, size)) for g in (left, right))
        return tf.matmul(one, other, transpose_a=True)

    @abc.abstractmethod
    def products(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Products of two `weight_gradients`, element by element, summed over columns and rows."""


class Rows(AbstractOperand):
    """Numbers, `(rows, places, groups, inputs)`."""

    def squares(self) -> tf.Tensor:
        groups, inputs, _ = self.shape
        flat = tf.reshape(self._places, (-1, groups, inputs))
        if groups == 1:
            return tf.matmul(flat[:, 0], flat[:, 0], transpose_a=True)[tf.newaxis]
        return tf.einsum("ngi,ngj->gij", flat, flat)

    def weight_gradients(self, gradients: tf.Tensor) -> tf.Tensor:
        return tf.einsum("ntgi,kntgo->kngio", self._places, gradients)

    def products(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        def of_one_place() -> tf.Tensor:
            by_row = tf.reduce_sum(left * right, axis=0)[:, 0]
            return tf.einsum("ngi,ngo->gio", tf.square(self._places[:, 0]), by_row)

        return tf.cond(
            self._has_one_place, of_one_place, lambda: self._products_of_rows(left, right)
        )

    def outer(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        groups, inputs, outputs = self.shape

        def of_one_place() -> tf.Tensor:
            # Columns first: they are as many as outputs, and there are more inputs. The matrix of
            # a row's outputs is symmetric, and half of it is enough.
            by_row = tf.einsum("kno,knp->nop", left[:, :, 0, 0], right[:, :, 0, 0])
            rows, half = self._places[:, 0, 0], np.stack(np.triu_indices(outputs), axis=1)
            pairs = (
                rows[:, :, tf.newaxis]
                * tf.gather(tf.reshape(by_row, (-1, outputs**2)), half @ [outputs, 1], axis=1)[
                    :, tf.newaxis
                ]
            )
            pairs = tf.reshape(pairs, (-1, inputs * len(half)))
            found = tf.matmul(pairs, rows, transpose_a=True)
            found = tf.reshape(found, (inputs, len(half), inputs))
            number = np.zeros((outputs, outputs), int)
            number[tuple(half.T)] = number[tuple(half.T[::-1])] = np.arange(len(half))
            whole = tf.reshape(
                tf.gather(found, number.ravel(), axis=1), (inputs, outputs, outputs, inputs)
            )
            return tf.reshape(tf.transpose(whole, (0, 1, 3, 2)), [inputs * outputs] * 2)

        def of_rows() -> tf.Tensor:
            return super(Rows, self).outer(left, right)

        if groups > 1:
            return of_rows()
        return tf.cond(self._has_one_place, of_one_place, of_rows)

    @property
    def _has_one_place(self) -> tf.Tensor:
        return tf.equal(tf.shape(self._places)[1], 1)

    def _products_of_rows(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        columns, rows = tf.shape(left)[0], tf.shape(left)[1]
        step = tf.maximum(1, _HELD // (columns * math.prod(self.shape)))

        def one(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            part = Rows(self.shape, self._places[first : first + step])
            found = part.weight_gradients(left[:, first : first + step])
            other = found
            if right is not left:
                other = part.weight_gradients(right[:, first : first + step])
            return first + step, total + tf.reduce_sum(found * other, axis=(0, 1))

        start = (tf.constant(0), tf.zeros(self.shape))
        _, total = tf.while_loop(lambda first, _: first < rows, one, start, parallel_iterations=1)
        return total


class OneHot(AbstractOperand):
    """Rows that have a single one: the places of it, whole numbers `(rows, places)`."""

    def squares(self) -> tf.Tensor:
        # Of ones in different places the product is zero: what is kept is the diagonal.
        return tf.math.bincount(
            tf.reshape(self._places, [-1]), minlength=self.shape[1], dtype=tf.float32
        )[tf.newaxis]

    def weight_gradients(self, gradients: tf.Tensor) -> tf.Tensor:
        ones = tf.one_hot(self._places, self.shape[1])
        return tf.einsum("nti,kntgo->kngio", ones, gradients)

    def products(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        same = tf.cast(self._places[:, :, tf.newaxis] == self._places[:, tf.newaxis], tf.float32)
        # The sum over a row's places with one index stands at each of them.
        summed = [tf.einsum("nts,knsgo->kntgo", same, one) for one in (left, right)]
        shares = tf.reduce_sum(summed[0] * summed[1], axis=0)[:, :, 0]
        shares /= tf.reduce_sum(same, axis=-1, keepdims=True)
        flat = tf.reshape(shares, (-1, self.shape[2]))
        places = tf.reshape(self._places, [-1])
        return tf.math.unsorted_segment_sum(flat, places, self.shape[1])[tf.newaxis]
