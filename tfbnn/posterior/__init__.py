"""Posterior: what was learnt, as one small object.

* `base`: the waist. A posterior gives draws; a draw is the values of some variables of a Keras
  model, hence one network. Prediction, pruning and export see only this.
* `variational`: the mean-field posterior of a trained `tfbnn` model.

To add a route (Laplace, MC dropout, MCMC, an ensemble): one file with a subclass of
`AbstractPosterior`.
"""

from tfbnn.posterior.base import AbstractPosterior as AbstractPosterior
from tfbnn.posterior.variational import MeanFieldPosterior as MeanFieldPosterior
from tfbnn.posterior.variational import posterior_of as posterior_of
