"""`CheckedCalls`: Keras' calls on data, which are looked at first, and whose errors are clear."""

from typing import Any

from tfbnn.layers.keras_internals import is_validation_of_fit
from tfbnn.requirements import clear_errors
from tfbnn.training import batch_checks, outputs
from tfbnn.training.data import check_arrays
from tfbnn.training.feeding import fed


class CheckedCalls:
    """What a model of tfbnn does with data beside `fit`."""

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss, which here is the NLL, and the metrics at the posterior mean, as in Keras."""
        # Keras' `fit` has checked and wrapped the validation data before.
        if not is_validation_of_fit(kwargs):
            batch_checks.check_batch(self, x, y, sample_weight)
            x = batch_checks.fed_to(self, x, y, sample_weight, batch_size, steps)
            y = sample_weight = None
        with clear_errors():
            return super().evaluate(
                x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
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
        x = fed(x, batch_size=batch_size, steps=steps)
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """One training step, as in Keras. `num_examples` must have been set."""
        batch_checks.check_layers(self)
        with clear_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """The loss and the metrics on one batch, as in Keras."""
        with clear_errors():
            return super().test_on_batch(*args, **kwargs)
