"""The log posterior density of a network, for routes that need it as a function of the weights."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn.posterior.gaussian import AbstractGaussianPosterior
from tfbnn.training.data_term import DataTerm, global_batch_size
from tfbnn.training.plain_models import objective_of
from tfbnn.weights.abstract_prior import AbstractPrior


def log_posterior(
    posterior: AbstractGaussianPosterior, values: list[tf.Tensor], batch: tuple[Any, ...]
) -> tf.Tensor:
    """Log density of a network under the posterior, per example, up to a constant.

        mean over the batch of log(p(y | x, w)) + log(p(w)) / num_examples

    so that its mean over batches is the log joint density, divided by `num_examples`: what MCMC,
    Laplace and optimizers of `w` ascend. `num_examples` and the weights of outputs are those of the
    objective that the model is trained on; beta does not enter.

    Args:
        posterior: A posterior of a model with random weights, such as `posterior_of(model)`.
        values: A network: values of the random weights, in the order of `posterior.weights`.
        batch: `(x, y)` or `(x, y, sample_weight)`.

    Returns:
        A float32 scalar, in nats per example, differentiable in `values`.

    Raises:
        ValueError: If the number of training examples is not known, or a prior is no law by itself,
            such as `tfbnn.priors.AutomaticRelevance`.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> from tfbnn.posterior.log_density import log_posterior
    >>> layer = tfbnn.layers.Dense(2, kernel_prior="normal", bias_prior="normal")
    >>> model = tfbnn.Sequential([keras.Input((3,)), layer], num_examples=3)
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> posterior = tfbnn.posteriors.MeanFieldPosterior(model)
    >>> batch = np.eye(3, dtype="float32"), np.array([0, 1, 1])
    >>> log_posterior(posterior, posterior.mean(), batch).shape
    TensorShape([])
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    known = objective_of(posterior.model)
    outputs = posterior.network(values, x)
    data = DataTerm(known.likelihoods, known.loss_weights)
    nll = data.nll(y, outputs, sample_weight, global_batch_size(outputs))
    prior = log_prior([weight.prior for weight in posterior.weights], values)
    return prior / known.num_examples - nll


def log_prior(priors: Sequence[AbstractPrior], values: Sequence[tf.Tensor]) -> tf.Tensor:
    """`log p(w)` of the weights of a network, a float32 scalar in nats."""
    pairs = zip(priors, values, strict=True)
    return tf.add_n([tf.reduce_sum(prior.log_prob(value)) for prior, value in pairs])
