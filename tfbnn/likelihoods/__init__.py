"""Likelihoods: what a Keras loss says about `p(y | outputs)`, and all that follows from it.

* `base`: what training, prediction, scores and files ask of a likelihood.
* `classes`: labels that have probabilities; `categorical` and `bernoulli` are two.
* `real_numbers`: laws with a mean and a standard deviation; `normal` is one.
* `table`: which loss stands for which likelihood.
* `targets`: shapes, masks and weights of targets.
* `results`, `class_results`: what `tfbnn.predict` and `tfbnn.evaluate` return.
"""
