"""`tfbnn.compact`: the same network without the units that do nothing."""

from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.layers.steps import Steps, steps_of
from tfbnn.posterior.routes import model_of
from tfbnn.pruning.constants import Constants, LinearState
from tfbnn.pruning.slicing import sliced
from tfbnn.pruning.units import HELD, Units
from tfbnn.training.models import BayesianModel


def compact(model: BayesianModel, fold: bool = False) -> BayesianModel:
    """A smaller model with the same outputs: units that do nothing are taken out.

    A unit does nothing if no weight is left that reads it, or if it is zero for every input (all
    its incoming weights are pruned, and its bias comes out of the activation as zero). A unit that
    is another constant `c` goes if the layer that reads it can take the constant into its bias:

        loc(bias) + c * sum(loc),   var(bias) + c**2 * sum(scale**2)

    That is exact where the bias is random, because the weights that read the unit are normal. A
    point bias has no variance to take on, so such a unit stays, unless `fold` is true. A unit with
    a random bias is no constant: it goes only if nothing reads it. A unit that goes may set others
    free; this is repeated until none is left.

    The outputs at the posterior mean are the same up to rounding, and so is the law of the outputs
    under the posterior. Weights that stay keep their posterior bit for bit, and a layer without a
    pruned weight has no mask any more. What is not the same is further training: a unit that is
    constant now might not have stayed so. At least one unit of each layer stays. The inputs and the
    outputs of the model keep their shapes.

    Args:
        model: A pruned `tfbnn.Sequential`, or `tfbnn.Model(inputs, outputs)`.
        fold: Whether point biases take on constants too. This keeps the outputs at the posterior
            mean and drops the variance that the weights of the constants gave them: an
            approximation.

    Returns:
        A new model, compiled like `model` (with a new optimizer) if that was compiled. `model` is
        not changed.

    Raises:
        TypeError: If `model` is no model of tfbnn and no posterior that has the law of each weight.
        ValueError: If the model has no posterior, or its graph is not known (a subclass with a
            `call` of its own).

    Example:

    >>> import keras, tfbnn
    >>> Dense = tfbnn.layers.DenseFlipout
    >>> model = tfbnn.Sequential([keras.Input((8,)), Dense(16, "relu"), Dense(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> pruned = tfbnn.prune(model, sparsity=0.5, granularity="unit")
    >>> tfbnn.compact(pruned).layers[0].units
    8
    """
    fold = arguments.boolean("fold", fold)
    model = model_of(model, "Compaction")
    steps = steps_of(model)
    units = Units(steps)
    states = {layer: LinearState(layer) for layer in units.rows}
    gone = _dead_units(steps, units, states, fold)
    return sliced(model, units, states, ~gone)


def _dead_units(
    steps: Steps, units: Units, states: dict[Any, LinearState], fold: bool
) -> np.ndarray:
    """Which units do nothing; what they did to biases is noted in the states."""
    gone = np.zeros(units.count, bool)
    while True:
        Constants(steps, states)
        needed = gone.copy()
        needed[HELD] = True
        for layer, state in states.items():
            needed[units.rows[layer][~state.harmless(fold)]] = True
        dead = ~needed
        if not dead.any():
            break
        gone |= dead
        for layer, state in states.items():
            state.remove(dead[units.rows[layer]], dead[units.columns[layer]])
    for columns in units.columns.values():
        if gone[columns].all():
            # No layer can do without any unit; this one has neither rows nor columns any more.
            gone[columns[0]] = False
    return gone
