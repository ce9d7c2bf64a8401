"""Decay: what an optimizer does to weights beside following the gradient.

Weight decay pulls a weight to zero, which is what a prior does: on a mean it would be a second
prior, on `rho` a pull to the scale `softplus(0) = 0.69` that nobody asked for. The optimizers of
Keras can leave variables out of it, and so they do here for all that has a law. Clipping and
averaging change the steps to the optimum of the ELBO and not the optimum, and stay.
"""

from typing import Any

import keras

from tfbnn.layers.keras_internals import inner_of, leave_out_of_decay
from tfbnn.layers.variational import variational_weights
from tfbnn.training.noise_variables import learned_noise

# The numbers that pull weights to zero: of `Optimizer`, `Muon`, and the ones of `Ftrl`.
_DECAYS = ("weight_decay", "adam_weight_decay")
_PENALTIES = (
    "l1_regularization_strength",
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
)


def spare_random_weights(model: keras.Model) -> bool:
    """Leave all of a model that has a law out of its optimizer's decay; whether there is any."""
    weights = variational_weights(model)
    variables = [v for one in weights for v in (one.loc_variable, one.rho_variable)]
    variables += [loss.rho_variable for loss in learned_noise(model.likelihoods)]
    return model.optimizer is not None and exclude_from_decay(model.optimizer, variables)


def exclude_from_decay(optimizer: keras.optimizers.Optimizer, variables: list[Any]) -> bool:
    """Leave variables out of an optimizer's weight decay; whether there is any.

    Those that are out already stay so. It is a `ValueError` if the optimizer decays weights and has
    no way to leave some out.
    """
    optimizer = inner_of(optimizer)
    penalty = next((name for name in _PENALTIES if getattr(optimizer, name, None)), None)
    if penalty is not None and variables:
        raise ValueError(
            "A penalty of the optimizer is a second prior, and cannot be kept from the weights "
            f"that have one: leave `{penalty}` at 0. Received: {penalty}="
            f"{getattr(optimizer, penalty)} of {type(optimizer).__name__}"
        )
    if not any(getattr(optimizer, name, None) for name in _DECAYS):
        return False
    leave_out_of_decay(optimizer, variables)
    return True
