"""Mean field: the one posterior whose law is what the layers of its model say of each weight."""

from typing import Any

from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.variational import MeanFieldPosterior, posterior_of
from tfbnn.training.plain_models import check_bayesian


def mean_field(model: Any) -> MeanFieldPosterior:
    """The posterior of a model, for what reads the mean and the scale of each weight.

    Pruning, distillation and export read them from the layers. Of any other posterior, also of a
    subclass that draws in its own way, these would be another law than the one that was given.

    Args:
        model: A trained `tfbnn.Sequential` or `tfbnn.Model`, or its `MeanFieldPosterior`.

    Raises:
        TypeError: If it is something else.
        ValueError: If the model has no posterior; see `posterior_of`.

    Example:

    >>> import keras, tfbnn
    >>> from tfbnn.posterior.mean_field import mean_field
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> mean_field(mean_field(model)).model is model
    True
    """
    check_bayesian(
        model.model if isinstance(model, AbstractPosterior) else model,
        "Only a `tfbnn.Sequential` or `tfbnn.Model` can be pruned, distilled or exported.",
    )
    posterior = posterior_of(model)
    if type(posterior) is not MeanFieldPosterior:
        raise TypeError(
            "Pruning, distillation and export read the law of each weight from the layers of a "
            "model; they take the model, or the posterior that `fit` has optimised in it, exactly "
            "`MeanFieldPosterior`. `tfbnn.predict`, `tfbnn.evaluate` and `tfbnn.calibrate` take "
            f"any posterior. Received: model of type {type(model).__name__}"
        )
    return posterior
