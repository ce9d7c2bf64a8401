"""Markov chain Monte Carlo: draws of the posterior itself, for small networks."""

import dataclasses
import functools
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.posterior.base import AbstractFiniteNetworks, AbstractRandomVariables
from tfbnn.posterior.learnt_rows import all_rows
from tfbnn.posterior.mcmc import mixing, trace_picture
from tfbnn.posterior.mcmc.chains import Chains, Sampled
from tfbnn.posterior.mcmc.density import Joint, unflattened
from tfbnn.posterior.mcmc.diagnostics import Diagnostics, worst
from tfbnn.posterior.mcmc.kernels import KERNELS
from tfbnn.posterior.mcmc.sampled_weights import sampled_variables, sampled_weights
from tfbnn.training.data import check_arrays
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.whole_files import picture_path

# What all draws may take, in bytes.
_LARGEST = 2**30
# Rows, and numbers of an output, that are looked at, and networks that are run at once for it.
_MOST_ROWS, _MOST_OUTPUTS, _AT_ONCE = 50, 200, 100


class MCMC(AbstractFiniteNetworks, AbstractRandomVariables):
    """Draws of the posterior itself, `p(w | x, y)`, by chains: the reference for all other routes.

    Each step of a chain leaves `p(y | x, w) p(w)` as it is, so that what chains pass by, once they
    have forgotten where they began (a draw of the prior), are draws of the posterior. All rows
    count in each step, so this is for small networks and few rows.

    What is drawn are the weights of a plain Keras model that are trained, with the prior that is
    given; or the random weights of a model of tfbnn, with the priors of its layers. The rest stays
    as it is: moving statistics, a learned noise. In the warm-up the length of a step is adapted by
    dual averaging, and the standard deviation of each weight, in the unit of which steps are taken.

    `posterior.diagnostics` says whether chains have mixed, `posterior.plot(path)` shows it. The
    draws are used in an order that was shuffled once, so that the first few stand for all.

    Args:
        model: A built Keras model, compiled with a likelihood. It need not be trained and is not
            changed.
        x: The training inputs: an array, a structure of arrays, or a batched `tf.data.Dataset` that
            has the targets, too, and weights of rows if there are any.
        y: The targets, for arrays.
        kernel: `"nuts"` (No-U-Turn), `"hmc"` or `"random_walk"`.
        prior: The prior of each weight of a plain model: an object or a name of `tfbnn.priors`, or
            the standard deviation of a normal one. None: the priors that its regularizers are, see
            `tfbnn.with_prior`.
        chains: Number of chains, which run at once, at least 2.
        samples: Networks that each chain gives.
        warmup: Steps of each chain before.
        seed: The same seed gives the same draws. None: another one each time.
        verbose: 0 for no progress bar, 1 for one, `"auto"` for one on work of more than 2 s.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model is not built or has no likelihood, a prior is missing or no
            density, the network is too large, or an argument is out of its range.

    Warns:
        tfbnn.ConvergenceWarning: If the chains have not mixed.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(loss=tfbnn.losses.NormalNLL(scale=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> posterior = tfbnn.posteriors.MCMC(model, x, 2 * x, prior=1.0, seed=0)
    >>> posterior.diagnostics.mixed, posterior.num_draws
    (True, 4000)
    >>> prediction, uncertainty = tfbnn.predict(posterior, x, num_samples=100)
    >>> prediction.shape, uncertainty.shape
    ((20, 1), (20, 1))

    References:
        Neal 1996, "Bayesian Learning for Neural Networks", ch. 3; Hoffman and Gelman 2014, "The
        No-U-Turn Sampler"; Izmailov et al. 2021, "What Are Bayesian Neural Network Posteriors
        Really Like?", for what it is a reference of.
    """

    route = "mcmc"

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        kernel: str = "nuts",
        prior: Any = None,
        chains: int = 4,
        samples: int = 1000,
        warmup: int = 1000,
        seed: int | None = None,
        verbose: Any = "auto",
    ):
        arguments.instance("model", model, keras.Model, "a Keras model")
        super().__init__(model, likelihoods_of(model))
        kernel = arguments.one_of("kernel", kernel, tuple(KERNELS))
        # Halves of chains are compared, and chains with each other.
        chains = arguments.count("chains", chains, 2)
        samples, warmup = (
            arguments.count(n, v, 4) for n, v in (("samples", samples), ("warmup", warmup))
        )
        seed = arguments.seed_or_any("seed", seed)
        verbose = arguments.verbosity("verbose", verbose)
        batch = all_rows(model, x, y)
        rows = len(tf.nest.flatten(batch[0])[0])
        weights = sampled_weights(model, self.likelihoods, prior, rows)
        joint = Joint(model, self.likelihoods, weights, batch)
        _check_size(joint.size, kernel, chains * samples)
        sampled = Chains(joint, KERNELS[kernel], seed, verbose).run(chains, warmup, samples)
        check_arrays("the draws", sampled.steps.draws)
        self.kernel, self._steps = kernel, sampled.steps.draws
        self._diagnose(sampled, batch[0])
        self.diagnostics.warn()

    @property
    def variables(self) -> list[keras.Variable]:
        return sampled_variables(self.model, self.likelihoods)

    @functools.cached_property
    def all_draws(self) -> list[tf.Tensor]:
        flat = self._steps.reshape(-1, self._steps.shape[-1])
        # Any first few are then of all chains, and of all times.
        shuffled = flat[np.random.default_rng(0).permutation(len(flat))]
        return self._values(shuffled)

    @property
    def chains(self) -> list[np.ndarray]:
        """What chains passed by, `(samples, chains, ...)` for each of `variables`."""
        return [one.numpy() for one in self._values(self._steps)]

    @property
    def traces(self) -> dict[str, np.ndarray]:
        """The log density, and the output that has mixed least, `(samples, chains)`."""
        return self._traces

    def plot(self, path: Any) -> None:
        """Draw the traces of all chains, to look at, into a picture.

        Args:
            path: Where to write it; the ending says the kind, such as `.png`.

        Raises:
            ValueError: If it is no path, or no picture ends so.
        """
        trace_picture.draw(picture_path("path", path), self._traces, str(self.diagnostics))

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "kernel": self.kernel,
            "chains": self._steps.shape[1],
            "diagnostics": dataclasses.asdict(self.diagnostics),
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {"steps": self._steps, **self._traces}

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "diagnostics": dataclasses.asdict(self.diagnostics)}

    @classmethod
    def from_parts(
        cls, parts: list[Any], config: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> Self:
        (model,), traces = parts, dict(arrays)
        posterior = cls.__new__(cls)
        AbstractFiniteNetworks.__init__(posterior, model, likelihoods_of(model))
        posterior.kernel, posterior._steps = config["kernel"], traces.pop("steps")
        posterior._traces = traces
        posterior.diagnostics = Diagnostics(**config["diagnostics"])
        return posterior

    def _values(self, flat: np.ndarray) -> list[tf.Tensor]:
        return unflattened(
            tf.constant(flat), [tuple(variable.shape) for variable in self.variables]
        )

    def _diagnose(self, sampled: Sampled, x: Any) -> None:
        steps = sampled.steps
        outputs = self._outputs_of_chains(x)
        least = int(np.argmax(mixing.r_hat(outputs)))
        self._traces = {"log density": steps.log_density, "least mixed output": outputs[..., least]}
        quantities = {"outputs": outputs, "log_density": steps.log_density, "weights": steps.draws}
        self.diagnostics = Diagnostics(
            *worst(quantities),
            divergences=int(steps.diverged.sum()),
            acceptance=float(steps.acceptance.mean()),
            step_size=sampled.step_length,
            seconds=sampled.seconds,
            num_draws=steps.log_density.size,
        )

    def _outputs_of_chains(self, x: Any) -> np.ndarray:
        """Some numbers of the outputs of all draws, `(samples, chains, numbers)`."""
        rows = len(tf.nest.flatten(x)[0])
        some = np.unique(np.linspace(0, rows - 1, _MOST_ROWS).astype(int))
        x = tf.nest.map_structure(lambda one: tf.gather(one, some), x)
        flat = self._steps.reshape(-1, self._steps.shape[-1])
        found = []
        for first in range(0, len(flat), _AT_ONCE):
            values = self._values(flat[first : first + _AT_ONCE])
            outputs = tf.nest.flatten(self.outputs(values, x))
            numbers = [one.numpy().reshape(len(one), -1)[:, :_MOST_OUTPUTS] for one in outputs]
            found.append(np.concatenate(numbers, axis=1))
        return np.concatenate(found).reshape(*self._steps.shape[:2], -1)


def _check_size(size: int, kernel: str, num_draws: int) -> None:
    largest = KERNELS[kernel].largest
    if size > largest:
        raise ValueError(
            f"Chains of {kernel!r} do not get anywhere with more than {largest} weights: take "
            "`tfbnn.posteriors.Laplace`, SWAG or an ensemble, or draw the weights of fewer layers, "
            "`tfbnn.to_bayesian(model, layers='last', prior='fan_in')`. "
            f"Received: a network with {size} weights"
        )
    if 4 * size * num_draws > _LARGEST:
        raise ValueError(
            f"The draws would take more than {_LARGEST / 2**30:g} GiB: ask for fewer `samples` or "
            f"`chains`. Received: {num_draws} draws of {size} weights"
        )
