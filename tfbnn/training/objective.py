"""The objective: the only place that knows the number of training examples.

Per example, in nats:

`loss = mean over the batch of (NLL summed over event axes) + kl_weight * sum of KL(q || p)`

with `kl_weight = beta * schedule * warm_up / num_examples`. The KL is summed over all weights,
never averaged. With `beta = 1` and no schedule this is the negative ELBO divided by `num_examples`
(Blundell et al. 2015, eq. 2).
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.scopes import DrawCollector
from tfbnn.layers.variational import random_maps, variational_weights
from tfbnn.training import likelihoods, noise_variables
from tfbnn.training.data import TrainingSize
from tfbnn.training.last_steps import LastSteps, Observation
from tfbnn.training.likelihoods import AbstractLikelihood
from tfbnn.training.progress import FitProgress
from tfbnn.training.recipes import Recipe
from tfbnn.training.requirements import require
from tfbnn.training.updates import StepFactors, batches_seen, inner_of, without_step_factors
from tfbnn.weights.families import NormalWeight
from tfbnn.weights.sums import total


class Objective:
    """Weights of the two terms of the loss, and their computation.

    `num_examples`, `beta` and `num_batches` are variables: Keras caches its train function, in
    which a Python number would be frozen.
    """

    def __init__(self, num_examples: int | None = None):
        self.num_examples: int | None = None
        self.beta = 1.0
        # Whether the next `fit` chooses it by validation.
        self.beta_is_open = False
        self.kl_schedule: Callable[[Any, Any], tf.Tensor] | None = None
        self.recipe: Recipe | None = None
        # Whether the user has named it.
        self.recipe_is_given = False
        self.progress = FitProgress()
        self.last_steps: LastSteps | None = None
        self.num_batches = 0
        self._variables = {
            name: keras.Variable(value, dtype="float32", trainable=False, name=name)
            for name, value in (("num_examples", 0.0), ("beta", 1.0), ("num_batches", 0.0))
        }
        if num_examples is not None:
            self.set_num_examples(num_examples)

    def set_num_examples(self, num_examples: int) -> None:
        """Set the number of training examples in the whole data set, over all workers."""
        self.num_examples = arguments.count("num_examples", num_examples, most=2**63 - 1)
        self._variables["num_examples"].assign(float(self.num_examples))

    def set_beta(self, beta: float, is_open: bool = False) -> None:
        """Set the factor of the KL: 1 is the ELBO, less is a cold posterior.

        Args:
            beta: The factor.
            is_open: Whether the next `fit` chooses another by validation.
        """
        self.beta, self.beta_is_open = arguments.real_number("beta", beta, 0), is_open
        self._variables["beta"].assign(self.beta)

    def set_size(self, size: TrainingSize, epochs: int) -> None:
        """Set the numbers of examples, of batches in an epoch, and of epochs."""
        self.set_num_examples(size.num_examples)
        self.num_batches = size.num_batches
        self.progress.num_steps = epochs * size.num_batches
        self._check_num_batches()
        scheduled = self.recipe and (self.recipe.warm_up or self.recipe.learning_rate)
        if scheduled and self.recipe_is_given and not size.num_batches:
            raise ValueError(f"A recipe {_NEEDS_BATCHES}")
        self._variables["num_batches"].assign(float(size.num_batches))

    def kl_weight(self, step: Any) -> tf.Tensor:
        """`beta * schedule(step) * warm_up(step) / num_examples`, a float32 scalar.

        Args:
            step: Number of training steps done so far.
        """
        self._check_num_batches()
        values = {name: tf.convert_to_tensor(v.value) for name, v in self._variables.items()}
        factor = 1.0
        if self.kl_schedule is not None:
            factor = self.kl_schedule(step, values["num_batches"])
        if self.recipe is not None:
            factor *= self.recipe.kl_factor(self.progress, step)
        return values["beta"] * factor / values["num_examples"]

    def watch(self, weights: list[NormalWeight], noise_rhos: list[keras.Variable]) -> None:
        """Have `observe` note what happens to these weights and scales of the noise."""
        if self.last_steps is None or not self.last_steps.watches(weights, noise_rhos):
            with tf.init_scope():
                self.last_steps = LastSteps(weights, noise_rhos)

    def observe(self, found: Callable[[], Observation], step: Any) -> None:
        """Note what a training step found, in `last_steps`."""
        if self.last_steps is not None and self.last_steps.weights:
            self.last_steps.observe(
                found,
                lambda: self.kl_weight(step),
                self.progress.steps_before(step),
                self.progress.steps_in_all(),
            )

    def install_step_factors(self, model: keras.Layer, optimizer: Any) -> None:
        """Let the optimizer of a model take steps as long as the recipe says."""
        if optimizer is None:
            return
        without_step_factors(optimizer)
        if self.recipe is None:
            return
        # Not one for each variable of a step: all are functions of the same two numbers.
        key_of = inner_of(optimizer)._var_key
        known: Any = weakref.WeakKeyDictionary()

        def factor_of(key: Any) -> Any:
            graph = tf.compat.v1.get_default_graph()
            if tf.executing_eagerly() or graph not in known:
                shares = _shares_of_step(self.recipe, variational_weights(model), key_of)
                known[graph] = (
                    self.recipe.step_factor(self.progress, batches_seen(optimizer)),
                    shares,
                )
            factor, shares = known[graph]
            return factor * shares.get(key, 1.0)

        StepFactors(optimizer, factor_of).install()

    def _check_num_batches(self) -> None:
        if self.kl_schedule is not None and self.num_batches == 0:
            raise ValueError(f"A KL schedule {_NEEDS_BATCHES}")


def _shares_of_step(
    recipe: Recipe, weights: list[NormalWeight], key_of: Callable[[keras.Variable], Any]
) -> dict[Any, float]:
    """For the variables of random weights what a recipe multiplies their steps with."""
    shares = {}
    for weight in weights:
        share = recipe.share_of_step(weight.fan_in) if len(weight.shape) > 1 else 1.0
        shares[key_of(weight.loc_variable)] = share
        shares[key_of(weight.rho_variable)] = share * recipe.rho_factor
    return shares


_NEEDS_BATCHES = (
    "needs the number of batches in an epoch: use `fit`, with `steps_per_epoch=` where the data do "
    "not tell. Received: num_batches=0"
)


def total_kl(model: keras.Layer, collector: DrawCollector | None) -> tf.Tensor:
    """Sum of `KL(q || p)` over all random weights of a model, in nats, each weight once.

    Args:
        model: A model with variational layers.
        collector: What the forward pass collected. The KL of weights that it did not meet is
            computed here, a Monte Carlo one at a draw of its own.

    Returns:
        A float32 scalar.
    """
    known = {} if collector is None else collector.divergences
    terms = [tf.zeros([])]
    for one in random_maps(model):
        for weight in one.variational_weights:
            if weight in known:
                terms.append(known[weight])
            else:
                terms.append(weight.kl(None if weight.kl_is_exact else one.next_seed()))
    return total(terms)


def mean_nll(
    output_likelihoods: list[AbstractLikelihood],
    weights: list[float],
    targets: Any,
    outputs: Any,
    num_rows: tf.Tensor,
    sample_weight: Any = None,
) -> tf.Tensor:
    """Negative log likelihood of a batch, summed over outputs and event axes, mean over examples.

    The sum over a replica's examples is divided by the number of examples in the global batch, so
    that replicas with fewer examples weigh less: the sum over replicas is what one device computes.

    Args:
        output_likelihoods: One for each output.
        weights: Weight of each output's log likelihood; 1 is the ELBO.
        targets: Targets, in the structure of the outputs.
        outputs: Outputs of the network.
        num_rows: Number of examples in the global batch.
        sample_weight: How many observations an example counts as, or None. The mean divides by
            the number of examples, not by the sum of the weights, as Keras does.

    Returns:
        A float32 scalar, in nats per example.
    """
    nll = 0.0
    by_output = log_probs(output_likelihoods, targets, outputs, sample_weight)
    for weight, log_prob in zip(weights, by_output, strict=True):
        nll -= weight * tf.reduce_sum(log_prob)
    return nll / num_rows


def gain_from_inputs(
    output_likelihoods: list[AbstractLikelihood],
    weights: list[float],
    targets: Any,
    outputs: list[tf.Tensor],
    num_rows: tf.Tensor,
    sample_weight: Any = None,
) -> tf.Tensor:
    """How much lower the NLL of a batch is than with the outputs of other rows; see `mean_nll`.

    Returns:
        A float32 scalar, in nats per example; 0 where a mask would not be that of other rows.
    """
    if any(getattr(output, "_keras_mask", None) is not None for output in outputs):
        return tf.zeros([])
    # Of rows far apart: the next one may be alike where nothing was shuffled.
    of_others = [tf.roll(output, tf.shape(output)[0] // 2, axis=0) for output in outputs]
    own, other = (
        mean_nll(output_likelihoods, weights, targets, one, num_rows, sample_weight)
        for one in (outputs, of_others)
    )
    return other - own


def numbers_per_scale(
    output_likelihoods: list[AbstractLikelihood],
    weights: list[float],
    targets: Any,
    outputs: Any,
    sample_weight: Any = None,
) -> list[tf.Tensor]:
    """For each output with learned noise how much a row counts by which each scale is learned.

    The arguments are those of `mean_nll`.

    Returns:
        Numbers of targets that share a scale, times their weights, the mean over a replica's rows.
    """
    found = []
    by_output = counted(output_likelihoods, targets, outputs, sample_weight)
    for weight, (likelihood, _, output, factors) in zip(weights, by_output, strict=True):
        if not noise_variables.learned_noise([likelihood]):
            continue
        counts = weight * tf.ones_like(tf.cast(likelihood.log_prob_like(output), tf.float32))
        for factor in factors:
            counts *= tf.cast(likelihoods.spread(factor, counts), tf.float32)
        counts = tf.reshape(counts, [-1, likelihood.loss.num_scales])
        rows = tf.cast(tf.shape(output)[0], tf.float32)
        found.append(tf.reduce_sum(counts, axis=0) / rows)
    return found


def log_probs(
    output_likelihoods: list[AbstractLikelihood], targets: Any, outputs: Any, sample_weight: Any
) -> Iterator[tf.Tensor]:
    """Log likelihood of each example under each output, summed over event axes.

    Args:
        output_likelihoods: One for each output.
        targets: Targets, in the structure of the outputs.
        outputs: Outputs of the network.
        sample_weight: As in `mean_nll`.
    """
    for likelihood, y, output, factors in counted(
        output_likelihoods, targets, outputs, sample_weight
    ):
        y = likelihood.checked(y, output, factors)
        yield likelihoods.sum_events(likelihood.log_prob(y, output), factors)


def counted(
    output_likelihoods: list[AbstractLikelihood], targets: Any, outputs: Any, sample_weight: Any
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
        output_likelihoods, flat_targets, flat_outputs, flat_weights, strict=True
    ):
        mask = getattr(output, "_keras_mask", None)
        yield likelihood, y, output, [f for f in (mask, observations(rows)) if f is not None]


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
