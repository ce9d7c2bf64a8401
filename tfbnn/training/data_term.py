"""The data term of the objective: the likelihood of a batch, and how its rows count."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfbnn.layers.keras_internals import mask_of
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.targets import spread, sum_events
from tfbnn.requirements import require
from tfbnn.training import noise_variables


@dataclasses.dataclass
class DataTerm:
    """The likelihood of each output of a network, and its weight in the loss; 1 is the ELBO.

    Its methods take the targets and the outputs of a batch, in one structure, and how many
    observations an example counts as, or None.
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


def counted(
    likelihoods: list[AbstractLikelihood], targets: Any, outputs: Any, sample_weight: Any
) -> Iterator[tuple[AbstractLikelihood, Any, Any, list[Any]]]:
    """For each output its likelihood, targets, the output, and what says how much they count.

    The last are the output's mask and the weights of its rows, as far as there are any.
    """
    flat_outputs = tf.nest.flatten(outputs)
    flat_targets = tf.nest.flatten(targets)
    if len(flat_targets) != len(flat_outputs):
        raise ValueError(
            "There must be one array of targets for each output of the network. "
            f"Received: {len(flat_targets)} targets for {len(flat_outputs)} outputs"
        )
    flat_weights = tf.nest.flatten(sample_weight)
    if len(flat_weights) == 1:
        flat_weights = flat_weights * len(flat_outputs)
    for likelihood, y, output, rows in zip(
        likelihoods, flat_targets, flat_outputs, flat_weights, strict=True
    ):
        factors = mask_of(output), observations(rows)
        yield likelihood, y, output, [f for f in factors if f is not None]


def global_batch_size(batch: Any) -> tf.Tensor:
    """Number of examples in the batch, over all replicas, as a float32 scalar."""
    local = tf.cast(tf.shape(tf.nest.flatten(batch)[0])[0], tf.float32)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return local
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, local)


def observations(sample_weight: Any) -> tf.Tensor | None:
    """Sample weights, each a number of observations, if there are any."""
    if sample_weight is None:
        return None
    counts = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
    with tf.control_dependencies(require_observations(counts)):
        return tf.identity(counts)


def require_observations(sample_weight: Any) -> list[tf.Operation]:
    """`requirements.require` that weights are numbers of observations; None passes."""
    if sample_weight is None:
        return []
    counts = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
    return require(
        tf.math.is_finite(counts) & (counts >= 0),
        "Sample weights must be finite and not negative. Received: from",
        tf.reduce_min(counts),
        "to",
        tf.reduce_max(counts),
    )
