"""Pruning: remove the weights that the posterior says are not needed.

* `scores`: how much a weight or a group is worth: `snr`, `zero_density`, `savage_dickey`.
* `prune`: `tfbnn.prune`, a new model with masks of single weights, blocks or units.
* `compaction`: `tfbnn.compact`, a smaller model without the units that do nothing.
* `curves`: `tfbnn.pruning_curve`, error and uncertainty at each sparsity.

Removing single weights makes files smaller, not dense runtimes faster. Removing units does both.
"""
