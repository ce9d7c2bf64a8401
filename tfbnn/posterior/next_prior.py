"""A posterior as the next prior: what was learnt from some data, before others are seen."""

from typing import Any

import tensorflow as tf

from tfbnn.layers.variational import variational_layers, variational_weights
from tfbnn.posterior.gaussian import gaussian
from tfbnn.posterior.routes import posterior_of
from tfbnn.training.bayesian_model import BayesianModel
from tfbnn.training.copies import copy_state, copy_variables, rebuilt
from tfbnn.training.plain_models import check_bayesian
from tfbnn.weights import priors

_NAMES = ("kernel_prior", "bias_prior")


def continue_from(posterior: Any) -> BayesianModel:
    """A model whose prior is a posterior: `fit` with other data goes on from what was learnt.

        p(w | old, new) = p(new | w) p(w | old) / p(new)

    so each weight gets the prior `N(w; loc, scale**2)` with the mean and the standard deviation
    that it has in the posterior (`tfbnn.priors.Informative`), and begins there. Of a linear model
    whose weights are independent the result is the posterior of all data; else it is as good as the
    law of each weight alone.

    Args:
        posterior: A trained model of tfbnn, or a posterior with a normal law of each weight, of any
            route: mean field, IVON, SWAG of rank 0, a sampled diagonal `Laplace`. It is not
            changed.

    Returns:
        A `tfbnn.Sequential` or `tfbnn.Model`, compiled as the posterior's was. Weights that are not
        random stay what they are, and are trained on.

    Raises:
        TypeError: If there is no law of each weight.
        ValueError: If the model is not built, or its class makes random layers by itself that
            cannot be told their priors.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.Dense(1)])
    >>> model.compile(loss=tfbnn.losses.NormalNLL(scale=0.5))
    >>> x = np.eye(3)
    >>> history = model.fit(x, x[:, :1], verbose=0)
    >>> following = tfbnn.continue_from(model)
    >>> history = following.fit(x[::-1], x[::-1, :1], verbose=0)
    >>> type(following.layers[0].kernel.prior).__name__
    'Informative'

    Reference:
        Nguyen et al. 2018, "Variational Continual Learning", sec. 2.1.
    """
    found = gaussian(posterior_of(posterior), "A posterior as the next prior")
    check_bayesian(found.model, "Only a `tfbnn.Sequential` or `tfbnn.Model` can go on learning.")
    model = rebuilt(found.model, _tell, _tell_unbuilt)
    weights = variational_weights(model)
    if not all(isinstance(weight.prior, priors.Informative) for weight in weights):
        raise ValueError(
            "The class of the model makes random layers by itself, so that their priors cannot be "
            "changed: let its `get_config` have the layers, or their priors. "
            f"Received: model={model.name!r} of type {type(model).__name__}"
        )
    copy_state(found.model, model)
    copy_variables(found.model, model, lambda weight: weight.prior_variables)
    laws = found.laws()
    for old, new in zip(found.weights, weights, strict=True):
        loc, scale = laws[old]
        new.assign(loc, scale)
        # A weight that was pruned has no law: it stays so, whatever its prior is.
        for variable, value in zip(new.prior_variables, (loc, scale), strict=True):
            variable.assign(tf.where(scale > 0, value, variable))
    return model


def _tell(config: Any) -> None:
    """Let all priors in a configuration be informative."""
    if isinstance(config, list | tuple):
        for one in config:
            _tell(one)
    elif isinstance(config, dict):
        for name, value in config.items():
            if name in _NAMES:
                config[name] = priors.serialize(priors.Informative())
            else:
                _tell(value)


def _tell_unbuilt(model: Any) -> None:
    """Let those layers have such priors that a model makes by itself, and has not built."""
    for layer in variational_layers(model):
        if not layer.built:
            for name in _NAMES:
                setattr(layer, name, priors.Informative())
