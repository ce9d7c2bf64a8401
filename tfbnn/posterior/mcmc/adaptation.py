"""Adaptation: the length of a step, and how wide each weight is, while the chains warm up."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Of the paper: how fast the length forgets, and how far the first steps count.
_GAMMA, _OFFSET, _DECAY = 0.05, 10.0, 0.75
# Of the warm-up: before the first window, after the last, and the windows between, each as long
# as all before it so that the last and best knows most.
_BEFORE, _AFTER = 0.15, 0.1
_WINDOWS = 4
# Draws as which the other weights count in what is known of one.
_COMMON = 5.0


class StepLength(NamedTuple):
    """The logarithm of the length of a step, by dual averaging; scalars.

        error_t = (1 - 1 / (t + 10)) error_{t-1} + (target - acceptance) / (t + 10)
        log(step_t) = center - sqrt(t) / 0.05 * error_t

    and the mean of the latter, in which step `t` counts `t**-0.75`, is that to go on with.

    Reference:
        Hoffman and Gelman 2014, "The No-U-Turn Sampler", sec. 3.2, eq. 6.
    """

    log_step: tf.Tensor
    log_mean: tf.Tensor
    error: tf.Tensor
    center: tf.Tensor
    count: tf.Tensor

    @classmethod
    def start(cls, step: float) -> "StepLength":
        """Before anything is known, at a length from which it first goes up, as that is cheap."""
        center = math.log(10 * step)
        return cls(*(tf.constant(one, tf.float32) for one in (math.log(step), 0, 0, center, 0)))

    def after(self, acceptance: tf.Tensor, target: float, adapts: tf.Tensor) -> "StepLength":
        """What a step says that was accepted with this probability; nothing, unless it `adapts`."""
        count = self.count + 1.0
        weight = 1.0 / (count + _OFFSET)
        error = (1.0 - weight) * self.error + weight * (target - acceptance)
        log_step = self.center - tf.sqrt(count) / _GAMMA * error
        share = count**-_DECAY
        log_mean = share * log_step + (1.0 - share) * self.log_mean
        new = StepLength(log_step, log_mean, error, self.center, count)
        return StepLength(*(tf.where(adapts, *pair) for pair in zip(new, self, strict=True)))

    def settled(self) -> "StepLength":
        """At the mean, to stay there."""
        return self._replace(log_step=self.log_mean)


def windows(warmup: int) -> Iterator[tuple[int, bool]]:
    """Numbers of steps that the warm-up is cut into, and whether variances are learnt from them."""
    before, after = round(_BEFORE * warmup), round(_AFTER * warmup)
    edges = [(warmup - before - after) * 2.0**-number for number in range(_WINDOWS)]
    edges = [before, *(before + round(edge) for edge in reversed(edges))]
    yield before, False
    for first, last in zip(edges, edges[1:], strict=False):
        yield last - first, True
    yield after, False


def scales_of(draws: np.ndarray) -> np.ndarray:
    """Standard deviations of the weights, from draws `(steps, chains, size)` of a window.

        scale**2 = (n * variance + 5 * median) / (n + 5)

    with the variance within chains, which may be at modes of their own, and its median over the
    weights, which is what each is taken for while little is known.
    """
    count = draws.shape[0] * draws.shape[1]
    variance = draws.astype(np.float64).var(axis=0).mean(axis=0)
    common = np.median(variance[variance > 0]) if (variance > 0).any() else 1.0
    return np.sqrt((count * variance + _COMMON * common) / (count + _COMMON)).astype(np.float32)
