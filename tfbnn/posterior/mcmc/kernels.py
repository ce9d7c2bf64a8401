"""Kernels: one step of each chain, which leaves the posterior as it is.

| name | a step | takes it |
|---|---|---|
| `nuts` | along the gradient until it turns back | first of all: it has nothing to set |
| `hmc` | along the gradient, up to `LEAPFROG_STEPS` times | where steps should cost the same |
| `random_walk` | somewhere near | few weights, or as a check that needs no gradient |

To add one: a subclass of `AbstractKernel`, and a row in `KERNELS`.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

Density = Callable[[tf.Tensor], tf.Tensor]

LEAPFROG_STEPS = 32
"""The most that an iteration of HMC takes."""


class Moved(NamedTuple):
    """What one step of all chains gave, tensors `(chains,)` where nothing else is said.

    Attributes:
        position: `(chains, size)`.
        results: What the kernel knows of the position.
        log_density: At the position.
        acceptance: The probability with which the step is accepted.
        diverged: Whether the energy was lost on the way.
    """

    position: tf.Tensor
    results: Any
    log_density: tf.Tensor
    acceptance: tf.Tensor
    diverged: tf.Tensor


class AbstractKernel(abc.ABC):
    """One kind of step.

    Attributes:
        acceptance: The mean probability of acceptance at which the step is long enough.
        largest: Number of weights up to which chains get anywhere.
        first_step: Length of a step, in standard deviations, before it is adapted.
    """

    acceptance: float
    largest: int
    first_step = 0.1

    @abc.abstractmethod
    def of(self, density: Density, step: tf.Tensor, seed: tf.Tensor) -> tfp.mcmc.TransitionKernel:
        """The kernel of TensorFlow Probability."""

    def begin(self, density: Density, position: tf.Tensor, step: tf.Tensor) -> Any:
        """What is known of a position, for the first `move`."""
        seed = tf.zeros([2], tf.int32)
        return self.of(density, step, seed).bootstrap_results(position)

    def move(
        self, density: Density, position: tf.Tensor, results: Any, step: tf.Tensor, seed: tf.Tensor
    ) -> Moved:
        """One step of all chains, of length `step`."""
        own, of_kernel = tf.unstack(tf.random.experimental.stateless_split(seed, 2, alg="philox"))
        kernel = self.of(density, step, own)
        position, results = kernel.one_step(position, self.at_step(results, step), seed=of_kernel)
        # A density that is no number is a step that is not taken.
        acceptance = tf.exp(tf.minimum(results.log_accept_ratio, 0.0))
        acceptance = tf.where(tf.math.is_finite(acceptance), acceptance, 0.0)
        density_there, diverged = self.seen(results)
        return Moved(position, results, density_there, acceptance, diverged)

    def at_step(self, results: Any, step: tf.Tensor) -> Any:
        """Results, where they hold the length of the step: of another one."""
        del step
        return results

    def seen(self, results: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The log density of a position, and whether the step to it diverged."""
        # As far as NUTS lets an energy go.
        lost = results.log_accept_ratio < -1000.0
        return results.accepted_results.target_log_prob, lost


class NoUTurn(AbstractKernel):
    """The No-U-Turn sampler.

    Reference:
        Hoffman and Gelman 2014, "The No-U-Turn Sampler", algorithm 6.
    """

    acceptance = 0.8
    # Of which four chains of a thousand draws are a few hundred megabytes.
    largest = 20_000

    def of(self, density: Density, step: tf.Tensor, seed: tf.Tensor) -> tfp.mcmc.TransitionKernel:
        del seed
        return tfp.mcmc.NoUTurnSampler(density, step)

    def at_step(self, results: Any, step: tf.Tensor) -> Any:
        return results._replace(step_size=step)

    def seen(self, results: Any) -> tuple[tf.Tensor, tf.Tensor]:
        return results.target_log_prob, results.has_divergence


class Hamiltonian(AbstractKernel):
    """Hamiltonian Monte Carlo, along paths of random length, which no period can hold up.

    Reference:
        Neal 2011, "MCMC Using Hamiltonian Dynamics", sec. 3.2.
    """

    acceptance = 0.8
    largest = NoUTurn.largest

    def of(self, density: Density, step: tf.Tensor, seed: tf.Tensor) -> tfp.mcmc.TransitionKernel:
        count = tf.random.stateless_uniform([], seed, 1, LEAPFROG_STEPS + 1, tf.int32, alg="philox")
        return tfp.mcmc.HamiltonianMonteCarlo(density, step, count)


class RandomWalk(AbstractKernel):
    """Metropolis' algorithm: a normal step, taken if it is likely enough.

    Reference:
        Roberts, Gelman and Gilks 1997, "Weak Convergence and Optimal Scaling of Random Walk
        Metropolis Algorithms", for the acceptance.
    """

    acceptance = 0.234
    # Effective draws are about a third of the steps, over the number of weights.
    largest = 300

    def of(self, density: Density, step: tf.Tensor, seed: tf.Tensor) -> tfp.mcmc.TransitionKernel:
        del seed
        move = tfp.mcmc.random_walk_normal_fn(scale=step)
        return tfp.mcmc.RandomWalkMetropolis(density, new_state_fn=move)

    def seen(self, results: Any) -> tuple[tf.Tensor, tf.Tensor]:
        found, lost = super().seen(results)
        # It follows no path that could be lost.
        return found, tf.zeros_like(lost)


KERNELS: dict[str, AbstractKernel] = {
    "nuts": NoUTurn(),
    "hmc": Hamiltonian(),
    "random_walk": RandomWalk(),
}
"""The kernels by name."""
