"""Weights: the law of one weight tensor.

* `priors`: `p(w)`, before the data.
* `families`: `q(w)`, after the data, and its variables.
* `negative_log_prior`: a prior as a regularizer.
* `divergences`: `KL(q || p)`, what the data cost in nats.
* `noise`: where every random number comes from.
"""

from tfbnn.weights import divergences as divergences
from tfbnn.weights import families as families
from tfbnn.weights import negative_log_prior as negative_log_prior
from tfbnn.weights import noise as noise
from tfbnn.weights import priors as priors
