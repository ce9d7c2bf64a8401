"""Units of targets: where the noise starts, and whether the network can reach the targets at all.

A noise that starts at 1 where the targets have a standard deviation of 50 is wrong by a factor
that thousands of steps do not mend. So the first `fit` takes the standard deviation of each target
as the unit of its noise. With the outputs this cannot be done: what a network says is in the unit
of the targets, in `model.predict` and in metrics too. Where that is far off, `fit` warns.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn.layers.keras_internals import batches_seen, call_without_noise
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.targets import matched, spread
from tfbnn.training import distribution, noise_variables, outputs
from tfbnn.training.data import is_arrays, slices
from tfbnn.training.feeding import without_autotuning

# Enough for a standard deviation to a few per cent, its standard error being sd / sqrt(2 n).
_FIRST_BATCHES = 64
_ROWS_AT_A_TIME = 4096
# On which the network is asked what it says.
_EXAMPLE_ROWS = 256
# What a network reaches in some hundred steps, whose outputs are near 0 with a spread of about 1.
_FARTHEST_MEAN, _LARGEST_RATIO = 3.0, 10.0


class TargetsFarOffWarning(UserWarning):
    """The targets are not standardised, and the network does not start near them."""


class TargetMoments:
    """Mean and standard deviation of targets, for each, from a batch at a time."""

    def __init__(self) -> None:
        self.count: Any = 0.0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, targets: np.ndarray, weights: np.ndarray) -> None:
        """Add targets `(rows, targets)`, and how much each counts, in the same shape."""
        count = weights.sum(axis=0)
        mean = (weights * targets).sum(axis=0) / np.maximum(count, np.finfo(float).tiny)
        squares = (weights * np.square(targets - mean)).sum(axis=0)
        # Chan, Golub and LeVeque 1983, eq. 1.5: no difference of large sums.
        total = np.maximum(self.count + count, np.finfo(float).tiny)
        distance = mean - self.mean
        self._squares = self._squares + squares + distance**2 * self.count * count / total
        self.mean = self.mean + distance * count / total
        self.count = self.count + count

    @property
    def known(self) -> bool:
        """Whether every target has been seen."""
        return bool(np.all(np.asarray(self.count) > 0))

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviations; 1 of a target that float32 cannot tell from a constant."""
        deviation = np.sqrt(self._squares / self.count)
        constant = deviation <= np.finfo(np.float32).eps * np.abs(self.mean)
        return np.where(constant, 1.0, deviation)


