"""A plain Keras model with a prior: training it finds the mode of the posterior."""

from typing import Any

import keras

from tfbnn import arguments
from tfbnn.conversion.regularizers import checked_prior
from tfbnn.conversion.replacing import Replacement
from tfbnn.conversion.to_bayesian import bayesian_class, compile_if_likelihood
from tfbnn.layers.variational import variational_layers
from tfbnn.training.copies import named_code
from tfbnn.training.models import Model, Sequential
from tfbnn.training.plain_models import check_built
from tfbnn.weights.negative_log_prior import NegativeLogPrior


def with_prior(model: keras.Model, prior: Any, num_examples: int) -> Any:
    """A model of the same plain layers, whose weights have a prior: `fit` finds the mode.

        loss = mean of -log p(y | x, w) - log p(w) / num_examples

    per example, with the likelihood summed over the axes of an output as everywhere in tfbnn. The
    prior is a regularizer of each weight that is trained: `tfbnn.posteriors.MCMC` draws under the
    same one, and `tfbnn.to_bayesian` keeps it. Train it until the loss falls no more, and by an
    optimizer without weight decay, which would be a second prior; `tfbnn.posteriors.MAP` is the
    posterior of the result.

    Args:
        model: A built Keras model without random weights. It is not changed.
        prior: Prior of each weight: an object or a name of `tfbnn.priors` that needs no layer, or
            the standard deviation of a normal one.
        num_examples: Number of training examples.

    Returns:
        A `tfbnn.Sequential` or `tfbnn.Model` with the weights of `model`, compiled as it was if its
        loss is a likelihood. Other regularizers are gone.

    Raises:
        TypeError: If `model` is no Keras model, or has random weights.
        ValueError: If it is not built, or has a weight that no regularizer goes to, or the prior is
            no density.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> plain.compile("adam", loss=tfbnn.losses.NormalNLL(scale=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> model = tfbnn.with_prior(plain, tfbnn.priors.Normal(scale=1.0), num_examples=20)
    >>> history = model.fit(x, 2 * x, epochs=2, verbose=0)
    >>> tfbnn.predict(tfbnn.posteriors.MAP(model), x).prediction.shape
    (20, 1)

    Reference:
        MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks", sec. 2.
    """
    arguments.instance("model", model, keras.Model, "a Keras model")
    check_built(model)
    if any(True for _ in variational_layers(model)):
        raise TypeError(
            "The weights of this model are random already and have priors, `kernel_prior` and "
            f"`bias_prior` of the layers. Received: model={model.name!r}"
        )
    prior = checked_prior("prior", prior)
    num_examples = arguments.count("num_examples", num_examples)
    penalty = keras.saving.serialize_keras_object(NegativeLogPrior(prior, num_examples))

    def replace(layer: Any) -> keras.layers.Layer | None:
        if isinstance(layer, keras.Model) or not isinstance(layer, keras.Layer):
            return None
        with named_code(layer) as serialized:
            config = serialized(layer.get_config())
            return type(layer).from_config(config) if _penalise(config, penalty) else None

    found = Replacement(replace, Sequential, Model, bayesian_class).of(model)
    left = [one.path for one in found.trainable_variables if one.regularizer is None]
    if left:
        raise ValueError(
            "Some weights have no regularizer by which a prior could reach them: freeze these "
            f"layers. Received: {', '.join(left)}"
        )
    compile_if_likelihood(model, found)
    return found


def _penalise(config: Any, penalty: dict[str, Any]) -> bool:
    """Put a penalty in the place of all regularizers of weights; whether there is any place."""
    if isinstance(config, list | tuple):
        return any([_penalise(one, penalty) for one in config])
    if not isinstance(config, dict):
        return False
    names = [n for n in config if n.endswith("regularizer") and n != "activity_regularizer"]
    inside = [_penalise(value, penalty) for name, value in config.items() if name not in names]
    config.update(dict.fromkeys(names, penalty))
    return bool(names) or any(inside)
