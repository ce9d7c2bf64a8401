"""`check_elbo`: the two terms of the objective on real data, and what they mean."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.keras_internals import mask_of, put_mask
from tfbnn.layers.variational import variational_weights
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.training import outputs
from tfbnn.training.convergence import last_steps_of
from tfbnn.training.data import check_arrays, in_batches, is_arrays
from tfbnn.training.data_term import DataTerm, global_batch_size
from tfbnn.training.elbo_report import ElboReport, LayerKL
from tfbnn.training.plain_models import KnownObjective, likelihoods_of, objective_of
from tfbnn.training.sigma import named_layers
from tfbnn.weights import noise
from tfbnn.weights.priors import AutomaticRelevance


def check_elbo(
    model: Any,
    x: Any,
    y: Any = None,
    num_draws: int = 8,
    batch_size: int = 256,
    verbose: int = 1,
    sample_weight: Any = None,
) -> ElboReport:
    """Compute both terms of the ELBO on data, and say in words what they mean.

    `-ELBO per example = NLL + KL / num_examples`, the NLL with the noise of training (weights,
    Dropout, BatchNormalization by batch), averaged over `num_draws` passes. Use it before training,
    to see whether the prior fits the network and the amount of data, and after it.

    The model stays as it is: its weights, metrics, optimizer, and random state. So the same call
    gives the same numbers until the model is trained further.

    Args:
        model: A built `tfbnn.Sequential` or `tfbnn.Model`, compiled with a loss; or a plain Keras
            model whose variational layers all have the same `kl_weight`, `1 / num_examples`, and
            whose loss is a likelihood.
        x: Inputs, an array or a structure of them, or a finite batched `tf.data.Dataset` of
            `(x, y)` or `(x, y, sample_weight)`. A sample of the training data will do.
        y: Targets, as in `fit`.
        num_draws: Noise draws for each batch.
        batch_size: Rows at a time, for arrays.
        verbose: 0 to print nothing.
        sample_weight: Weights of the examples, as in `fit`.

    Returns:
        An `ElboReport`; it is printed.

    Raises:
        TypeError: If `model` is no model, or `x` is none of the above.
        ValueError: If the model is not built, not compiled, has no random weights or does not know
            `num_examples`; if the data are empty, infinite or cannot be learnt from.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)], num_examples=3)
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> report = tfbnn.check_elbo(model, np.eye(3), np.array([0, 1, 1]), verbose=0)
    >>> report.num_examples, round(report.kl_weight, 3), round(report.chance_nll, 4)
    (3, 0.333, 0.6931)

    Reference:
        Blundell et al. 2015, "Weight Uncertainty in Neural Networks", eq. 2.
    """
    _check_model(model)
    num_draws = arguments.count("num_draws", num_draws)
    batch_size = arguments.count("batch_size", batch_size)
    verbose = arguments.verbosity("verbose", verbose)
    layers = [
        _layer_kl(name, layer, noise.as_seed(number), num_draws)
        for number, (name, layer) in enumerate(named_layers(model).items())
    ]
    kl, kl_error = _mean_and_error(np.sum([draws for _, draws in layers], axis=0))
    if all(layer.exact for layer, _ in layers):
        kl_error = 0.0
    objective = objective_of(model)
    batches = _batches(x, y, sample_weight, batch_size)
    terms = _likelihood_terms(model, objective, batches, num_draws)
    nll, nll_error = _mean_and_error(terms.noisy)
    report = ElboReport(
        nll=nll,
        nll_standard_error=nll_error,
        nll_at_mean=terms.at_mean,
        chance_nll=terms.chance,
        kl=kl,
        kl_standard_error=kl_error,
        layers=tuple(layer for layer, _ in layers),
        num_examples=objective.num_examples,
        num_rows=terms.rows,
        num_draws=num_draws,
        beta=objective.beta,
        kl_weight=objective.kl_weight,
        loss_weights=tuple(objective.loss_weights),
        likelihood=" + ".join(likelihood.name for likelihood in objective.likelihoods),
        nll_in_words=_in_words(objective.likelihoods, nll),
        has_learnt_priors=any(
            isinstance(weight.prior, AutomaticRelevance) for weight in variational_weights(model)
        ),
        **_pull(model),
    )
    if verbose:
        print(report)
    return report


def _pull(model: keras.Model) -> dict[str, float]:
    """What the last `fit` of the model saw of sigma, if it was one of tfbnn's."""
    steps = last_steps_of(model)
    if steps is None:
        return {}
    pull, error = steps.mean_pull()
    return {"sigma_pull": pull, "sigma_pull_standard_error": error}


@dataclasses.dataclass
class _LikelihoodTerms:
    """NLL per example of each noise draw, at the posterior mean, and of a blind guess."""

    noisy: np.ndarray
    at_mean: float
    chance: float | None
    rows: int


