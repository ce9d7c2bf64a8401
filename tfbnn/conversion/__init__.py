"""Conversion: a plain Keras model made Bayesian, and back.

* `tfbnn.to_bayesian(model)`: layers that have a namesake in `tfbnn.layers` become random, from the
  trained weights or fresh; `model.coverage` says what did and what did not, and why.
* `tfbnn.to_deterministic(model)`: the plain Keras model at the posterior mean.

| file | concept |
|---|---|
| `namesakes` | the random layer of a Keras layer, and back |
| `replacing` | a copy of a model with other layers in the place of some |
| `selection` | which layers |
| `coverage` | what became random |
"""

from tfbnn.conversion.to_bayesian import to_bayesian as to_bayesian
from tfbnn.conversion.to_deterministic import to_deterministic as to_deterministic
