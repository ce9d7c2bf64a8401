"""The likelihood that a Keras loss stands for: one table.

An ELBO needs a log likelihood, not just something to minimise. Any loss that is not in the table is
an error that names the one to use. Options under which a loss is no likelihood (label smoothing,
class weights inside the loss, another reduction) are errors too.
"""

from typing import Any

import keras

from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.bernoulli import Bernoulli
from tfbnn.likelihoods.categorical import Categorical
from tfbnn.likelihoods.normal import Normal, NormalNLL
from tfbnn.likelihoods.poisson import Poisson, PoissonNLL

LIKELIHOODS: dict[type[keras.losses.Loss], type[AbstractLikelihood]] = {
    keras.losses.SparseCategoricalCrossentropy: Categorical,
    keras.losses.CategoricalCrossentropy: Categorical,
    keras.losses.BinaryCrossentropy: Bernoulli,
    NormalNLL: Normal,
    PoissonNLL: Poisson,
}

# By the names that Keras has for a loss, and by that of its class.
_BY_NAME = {name: loss for loss in LIKELIHOODS for name in (loss().name, loss.__name__)}


def likelihood_of(loss: Any) -> AbstractLikelihood:
    """The likelihood that a loss object, or the name or function of one in the table, stands for.

    Raises:
        ValueError: If the loss is no likelihood, or an option makes it none.
    """
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None)
    if name in _BY_NAME:
        loss = _BY_NAME[name]()
    if type(loss) not in LIKELIHOODS:
        raise ValueError(_not_a_likelihood(loss))
    _check_options(loss)
    return LIKELIHOODS[type(loss)](loss)


def from_config(config: dict[str, Any]) -> AbstractLikelihood:
    """The likelihood with a configuration made by its `get_config`."""
    likelihood = likelihood_of(keras.saving.deserialize_keras_object(config["loss"]))
    # Files from before there were two have one.
    return likelihood.at(config["temperature"], config.get("mean_temperature", 1.0))


def _check_options(loss: keras.losses.Loss) -> None:
    config = loss.get_config()
    defaults = {"label_smoothing": 0.0, "ignore_class": None, "axis": -1}
    for option, default in defaults.items():
        value = config.get(option, default)
        if value != default:
            raise ValueError(
                f"With this option {type(loss).__name__} is not the log likelihood that the ELBO "
                f"needs; leave `{option}` at {default}. Received: {option}={value}"
            )
    if loss.reduction != "sum_over_batch_size":
        raise ValueError(
            "The objective sums over event axes and averages over the batch by itself; leave "
            f"`reduction` at its default. Received: reduction={loss.reduction!r}"
        )


def _not_a_likelihood(loss: Any) -> str:
    usages = ", ".join(dict.fromkeys(likelihood.usage for likelihood in LIKELIHOODS.values()))
    return (
        f"The ELBO needs a loss that is a negative log likelihood. Use {usages}. "
        f"Received: loss={loss!r}"
    )
