"""Markov chain Monte Carlo: networks drawn from the posterior itself, by chains of steps.

* `sampled_weights`: which numbers of a model are drawn, and their priors.
* `density`: the log joint density of many networks at once, as a function of flat vectors.
* `kernels`: one step of a chain; a table.
* `adaptation`: how long a step is, and how wide each weight.
* `chains`: warm-up and sampling.
* `mixing`: R-hat and effective sample sizes, functions of arrays.
* `diagnostics`: what they say of a posterior, in words; `trace_picture`, to look at.
* `mcmc`: the posterior.
"""
