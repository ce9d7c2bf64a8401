"""Regularizers and priors: a penalty of the loss is `-log(p(w)) / num_examples`, and back."""

from typing import Any

import keras

from tfbnn import arguments
from tfbnn.weights import priors
from tfbnn.weights.negative_log_prior import NegativeLogPrior

_OF_KERAS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


def prior_of(regularizer: Any, num_examples: int | None, name: str) -> priors.AbstractPrior | None:
    """The prior whose `-log(p(w)) / num_examples` is a penalty, up to a constant.

    Args:
        regularizer: That of a weight, or None.
        num_examples: Number of training examples, or None if it is not known.
        name: Where it is, for messages.

    Raises:
        ValueError: If it is no prior, or the number of examples is needed.
    """
    if regularizer is None:
        return None
    if isinstance(regularizer, NegativeLogPrior):
        return regularizer.prior
    strengths = {kind: float(getattr(regularizer, kind, 0.0)) for kind in ("l1", "l2")}
    kinds = [kind for kind, strength in strengths.items() if strength]
    if len(kinds) != 1 or not isinstance(regularizer, _OF_KERAS):
        raise ValueError(
            "Only an L1 or an L2 regularizer is a prior: give `prior=`. Received: layer "
            f"{name!r} with {type(regularizer).__name__} {regularizer.get_config()}"
        )
    if num_examples is None:
        raise ValueError(
            "A regularizer is a prior once the number of training examples is known: give "
            f"`num_examples=`, or another `prior=`. Received: layer {name!r} with "
            f"{type(regularizer).__name__} {regularizer.get_config()}, num_examples=None"
        )
    if kinds == ["l2"]:
        return priors.Normal(scale=(2 * num_examples * strengths["l2"]) ** -0.5)
    return priors.Laplace(scale=1 / (num_examples * strengths["l1"]))


def checked_prior(name: str, value: Any) -> priors.AbstractPrior:
    """A prior that is a density: an object, a name, or the standard deviation of a normal one."""
    if isinstance(value, str | dict | priors.AbstractPrior) or hasattr(value, "log_prob"):
        prior = arguments.interpreted(name, value, priors.get, "a prior of `tfbnn.priors`")
        check_density(prior)
        return prior
    try:
        return priors.Normal(scale=arguments.standard_deviation(name, value))
    except ValueError as error:
        raise ValueError(f"A prior of `tfbnn.priors`, or its scale: {error}") from None


def check_density(prior: priors.AbstractPrior) -> None:
    """Raise a `ValueError` if a prior is no density by itself."""
    try:
        prior.log_prob(0.0)
    except ValueError as error:
        raise ValueError(
            f"What is asked for needs the density of each weight. {error}. A prior that depends on "
            "the layer comes with `tfbnn.to_bayesian(model, prior='fan_in')`"
        ) from error
