"""The data term of the objective: the negative log likelihood of a batch, and what it tells."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.targets import spread, sum_events
from tfbnn.training import noise_variables
from tfbnn.training.counts import counted


@dataclasses.dataclass
class DataTerm:
    """The likelihoods of a network, one for each output, and what each counts in the loss.

    Its methods take the targets and the outputs of a batch, in one structure, and how many
    observations an example counts as, or None.

    Attributes:
        likelihoods: One for each output.
        weights: Weight of each output's log likelihood; 1 is the ELBO.
    """

    likelihoods: list[AbstractLikelihood] = dataclasses.field(default_factory=list)
    weights: list[float] = dataclasses.field(default_factory=lambda: [1.0])

    def nll(self, targets: Any, outputs: Any, sample_weight: Any, num_rows: tf.Tensor) -> tf.Tensor:
        """Summed over outputs and event axes, the mean over examples, in nats: a float32 scalar.

        The sum over a replica's examples is divided by the number of examples in the global batch,
        `num_rows`, so that replicas with fewer examples weigh less: the sum over replicas is what
        one device computes. It is not divided by the sum of the weights, as in Keras.
        """
        nll = 0.0
        by_output = log_probs(self.likelihoods, targets, outputs, sample_weight)
        for weight, log_prob in zip(self.weights, by_output, strict=True):
            nll -= weight * tf.reduce_sum(log_prob)
        return nll / num_rows

    def gain_from_inputs(
        self, targets: Any, outputs: Any, sample_weight: Any, num_rows: tf.Tensor
    ) -> tf.Tensor:
        """How much lower the `nll` is than with the outputs of other rows.

        0 where a mask would not be that of other rows.
        """
        outputs = tf.nest.flatten(outputs)
        if any(mask_of(output) is not None for output in outputs):
            return tf.zeros([])
        # Of rows far apart: the next one may be alike where nothing was shuffled.
        of_others = [tf.roll(output, tf.shape(output)[0] // 2, axis=0) for output in outputs]
        own, other = (
            self.nll(targets, one, sample_weight, num_rows) for one in (outputs, of_others)
        )
        return other - own

    def numbers_per_scale(self, targets: Any, outputs: Any, sample_weight: Any) -> list[tf.Tensor]:
        """For each output with learned noise how much a row counts by which each scale is learned.

        These are numbers of targets that share a scale, times their weights, the mean over a
        replica's rows.
        """
        found = []
        by_output = counted(self.likelihoods, targets, outputs, sample_weight)
        for weight, (likelihood, _, output, factors) in zip(self.weights, by_output, strict=True):
            if not noise_variables.learned_noise([likelihood]):
                continue
            counts = weight * tf.ones_like(tf.cast(likelihood.log_prob_like(output), tf.float32))
            for factor in factors:
                counts *= tf.cast(spread(factor, counts), tf.float32)
            counts = tf.reshape(counts, [-1, likelihood.loss.num_scales])
            rows = tf.cast(tf.shape(output)[0], tf.float32)
            found.append(tf.reduce_sum(counts, axis=0) / rows)
        return found


def log_probs(
    output_likelihoods: list[AbstractLikelihood], targets: Any, outputs: Any, sample_weight: Any
) -> Iterator[tf.Tensor]:
    """Log likelihood of each example under each output, summed over event axes; see `DataTerm`."""
    for likelihood, y, output, factors in counted(
        output_likelihoods, targets, outputs, sample_weight
    ):
        y = likelihood.checked(y, output, factors)
        yield sum_events(likelihood.log_prob(y, output), factors)
