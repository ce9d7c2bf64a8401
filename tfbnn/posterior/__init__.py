"""Posterior: what was learnt, as one small object.

* `base`: the waist. A posterior gives draws; a draw is the values of some variables of a Keras
  model, hence one network. Prediction sees only this.
* `variational`: the mean-field posterior of a trained `tfbnn` model.
* `mean_field`: what pruning and export ask for, and refuse any other for.

To add a route (Laplace, MC dropout, MCMC, an ensemble): one file with a subclass of
`AbstractPosterior`.
"""

from tfbnn.posterior.base import AbstractPosterior as AbstractPosterior
from tfbnn.posterior.variational import MeanFieldPosterior as MeanFieldPosterior
from tfbnn.posterior.variational import posterior_of as posterior_of
