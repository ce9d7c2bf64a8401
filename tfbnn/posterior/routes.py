"""Routes: every kind of posterior by its name, and the posterior of a model."""

import functools
from typing import Any

import keras

from tfbnn.layers.keras_internals import all_layers, compiled_loss
from tfbnn.posterior import files
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.ensemble import Ensemble
from tfbnn.posterior.gaussian import GaussianPosterior, gaussian
from tfbnn.posterior.ivon import IVON
from tfbnn.posterior.laplace.laplace import Laplace
from tfbnn.posterior.mc_dropout import MCDropout
from tfbnn.posterior.mcmc.mcmc import MCMC
from tfbnn.posterior.mean_field import MeanFieldPosterior
from tfbnn.posterior.point import MAP
from tfbnn.posterior.swag import SWAG
from tfbnn.training.bayesian_model import BayesianModel
from tfbnn.training.drawn_steps import AbstractVariationalOptimizer
from tfbnn.training.plain_models import check_bayesian

ROUTES: dict[str, type[AbstractPosterior]] = {
    route.route: route
    for route in (
        MeanFieldPosterior,
        GaussianPosterior,
        MCDropout,
        Ensemble,
        SWAG,
        IVON,
        Laplace,
        MAP,
        MCMC,
    )
}
"""The routes by name; the tests of all uses run over this table."""


@functools.singledispatch
def posterior_of(model: Any) -> AbstractPosterior:
    """The posterior of a model; a posterior is its own.

    The same object comes back for the same model as long as it is compiled with the same
    likelihoods, so that its traced functions are reused.

    Args:
        model: A trained `tfbnn.Model` or `tfbnn.Sequential`, a plain Keras model with variational
            layers whose losses are likelihoods, or a posterior. `posterior_of.register` adds a
            type.

    Returns:
        The posterior.

    Raises:
        TypeError: If `model` is none of these.
        ValueError: If the model is not built, has no random weights, or has no likelihood.
    """
    raise TypeError(
        "Expected a `tfbnn.Sequential`, a `tfbnn.Model` or a posterior. "
        f"Received: model of type {type(model).__name__}"
    )


@posterior_of.register
def _(model: AbstractPosterior) -> AbstractPosterior:
    return model


@posterior_of.register
def _(model: keras.Model) -> AbstractPosterior:
    # Another object after each compilation that changes the likelihoods.
    compiled = model.likelihoods if isinstance(model, BayesianModel) else compiled_loss(model)
    # A `Sequential` that gains or loses a layer is another network.
    layers = all_layers(model)
    # On the model, so that it lives as long as the model does; a plain dict entry, so that Keras
    # does not track the posterior's variables a second time.
    known, known_layers, posterior = model.__dict__.get("_posterior", (None, None, None))
    if posterior is None or known is not compiled or known_layers != layers:
        optimized = isinstance(getattr(model, "optimizer", None), AbstractVariationalOptimizer)
        posterior = (IVON if optimized else MeanFieldPosterior)(model)
        model.__dict__["_posterior"] = (compiled, layers, posterior)
    return posterior


def model_of(model: Any, what: str) -> BayesianModel:
    """A `tfbnn` model whose layers hold the law of each weight.

    Args:
        model: A model of tfbnn, or a Gaussian posterior.
        what: What needs it, the subject of a message.

    Raises:
        TypeError: If it is another model, or a posterior without such laws.
        ValueError: If the model has no posterior, or the draws have other laws.
    """
    if not isinstance(model, AbstractPosterior):
        check_bayesian(
            model, "Only a `tfbnn.Sequential` or `tfbnn.Model` can be pruned, compacted or taught."
        )
    return gaussian(posterior_of(model), what).as_model()


def load_posterior(path: Any, **kwargs: Any) -> AbstractPosterior:
    """The posterior that `posterior.save(path)` has written.

    Args:
        path: The file.
        **kwargs: As in `tfbnn.load_model`: `custom_objects`, `safe_mode`.

    Returns:
        The posterior, with its temperatures.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or of a route that this version does not know.
    """
    return files.read(path, ROUTES, **kwargs)
