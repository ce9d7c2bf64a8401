"""Chains: many at once under XLA, a block of steps in each call."""

import time
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfbnn.posterior.mcmc.adaptation import StepLength, scales_of, windows
from tfbnn.posterior.mcmc.density import Joint
from tfbnn.posterior.mcmc.kernels import AbstractKernel
from tfbnn.requirements import clear_errors
from tfbnn.training.progress_bar import progress_bar
from tfbnn.weights import noise, tracing

# Steps of a call: it takes longer than what Python does between two of them.
_BLOCK = 50
# What seeds are for.
_START, _STEPS = 0, 1


class Steps(NamedTuple):
    """What chains passed by, arrays `(steps, chains)`, with a last axis of weights for draws."""

    draws: np.ndarray
    log_density: np.ndarray
    acceptance: np.ndarray
    diverged: np.ndarray


class Sampled(NamedTuple):
    """What chains gave.

    Attributes:
        steps: After the warm-up.
        step_length: In standard deviations of the posterior.
        seconds: Of the steps after the warm-up.
    """

    steps: Steps
    step_length: float
    seconds: float


class Chains:
    """Chains of networks, which begin at draws of the prior.

    Args:
        joint: Their density.
        kernel: A row of `KERNELS`.
        seed: Of all that is drawn.
        verbose: As in `tfbnn.predict`.
    """

    def __init__(self, joint: Joint, kernel: AbstractKernel, seed: int, verbose: Any):
        self._joint, self._kernel = joint, kernel
        self._seed, self._verbose = noise.as_seed(seed), verbose
        self._scale = tf.ones([joint.size])
        self._length = StepLength.start(kernel.first_step)
        self._num_blocks = 0
        self._block = tracing.compiled(self._run_block)

    def run(self, chains: int, warmup: int, samples: int) -> Sampled:
        """Warm up, and draw `samples` networks with each chain.

        Raises:
            ValueError: If a target is impossible, or the density at a start is no number.
        """
        self._at = self._starts(chains)
        with progress_bar(self._verbose, warmup + samples, "step") as bar:
            for count, learns in windows(warmup):
                steps = self._run(count, True, bar)
                if learns and count:
                    self._scale = tf.constant(scales_of(steps.draws))
                    step = float(tf.exp(self._length.log_mean))
                    self._length = StepLength.start(step)
            self._length = self._length.settled()
            start = time.perf_counter()
            steps = self._run(samples, False, bar)
            seconds = time.perf_counter() - start
        return Sampled(steps, float(tf.exp(self._length.log_step)), seconds)

    def _starts(self, chains: int) -> tf.Tensor:
        """Draws of the prior, `(chains, size)`."""
        seed = noise.fold_in(self._seed, _START)
        parts = []
        for number, (variable, prior) in enumerate(self._joint.weights):
            shape, own = (chains, *variable.shape), noise.fold_in(seed, number)
            drawn = _drawn(prior.distribution(), shape, own)
            parts.append(tf.reshape(drawn, [chains, -1]))
        starts = tf.concat(parts, axis=1)
        with clear_errors():
            density = self._joint.of_one(starts[0])
        if not bool(tf.math.is_finite(density)):
            raise ValueError(
                "The log density of a network that was drawn from the prior is no number: give a "
                "narrower prior, or standardise the inputs. Received: log density "
                f"{float(density)} at the start"
            )
        return starts

    def _run(self, count: int, adapts: bool, bar: Any) -> Steps:
        blocks = []
        for first in range(0, count, _BLOCK):
            size = min(_BLOCK, count - first)
            seed = noise.fold_in(noise.fold_in(self._seed, _STEPS), self._num_blocks)
            self._num_blocks += 1
            self._at, self._length, steps = self._block(
                self._at, self._scale, self._length, seed, tf.constant(size), tf.constant(adapts)
            )
            blocks.append([one.numpy()[:size] for one in steps])
            if bar is not None:
                bar.update(size)
        return Steps(*map(np.concatenate, zip(*blocks, strict=True))) if blocks else None

    def _run_block(
        self,
        at: tf.Tensor,
        scale: tf.Tensor,
        length: StepLength,
        seed: tf.Tensor,
        size: tf.Tensor,
        adapts: tf.Tensor,
    ) -> tuple[tf.Tensor, StepLength, Steps]:
        """`size` steps of all chains; rows of `Steps` beyond them are zero."""
        density, kernel = self._joint.of_all(scale), self._kernel
        position = at / scale
        results = kernel.begin(density, position, tf.exp(length.log_step))
        chains = at.shape[0]
        kept = Steps(
            tf.zeros([_BLOCK, *at.shape]),
            *(tf.zeros([_BLOCK, chains], dtype) for dtype in (tf.float32, tf.float32, tf.bool)),
        )

        def step(number: Any, position: Any, results: Any, length: Any, kept: Any) -> Any:
            own = noise.fold_in(seed, number)
            moved = kernel.move(density, position, results, tf.exp(length.log_step), own)
            mean = tf.reduce_mean(moved.acceptance)
            found = moved.position * scale, moved.log_density, moved.acceptance, moved.diverged
            rows = zip(kept, found, strict=True)
            kept = Steps(*(_with_row(all_rows, number, row) for all_rows, row in rows))
            length = length.after(mean, kernel.acceptance, adapts)
            return number + 1, moved.position, moved.results, length, kept

        state = tf.constant(0), position, results, length, kept
        _, position, _, length, kept = tf.while_loop(lambda n, *_: n < size, step, state)
        return position * scale, length, kept


def _with_row(rows: tf.Tensor, number: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(rows, [[number]], [row])


def _drawn(law: Any, shape: tuple[int, ...], seed: tf.Tensor) -> tf.Tensor:
    """Values of a law of one number, or of one for each number of a weight, `(chains, ...)`."""
    rest = len(shape) - len(law.batch_shape)
    return law.sample(shape[:rest], seed=seed)
