"""Pruning: remove the weights that the posterior says are not needed.

* `scores`: how much a weight is worth: `snr`, `zero_density`, `savage_dickey`.
* `masks`: `tfbnn.prune`, a new model with masks.
* `curves`: `tfbnn.pruning_curve`, error and uncertainty at each sparsity.

Removing single weights makes files smaller, not dense runtimes faster.
"""
