"""Answers: from the outputs of several networks to `prediction` and `uncertainty`, in TensorFlow.

The same pair as `tfbnn.predict` gives, with operations that LiteRT has built in.
"""

import tensorflow as tf

from tfbnn.training.likelihoods import AbstractLikelihood

# The smallest normal float32, under the logarithm of a probability.
_TINY = 1.2e-38


# Names of the outputs of a file, by the kind of likelihood.
OUTPUTS = {
    "categorical": ("prediction", "uncertainty", "mutual_information"),
    "bernoulli": ("prediction", "uncertainty", "mutual_information"),
    "normal": ("prediction", "uncertainty", "epistemic"),
}


def names_of(likelihood: AbstractLikelihood) -> tuple[str, ...]:
    """Names of all outputs of a file.

    Where the mean is tempered, the entropies do not add up, so that `expected_entropy` comes too.
    """
    return OUTPUTS[likelihood.kind] + ("expected_entropy",) * likelihood.tempers_mean


def answer(likelihood: AbstractLikelihood, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Mean prediction, its uncertainty, and the part of it that the weights are to blame for.

    Args:
        likelihood: The likelihood of the output.
        outputs: Outputs of the network for each draw, `(num_samples, batch, ...)`.

    Returns:
        Classes: `prediction`, mean probabilities `(batch, ..., classes)`; `uncertainty`, predictive
        entropy in nats `(batch, ...)`; `mutual_information` in nats `(batch, ...)`. With a
        temperature of the mean the first two are of the tempered mean and the third is of the
        draws, as is a fourth, `expected_entropy` in nats `(batch, ...)`. Real numbers, all
        `(batch, ..., targets)`: `prediction`, the mean; `uncertainty`, the total standard
        deviation; `epistemic`, that of the mean over draws.
    """
    parameters = likelihood.parameters(outputs)
    if likelihood.kind == "normal":
        return _named(likelihood, *_normal(*parameters))
    entropy = _binary_entropy if likelihood.kind == "bernoulli" else _entropy
    mean = tf.reduce_mean(parameters[0], axis=0)
    total = entropy(mean)
    if outputs.shape[0] == 1:
        expected, information = total, tf.zeros_like(total)
    else:
        expected = tf.reduce_mean(entropy(parameters[0]), axis=0)
        # Not below zero, which rounding can give.
        information = tf.nn.relu(total - expected)
    if not likelihood.tempers_mean:
        return _named(likelihood, mean, total, information)
    prediction = likelihood.tempered_mean(mean)
    return _named(likelihood, prediction, entropy(prediction), information, expected)


def _normal(loc: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    mean = tf.reduce_mean(loc, axis=0)
    if loc.shape[0] == 1:
        return mean, scale[0], tf.zeros_like(mean)
    # Not a squared difference, of which LiteRT makes one operation: that of 8 bits ends the process
    # where draws that differ little have a variance that is small beside the scale of the means.
    epistemic = tf.reduce_mean(tf.square(tf.abs(loc - mean)), axis=0)
    aleatoric = tf.reduce_mean(tf.square(scale), axis=0)
    return mean, tf.sqrt(epistemic + aleatoric), tf.sqrt(epistemic)


def _named(likelihood: AbstractLikelihood, *values: tf.Tensor) -> dict[str, tf.Tensor]:
    return dict(zip(names_of(likelihood), values, strict=True))


def _entropy(probabilities: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(probabilities * tf.math.log(tf.maximum(probabilities, _TINY)), axis=-1)


def _binary_entropy(probability: tf.Tensor) -> tf.Tensor:
    entropy = _entropy(tf.stack([1.0 - probability, probability], axis=-1))
    return entropy[..., 0] if probability.shape[-1] == 1 else entropy
