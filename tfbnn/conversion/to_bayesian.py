"""A plain Keras model made Bayesian."""

import math
from typing import Any

import keras

from tfbnn import arguments
from tfbnn.conversion.coverage import Coverage, LayerCoverage
from tfbnn.conversion.namesakes import random_layer, take_weights
from tfbnn.conversion.replacing import Replacement
from tfbnn.conversion.selection import Selection
from tfbnn.layers.estimators import ESTIMATORS
from tfbnn.layers.variational import AbstractVariationalLayer
from tfbnn.training import outputs
from tfbnn.training.bayesian_model import BayesianModel
from tfbnn.training.copies import compile_like
from tfbnn.training.drawn_steps import AbstractVariationalOptimizer
from tfbnn.training.models import Model, Sequential
from tfbnn.training.plain_models import check_built
from tfbnn.weights import priors


def to_bayesian(
    model: keras.Model,
    estimator: str | None = None,
    prior: Any = None,
    scale: float | None = 0.1,
    layers: Any = None,
    fresh: bool = False,
    num_examples: int | None = None,
    verbose: Any = "auto",
) -> Any:
    """A model of tfbnn with the layers of a Keras model, of which some are random.

    Dense layers and convolutions become their namesakes in `tfbnn.layers`, wherever they are
    nested; the others are copied. The posterior begins at the trained weights,

        q(w) = N(w; w_trained, sigma**2),   sigma = scale * max(abs(w_trained), 0.1 * rms)

    with the root mean square `rms` of the tensor, so that the model at the mean computes what the
    plain one does. With `prior=tfbnn.priors.Informative()` the prior's means are the trained
    weights, too (MOPED). An L2 regularizer `l` becomes the prior that it is,
    `N(0, 1 / (2 * num_examples * l))`, and L1 a Laplace prior.

    Args:
        model: A built Keras model: `Sequential`, functional, nested, or a subclass with a
            `get_config` whose layers are attributes (a file of such a result cannot be loaded, as
            its code makes the plain layers: keep its weights).
        estimator: See `tfbnn.layers`; `"flipout"` by default.
        prior: Prior of all weights, an object or a name of `tfbnn.priors`. None: that of a
            regularizer, where there is one, else that of the layers.
        scale: Standard deviation over size of a weight, positive. None: that with which fresh
            layers start.
        layers: Which layers: None for all, `"last"` (before each output), a name, a class, a
            function `layer -> bool`, or a list of these. Layers that are not trained stay.
        fresh: Whether to start from initial weights, in the place of the trained ones.
        num_examples: Number of training examples, which regularizers need; else `fit` finds it.
        verbose: Whether to print what became random; `"auto"`: yes.

    Returns:
        A `tfbnn.Sequential` or `tfbnn.Model`, compiled as `model` was if its loss is a likelihood.
        Its `coverage` says of each layer what became random, and why the others did not.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it is not built, no layer can be random, a regularizer is no prior, or an
            argument is out of its range.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    >>> bayesian = tfbnn.to_bayesian(plain)
    dense Dense                             8 of          8
    8 of 8 weights are random (100.0%)
    >>> x = np.eye(3, dtype="float32")
    >>> bool(np.allclose(bayesian(x), plain(x)))
    True

    Reference:
        Krishnan et al. 2020, "Specifying Weight Priors in Bayesian Deep Neural Networks with
        Empirical Bayes", sec. 3.
    """
    arguments.instance("model", model, keras.Model, "a Keras model")
    check_built(model)
    if estimator is not None:
        estimator = arguments.one_of("estimator", estimator, tuple(ESTIMATORS))
    if prior is not None:
        prior = arguments.interpreted("prior", prior, priors.get, "a prior of `tfbnn.priors`")
    if scale is not None:
        scale = arguments.standard_deviation("scale", scale)
    if num_examples is not None:
        num_examples = arguments.count("num_examples", num_examples)
    fresh = arguments.boolean("fresh", fresh)
    verbose = arguments.verbosity("verbose", verbose)
    selection = Selection(model, layers)

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if selection.reason(layer) is not None:
            return None
        return random_layer(layer, estimator, prior, num_examples)

    replacement = Replacement(replace, Sequential, Model, bayesian_class)
    bayesian = replacement.of(model)
    if not fresh:
        for old, new in replacement.pairs:
            if selection.reason(old) is None:
                take_weights(new, old, scale)
    if num_examples is not None:
        bayesian.num_examples = num_examples
    compile_if_likelihood(model, bayesian)
    bayesian.coverage = _coverage(selection, replacement.pairs)
    if verbose:
        print(bayesian.coverage)
    return bayesian


def _coverage(selection: Selection, pairs: list[tuple[Any, Any]]) -> Coverage:
    rows: list[LayerCoverage] = []
    counted: set[int] = set()
    for old, new in pairs:
        # Of a layer with layers in it, which come first, those weights that are its own.
        own = [variable for variable in old.weights if id(variable) not in counted]
        counted |= set(map(id, own))
        total = sum(math.prod(variable.shape) for variable in own)
        random = 0
        if isinstance(new, AbstractVariationalLayer):
            random = sum(weight.size for weight in new.variational_weights)
        if total:
            reason = selection.reason(old) or ""
            rows.append(LayerCoverage(old.name, type(old).__name__, random, total, reason))
    return Coverage(rows)


def compile_if_likelihood(plain: keras.Model, bayesian: Any) -> None:
    """Compile the model as the plain one was, if its losses are likelihoods."""
    if not plain.compiled:
        return
    try:
        outputs.likelihoods_of(plain, plain.loss)
    # `compile` says it again to whoever compiles the model with that loss.
    except ValueError:
        return
    # An optimizer that keeps a law of plain layers has no use for random ones.
    compile_like(plain, bayesian, not isinstance(plain.optimizer, AbstractVariationalOptimizer))


def bayesian_class(cls: type) -> type:
    """A class of models of tfbnn with the methods of a subclass of `keras.Model`."""
    if issubclass(cls, BayesianModel):
        return cls
    return type(cls.__name__, (Model, cls), {"__module__": cls.__module__})
