"""Priors: the law `p(w)` of one weight before any data are seen.

Which prior when:

| prior | log density in the tails | take it when |
|---|---|---|
| `Normal` | `-w**2` | a scale that you know; closed-form KL, no Monte Carlo noise |
| `ScaleMixture` | `-w**2`, spike at zero | that of the paper: most weights shrink into the spike |
| `Laplace` | `-abs(w)` | a mild pull to zero with a closed-form KL |
| `StudentT` | `-(df + 1) * log(abs(w))` | a few weights must be free to grow; `df` sets how many |
| `Cauchy` | `-2 * log(abs(w))` | the same, as far as it goes (`StudentT` with `df=1`) |
| `FanIn` | `-w**2` | a normal prior that suits layers of every width |
| `AutomaticRelevance` | `-log(abs(w))`, then `-w**2` | the default: uncertain, and free to prune |
| `Informative` | `-w**2` | each weight has a law of its own, from training before |
| `Distribution` | any | TFP has the law you want and this table has not |

Every prior is one law for one scalar weight; a layer applies it to each weight independently.
`loc` and `scale` are in the unit of the weight; `scale` is a standard deviation where the law has
one. `loc` may be up to 1e6 and `scale` from 1e-12 to 1e12: in these ranges the log density and its
gradient are finite in float32 for every weight up to 1e6. Log densities are in nats. Prefer a named
prior to the same law in `Distribution`: the named ones know their closed-form KL (see
`tfbnn.weights.divergences`).

A prior is data: numbers and names, never functions. It is immutable, equal to any prior with the
same configuration, and goes through `keras.saving`. What is not offered: priors with trained
parameters (empirical Bayes) other than `AutomaticRelevance`, priors that tie weights together
(vector events), and priors that forbid some weights (`Gamma`, `Uniform`), for which the KL from a
normal posterior is infinite.
"""

from typing import Any

import keras
import tensorflow_probability as tfp

from tfbnn import arguments
from tfbnn.weights.abstract_prior import AbstractPrior as AbstractPrior
from tfbnn.weights.fan_in_priors import AutomaticRelevance as AutomaticRelevance
from tfbnn.weights.fan_in_priors import FanIn as FanIn
from tfbnn.weights.informative_prior import Informative as Informative
from tfbnn.weights.loc_scale_priors import LARGEST_WEIGHT as LARGEST_WEIGHT
from tfbnn.weights.loc_scale_priors import Cauchy as Cauchy
from tfbnn.weights.loc_scale_priors import Laplace as Laplace
from tfbnn.weights.loc_scale_priors import Normal as Normal
from tfbnn.weights.loc_scale_priors import StudentT as StudentT
from tfbnn.weights.scale_mixture import ScaleMixture as ScaleMixture
from tfbnn.weights.tfp_distributions import Distribution as Distribution

tfd = tfp.distributions

PRIORS: dict[str, type[AbstractPrior]] = {
    "normal": Normal,
    "scale_mixture": ScaleMixture,
    "laplace": Laplace,
    "student_t": StudentT,
    "cauchy": Cauchy,
    "fan_in": FanIn,
    "automatic_relevance": AutomaticRelevance,
    "informative": Informative,
}
"""The priors `get` knows by name; each can be made without arguments."""

OF_BIASES = FanIn(smallest_scale=0.3)
"""The prior of biases if none is given: without room a network cannot bend where it likes."""


def get(identifier: "AbstractPrior | str | dict | tfd.Distribution") -> AbstractPrior:
    """The prior that `identifier` stands for.

    Args:
        identifier: A prior, a name in `PRIORS` (the prior with its default arguments), a
            configuration made by `serialize`, or a TFP distribution.

    Returns:
        A prior; `identifier` itself if it is one.

    Raises:
        ValueError: If the name is unknown, or `identifier` is none of the above.

    Example:

    >>> from tfbnn.weights import priors
    >>> priors.get("laplace")
    Laplace(loc=0.0, scale=1.0)
    """
    if isinstance(identifier, AbstractPrior):
        return identifier
    if isinstance(identifier, str) and identifier in PRIORS:
        return PRIORS[identifier]()
    if isinstance(identifier, tfd.Distribution):
        return Distribution(identifier)
    if isinstance(identifier, dict):
        return arguments.interpreted("identifier", identifier, _deserialize, "a configuration")
    raise ValueError(
        f"A prior must be a prior object, one of the names {sorted(PRIORS)}, a configuration or a "
        f"`tfp.distributions.Distribution`. Received: identifier={identifier!r}"
    )


def serialize(prior: AbstractPrior) -> dict[str, Any]:
    """The configuration, which JSON can hold, from which `get` makes an equal prior."""
    return keras.saving.serialize_keras_object(prior)


def _deserialize(config: dict[str, Any]) -> AbstractPrior:
    classes = {cls.__name__: cls for cls in (*PRIORS.values(), Distribution)}
    prior = keras.saving.deserialize_keras_object(config, custom_objects=classes)
    if not isinstance(prior, AbstractPrior):
        raise TypeError("it is not a prior's")
    return prior
