"""Sampled weights: which numbers of a model chains draw, and the prior of each."""

from typing import Any, NamedTuple

import keras

from tfbnn.conversion.regularizers import check_density, checked_prior, prior_of
from tfbnn.layers.variational import variational_weights
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.training.noise_variables import learned_noise
from tfbnn.weights import priors


class SampledWeight(NamedTuple):
    """A variable of a model, and the law of each of its elements before the data.

    Attributes:
        variable: The variable.
        prior: The prior.
    """

    variable: keras.Variable
    prior: priors.AbstractPrior


def sampled_weights(
    model: keras.Model, likelihoods: list[AbstractLikelihood], prior: Any, num_rows: int
) -> list[SampledWeight]:
    """The weights of a model that are drawn.

    Args:
        model: A built Keras model. Where it has random weights, it is these, with their own priors,
            else all that is trained.
        likelihoods: Those of the model: a noise that they learn stays as it is.
        prior: The prior of the weights of a plain model: as `tfbnn.priors.get` takes it, or a
            standard deviation. None: those that the regularizers of the model are.
        num_rows: Number of training examples, for regularizers.

    Raises:
        ValueError: If a prior is missing, is given twice, or has no density.
    """
    own = variational_weights(model)
    if own and prior is not None:
        raise ValueError(
            "The random weights of the model have priors of their own: leave `prior` out. "
            f"Received: prior={prior!r}"
        )
    given = None if prior is None else checked_prior("prior", prior)
    if own:
        laws = [weight.prior for weight in own]
    else:
        laws = [given or _own_prior(one, num_rows) for one in sampled_variables(model, likelihoods)]
    found = list(map(SampledWeight, sampled_variables(model, likelihoods), laws))
    if not found:
        raise ValueError(
            f"The model has no weights that are trained. Received: model={model.name!r}"
        )
    for one in found:
        check_density(one.prior)
    return found


def sampled_variables(
    model: keras.Model, likelihoods: list[AbstractLikelihood]
) -> list[keras.Variable]:
    """The variables that are drawn: of random weights, or else all that are trained."""
    own = variational_weights(model)
    if own:
        return [weight.loc_variable for weight in own]
    noise = {id(one) for loss in learned_noise(likelihoods) for one in loss.variables}
    return [one for one in model.trainable_variables if id(one) not in noise]


def _own_prior(variable: keras.Variable, num_rows: int) -> priors.AbstractPrior:
    if variable.regularizer is None:
        raise ValueError(
            "Every weight that is drawn needs a prior: give `prior=`, such as "
            "`tfbnn.priors.Normal(scale=1.0)`, or a regularizer for each weight, as "
            f"`tfbnn.with_prior` does. Received: prior=None, and {variable.path!r} has none"
        )
    return prior_of(variable.regularizer, num_rows, variable.path)