class FirstTargets:
    """The training targets of a `fit`, as far as the noise of a model has no unit yet."""

    def __init__(self, model: keras.Model):
        self._model = model
        self._moments = {
            number: TargetMoments()
            for number, likelihood in enumerate(model.likelihoods)
            if likelihood.noise_has_unit
            and noise_variables.at_start(likelihood.loss)
            and not batches_seen(model.optimizer)
        }
        self._rows: Any = None

    def seen_after(self, check: Callable[..., Any]) -> Callable[..., Any]:
        """A check of a batch that notes its targets, too."""

        def checked(x: Any, y: Any, sample_weight: Any = None) -> None:
            check(x, y, sample_weight)
            self.see(x, y, sample_weight)

        return checked if self._moments else check

    def read(self, x: Any, y: Any, sample_weight: Any, announce: Callable[[str], None]) -> Any:
        """See what has not been seen: all of arrays, the first batches of anything else.

        Returns:
            `x`, or a generator in its place that begins with the batch that was taken out of it.
        """
        if not self._moments or any(moments.known for moments in self._moments.values()):
            return x
        if is_arrays(x):
            for batch in slices((x, y, sample_weight), _ROWS_AT_A_TIME):
                self.see(*batch)
        elif isinstance(x, tf.data.Dataset):
            announce(f"reading up to {_FIRST_BATCHES} batches for the unit of the noise")
            for batch in without_autotuning(x.take(_FIRST_BATCHES)):
                self.see(*keras.utils.unpack_x_y_sample_weight(batch))
        elif isinstance(x, keras.utils.PyDataset):
            self.see(*keras.utils.unpack_x_y_sample_weight(x[0]))
        elif isinstance(x, Iterator):
            first = next(x, None)
            if first is not None:
                self.see(*keras.utils.unpack_x_y_sample_weight(first))
                return _beginning_with(first, x)
        return x

    def see(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Note the targets of a batch."""
        model = self._model
        targets, weights = (
            tf.nest.flatten(outputs.in_order(model, one)) for one in (y, sample_weight)
        )
        if len(targets) != len(model.likelihoods):
            return  # The step says what is wrong.
        weights = weights * len(targets) if len(weights) == 1 else weights
        shapes = outputs.shapes(model) or [None] * len(targets)
        for number, moments in self._moments.items():
            likelihood = model.likelihoods[number]
            columns = _columns(likelihood, targets[number], weights[number], shapes[number])
            moments.add(*columns)
        if self._rows is None:
            self._rows = tf.nest.map_structure(lambda rows: rows[:_EXAMPLE_ROWS], x)

    def set_units(self) -> None:
        """Give the noise its units, after a warning of targets that are far off."""
        strategy = self._model.distribute_strategy
        known = {n: m for n, m in self._moments.items() if m.known}
        means, units = (
            {
                n: distribution.mean_over_workers(getattr(m, name), strategy)
                for n, m in known.items()
            }
            for name in ("mean", "deviation")
        )
        far = [n for n in known if _are_far(means[n], units[n], 0.0, 1.0)]
        said = self._said() if far else None
        for number in far:
            if _are_far(means[number], units[number], *said[number]):
                _warn(means[number], units[number], *said[number])
        for number, unit in units.items():
            self._set_unit(self._model.likelihoods[number].loss, unit)

    def _set_unit(self, loss: Any, unit: np.ndarray) -> None:
        optimizer = self._model.optimizer
        if loss.number_is_open and len(unit) > 1 and not (optimizer and optimizer.built):
            noise_variables.split(self._model, loss, len(unit))
        if loss.unit_variable.shape == ():
            # One of all targets that are not pooled: the geometric mean suits each best.
            unit = np.exp(np.mean(np.log(unit)))
        loss.unit_variable.assign(unit)

    def _said(self) -> list[tuple[Any, Any]]:
        """Mean and standard deviation of what each output says before training."""
        likelihoods = self._model.likelihoods
        if not self._model.built:
            return [(0.0, 1.0)] * len(likelihoods)
        answers = tf.nest.flatten(call_without_noise(self._model, self._rows))
        found = []
        for likelihood, answer in zip(likelihoods, answers, strict=True):
            loc = likelihood.parameters(answer)[0].numpy()
            loc = loc.reshape(-1, loc.shape[-1])
            found.append((loc.mean(axis=0), loc.std(axis=0)))
        return found


def _beginning_with(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _columns(
    likelihood: AbstractLikelihood, targets: Any, weights: Any, outputs_shape: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and their weights, `(rows, targets)`."""
    targets = tf.cast(tf.convert_to_tensor(targets), tf.float64)
    if outputs_shape is not None:
        targets = matched(targets, likelihood.targets_shape(outputs_shape))
    elif len(targets.shape) == 1:
        targets = targets[:, tf.newaxis]
    counts = tf.ones_like(targets)
    if weights is not None:
        counts *= tf.cast(spread(weights, targets), counts.dtype)
    pooled = likelihood.loss.num_scales == 1 and not likelihood.loss.number_is_open
    columns = 1 if pooled else targets.shape[-1]
    return tuple(one.numpy().reshape(-1, columns) for one in (targets, counts))


def _are_far(mean: Any, deviation: Any, said_mean: Any, said_deviation: Any) -> bool:
    """Whether targets are not where a network is that says numbers of a mean and a deviation."""
    reach = np.maximum(said_deviation, 1.0)
    return bool(
        np.any(np.abs(mean - said_mean) > _FARTHEST_MEAN * reach)
        or np.any(deviation > _LARGEST_RATIO * reach)
        or np.any(deviation < np.asarray(said_deviation) / _LARGEST_RATIO)
    )


def _warn(mean: Any, deviation: Any, said_mean: Any, said_deviation: Any) -> None:
    targets = f"mean {numbers_in_words(mean)} and standard deviation {numbers_in_words(deviation)}"
    said = f"{numbers_in_words(said_mean)} and {numbers_in_words(said_deviation)}"
    warnings.warn(
        "The targets are far from what the network says before training, and the usual number of "
        "steps may not get there: the noise then stands for the rest. Standardise the targets, or "
        "end the network with `keras.layers.Normalization(mean=y.mean(axis=0), "
        "variance=y.var(axis=0), invert=True)`, with a mean of 0 and a variance of 1 for the "
        f"outputs `rho` of `scale='head'`. Received: targets of {targets}, where the network says "
        f"{said}",
        TargetsFarOffWarning,
        stacklevel=5,
    )


def numbers_in_words(numbers: Any) -> str:
    """Some numbers in few digits, the first of them if they are many."""
    shown = np.ravel(numbers)
    return ", ".join(f"{n:.3g}" for n in shown[:4]) + (", ..." if len(shown) > 4 else "")