def _likelihood_terms(
    model: keras.Model,
    objective: KnownObjective,
    batches: Iterator[tuple[Any, Any, Any]],
    num_draws: int,
) -> _LikelihoodTerms:
    check_arrays("the weights of the model", model.get_weights())
    noisy, at_mean, chance, rows = np.zeros(num_draws), 0.0, 0.0, 0
    # Updates of seeds and moving averages end up in the scope, not in the model.
    scope = keras.StatelessScope()
    term = DataTerm(objective.likelihoods, objective.loss_weights)
    for x, *given in batches:
        check_arrays("x", x)
        check_arrays("y", given[0])
        y, sample_weight = (outputs.in_order(model, one) for one in given)

        def nll(answers: Any, y: Any = y, sample_weight: Any = sample_weight) -> float:
            return float(term.nll(y, answers, sample_weight, global_batch_size(answers)))

        size = int(tf.nest.flatten(x)[0].shape[0])
        rows += size
        with scope:
            noisy += [size * nll(model(x, training=True)) for _ in range(num_draws)]
        with keras.StatelessScope():
            answers = model(x, training=False)
        at_mean += size * nll(answers)
        guess = _blind_guess(objective.likelihoods, answers)
        chance = None if guess is None or chance is None else chance + size * nll(guess)
    if not rows:
        raise ValueError("There is no example to compute the ELBO on. Received: empty data")
    chance = None if chance is None else chance / rows
    return _LikelihoodTerms(noisy / rows, at_mean / rows, chance, rows)


def _in_words(likelihoods: list[AbstractLikelihood], nll: float) -> str:
    """What the NLL of one output says."""
    return likelihoods[0].nll_in_words(nll) if len(likelihoods) == 1 and math.isfinite(nll) else ""


def _blind_guess(likelihoods: list[AbstractLikelihood], outputs: Any) -> list[tf.Tensor] | None:
    """Outputs that give all classes the same probability; None where there are no classes."""
    guesses = []
    for likelihood, output in zip(likelihoods, tf.nest.flatten(outputs), strict=True):
        guess = likelihood.blind_guess(output)
        if guess is None:
            return None
        put_mask(guess, mask_of(output))
        guesses.append(guess)
    return guesses


def _layer_kl(name: str, layer: Any, seed: tf.Tensor, num_draws: int) -> tuple[LayerKL, np.ndarray]:
    """The KL of a layer, and its value for each draw."""
    draws, weights, exact = np.zeros(num_draws), 0, True
    for number, weight in enumerate(layer.variational_weights):
        if weight.kl_is_exact:
            draws += float(weight.kl())
        else:
            seeds = noise.split(noise.fold_in(seed, number), num_draws)
            draws += [float(weight.kl(one)) for one in seeds]
        weights += weight.size if weight.mask is None else int(tf.reduce_sum(weight.mask))
        exact = exact and weight.kl_is_exact
    return LayerKL(name, weights, float(draws.mean()), exact), draws


def _mean_and_error(draws: np.ndarray) -> tuple[float, float]:
    """Mean, and its standard error; NaN for one draw."""
    if len(draws) == 1:
        return float(draws[0]), math.nan
    return float(draws.mean()), float(draws.std(ddof=1) / math.sqrt(len(draws)))


def _batches(x: Any, y: Any, sample_weight: Any, batch_size: int) -> Iterator[tuple[Any, Any, Any]]:
    """`(x, y, sample_weight)` tensors, batch by batch."""
    given = (x, y) if sample_weight is None else (x, y, sample_weight)
    if isinstance(x, tf.data.Dataset):
        if x.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "The data set never ends: pass a part of it, `x.take(number_of_batches)`. "
                "Received: x, an infinite tf.data.Dataset"
            )
    elif all(map(is_arrays, given)):
        # A number has no rows.
        rows = {tuple(np.shape(leaf)[:1]) for leaf in tf.nest.flatten(given)}
        if len(rows) != 1 or rows == {()}:
            raise ValueError(
                "`x`, `y` and `sample_weight` must be arrays of the same number of rows. "
                f"Received: shapes {[tuple(np.shape(leaf)) for leaf in tf.nest.flatten(given)]}"
            )
    else:
        raise TypeError(
            "`x`, `y` and `sample_weight` must be arrays or structures of them, or `x` a batched "
            "`tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`. Received: types "
            + ", ".join(type(one).__name__ for one in given)
        )
    for batch in in_batches(x, y, sample_weight, batch_size):
        if batch[1] is None:
            raise ValueError("The data have no targets. Received: a data set of `x` alone")
        yield batch


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected a `tfbnn.Sequential`, a `tfbnn.Model` or another Keras model. "
            f"Received: model of type {type(model).__name__}"
        )
    problem = _problem(model)
    if problem:
        raise ValueError(f"{problem} Received: model={model.name!r}")


def _problem(model: keras.Model) -> str | None:
    if not model.built:
        return "The model has no weights yet: train it, or build it by calling it on a batch."
    if not variational_weights(model):
        return "The model has no random weights, so it has no ELBO: use layers of `tfbnn.layers`."
    if not likelihoods_of(model):
        return "The model has no likelihood: call `compile(loss=...)` first."
    return None
