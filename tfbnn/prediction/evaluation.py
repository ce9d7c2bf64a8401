"""Evaluation of the predictive distribution on labelled data."""

from typing import Any

import numpy as np

from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction.labelled import LabelledBlock, joined, labelled_blocks
from tfbnn.prediction.predictive import like_outputs


def evaluate(
    model: Any,
    x: Any,
    y: Any = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    verbose: Any = "auto",
    sample_weight: Any = None,
) -> Any:
    """Score the predictive distribution, the average over networks drawn from the posterior.

    With `p(y | x)` the mean over draws of `p(y | x, w)`, at the temperature of
    `tfbnn.calibrate` if there is one, for each label `y` of an example,

        nll = sum over labels of (weight * -log(p(y | x))) / rows

    in nats per example, summed over event axes, as the `nll` that `model.evaluate` reports at the
    posterior mean of the weights; without noise in the weights the two are equal, but for a
    temperature (which this has) and `loss_weights` (which that has). All other scores are weighted
    means over labels. Steps that a Keras mask leaves out have the weight 0.

    Args:
        model: As in `tfbnn.predict`.
        x: Inputs, as in `tfbnn.predict`; a `tf.data.Dataset` gives `(x, y)` or
            `(x, y, sample_weight)`.
        y: Targets `(rows, ...)`: labels, one-hot rows or numbers, as in `fit`; of several outputs
            in a list, or in a dict by their names.
        num_samples, batch_size, seed, verbose: As in `tfbnn.predict`.
        sample_weight: How many observations a row, or each of its labels, counts as, `(rows,)` or
            `(rows, ...)`, as in `fit`; None: each counts once.

    Returns:
        A `ClassEvaluation` or a `NumberEvaluation`; for a model with several outputs one in each
        place of their structure.

    Raises:
        ValueError: If targets are missing, out of range, or as many as the inputs are not, or no
            label counts.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> sorted(tfbnn.evaluate(model, np.eye(3), np.array([0, 1, 1])).scores())
    ['brier', 'ece', 'error', 'mean_entropy', 'nll', 'num_samples']
    """
    posterior = posterior_of(model)
    scored = [_Scored() for _ in posterior.likelihoods]
    draws = (num_samples, batch_size, seed, verbose)
    for blocks in labelled_blocks(posterior, x, y, sample_weight, *draws):
        for one, block in zip(scored, blocks, strict=True):
            one.add(block)
    return like_outputs(posterior, [one.evaluation() for one in scored])


class _Scored:
    """What is kept of the blocks of one output, which are too large to keep."""

    def __init__(self) -> None:
        self._nll, self._rows = 0.0, 0
        self._parts: list[list[np.ndarray]] = []

    def add(self, block: LabelledBlock) -> None:
        """Score the labels of a block."""
        self._nll, self._rows = self._nll + block.nll(), self._rows + len(block.labels)
        prediction = block.answer.prediction(keep_samples=True)
        judged = block.answer.likelihood.judged(prediction, block.labels.shape)
        self._parts.append(block.those_that_count(*judged))
        self._last = block.answer

    def evaluation(self) -> Any:
        """The scores of all blocks."""
        *judged, labels, weights = joined(self._parts)
        counts = {"num_samples": len(self._last.outputs), "num_rows": self._rows}
        kind = self._last.likelihood.evaluation_type
        return kind.of(judged, labels, weights, nll=self._nll / self._rows, **counts)
