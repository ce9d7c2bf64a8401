"""`BayesianModel`: how a Keras model is trained on the ELBO, whatever its layers."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import array_slicing

from tfbnn import arguments
from tfbnn.layers import scopes
from tfbnn.layers.variational import (
    mask_unbuilt_layers,
    random_maps,
    variational_layers,
    variational_weights,
)
from tfbnn.training import (
    beta_choice,
    convergence,
    distribution,
    held_out_noise,
    likelihoods,
    noise_variables,
    order,
    outputs,
    recipes,
    schedules,
)
from tfbnn.training.data import (
    TrainingSize,
    check_arrays,
    check_batch_size,
    is_arrays,
    training_size,
)
from tfbnn.training.decay import exclude_from_decay
from tfbnn.training.feeding import fed
from tfbnn.training.last_steps import Observation
from tfbnn.training.likelihoods import AbstractLikelihood
from tfbnn.training.likelihoods import from_config as likelihood_from_config
from tfbnn.training.noise_variables import learned_noise
from tfbnn.training.objective import (
    Objective,
    gain_from_inputs,
    global_batch_size,
    mean_nll,
    numbers_per_scale,
    require_observations,
    total_kl,
)
from tfbnn.training.requirements import clear_errors, require_finite
from tfbnn.training.resuming import forget_resuming, resuming_callback
from tfbnn.training.target_units import FirstTargets
from tfbnn.training.terms import Term
from tfbnn.training.updates import apply_gradients, batches_seen
from tfbnn.weights.sums import total

_EXAMPLE_ROWS = 256
_TERMS = ("nll", "kl", "kl_weight", "weighted_kl")


class BayesianModel:
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
        # What the user said, as opposed to what a `fit` counted in its own data.
        self._given_num_examples = self.objective.num_examples
        self.num_draws = 1
        # Whether it had been, when the model was saved that this one is loaded from.
        self._optimizer_built = True
        # A few rows of what `fit` saw, on which an export can be compared with this model.
        self.example_rows: np.ndarray | None = None
        self.likelihoods: list[AbstractLikelihood] = []
        self._loss_weights = [1.0]
        self._terms = [Term(name=name) for name in _TERMS]

    @property
    def num_examples(self) -> int | None:
        """Number of training examples that the KL is weighed against; None before `fit`."""
        return self.objective.num_examples

    @num_examples.setter
    def num_examples(self, value: int) -> None:
        self.objective.set_num_examples(value)
        self._given_num_examples = self.objective.num_examples

    @property
    def likelihood(self) -> AbstractLikelihood:
        """The likelihood of a model with one output."""
        if len(self.likelihoods) != 1:
            raise ValueError(
                "The model has no likelihood yet, or several: call `compile(loss=...)`, or use "
                f"`likelihoods`. Received: {len(self.likelihoods)} likelihoods"
            )
        return self.likelihoods[0]

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
        kl_schedule = arguments.interpreted(
            "kl_schedule", kl_schedule, schedules.get, "a schedule of the KL"
        )
        # All checks come first: a model must not be left half compiled.
        new = self.likelihoods
        if loss is not None:
            new = [likelihoods.likelihood_of(one) for one in outputs.flat_losses(self, loss)]
            self._check_number_of_losses(new)
            noise_variables.settle_numbers(self, new)
            loss = outputs.like(self, loss, [likelihood.loss for likelihood in new])
        super().compile(plan.optimizer, loss, loss_weights, *args, **kwargs)
        self._set_likelihoods(new)
        self.objective.set_beta(plan.beta, plan.beta_is_open)
        self._use_recipe(plan.recipe, recipe is not None)
        self.objective.kl_schedule = kl_schedule
        self.num_draws = num_draws
        self._loss_weights = outputs.loss_weights(self)
        if self.built:
            self._exclude_from_decay()

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
        self._check_training_data(x, y, sample_weight, class_weight)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = array_slicing.train_validation_split(
                (x, y, sample_weight), validation_split
            )
        validation = keras.utils.unpack_x_y_sample_weight(validation_data)
        data = {
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": batch_size,
            "steps": steps_per_epoch,
            "shuffle": shuffle,
            "class_weight": class_weight,
        }
        self._check_batch(*validation, names="validation ")
        if self.objective.beta_is_open:
            run = {**data, "steps_per_epoch": data["steps"], "num_examples": num_examples}
            run |= {"epochs": epochs, "initial_epoch": initial_epoch}
            del run["steps"]
            beta_choice.choose(self, run, validation_data, validation_steps, callbacks, verbose)
        announce, held_out = _printer(verbose), validation_data is not None
        size = self._begin_fit(data, num_examples, (initial_epoch, epochs), announce, held_out)
        data = self._in_agreed_order(data, size, callbacks, initial_epoch)
        if validation_data is not None:
            rows = validation_batch_size or batch_size
            validation_data = self._fed(*validation, rows, validation_steps)
        try:
            with clear_errors():
                history = super().fit(
                    self._fed(**data),
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=callbacks,
                    validation_data=validation_data,
                    initial_epoch=initial_epoch,
                    steps_per_epoch=data["steps"],
                    validation_steps=validation_steps,
                    validation_freq=validation_freq,
                )
        finally:
            self.objective.progress.end()
        if self.objective.last_steps is not None:
            convergence.warn(self.objective.last_steps)
        if held_out:
            held_out_noise.refit(self, validation, validation_steps, announce)
        return history

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The loss, which here is the NLL, and the metrics at the posterior mean, as in Keras."""
        # Keras' `fit` has checked and wrapped the validation data before.
        if not kwargs.get("_use_cached_eval_dataset"):
            self._check_batch(x, y, sample_weight)
            x, y, sample_weight = self._fed(x, y, sample_weight, batch_size, steps), None, None
        with clear_errors():
            return super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                callbacks=callbacks,
                return_dict=return_dict,
                **kwargs,
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs at the posterior mean, as in Keras."""
        check_arrays("x", x, outputs.input_type(self))
        return super().predict(
            fed(x, batch_size=batch_size, steps=steps), batch_size, verbose, steps, callbacks
        )

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """One training step, as in Keras. `num_examples` must have been set."""
        self._check_layers()
        with clear_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """The loss and the metrics on one batch, as in Keras."""
        with clear_errors():
            return super().test_on_batch(*args, **kwargs)

    def make_train_function(self, force: bool = False) -> Any:
        if self.built and not self.optimizer.built:
            # TensorFlow traces a function again if it made variables the first time.
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        if self.built:
            with self.distribute_strategy.scope():
                self._watch()
        return super().make_train_function(force)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            losses = []
            for _ in range(self.num_draws):
                with scopes.collect_draws():
                    y_pred = self(x, training=True)
                    losses.append(self.compute_loss(x, y, y_pred, sample_weight, training=True))
            loss = total(losses) / self.num_draws
            scaled_loss = self.optimizer.scale_loss(loss)
        # Replicas add up their rows here, which they cannot under a condition.
        rows = global_batch_size(y_pred)
        self._track_loss(loss, rows)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled_loss, variables)
        step = batches_seen(self.optimizer)
        if distribution.num_replicas() == 1:
            # A model that its first batch builds. (With replicas it is built before.)
            self._watch()
        found = dict(zip(map(id, variables), gradients, strict=True))
        self.objective.observe(
            lambda: self._observation(found, y, y_pred, sample_weight, rows), step
        )
        apply_gradients(self.optimizer, gradients, variables)
        results = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return distribution.worker_results(results)

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self._call_without_noise(x)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._track_loss(loss, global_batch_size(y_pred))
        results = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        # The KL is no property of the evaluated data.
        results = {k: v for k, v in results.items() if k == "nll" or k not in _TERMS}
        return distribution.worker_results(results)

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
        rows, replicas = global_batch_size(y_pred), distribution.num_replicas()
        nll = mean_nll(
            self.likelihoods,
            self._loss_weights,
            outputs.in_order(self, y),
            y_pred,
            rows,
            outputs.in_order(self, sample_weight),
        )
        # Every replica counts the same, however few rows it has: its share knows.
        self._track("nll", nll * replicas, rows / replicas)
        others = [self._recorded_kl()] if training else []
        if training:
            # Here, because a subclassed model makes its variables in its first step.
            self._exclude_from_decay()
        others += [tf.reduce_sum(tf.cast(other, tf.float32)) for other in self._losses_but_kl()]
        return total([nll, *(other / replicas for other in others)])

    @property
    def losses(self) -> list[Any]:
        """As in Keras, with `kl_weight * KL` where the number of examples is known.

        A training loop of one's own adds them to the mean NLL of a batch, as with a `keras.Model`.
        """
        layers = list(variational_layers(self))
        trained = any(one.called_with_noise for one in random_maps(self))
        if not layers or (self.num_examples is None and not trained):
            return self._losses_but_kl()
        kl, kl_weight = self._kl_and_weight()
        return [*self._losses_but_kl(), kl_weight * kl]

    def get_config(self) -> dict[str, Any]:
        schedule, recipe = self.objective.kl_schedule, self.objective.recipe
        # Here and not in the compile configuration, which `keras.models.clone_model` gives to a
        # plain Keras model.
        return {
            **super().get_config(),
            "bayesian": {
                "num_examples": self.num_examples,
                "likelihoods": [likelihood.get_config() for likelihood in self.likelihoods],
                "beta": self.objective.beta,
                "beta_is_open": self.objective.beta_is_open,
                "recipe": recipe and keras.saving.serialize_keras_object(recipe),
                "recipe_is_given": self.objective.recipe_is_given,
                "kl_schedule": schedule and keras.saving.serialize_keras_object(schedule),
                "num_draws": self.num_draws,
                "masked": any(layer.masked for layer in variational_layers(self)),
                "optimizer_built": bool(getattr(getattr(self, "optimizer", None), "built", False)),
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = dict(config)
        state = config.pop("bayesian", None)
        model = super().from_config(config, custom_objects=custom_objects)
        if state is not None:
            model._restore(**state)
        return model

    def compile_from_config(self, config: dict[str, Any]) -> None:
        saved = self.likelihoods
        recipe, is_given = self.objective.recipe, self.objective.recipe_is_given
        beta, is_open = self.objective.beta, self.objective.beta_is_open
        self.compile(
            **keras.saving.deserialize_keras_object(config),
            beta=beta,
            kl_schedule=self.objective.kl_schedule,
            num_draws=self.num_draws,
        )
        # The optimizer, which for `compile` is one of the user's own, may be that of the recipe.
        self._use_recipe(recipe, is_given)
        self.objective.set_beta(beta, is_open)
        for likelihood, old in zip(self.likelihoods, saved, strict=False):
            likelihood.take_temperatures(old)
        # As when it was saved: Keras warns of a state that the file lacks, and of one that has no
        # place.
        if self.built and self.optimizer is not None and self._optimizer_built:
            self.optimizer.build(self.trainable_variables)

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> Any:
        """The loss and the compiled metrics, so that `loss, accuracy = evaluate(...)` unpacks."""
        return super()._flatten_metrics_in_order({k: v for k, v in logs.items() if k not in _TERMS})

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        """The metrics over all replicas; `logs` are the mean of the replicas' own."""
        results = self.get_metrics_result()
        # An evaluation logs fewer than there are.
        known = isinstance(logs, dict) and set(logs) <= set(results)
        return {name: results[name] for name in logs} if known else logs

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None and self._distribute_strategy is not None:
            data_batch = distribution.first_batch(iterator, self._distribute_strategy)
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def _restore(
        self,
        num_examples: int | None,
        likelihoods: list[dict[str, Any]],
        beta: float,
        kl_schedule: Any,
        num_draws: int,
        masked: bool,
        optimizer_built: bool = True,
        recipe: Any = None,
        recipe_is_given: bool = False,
        beta_is_open: bool = False,
    ) -> None:
        self._optimizer_built = optimizer_built
        if masked:
            # A subclass makes its layers itself; that they were pruned is not in its configuration.
            mask_unbuilt_layers(self)
        if num_examples is not None:
            self.objective.set_num_examples(num_examples)
        self._set_likelihoods([likelihood_from_config(config) for config in likelihoods])
        self.objective.set_beta(beta, beta_is_open)
        self.objective.kl_schedule = schedules.get(kl_schedule)
        self.objective.recipe = recipes.get(recipe)
        self.objective.recipe_is_given = recipe_is_given
        self.num_draws = num_draws

    def begin_schedules(self, epoch: int, batch: int = 0) -> None:
        """Tell the schedules of the recipe that training goes on from here.

        Args:
            epoch: The epoch, counted from 0, of all epochs that `fit` was asked for.
            batch: The batch in it.
        """
        if self.optimizer is None:
            return
        done = epoch * self.objective.num_batches + batch
        self.objective.progress.begin(int(batches_seen(self.optimizer)) - done)

    def _begin_fit(
        self,
        data: dict[str, Any],
        num_examples: int | None,
        epochs: tuple[int, int],
        announce: Callable[[str], None],
        held_out: bool,
    ) -> TrainingSize:
        """Tell the objective the size of the data, and the user what is maximised."""
        targets = FirstTargets(self)
        x, steps_per_epoch = data["x"], data["steps"]
        if num_examples is None and (not is_arrays(x) or steps_per_epoch is not None):
            num_examples = self._given_num_examples
        size = training_size(
            x,
            data["batch_size"],
            steps_per_epoch,
            num_examples,
            announce,
            targets.seen_after(self._check_batch),
        )
        replicas = self.distribute_strategy.num_replicas_in_sync
        check_batch_size(x, data["batch_size"], size, replicas)
        self.objective.set_size(size, epochs[1])
        data["x"] = targets.read(x, data["y"], data["sample_weight"], announce)
        targets.set_units()
        if self.objective.last_steps is not None:
            self.objective.last_steps.reset_state()
        self.begin_schedules(epochs[0])
        announce(self._summary_line(size, held_out))
        if isinstance(x, np.ndarray):
            self.example_rows = x[:_EXAMPLE_ROWS].copy()
        return size

    def _in_agreed_order(
        self, data: dict[str, Any], size: TrainingSize, callbacks: Any, initial_epoch: int
    ) -> dict[str, Any]:
        """Arrays in an order that other processes agree on: earlier ones, or the other workers'."""
        resume, resume_at = resuming_callback(callbacks), 0
        if resume is not None:
            resume_at = resume.prepare(data["x"], size, data["shuffle"], data["steps"])
        alone = resume is None and not distribution.is_multi_worker(self.distribute_strategy)
        if alone or not is_arrays(data["x"]):
            return data
        return order.fit_data(data, size.num_batches, resume_at or initial_epoch)

    def _use_recipe(self, recipe: recipes.Recipe | None, is_given: bool) -> None:
        self.objective.recipe, self.objective.recipe_is_given = recipe, is_given
        self.objective.install_step_factors(self, self.optimizer)

    def _losses_but_kl(self) -> list[Any]:
        # Under a collector the layers leave the KL to the model.
        with scopes.collect_draws():
            return super().losses

    def _recorded_kl(self) -> tf.Tensor:
        """The weighted KL of a training step, whose terms are recorded."""
        collector = scopes.active_collector()
        # A step of the user's own need not collect: its KL is computed here, at a draw of its own.
        noisy = {one for one in random_maps(self) if one.called_with_noise}
        if collector is not None:
            noisy = collector.maps.intersection(random_maps(self))
        if not noisy and any(variational_layers(self)):
            raise ValueError(
                "No variational layer was called with noise, so the model would be trained at the "
                "posterior mean. Pass `training` on to the layers in the model's `call`. "
                f"Received: model={self.name!r}"
            )
        kl, kl_weight = self._kl_and_weight()
        self._track("kl", kl)
        self._track("kl_weight", kl_weight)
        self._track("weighted_kl", kl_weight * kl)
        return kl_weight * kl

    def _kl_and_weight(self) -> tuple[tf.Tensor, tf.Tensor]:
        if self.num_examples is None:
            raise ValueError(
                "The ELBO needs the number of training examples: use `fit`, or set it with "
                "`model.num_examples = ...`. Received: num_examples=None"
            )
        step = 0 if self.optimizer is None else batches_seen(self.optimizer)
        return total_kl(self, scopes.active_collector()), self.objective.kl_weight(step)

    def _watch(self) -> None:
        rhos = [loss.rho_variable for loss in learned_noise(self.likelihoods)]
        self.objective.watch(variational_weights(self), rhos)

    def _observation(
        self, gradients: dict[int, Any], y: Any, y_pred: Any, sample_weight: Any, rows: tf.Tensor
    ) -> Observation:
        """What a training step on so many rows found, for `tfbnn.training.last_steps`."""
        targets, weights = (outputs.in_order(self, one) for one in (y, sample_weight))
        answers = tf.nest.flatten(y_pred)
        terms = self.likelihoods, self._loss_weights, targets, answers
        return Observation(
            gradients,
            self.optimizer.scale_loss(1.0),
            numbers_per_scale(*terms, weights),
            gain_from_inputs(*terms, rows, weights),
        )

    def _track(self, name: str, value: tf.Tensor, weight: tf.Tensor | None = None) -> None:
        self._terms[_TERMS.index(name)].record(value, weight)

    def _track_loss(self, loss: tf.Tensor, rows: tf.Tensor) -> None:
        replicas = distribution.num_replicas()
        self._loss_tracker.update_state(loss * replicas, sample_weight=rows / replicas)

    def _exclude_from_decay(self) -> bool:
        """Leave all that has a law out of the optimizer's weight decay; whether it has any."""
        variables = [
            variable
            for weight in variational_weights(self)
            for variable in (weight.loc_variable, weight.rho_variable)
        ]
        variables += [loss.rho_variable for loss in learned_noise(self.likelihoods)]
        return self.optimizer is not None and exclude_from_decay(self.optimizer, variables)

    def _call_without_noise(self, x: Any) -> Any:
        return self(x, training=False) if self._call_has_training_arg else self(x)

    def _check_layers(self) -> None:
        for layer in variational_layers(self):
            if layer.kl_weight is not None:
                raise ValueError(
                    "The model collects the KL of its layers; with a `kl_weight` of its own the "
                    f"KL of {layer.name!r} would count twice: leave it out, or set "
                    f"`layer.kl_weight = None`. Received: kl_weight={layer.kl_weight}"
                )

    def _check_training_data(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None
    ) -> None:
        self._check_layers()
        check_arrays("the weights of the model", self.get_weights())
        self._check_batch(x, y, sample_weight)
        for name, weight in (class_weight or {}).items():
            arguments.real_number(f"class_weight[{name!r}]", weight, minimum=0.0)

    def _check_batch(self, x: Any, y: Any, sample_weight: Any = None, names: str = "") -> None:
        """Check all that is an array, before anything is done with it."""
        check_arrays(f"{names}x", x, outputs.input_type(self))
        check_arrays(f"{names}y", y)
        check_arrays(f"{names}sample_weight", sample_weight)
        shapes = outputs.shapes(self)
        targets = tf.nest.flatten(outputs.in_order(self, y))
        if shapes is None or len(targets) != len(self.likelihoods):
            return
        for likelihood, target, shape in zip(self.likelihoods, targets, shapes, strict=True):
            if hasattr(target, "__array__"):
                likelihood.check_targets(np.asarray(target), shape)

    def _fed(self, *args: Any, **kwargs: Any) -> Any:
        # XLA, which Keras takes on a GPU, leaves out the assertions of a step.
        return fed(*args, **kwargs, check=self._required_of if self.jit_compile else None)

    def _required_of(self, *element: Any) -> list[tf.Operation]:
        """What an element of a data set must meet, as far as it can be seen outside of a step."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
        required = require_finite("x", x)
        for weights in tf.nest.flatten(sample_weight):
            required += require_observations(weights)
        shapes = outputs.shapes(self)
        targets = tf.nest.flatten(outputs.in_order(self, y))
        if y is None or shapes is None or len(targets) != len(self.likelihoods):
            return required
        for likelihood, target, shape in zip(self.likelihoods, targets, shapes, strict=True):
            required += likelihood.check_targets(target, shape)
        return required

    def _check_number_of_losses(self, new: list[AbstractLikelihood]) -> None:
        shapes = outputs.shapes(self)
        if shapes is not None and len(shapes) != len(new):
            raise ValueError(
                "`loss` must have one loss for each output of the model, in a list or a dict. "
                f"Received: {len(new)} losses for {len(shapes)} outputs"
            )

    def _summary_line(self, size: Any, held_out: bool) -> str:
        schedule, recipe = self.objective.kl_schedule, self.objective.recipe
        name = "ELBO" if self.objective.beta == 1 else "Tempered objective, not the ELBO"
        if any(weight != 1 for weight in self._loss_weights):
            name = "Weighted objective, not the ELBO"
        all_weights = variational_weights(self)
        widest = max((weight.fan_in for weight in all_weights), default=0)
        how = recipe.describe(self.objective.progress.num_steps, widest) if recipe else ""
        weights = sum(weight.size for weight in all_weights)
        return (
            f"{name}: num_examples={size.num_examples} ({size.source}), "
            f"beta={self.objective.beta:g}"
            + (f", kl_schedule={type(schedule).__name__}" if schedule else "")
            + f", {size.num_batches or 'an unknown number of'} batches per epoch, "
            f"kl_weight={self.objective.beta / size.num_examples:.3g}"
            # A subclassed model has none before its first batch.
            + (f", {weights} random weights" if weights else "")
            + (", which weight decay leaves out" if weights and self._exclude_from_decay() else "")
            + (f"; {how}" if how else "")
            + held_out_noise.in_words(self, held_out)
        )

    def _set_likelihoods(self, new: list[AbstractLikelihood]) -> None:
        """Take on the likelihoods, with variables of the model for their noise."""
        noise_variables.hand_over(self, self.likelihoods, new)
        self.likelihoods = new


def _printer(verbose: Any) -> Callable[[str], None]:
    def announce(line: str) -> None:
        if verbose != 0:
            print(line)

    return announce
