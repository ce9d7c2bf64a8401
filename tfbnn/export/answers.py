"""Answers: from the outputs of several networks to `prediction` and `uncertainty`, in TensorFlow.

The same pair as `tfbnn.predict` gives, with operations that LiteRT has built in.
"""

import tensorflow as tf

from tfbnn.training.likelihoods import AbstractLikelihood

# The smallest normal float32, under the logarithm of a probability.
_TINY = 1.2e-38


def answer(likelihood: AbstractLikelihood, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Mean prediction and its uncertainty.

    Args:
        likelihood: The likelihood of the output.
        outputs: Outputs of the network for each draw, `(num_samples, batch, ...)`.

    Returns:
        `prediction` and `uncertainty`. Classes: mean probabilities `(batch, ..., classes)` and
        predictive entropy in nats `(batch, ...)`. Real numbers: mean and total standard deviation,
        `(batch, ..., targets)`.
    """
    parameters = likelihood.parameters(outputs)
    if likelihood.kind == "normal":
        return _normal(*parameters)
    prediction = tf.reduce_mean(parameters[0], axis=0)
    if likelihood.kind == "bernoulli":
        return {"prediction": prediction, "uncertainty": _binary_entropy(prediction)}
    return {"prediction": prediction, "uncertainty": _entropy(prediction)}


def _normal(loc: tf.Tensor, scale: tf.Tensor) -> dict[str, tf.Tensor]:
    mean = tf.reduce_mean(loc, axis=0)
    variance = tf.reduce_mean(tf.square(loc - mean) + tf.square(scale), axis=0)
    return {"prediction": mean, "uncertainty": tf.sqrt(variance)}


def _entropy(probabilities: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(probabilities * tf.math.log(tf.maximum(probabilities, _TINY)), axis=-1)


def _binary_entropy(probability: tf.Tensor) -> tf.Tensor:
    entropy = _entropy(tf.stack([1.0 - probability, probability], axis=-1))
    return entropy[..., 0] if entropy.shape[-1] == 1 else entropy
