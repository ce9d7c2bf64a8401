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
from tfbnn.layers.precision import in_float32
from tfbnn.layers.scopes import forward_rule
from tfbnn.layers.steps import steps_of
from tfbnn.posterior.base import AbstractPosterior, AbstractRandomNetwork
from tfbnn.posterior.gaussian import gaussian
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
        draws_inside: Whether a file draws networks by itself.
        is_at_mean: Whether a file has the network at the mean, and no other.
    """

    name: ClassVar[str]
    has_deviations: ClassVar[bool] = False
    draws_inside: ClassVar[bool] = False
    is_at_mean: ClassVar[bool] = False

    def checked(self, posterior: AbstractPosterior) -> AbstractPosterior:
        """What a file is made of: the posterior, or its laws; or an error that says what it has.

        Raises:
            TypeError: If the posterior has no such files.
            ValueError: If its draws have other laws than it says.
        """
        return posterior

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

    def facts(self, posterior: AbstractPosterior) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"mode": self.name, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Mean(AbstractMode):
    """The network at the mean: its uncertainty is that of this one prediction."""

    name = "none"
    is_at_mean = True

    def checked(self, posterior: AbstractPosterior) -> AbstractPosterior:
        if posterior.mean() is None:
            raise TypeError(
                "The posterior has no network at a mean. Use `uncertainty='ensemble'`. "
                f"Received: a posterior of type {type(posterior).__name__}"
            )
        return posterior

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        values = held(source.posterior.mean(), hold)
        return lambda inputs: of_networks([source.posterior.network(read(values), inputs)])

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        outputs = source.posterior.network(source.posterior.mean(), source.prepared)
        return agreement.same_as_outputs(source, of_networks([outputs]), run(source.rows))


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

    def draws(self, posterior: AbstractPosterior) -> Any:
        """The networks of a file, as `posterior.draws` gives them."""
        count = num_networks(posterior, self.num_samples)
        return posterior.draws(noise.as_seed(self.seed), 0, count)

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        networks = [held(values, hold) for values in source.posterior.networks(source.draws)]

        def outputs(inputs: Any) -> Any:
            each = [source.posterior.network(read(values), inputs) for values in networks]
            return of_networks(each)

        return outputs

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        outputs = source.posterior.outputs(source.draws, source.prepared)
        return agreement.same_as_outputs(source, outputs, run(source.rows))

    def facts(self, posterior: AbstractPosterior) -> dict[str, Any]:
        count = num_networks(posterior, self.num_samples)
        return {**super().facts(posterior), "num_samples": count}


@dataclasses.dataclass(frozen=True)
class MonteCarlo(AbstractMode):
    """Networks that are drawn inside the file, anew at each call.

    Args:
        num_samples: Number of networks.
    """

    name = "monte_carlo"
    has_deviations = draws_inside = True
    num_samples: int = 16

    def __post_init__(self) -> None:
        arguments.check_fields(self, num_samples=arguments.count)

    def checked(self, posterior: AbstractPosterior) -> AbstractPosterior:
        if posterior.with_laws() is not None:
            return gaussian(posterior, "`uncertainty='monte_carlo'`")
        if posterior.num_draws is not None or not isinstance(posterior, AbstractRandomNetwork):
            raise TypeError(
                "The posterior has networks that are not drawn, or not of one model. Use "
                "`uncertainty='ensemble'`, which has them all or stores some draws. "
                f"Received: a posterior of type {type(posterior).__name__}"
            )
        return posterior

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

    def checked(self, posterior: AbstractPosterior) -> AbstractPosterior:
        return gaussian(posterior, "`uncertainty='moments'`")

    def check_layers(self, model: keras.Model, instead: str) -> None:
        moments.check(steps_of(model), instead or moments.INSTEAD)

    def computation(self, source: Any, hold: Hold) -> Callable[[Any], Any]:
        rule = MomentsRule(freeze(source.posterior, source.deviations))
        steps = steps_of(source.posterior.model)
        return lambda inputs: moments.outputs_at_points(steps, inputs, rule, self.num_points)

    def compare(self, source: Any, run: agreement.Run) -> agreement.Agreement:
        computed, answers = self.computation(source, lambda array: array), run(source.rows)
        with in_float32(source.posterior.model):
            agreed = agreement.same_as_outputs(source, computed(source.prepared), answers)
        # How far moments are from drawn networks is for the manifest.
        difference = agreement.draws_difference(source, answers)
        return dataclasses.replace(agreed, draws_difference=difference)


MODES: dict[str, type[AbstractMode]] = {
    mode.name: mode for mode in (Moments, MonteCarlo, Ensemble, Mean)
}
"""The modes by name; the tests of all targets run over this table."""


def get(identifier: Any) -> AbstractMode:
    """The mode that an object, or a name in `MODES`, stands for."""
    if isinstance(identifier, AbstractMode):
        return identifier
    return MODES[arguments.one_of("uncertainty", identifier, tuple(MODES))]()


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
