"""Laplace's approximation of any trained Keras model.

* `laplace`: the posterior; `around_mode`: its draws.
* `linear_parts`, `einsum_part`, `convolution_part`: what layers do with their weights.
* `coverage`: which layers, and why others not.
* `recording`, `operands`: what goes into them and what comes back, row by row.
* `curvature`: exact, or from drawn targets.
* `structures`, `spectra`: what is kept of it, and as eigenvalues.
* `fitting`: the pass over the data.
* `evidence`, `prior_choice`: the prior precision.
* `linearised`, `output_moments`: the predictive distribution.
* `laws`: a diagonal curvature as independent weights of a model of tfbnn.
* `any_rows`: functions that are traced for any number of rows.
"""

from tfbnn.posterior.laplace.laplace import Laplace as Laplace
