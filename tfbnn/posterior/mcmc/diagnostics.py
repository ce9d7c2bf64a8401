"""Diagnostics: what chains say of themselves, in numbers and words."""

import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np

from tfbnn.posterior.mcmc.mixing import effective_samples, r_hat
from tfbnn.training.convergence import ConvergenceWarning

LARGEST_R_HAT = 1.05
"""Above it chains do not tell the same; numbers that are published ask for 1.01."""

FEWEST_EFFECTIVE = 100
"""Fewer effective draws do not tell a mean to a tenth of its standard deviation."""

# Of the draws.
_MOST_DIVERGED = 0.01
# Quantities.
_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """What chains say of themselves; by kind, the worst of all quantities of a kind.

    The kinds are `"outputs"` of the network for some rows, `"log_density"` of weights and data, and
    `"weights"`. Hidden units can change places and signs without any change of the network: then
    chains need not agree on weights, and it is the other two that say whether they have mixed.

    Attributes:
        r_hat: The largest R-hat of each kind, 1 at best; see `mixing`.
        effective_samples: The smallest effective sample size of each kind.
        divergences: Number of steps that have lost their energy: the posterior is narrower there
            than steps are long.
        acceptance: Mean probability of acceptance.
        step_size: Length of a step, in standard deviations of the weights.
        seconds: Time that the draws took, without the warm-up.
        num_draws: Number of draws, of all chains.
    """

    r_hat: dict[str, float]
    effective_samples: dict[str, float]
    divergences: int
    acceptance: float
    step_size: float
    seconds: float
    num_draws: int

    @property
    def effective_samples_per_second(self) -> dict[str, float]:
        """Of each kind, without the warm-up."""
        return {name: one / self.seconds for name, one in self.effective_samples.items()}

    @property
    def mixed(self) -> bool:
        """Whether chains agree, and have gone far enough to tell."""
        kinds = ("outputs", "log_density")
        return (
            max(self.r_hat[kind] for kind in kinds) <= LARGEST_R_HAT
            and min(self.effective_samples[kind] for kind in kinds) >= FEWEST_EFFECTIVE
            and self.divergences <= _MOST_DIVERGED * self.num_draws
        )

    def warn(self) -> None:
        """Say so where chains have not mixed."""
        if not self.mixed:
            warnings.warn(
                "The chains have not mixed, so their draws are not yet those of the posterior. "
                f"R-hat is {self._words('r_hat', '.3f')} (up to {LARGEST_R_HAT} is expected), of "
                f"{self.num_draws} draws {self._words('effective_samples', '.0f')} are effective "
                f"(from {FEWEST_EFFECTIVE} on), and {self.divergences} steps diverged. Take more "
                "steps, `warmup=` and `samples=`, a narrower prior or a smaller network, and look "
                "at `posterior.plot(path)`.",
                ConvergenceWarning,
                # Of the caller of the posterior.
                stacklevel=3,
            )

    def __str__(self) -> str:
        lines = [f"{'':12} {'R-hat':>8} {'effective':>10} {'a second':>10}"]
        speeds = self.effective_samples_per_second
        for kind, one in self.r_hat.items():
            effective = self.effective_samples[kind]
            lines.append(f"{kind:12} {one:8.4f} {effective:10.0f} {speeds[kind]:10.0f}")
        lines.append(
            f"{self.num_draws} draws, {self.divergences} divergences, acceptance "
            f"{self.acceptance:.2f}, steps of {self.step_size:.3g} standard deviations"
        )
        return "\n".join(lines)

    def _words(self, name: str, form: str) -> str:
        values = getattr(self, name)
        return " and ".join(f"{values[kind]:{form}} of {_NAMES[kind]}" for kind in _NAMES)


_NAMES = {"outputs": "the outputs", "log_density": "the log density"}


def worst(quantities: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    """`Diagnostics.r_hat` and `.effective_samples` of arrays `(samples, chains, ...)` by kind."""
    return (
        {kind: max(float(r_hat(one).max()) for one in _parts(q)) for kind, q in quantities.items()},
        {
            kind: min(float(effective_samples(one).min()) for one in _parts(q))
            for kind, q in quantities.items()
        },
    )


def _parts(draws: np.ndarray) -> Iterator[np.ndarray]:
    """Some quantities at a time, as all of them in float64 may be more than memory holds."""
    draws = draws.reshape(*draws.shape[:2], -1)
    for first in range(0, draws.shape[-1], _AT_ONCE):
        yield draws[..., first : first + _AT_ONCE]
