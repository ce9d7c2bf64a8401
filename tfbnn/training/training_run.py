"""Training runs: what one `fit` was asked for, and what is done before its steps and after them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfbnn.layers.keras_internals import train_validation_split
from tfbnn.layers.variational import variational_weights
from tfbnn.training import convergence, distribution, held_out_noise, order
from tfbnn.training.checked_calls import check_batch, check_class_weight, check_layers, fed_to
from tfbnn.training.data import (
    TrainingSize,
    check_arrays,
    check_batch_size,
    is_arrays,
    training_size,
)
from tfbnn.training.decay import spare_random_weights
from tfbnn.training.resuming import resuming_callback
from tfbnn.training.target_units import FirstTargets

_EXAMPLE_ROWS = 256


@dataclasses.dataclass
class TrainingRun:
    """The data of one `fit`, and how long it is; all attributes are arguments of `fit`.

    `check`, then `begin`, which may put other data in the place of these that give the same
    batches, then `fed`, for Keras' `fit`, then `end`.
    """

    x: Any
    y: Any
    sample_weight: Any = None
    class_weight: Any = None
    batch_size: int | None = None
    shuffle: bool = True
    epochs: int = 1
    initial_epoch: int = 0
    steps_per_epoch: int | None = None
    num_examples: int | None = None
    validation_data: Any = None
    validation_steps: int | None = None
    validation_batch_size: int | None = None

    @property
    def is_validated(self) -> bool:
        """Whether there are held-out rows."""
        return self.validation_data is not None

    @property
    def validation(self) -> tuple[Any, Any, Any]:
        """`(x, y, sample_weight)` of the held-out rows."""
        return keras.utils.unpack_x_y_sample_weight(self.validation_data)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of a `fit` that repeats it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def check(self, model: keras.Model, validation_split: float) -> None:
        """Raise a `ValueError` if arrays cannot be learnt from, and split off held-out rows."""
        check_layers(model)
        check_arrays("the weights of the model", model.get_weights())
        check_batch(model, self.x, self.y, self.sample_weight)
        check_class_weight(self.class_weight)
        if validation_split and not self.is_validated:
            rows = self.x, self.y, self.sample_weight
            rows, self.validation_data = train_validation_split(rows, validation_split)
            self.x, self.y, self.sample_weight = rows
        check_batch(model, *self.validation, names="validation ")

    def begin(self, model: keras.Model, callbacks: Any, announce: Callable[[str], None]) -> None:
        """Tell the objective the size of the data, and the user what is maximised.

        Arrays are put in an order that other processes agree on, if there are any: earlier ones,
        or the other workers'.
        """
        objective, targets = model.objective, FirstTargets(model)
        size = self._size(model, targets, announce)
        objective.set_size(size, self.epochs)
        self.x = targets.read(self.x, self.y, self.sample_weight, announce)
        targets.set_units()
        if objective.last_steps is not None:
            objective.last_steps.reset_state()
        objective.begin_schedules(model.optimizer, self.initial_epoch)
        announce(_in_words(model, size, self.is_validated))
        if isinstance(self.x, np.ndarray):
            model.example_rows = self.x[:_EXAMPLE_ROWS].copy()
        resume, resume_at = resuming_callback(callbacks), 0
        if resume is not None:
            resume_at = resume.prepare(self.x, size, self.shuffle, self.steps_per_epoch)
        alone = resume is None and not distribution.is_multi_worker(model.distribute_strategy)
        if is_arrays(self.x) and not alone:
            self._put_in_order(size, resume_at or self.initial_epoch)

    def fed(self, model: keras.Model) -> dict[str, Any]:
        """Arguments for Keras' `fit`."""
        validation = None
        if self.is_validated:
            rows = self.validation_batch_size or self.batch_size
            validation = fed_to(model, *self.validation, rows, self.validation_steps)
        rows, how = (self.x, self.y, self.sample_weight), (self.shuffle, self.class_weight)
        x = fed_to(model, *rows, self.batch_size, self.steps_per_epoch, *how)
        names = ("epochs", "initial_epoch", "steps_per_epoch", "validation_steps")
        kept = {name: getattr(self, name) for name in names}
        return {"x": x, "validation_data": validation, **kept}

    def end(self, model: keras.Model, announce: Callable[[str], None]) -> None:
        """Refit the noise on held-out rows, or say what they tell, and what the last steps do."""
        if model.objective.last_steps is not None:
            convergence.warn(model.objective.last_steps)
        if self.is_validated:
            held_out_noise.refit(model, self.validation, self.validation_steps, announce)

    def _size(
        self, model: keras.Model, targets: FirstTargets, announce: Callable[[str], None]
    ) -> TrainingSize:
        given = self.num_examples
        if given is None and (not is_arrays(self.x) or self.steps_per_epoch is not None):
            given = model.objective.given_num_examples
        check = targets.seen_after(lambda *batch: check_batch(model, *batch))
        size = training_size(self.x, self.batch_size, self.steps_per_epoch, given, announce, check)
        replicas = model.distribute_strategy.num_replicas_in_sync
        check_batch_size(self.x, self.batch_size, size, replicas)
        return size

    def _put_in_order(self, size: TrainingSize, first_epoch: int) -> None:
        rows = keras.utils.pack_x_y_sample_weight(self.x, self.y, self.sample_weight)
        first = first_epoch * size.num_batches
        self.x = order.run_batches(rows, self.batch_size or 32, first, self.shuffle)
        self.y = self.sample_weight = self.batch_size = None
        self.steps_per_epoch, self.shuffle = size.num_batches, False


def printer(verbose: Any) -> Callable[[str], None]:
    """Prints lines, unless `verbose` is 0."""

    def announce(line: str) -> None:
        if verbose != 0:
            print(line)

    return announce


def _in_words(model: keras.Model, size: TrainingSize, held_out: bool) -> str:
    """The line that says what a `fit` maximises."""
    objective = model.objective
    schedule, recipe = objective.kl_schedule, objective.recipe
    name = "ELBO" if objective.beta == 1 else "Tempered objective, not the ELBO"
    if any(weight != 1 for weight in objective.data_term.weights):
        name = "Weighted objective, not the ELBO"
    all_weights = variational_weights(model)
    widest = max((weight.fan_in for weight in all_weights), default=0)
    how = recipe.describe(objective.progress.num_steps, widest) if recipe else ""
    weights = sum(weight.size for weight in all_weights)
    return (
        f"{name}: num_examples={size.num_examples} ({size.source}), beta={objective.beta:g}"
        + (f", kl_schedule={type(schedule).__name__}" if schedule else "")
        + f", {size.num_batches or 'an unknown number of'} batches per epoch, "
        f"kl_weight={objective.beta / size.num_examples:.3g}"
        # A subclassed model has none before its first batch.
        + (f", {weights} random weights" if weights else "")
        + (", which weight decay leaves out" if weights and spare_random_weights(model) else "")
        + (f"; {how}" if how else "")
        + held_out_noise.in_words(model, held_out)
    )
