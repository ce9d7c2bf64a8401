"""Ensembles: several trained networks, or several posteriors, with equal right."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import mask_of, put_mask
from tfbnn.layers.variational import variational_layers
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.mean_field import MeanFieldPosterior
from tfbnn.posterior.point import MAP
from tfbnn.weights import noise


class _MemberDraws(NamedTuple):
    """Draws of one member, and their numbers among all."""

    member: int
    numbers: list[int]
    draws: Any


class Ensemble(AbstractPosterior):
    """A mixture, in equal parts, of networks that were trained one by one: a deep ensemble.

    Members are Keras models, of which each is one network, models of tfbnn or posteriors, of which
    each is drawn from. Draw number `n` is one of member `n % members`, so of members that are drawn
    from take a multiple of their number.

    Each member has its own noise, and its own temperature of the draws from `tfbnn.calibrate`. A
    temperature of the mean is the ensemble's own.

    Args:
        models: Two members or more, with inputs and outputs of the same shapes and with likelihoods
            of the same kind; layers between may differ.

    Raises:
        TypeError: If a member is neither a model nor a posterior.
        ValueError: If there are too few, or members do not fit together.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> def member():
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    ...     model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ...     return model
    >>> ensemble = tfbnn.posteriors.Ensemble([member(), member(), member()])
    >>> tfbnn.predict(ensemble, np.eye(3)).num_samples
    3

    Reference:
        Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using
        Deep Ensembles", sec. 2.4.
    """

    route = "ensemble"

    def __init__(self, models: Sequence[Any]):
        self.members = arguments.listed("models", models, _member)
        if len(self.members) < 2:
            raise ValueError(
                "An ensemble has two members or more. "
                f"Received: models, a list of {len(self.members)}"
            )
        first = self.members[0]
        for number, member in enumerate(self.members):
            _check_fits(first, member, number)
        super().__init__(first.model, [one.in_common() for one in first.likelihoods])
        if all(member.num_draws == 1 for member in self.members):
            self.num_draws = len(self.members)

    @property
    def models(self) -> list[keras.Model]:
        return [model for member in self.members for model in member.models]

    @property
    def temperatures(self) -> list[tuple[float, float]]:
        return [*super().temperatures, *(one for m in self.members for one in m.temperatures)]

    @property
    def parts(self) -> list[AbstractPosterior]:
        return self.members

    @property
    def draw_bytes(self) -> int:
        return max(member.draw_bytes for member in self.members)

    def draws(self, seed: tf.Tensor, first: int, count: int) -> list[_MemberDraws]:
        drawn = []
        for index, member in enumerate(self.members):
            numbers = [n for n in range(first, first + count) if n % len(self.members) == index]
            if numbers:
                own_first, own_seed = numbers[0] // len(self.members), noise.fold_in(seed, index)
                own = member.draws(own_seed, own_first, len(numbers))
                drawn.append(_MemberDraws(index, [n - first for n in numbers], own))
        return drawn

    def outputs(self, draws: list[_MemberDraws], inputs: Any) -> Any:
        parts = [
            self._in_common(one.member, self.members[one.member].outputs(one.draws, inputs))
            for one in draws
        ]
        places = tf.argsort([number for one in draws for number in one.numbers])
        return tf.nest.map_structure(lambda *outputs: _joined(outputs, places), *parts)

    def networks(self, draws: list[_MemberDraws]) -> list[tuple[int, Any]]:
        numbered = [
            (number, (one.member, values))
            for one in draws
            for number, values in zip(
                one.numbers, self.members[one.member].networks(one.draws), strict=True
            )
        ]
        return [values for _, values in sorted(numbered, key=lambda pair: pair[0])]

    def network(self, values: tuple[int, Any], inputs: Any) -> Any:
        index, own = values
        return self._in_common(index, self.members[index].network(own, inputs))

    def activations(
        self, values: tuple[int, Any], inputs: Any, layers: Sequence[str]
    ) -> list[tf.Tensor]:
        index, own = values
        return self.members[index].activations(own, inputs, layers)

    def mean(self) -> None:
        """None: the mean of the weights of several networks is no network of theirs."""

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "members": [member.describe() for member in self.members]}

    @classmethod
    def from_parts(cls, parts: list[Any], config: dict[str, Any], arrays: dict[str, Any]) -> Self:
        del config, arrays
        return cls(parts)

    def _in_common(self, index: int, outputs: Any) -> Any:
        """Outputs of a member as outputs under the likelihoods of all."""
        likelihoods = self.members[index].likelihoods
        flat = tf.nest.flatten(outputs)
        changed = [one.outputs_in_common(o) for one, o in zip(likelihoods, flat, strict=True)]
        for output, other in zip(flat, changed, strict=True):
            put_mask(other, mask_of(output))
        return tf.nest.pack_sequence_as(outputs, changed)


def _member(name: str, model: Any) -> AbstractPosterior:
    """A posterior as it is, of a model its mean field, of a plain one its one network."""
    if isinstance(model, AbstractPosterior):
        return model
    arguments.instance(name, model, keras.Model, "a Keras model or a posterior")
    return (MeanFieldPosterior if any(variational_layers(model)) else MAP)(model)


def _check_fits(first: AbstractPosterior, member: AbstractPosterior, number: int) -> None:
    """Raise a `ValueError` if a member has other inputs or outputs than the first one."""
    for what in ("input_shape", "output_shape"):
        one, other = (_shape(posterior.model, what) for posterior in (first, member))
        if one != other:
            raise ValueError(
                "Members of an ensemble take the same inputs and give the same outputs. Received: "
                f"{what} {other} of member {number}, and {one} of member 0"
            )
    one, other = ([type(like) for like in p.likelihoods] for p in (first, member))
    if one != other:
        raise ValueError(
            "Members of an ensemble predict the same kind of targets. Received: likelihoods "
            f"{[kind.__name__ for kind in other]} of member {number}, and "
            f"{[kind.__name__ for kind in one]} of member 0"
        )


def _shape(model: keras.Model, what: str) -> Any:
    """The shape by which a model says what it takes or gives, whatever the number of rows."""
    shape = getattr(model, what, None)
    return tf.nest.map_structure(str, shape)


def _joined(outputs: Sequence[tf.Tensor], places: tf.Tensor) -> tf.Tensor:
    """The outputs of all members, in the order of the draws, with their masks."""
    joined = tf.gather(tf.concat(outputs, axis=0), places)
    masks = [mask_of(output) for output in outputs]
    if all(mask is not None for mask in masks):
        put_mask(joined, tf.gather(tf.concat(masks, axis=0), places))
    return joined
