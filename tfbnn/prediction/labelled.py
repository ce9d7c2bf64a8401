"""Labels: what drawn networks say of rows whose answer is known, and how much each label counts.

A label is what one factor of the likelihood is about: a class, a yes or no, a real number. A row
has several if it is a sequence or a picture, or if the network has several outputs. Their
likelihood, and how much each of them counts, come from the functions that the objective uses.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.likelihoods.targets import spread
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction.sampling import Sampled, num_rows, sampled_blocks
from tfbnn.training.data_term import observations
from tfbnn.training.outputs import in_order


@dataclasses.dataclass(frozen=True)
class LabelledBlock:
    """A block of rows with their labels.

    Attributes:
        answer: What the networks say.
        labels: The labels `(rows, *event)`: classes, 0 or 1, or real numbers.
        weights: How many observations each of them counts as, `(rows, *event)`: the mask times the
            weight of the sample.
        targets: The labels as the likelihood takes them.
    """

    answer: Sampled
    labels: np.ndarray
    weights: np.ndarray
    targets: np.ndarray

    @functools.cached_property
    def counted(self) -> np.ndarray:
        """Which labels count at all, booleans `(rows, *event)`."""
        return self.weights > 0

    def those_that_count(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Arrays `(rows, *event, ...)`, the labels and their weights, without axes of the event."""
        return [array[self.counted] for array in (*arrays, self.labels, self.weights)]

    def nll(self) -> float:
        """`-log(p(label | x))` of the prediction, times weight, summed over labels, in nats."""
        log_prob = self._log_prob()
        return float(-np.sum(self.weights[self.counted] * log_prob[self.counted]))

    def _log_prob(self) -> np.ndarray:
        """`log(mean over draws of p(label | x, w))`, or that of the tempered mean."""
        likelihood = self.answer.likelihood
        if likelihood.tempers_mean:
            return likelihood.log_prob_of_mean(self.targets, self.answer.mean).numpy()
        draws = [
            likelihood.log_prob(self.targets, likelihood.tempered(outputs)).numpy()
            for outputs in self.answer.outputs
        ]
        return np.logaddexp.reduce(np.asarray(draws, np.float64)) - np.log(len(draws))


def with_one_output(model: Any) -> AbstractPosterior:
    """The posterior of a model, or a `ValueError` if it has several outputs."""
    posterior = posterior_of(model)
    if len(posterior.likelihoods) != 1:
        raise ValueError(
            "This is for models with one output: `tfbnn.evaluate` scores each of several. "
            f"Received: a model with {len(posterior.likelihoods)} outputs"
        )
    return posterior


def labelled_blocks(
    posterior: AbstractPosterior,
    x: Any,
    y: Any,
    sample_weight: Any,
    num_samples: int,
    batch_size: int,
    seed: int | None,
    verbose: Any,
) -> Iterator[list[LabelledBlock]]:
    """What each drawn network says about labelled data, for each output, a block of rows at a time.

    The data are as in `evaluate`; a data set is read once: one that is shuffled gives another order
    each time.

    Raises:
        ValueError: If targets are missing or impossible, or weights are negative or do not fit.
    """
    x, y, sample_weight = _checked(posterior, x, y, sample_weight)
    draws = (num_samples, batch_size, seed, verbose)
    for block in sampled_blocks(posterior, x, *draws, y=y, sample_weight=sample_weight):
        if any(targets is None for _, targets, _ in block.batches):
            raise ValueError("The data set has no targets: it must give `(x, y)` batches.")
        _, *labels = zip(*block.batches, strict=True)
        targets, weights = (
            zip(*(_of_outputs(posterior, name, one) for one in given), strict=True)
            for name, given in zip(("y", "sample_weight"), labels, strict=True)
        )
        yield [
            _labelled(answer, np.concatenate(ys), None if ws[0] is None else np.concatenate(ws))
            for answer, ys, ws in zip(block.answers, targets, weights, strict=True)
        ]


def joined(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The arrays of all blocks, each `(labels, ...)`."""
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    if not len(joined[-1]):
        raise ValueError(
            "No label counts, so there is nothing to score. Received: masks or sample weights that "
            "leave out every label"
        )
    return joined


def _labelled(answer: Sampled, targets: np.ndarray, sample_weight: Any) -> LabelledBlock:
    weights = _weights(answer, sample_weight)
    labels = answer.likelihood.labels(targets, answer.outputs.shape[1:], weights > 0)
    return LabelledBlock(answer, labels, weights, targets)


def _checked(
    posterior: AbstractPosterior, x: Any, y: Any, sample_weight: Any
) -> tuple[Any, Any, Any]:
    """Arrays of as many rows as `x`, or a data set alone."""
    if isinstance(x, tf.data.Dataset):
        for name, value in (("targets", y), ("sample weights", sample_weight)):
            if value is not None:
                received = "y" if name == "targets" else "sample_weight"
                raise ValueError(
                    f"With a `tf.data.Dataset` the {name} come from it. Received: {received}"
                )
        return x, None, None
    if any(one is None for one in tf.nest.flatten(y)):
        raise ValueError(
            "There are no targets to score against: pass arrays `x` and `y`, or a batched "
            f"`tf.data.Dataset` that has them. Received: y=None, x of type {type(x).__name__}"
        )
    rows, checked = num_rows(x), []
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        arrays = _of_outputs(posterior, name, value)
        for array in arrays:
            if array is not None and array.shape[:1] != (rows,):
                raise ValueError(
                    f"`x` and `{name}` must have the same number of rows. "
                    f"Received: {rows} rows of x, {name} of shape {array.shape}"
                )
        checked.append(arrays)
    return x, *checked


def _of_outputs(posterior: AbstractPosterior, name: str, given: Any) -> list[np.ndarray | None]:
    """What is given for each output of the model, in their order; weights may be those of all."""
    count = len(posterior.likelihoods)
    leaves = [given]
    if isinstance(given, dict | list | tuple):
        flat = tf.nest.flatten(in_order(posterior.model, given))
        # A list of one array is for the one output; a list of numbers is an array.
        if all(one is None or hasattr(one, "__array__") for one in flat) and len(flat) == count:
            leaves = flat
    if len(leaves) != count and name == "sample_weight":
        leaves = leaves * count
    if len(leaves) != count:
        raise ValueError(
            f"`{name}` must have an array for each of the {count} outputs, in a list or in a dict "
            f"by their names. Received: {name} of type {type(given).__name__}"
        )
    return [None if one is None else arguments.real_array(name, one) for one in leaves]


def _weights(answer: Sampled, sample_weight: Any) -> np.ndarray:
    """How many observations each label counts as, in the shape of the likelihood's factors."""
    like = answer.likelihood.log_prob_like(tf.convert_to_tensor(answer.outputs[0]))
    weights = tf.ones(like.shape)
    for factor in (answer.mask, observations(sample_weight)):
        if factor is not None:
            weights *= tf.cast(spread(factor, like), tf.float32)
    return weights.numpy()
