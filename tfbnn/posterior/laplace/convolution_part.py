"""The linear part of a convolution: a place is a patch of the inputs."""

import math

import keras
import tensorflow as tf

from tfbnn.posterior.laplace.linear_parts import AbstractLinearPart


class ConvolutionPart(AbstractLinearPart):
    """`Conv1D` to `Conv3D`, with groups or without."""

    @property
    def _groups(self) -> int:
        return self.layer.groups

    @property
    def _channels(self) -> int:
        """Channels of the inputs."""
        return self._groups * self.kernel.shape[-2]

    @property
    def kernel_shape(self) -> tuple[int, int, int]:
        *sizes, inputs, outputs = self.kernel.shape
        return self._groups, math.prod(sizes) * inputs, outputs // self._groups

    def kernel_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        groups, inputs, outputs = self.kernel_shape
        return tf.transpose(tf.reshape(kernel, (inputs, groups, outputs)), (1, 0, 2))

    def kernel_of(self, matrix: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(matrix, (1, 0, 2)), self.kernel.shape)

    def rows(self, inputs: tf.Tensor) -> tf.Tensor:
        groups = self._groups
        patches = _patches(self.layer, self._channels_last(inputs))
        known, size = patches.shape[:-1], self.kernel_shape[1]
        # A patch has its channels last: those of a group go together.
        lead = tf.shape(patches)[:-1]
        shape = tf.concat([lead, [-1, groups, self._channels // groups]], axis=0)
        split = tf.reshape(patches, shape)
        rank = len(known)
        sorted_ = tf.transpose(split, (*range(rank), rank + 1, rank, rank + 2))
        rows = tf.reshape(sorted_, tf.concat([lead, [groups, size]], axis=0))
        return tf.ensure_shape(rows, [*known, groups, size])

    def columns(self, outputs: tf.Tensor) -> tf.Tensor:
        outputs = self._channels_last(outputs)
        groups, _, size = self.kernel_shape
        shape = tf.concat([tf.shape(outputs)[:-1], [groups, size]], axis=0)
        return tf.ensure_shape(tf.reshape(outputs, shape), [*outputs.shape[:-1], groups, size])

    def _channels_last(self, tensor: tf.Tensor) -> tf.Tensor:
        if self.layer.data_format == "channels_last":
            return tensor
        return tf.transpose(tensor, (0, *range(2, len(tensor.shape)), 1))


class DepthwisePart(ConvolutionPart):
    """`DepthwiseConv1D` and `DepthwiseConv2D`: each channel of the inputs is a group."""

    @property
    def _groups(self) -> int:
        return self.kernel.shape[-2]

    @property
    def _channels(self) -> int:
        return self._groups

    @property
    def kernel_shape(self) -> tuple[int, int, int]:
        *sizes, channels, outputs = self.kernel.shape
        return channels, math.prod(sizes), outputs


def _patches(layer: keras.Layer, inputs: tf.Tensor) -> tf.Tensor:
    """What the kernel sees at each place, `(batch, ..., kernel places * channels)`."""
    channels, sizes, padding = inputs.shape[-1], tuple(layer.kernel_size), layer.padding
    strides, rates = tuple(layer.strides), tuple(layer.dilation_rate)
    if padding == "causal":
        inputs = tf.pad(inputs, [(0, 0), (rates[0] * (sizes[0] - 1), 0), (0, 0)])
        padding = "valid"
    if len(sizes) == 3:
        # TensorFlow's own patches of three axes are not dilated.
        count = math.prod(sizes) * channels
        kernel = tf.reshape(tf.eye(count, dtype=inputs.dtype), (*sizes, channels, count))
        return keras.ops.conv(inputs, kernel, strides, padding, "channels_last", rates)
    if len(sizes) == 1:
        inputs = inputs[:, tf.newaxis]
        sizes, strides, rates = (1, *sizes), (1, *strides), (1, *rates)
    around = [(1, *one, 1) for one in (sizes, strides, rates)]
    patches = tf.image.extract_patches(inputs, *around, padding.upper())
    return patches[:, 0] if len(layer.kernel_size) == 1 else patches
