"""What the pruning tests start from: a model with a posterior in which every weight differs."""

import numpy as np

from tfbnn.layers.variational import variational_layers
from tfbnn.posterior.routes import posterior_of


def spread(model, biases=False):
    """The compiled model, each random weight with a mean and a scale of its own.

    Args:
        model: The model.
        biases: Whether to give biases a mean too, random or not; they start at zero.
    """
    rng = np.random.default_rng(1)
    for weight in posterior_of(model).weights:
        weight.loc_variable.assign(rng.normal(size=weight.shape))
        weight.rho_variable.assign(rng.normal(-2, 1, size=weight.shape))
    for layer in variational_layers(model) if biases else []:
        if layer.bias is not None:
            layer.bias.loc_variable.assign(rng.normal(size=layer.bias.shape))
    return model
