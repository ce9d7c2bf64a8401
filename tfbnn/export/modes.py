"""Modes: how a file is uncertain.

| mode | name | networks | noise |
|---|---|---|---|
| `Moments` | `"moments"` | all, by their mean and variance, in one pass | none |
| `MonteCarlo` | `"monte_carlo"` | some, drawn at each call | in the file |
| `Ensemble` | `"ensemble"` | some, drawn when the file is written | none |
| `Mean` | `"none"` | the one at the mean of what is random | none |

Without noise the same answer comes each time. All have the same outputs by name.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.export import agreement
from tfbnn.export.laws import MomentsRule, MonteCarloRule, calls_of, freeze
from tfbnn.export.rows import of_networks
from tfbnn.layers.scopes import forward_rule
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior, AbstractRandomNetwork
from tfbnn.posterior.gaussian import AbstractGaussianPosterior, gaussian
from tfbnn.prediction import moments
from tfbnn.prediction.predictive import num_networks
from tfbnn.weights import noise

# Keeps a number where a graph can read it.
Hold = Callable[[np.ndarray], Any]


class AbstractMode(abc.ABC):
    """How a file is uncertain.

    Attributes:
        name: Its name.
        has_deviations: Whether a file has the standard deviations of weights.
    """

    name: ClassVar[str]
    has_deviations: ClassVar[bool] = False

    def checked(self, posterior: AbstractPosterior) -> "AbstractMode":
        """The mode for a posterior, or an error that says which one it has.

        Raises:
            TypeError: If the posterior has no such files.
            ValueError: If its model has not.
        """
        return self

    def check_layers(  # noqa: B027 (most take any layer)
        self, model: keras.Model, instead: str
    ) -> None:
        """Raise a `ValueError` that names a layer which the mode cannot pass, and what to do."""

    @abc.abstractmethod
    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        """What gives the outputs `(networks, rows, ...)` of inputs, inside a graph.

        Args:
            source: A `Shipment`, whose posterior is read now.
            hold: Keeps the numbers that are read.
        """

    @abc.abstractmethod
    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        """Compare a file with the posterior, or raise a `RuntimeError`."""

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"mode": self.name, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Mean(AbstractMode):
    """The network at the mean: its uncertainty is that of this one prediction."""

    name = "none"

    def checked(self, posterior: AbstractPosterior) -> "Mean":
        if posterior.mean() is None:
            raise TypeError(
                "The posterior has no network at a mean. Use `uncertainty='ensemble'`, or export "
                f"one of its members. Received: a posterior of type {type(posterior).__name__}"
            )
        return self

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        values = held(source.posterior.mean(), hold)
        return lambda inputs: of_networks([source.posterior.network(read(values), inputs)])

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        return agreement.same_as_network(source, source.posterior.mean(), run)


@dataclasses.dataclass(frozen=True)
class Ensemble(AbstractMode):
    """Networks that are drawn when the file is written: those of `tfbnn.predict` with the seed.

    Args:
        num_samples: Number of networks; of a posterior that has fewer, all of them.
        seed: Of the draws.
    """

    name = "ensemble"
    num_samples: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        arguments.check_fields(self, num_samples=arguments.count, seed=_seed)

    def checked(self, posterior: AbstractPosterior) -> "Ensemble":
        return dataclasses.replace(self, num_samples=num_networks(posterior, self.num_samples))

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        networks = [held(values, hold) for values in source.posterior.networks(self._draws(source))]

        def outputs(inputs: Any) -> Any:
            each = [source.posterior.network(read(values), inputs) for values in networks]
            return of_networks(each)

        return outputs

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        return agreement.same_as_draws(source, self._draws(source), run)

    def _draws(self, source: Any) -> Any:
        return source.posterior.draws(noise.as_seed(self.seed), 0, self.num_samples)


@dataclasses.dataclass(frozen=True)
class MonteCarlo(AbstractMode):
    """Networks that are drawn inside the file, anew at each call.

    Args:
        num_samples: Number of networks.
    """

    name = "monte_carlo"
    has_deviations = True
    num_samples: int = 16

    def __post_init__(self) -> None:
        arguments.check_fields(self, num_samples=arguments.count)

    def checked(self, posterior: AbstractPosterior) -> "MonteCarlo":
        if posterior.num_draws is not None or not isinstance(posterior, AbstractRandomNetwork):
            raise TypeError(
                "The posterior has networks that are not drawn, or not of one model. Use "
                "`uncertainty='ensemble'`, which has them all or stores some draws. "
                f"Received: a posterior of type {type(posterior).__name__}"
            )
        if draws_by_laws(posterior):
            gaussian(posterior, "`uncertainty='monte_carlo'`")
        return self

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        frozen, count = freeze(source.posterior, source.deviations), self.num_samples
        calls = calls_of(source.posterior, source.one_row)
        model, rows = source.posterior.model, source.inputs.batch_size
        joined = not source.is_chain

        def outputs(inputs: Any) -> Any:
            if joined:
                # Where paths meet, one may have passed a random layer and the other not.
                inputs = tf.nest.map_structure(lambda x: _repeated(x, count), inputs)
            # A rule holds the draws of one graph, so each trace has its own.
            with forward_rule(MonteCarloRule(frozen, count, rows, calls)):
                found = model(inputs, training=False)
            return tf.nest.map_structure(
                lambda x: tf.reshape(x, (count, rows, *x.shape[1:])), found
            )

        return outputs

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        return agreement.drawn_alike(source, self.num_samples, run)


@dataclasses.dataclass(frozen=True)
class Moments(AbstractMode):
    """One pass with means and variances, by which the likelihood is averaged over fixed points.

    Args:
        num_points: Number of points, even.
    """

    name = "moments"
    has_deviations = True
    num_points: int = 64

    def __post_init__(self) -> None:
        arguments.check_fields(self, num_points=arguments.count)
        if self.num_points % 2:
            raise ValueError(
                "`num_points` must be even: the points come in pairs. "
                f"Received: num_points={self.num_points}"
            )

    def checked(self, posterior: AbstractPosterior) -> "Moments":
        gaussian(posterior, "`uncertainty='moments'`")
        return self

    def check_layers(self, model: keras.Model, instead: str) -> None:
        moments.check(steps_of(model), instead or moments.INSTEAD)

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        rule = MomentsRule(freeze(source.posterior, source.deviations))
        steps = steps_of(source.posterior.model)
        return lambda inputs: moments.outputs_at_points(steps, inputs, rule, self.num_points)

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        return agreement.same_as_moments(source, self, run)


MODES: dict[str, type[AbstractMode]] = {
    mode.name: mode for mode in (Moments, MonteCarlo, Ensemble, Mean)
}
"""The modes by name; the tests of all targets run over this table."""


def get(identifier: Any) -> AbstractMode:
    """The mode that an object, or a name in `MODES`, stands for."""
    if isinstance(identifier, AbstractMode):
        return identifier
    return MODES[arguments.one_of("uncertainty", identifier, tuple(MODES))]()


def draws_by_laws(posterior: AbstractPosterior) -> bool:
    """Whether a file can draw a posterior's networks weight by weight."""
    return isinstance(posterior, AbstractGaussianPosterior)


def held(values: Any, hold: Hold) -> Any:
    """The tensors of a network where a graph can read them; what else it says stays."""
    return tf.nest.map_structure(lambda v: hold(v.numpy()) if tf.is_tensor(v) else v, values)


def read(values: Any) -> Any:
    """What `held` keeps, as tensors of the current graph."""
    return tf.nest.map_structure(
        lambda v: v if isinstance(v, int) else tf.convert_to_tensor(v), values
    )


def _repeated(x: tf.Tensor, count: int) -> tf.Tensor:
    return tf.tile(x, [count] + [1] * (len(x.shape) - 1))


def _seed(name: str, value: Any) -> int:
    return arguments.seed(name, value, minimum=0)
