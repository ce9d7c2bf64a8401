"""Posterior: what was learnt, as one small object.

| route | a draw is | where it comes from |
|---|---|---|
| `MeanFieldPosterior` | every weight from its normal law | `fit` of a `tfbnn` model |
| `GaussianPosterior` | the same | laws that are given |
| `MCDropout` | one mask for each layer of dropout | `fit` of a Keras model with dropout |
| `Ensemble` | one of its members, or a draw of it | several models or posteriors |
| `SWAG` | every weight, from one normal law of all | `fit` of a Keras model, with a callback |
| `Laplace` | weights from a normal law around a mode | `fit` of any Keras model |
| `MCMC` | a place that a chain has passed by | chains, with any model and a prior |
| `MAP` | always the same network | `fit` of any Keras model |

* `base`: the waist. A posterior gives draws of networks and runs them; all else sees only this.
* `gaussian`: posteriors that also have the law of each weight.
* `routes`: the table of all, and the posterior of a model.
* `noisy_places`: where a Keras model draws noise.
* `swag_callback`: collects the moments that `SWAG` is made of.
* `next_prior`: a model that goes on from a posterior.
* `files`: posteriors on the disk.

To add a route: one file with a subclass of one of the classes in `base` or `gaussian`, and a row in
`routes.ROUTES`.
"""

from tfbnn.posterior.base import AbstractPosterior as AbstractPosterior
from tfbnn.posterior.ensemble import Ensemble as Ensemble
from tfbnn.posterior.gaussian import AbstractGaussianPosterior as AbstractGaussianPosterior
from tfbnn.posterior.gaussian import GaussianPosterior as GaussianPosterior
from tfbnn.posterior.laplace.laplace import Laplace as Laplace
from tfbnn.posterior.mc_dropout import MCDropout as MCDropout
from tfbnn.posterior.mcmc.mcmc import MCMC as MCMC
from tfbnn.posterior.mean_field import MeanFieldPosterior as MeanFieldPosterior
from tfbnn.posterior.point import MAP as MAP
from tfbnn.posterior.routes import load_posterior as load_posterior
from tfbnn.posterior.routes import posterior_of as posterior_of
from tfbnn.posterior.swag import SWAG as SWAG
