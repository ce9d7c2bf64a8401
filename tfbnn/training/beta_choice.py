"""The choice of beta by validation: which tempering predicts held-out rows best.

For each candidate the model is trained from where it is. The one is taken under which

`-mean_n log mean_k p(y_n | f_k(x_n))`,  `f_k` the network of draw `k` from the posterior,

is lowest on the held-out rows: the NLL of what `tfbnn.predict` answers.
"""

import warnings
from typing import Any

import keras
import numpy as np

from tfbnn.training import distribution
from tfbnn.training.convergence import ConvergenceWarning
from tfbnn.training.data_term import log_probs
from tfbnn.training.held_out import NUM_DRAWS, is_repeatable, of_draws
from tfbnn.training.resuming import resuming_callback
from tfbnn.training.training_run import TrainingRun
from tfbnn.weights.sums import total

BETAS = (0.03, 0.1, 0.3, 1.0)


def choose(model: keras.Model, run: TrainingRun, callbacks: Any, verbose: Any) -> None:
    """Set the model's beta to the best of `BETAS` for a `fit`; its weights are what they were.

    The callbacks of the `fit` do not see the runs of the choice; `verbose` shows one bar over all.

    Raises:
        ValueError: If there are no held-out rows, the data can be read only once, or the model is
            not built, goes on with a training or is trained by several workers.
    """
    _check(model, run, callbacks)
    start = _state(model)
    show = verbose not in (0, "0")
    bar = keras.utils.Progbar(len(BETAS) * run.epochs, verbose=int(show), unit_name="epoch")
    found, before = {}, model.objective.beta
    for beta in BETAS:
        model.objective.set_beta(beta)
        try:
            with warnings.catch_warnings():
                # That of the training proper will say it.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(
                    **run.arguments,
                    validation_freq=run.epochs,
                    callbacks=[_Advance(bar)],
                    verbose=0,
                )
            found[beta] = held_out_nll(model, run.validation_data, run.validation_steps)
        finally:
            # Of a choice that does not come to its end nothing is left.
            for variable, value in start:
                variable.assign(value)
            model.objective.set_beta(before, is_open=True)
    best = min(found, key=lambda beta: found[beta] if np.isfinite(found[beta]) else np.inf)
    model.objective.set_beta(best)
    if show:
        scores = ", ".join(f"{beta:g}: {nll:.4f}" for beta, nll in found.items())
        print(f"beta = {best:g} by the NLL of held-out rows ({scores})")


def held_out_nll(model: keras.Model, validation_data: Any, steps: int | None = None) -> float:
    """NLL of held-out rows under the average over networks, in nats per row."""
    validation = keras.utils.unpack_x_y_sample_weight(validation_data)

    def of_rows(answers: Any, y: Any, sample_weight: Any) -> Any:
        return total(list(log_probs(model.likelihoods, y, answers, sample_weight)))

    rows = [
        np.logaddexp.reduce(np.stack(draws).astype(float)) - np.log(NUM_DRAWS)
        for draws in of_draws(model, of_rows, validation, steps)
    ]
    return -float(np.mean(np.concatenate(rows)))


def _state(model: keras.Model) -> list[tuple[keras.Variable, np.ndarray]]:
    """The variables of the model and of its optimizer, and what they hold."""
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    return [(v, keras.ops.convert_to_numpy(v)) for v in variables]


def _check(model: keras.Model, run: TrainingRun, callbacks: Any) -> None:
    problems = {
        "held-out rows: `validation_data` or `validation_split`": not run.is_validated,
        "a built model: begin it with `keras.Input`": not model.built,
        "data that can be read several times, arrays or data sets": not is_repeatable(run.x)
        or not is_repeatable(run.validation[0]),
        "a training that begins: it cannot go on with an old one": bool(run.initial_epoch)
        or resuming_callback(callbacks) is not None,
        "one worker": distribution.is_multi_worker(model.distribute_strategy),
    }
    missing = [need for need, is_missing in problems.items() if is_missing]
    if missing:
        raise ValueError(
            f"`beta='validation'` needs {missing[0]}; else give `beta` as a number. "
            f"Received: x of type {type(run.x).__name__}, validation_data of type "
            f"{type(run.validation_data).__name__}"
        )


class _Advance(keras.callbacks.Callback):
    """One step of the bar for each epoch."""

    def __init__(self, bar: keras.utils.Progbar):
        super().__init__()
        self._bar = bar

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.add(1, [("nll", logs["nll"])])
