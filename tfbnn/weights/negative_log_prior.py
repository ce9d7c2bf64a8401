"""The regularizer that a prior is."""

from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.weights import priors
from tfbnn.weights.abstract_prior import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class NegativeLogPrior(keras.regularizers.Regularizer):
    """The penalty that a prior is.

        -log(p(w)) / num_examples, summed over the weights

    so that a loss with it, per example, is lowest at the mode of the posterior.

    Args:
        prior: As `tfbnn.priors.get` takes it.
        num_examples: Number of training examples.
    """

    def __init__(self, prior: Any, num_examples: int):
        self.prior = arguments.interpreted("prior", prior, priors.get, "a prior of `tfbnn.priors`")
        self.num_examples = arguments.count("num_examples", num_examples)

    def __call__(self, weights: Any) -> tf.Tensor:
        return -tf.reduce_sum(self.prior.log_prob(weights)) / self.num_examples

    def get_config(self) -> dict[str, Any]:
        return {"prior": priors.serialize(self.prior), "num_examples": self.num_examples}
