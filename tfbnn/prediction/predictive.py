"""The predictive distribution: many networks drawn from the posterior, averaged.

`p(y | x) = mean over draws w of p(y | x, w)`
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import outputs_structure
from tfbnn.likelihoods.results import Prediction
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction.hidden import HiddenActivations
from tfbnn.prediction.sampling import SAMPLE_BYTES, sampled_blocks


def predict(
    model: Any,
    x: Any,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
    keep_samples: bool | None = None,
    verbose: Any = "auto",
    layers: Sequence[str] | None = None,
) -> Any:
    """Prediction and uncertainty, averaged over networks drawn from the posterior.

    Weights are drawn, not noise: each of the `num_samples` networks answers for every row. Dropout
    and BatchNormalization run as in inference. Memory is bounded by the batch, not by `x`.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`, a plain Keras model with variational
            layers that was compiled with a loss of the same kind, or a posterior.
        x: Inputs `(rows, ...)`: an array, a list or dict of arrays for several inputs, or a batched
            `tf.data.Dataset` (targets in it are ignored).
        num_samples: Number of networks; of a posterior that has fewer, all of them.
        batch_size: Rows at a time, for arrays.
        seed: A whole number; the same seed gives the same networks. Random if None.
        keep_samples: Whether the result keeps the parameters that each network predicted, which
            `quantile` needs. None keeps them up to 256 MB.
        verbose: 0 for no progress bar, 1 for one, `"auto"` for one on work of more than 2 s.
        layers: Names of layers inside the network; the `layers` of the result have the mean and the
            standard deviation of what each gives, over the networks.

    Returns:
        A `Prediction`, which unpacks into two arrays. Classes: mean probabilities
        `(rows, classes)` and predictive entropy in nats `(rows,)`. Real numbers: mean and total
        standard deviation, `(rows, targets)`. It holds the decomposition and the rest, the `mask`
        of sequences with steps that do not count, and the `mean_temperature` of classes. For a
        model with several outputs: one in each place of the outputs' structure.

    Raises:
        TypeError: If `model` is neither a model nor a posterior.
        ValueError: If `x` is empty, infinite, not finite or of the wrong shape, an argument is out
            of range, or there is no layer of a name, or it gives several tensors.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> prediction, uncertainty = tfbnn.predict(model, np.eye(3), num_samples=8)
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))
    >>> hidden = tfbnn.predict(model, np.eye(3), num_samples=8, layers=[model.layers[0].name])
    >>> [activations.standard_deviation.shape for activations in hidden.layers.values()]
    [(3, 2)]

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", sec. 2, and Gal 2016,
        "Uncertainty in Deep Learning", sec. 3.3.
    """
    posterior = posterior_of(model)
    if keep_samples is not None:
        keep_samples = arguments.boolean("keep_samples", keep_samples)
    hidden = None if layers is None else HiddenActivations(posterior, layers)
    # Hidden activations are those of the same networks.
    seed = arguments.seed_or_any("seed", seed)
    parts: list[list[Prediction]] = []
    samples_bytes = 0
    for block in sampled_blocks(posterior, x, num_samples, batch_size, seed, verbose):
        samples_bytes += sum(array.nbytes for one in block.answers for array in one.parameters)
        keep = samples_bytes <= SAMPLE_BYTES if keep_samples is None else keep_samples
        parts.append([one.prediction(keep) for one in block.answers])
        if hidden is not None:
            hidden.add(block, len(block.answers[0].outputs), seed)
    predictions = [Prediction.concatenate(list(part)) for part in zip(*parts, strict=True)]
    if hidden is not None:
        found = hidden.result()
        predictions = [dataclasses.replace(one, layers=found) for one in predictions]
    return like_outputs(posterior, predictions)


def like_outputs(posterior: AbstractPosterior, predictions: list[Any]) -> Any:
    """What is said of each output, in the structure of the outputs."""
    if len(predictions) == 1:
        return predictions[0]
    # A subclassed model does not know its outputs; its losses are in the same places.
    structure = outputs_structure(posterior.model) or posterior.model.loss
    packed = tf.nest.pack_sequence_as(structure, predictions)
    # Keras keeps structures in wrappers of its own.
    return dict(packed) if isinstance(packed, dict) else list(packed)
