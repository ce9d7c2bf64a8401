"""Evaluation of the predictive distribution on labelled data."""

from typing import Any

from tfbnn.prediction.labelled import joined, labelled_blocks, with_one_output


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
        model: As in `tfbnn.predict`; it must have one output.
        x: Inputs, as in `tfbnn.predict`; a `tf.data.Dataset` gives `(x, y)` or
            `(x, y, sample_weight)`.
        y: Targets `(rows, ...)`: labels, one-hot rows or real numbers, as in `fit`.
        num_samples: Number of networks.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks.
        verbose: As in `tfbnn.predict`.
        sample_weight: How many observations a row, or each of its labels, counts as, `(rows,)` or
            `(rows, ...)`, as in `fit`; None: each counts once.

    Returns:
        A `ClassEvaluation` or a `NumberEvaluation`.

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
    posterior = with_one_output(model)
    likelihood = posterior.likelihoods[0]
    nll, rows, parts = 0.0, 0, []
    for block in labelled_blocks(
        posterior, x, y, sample_weight, num_samples, batch_size, seed, verbose
    ):
        nll, rows = nll + block.nll(), rows + len(block.labels)
        prediction = block.answer.prediction(keep_samples=True)
        parts.append(block.those_that_count(*likelihood.judged(prediction, block.labels.shape)))
    *judged, labels, weights = joined(parts)
    counts = {"nll": nll / rows, "num_samples": len(block.answer.outputs), "num_rows": rows}
    return likelihood.evaluation_type.of(judged, labels, weights, **counts)
