"""`BayesianModel`: how a Keras model is trained on the ELBO, whatever its layers."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers import scopes
from tfbnn.layers.keras_internals import TrainingHooks, call_without_noise
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.requirements import clear_errors, require_finite
from tfbnn.training import beta_choice, distribution, observation, outputs, recipes
from tfbnn.training.checked_calls import CheckedCalls
from tfbnn.training.data_term import global_batch_size
from tfbnn.training.decay import spare_random_weights
from tfbnn.training.drawn_steps import checked_optimizer, follow, step_of
from tfbnn.training.objective import Objective
from tfbnn.training.resuming import forget_resuming
from tfbnn.training.saved_state import SavedState
from tfbnn.training.terms import TERMS, record_loss
from tfbnn.training.training_run import TrainingRun, printer
from tfbnn.weights.sums import total


class BayesianModel(CheckedCalls, SavedState, TrainingHooks):
    """What `tfbnn.Sequential` and `tfbnn.Model` add to their Keras classes.

    `fit` minimises, per example and in nats,
    `mean over the batch of (NLL summed over event axes) + beta / num_examples * sum of KL(q || p)`,
    which is the negative ELBO divided by `num_examples` (Blundell et al. 2015, eq. 2).

    Metrics in training: `nll` (nats per example), `kl` (nats, summed over all weights, for the draw
    used in the loss), `kl_weight`, and `weighted_kl`, their product. `evaluate` and `predict` use
    the posterior mean of the weights; see `tfbnn.predict` and `tfbnn.evaluate` for the predictive
    distribution.
    """

    def __init__(self, *args: Any, num_examples: int | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.objective = Objective(num_examples)
        self.num_draws = 1
        # A few rows of what `fit` saw, on which an export can be compared with this model.
        self.example_rows: np.ndarray | None = None
        # Metrics of the model by this list: the objective is no object of Keras.
        self._terms = self.objective.terms

    @property
    def num_examples(self) -> int | None:
        """Number of training examples that the KL is weighed against; None before `fit`."""
        return self.objective.num_examples

    @num_examples.setter
    def num_examples(self, value: int) -> None:
        self.objective.set_num_examples(value)

    @property
    def likelihoods(self) -> list[AbstractLikelihood]:
        """The likelihood of each output; none before `compile`."""
        return self.objective.likelihoods

    @property
    def likelihood(self) -> AbstractLikelihood:
        """The likelihood of a model with one output."""
        return self.objective.likelihood()

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        loss_weights: Any = None,
        *args: Any,
        recipe: Any = None,
        beta: float | str | None = None,
        kl_schedule: Any = None,
        num_draws: int = 1,
        **kwargs: Any,
    ) -> None:
        """Configure training, as in Keras.

        Args:
            optimizer: As in Keras. `"adam"` by name takes its rate and schedules from the recipe,
                without one from `"elbo"`; any other is left alone.
            loss: A loss that is a negative log likelihood: the categorical and binary
                cross-entropies of Keras, `tfbnn.losses.NormalNLL`; a list or dict of them for
                several outputs.
            loss_weights: Weight of each output's log likelihood, as in Keras; 1 is the ELBO.
            *args: As in Keras: `metrics`, ...
            recipe: `"calibrated"`, `"elbo"`, `"sparse"` or an object of `tfbnn.recipes`: sets what
                is not set here.
            beta: Factor of the KL. 1 is the ELBO; less gives a cold posterior (tempering). By
                default that of the recipe, without one 1. `"validation"`: the first `fit` trains
                with each of 0.03, 0.1, 0.3 and 1, takes the one that predicts `validation_data`
                best, and then trains with it: five times the steps.
            kl_schedule: None, an object of `tfbnn.schedules`, or `"minibatch_weights"`; in the
                place of the recipe's warm-up.
            num_draws: Weight draws per training step, whose losses are averaged.
            **kwargs: As in Keras.

        Raises:
            ValueError: If a loss is no likelihood, an argument is out of its range, or contradicts
                the recipe.
        """
        num_draws = arguments.count("num_draws", num_draws)
        loss_weights = outputs.checked_loss_weights(loss, loss_weights)
        plan = recipes.plan(optimizer, recipe, beta, kl_schedule)
        # All checks come first: a model must not be left half compiled.
        likelihoods, loss = self.objective.interpreted(self, loss)
        chosen = checked_optimizer(self, plan, likelihoods)
        super().compile(chosen, loss, loss_weights, *args, **kwargs)
        self.objective.follow(self, plan, likelihoods)
        self.num_draws = num_draws
        follow(self)
        if self.built:
            spare_random_weights(self)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        num_examples: int | None = None,
    ) -> keras.callbacks.History:
        """Train, as in Keras, on the ELBO, or what `beta` makes of it.

        Args:
            num_examples: Number of training examples in the whole data set, over all workers. Not
                needed for arrays (exact, after `validation_split`) and finite `tf.data` sets (one
                announced pass counts them); required for generators, infinite data, and with
                `steps_per_epoch`.

        The other arguments and the result are those of Keras.

        Raises:
            ValueError: If `num_examples` is needed, or the data cannot be learnt from.
        """
        forget_resuming(self)
        rows = x, y, sample_weight, class_weight, batch_size, shuffle
        steps = epochs, initial_epoch, steps_per_epoch, num_examples
        held_out = validation_data, validation_steps, validation_batch_size
        run = TrainingRun(*rows, *steps, *held_out)
        run.check(self, validation_split)
        if self.objective.beta_is_open:
            beta_choice.choose(self, run, callbacks, verbose)
        announce = printer(verbose)
        run.begin(self, callbacks, announce)
        how = {"verbose": verbose, "callbacks": callbacks, "validation_freq": validation_freq}
        try:
            with clear_errors():
                history = super().fit(**run.fed(self), **how)
        finally:
            self.objective.progress.end()
        run.end(self, announce)
        return history

    def make_train_function(self, force: bool = False) -> Any:
        if self.built:
            with self.distribute_strategy.scope():
                if not self.optimizer.built:
                    # TensorFlow traces a function again if it made variables the first time.
                    self.optimizer.build(self.trainable_variables)
                observation.watch(self)
        return super().make_train_function(force)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = step_of(self, x)
        with tf.GradientTape() as tape:
            losses = []
            for _ in range(self.num_draws):
                with scopes.collect_draws():
                    with step.pass_of(tape):
                        y_pred = self(x, training=True)
                    losses.append(self.compute_loss(x, y, y_pred, sample_weight, training=True))
            loss = total(losses) / self.num_draws
            scaled_loss = self.optimizer.scale_loss(loss)
        # Replicas add up their rows here, which they cannot under a condition.
        rows = global_batch_size(y_pred)
        record_loss(self, loss, rows)
        gradients = step.gradients(tape, scaled_loss)
        observation.observe(self, step.by_variable(gradients), (y, y_pred, sample_weight), rows)
        step.apply(gradients)
        results = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return distribution.worker_results(results)

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = call_without_noise(self, x)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        record_loss(self, loss, global_batch_size(y_pred))
        results = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        # The KL is no property of the evaluated data.
        kept = {name: value for name, value in results.items() if name not in TERMS[1:]}
        return distribution.worker_results(kept)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The loss per example, in nats: NLL, and in training the weighted KL.

        Under `tf.distribute` it is this replica's share: the shares add up to the loss.
        """
        if not self.likelihoods:
            raise ValueError("Call `compile(loss=...)` before training or evaluating the model.")
        require_finite("x", x)
        if training:
            # Here, because a subclassed model makes its variables in its first step.
            spare_random_weights(self)
        others = self._losses_but_kl()
        return self.objective.loss(self, y, y_pred, sample_weight, others, training)

    @property
    def losses(self) -> list[Any]:
        """As in Keras, with `kl_weight * KL` where the number of examples is known.

        A training loop of one's own adds them to the mean NLL of a batch, as with a `keras.Model`.
        """
        return [*self._losses_but_kl(), *self.objective.weighted_kl(self)]

    def shown(self, logs: dict[str, Any]) -> dict[str, Any]:
        """The loss and the compiled metrics, so that `loss, accuracy = evaluate(...)` unpacks."""
        return {name: value for name, value in logs.items() if name not in TERMS}

    def first_batch(self, iterator: Any) -> Any:
        return distribution.first_batch(iterator, self.distribute_strategy)

    def _losses_but_kl(self) -> list[Any]:
        # Under a collector the layers leave the KL to the model.
        with scopes.collect_draws():
            return super().losses
