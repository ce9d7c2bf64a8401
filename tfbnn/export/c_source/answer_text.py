"""Which likelihoods C code knows: one table."""

import functools

from tfbnn.export.c_source.abstract_answer import AbstractAnswer
from tfbnn.export.c_source.class_answers import BernoulliAnswer, CategoricalAnswer
from tfbnn.export.c_source.normal_answers import NormalAnswer
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.bernoulli import Bernoulli
from tfbnn.likelihoods.categorical import Categorical
from tfbnn.likelihoods.normal import Normal


@functools.singledispatch
def answer_of(likelihood: AbstractLikelihood) -> type[AbstractAnswer]:
    """What answers in C for a likelihood, or a `ValueError`."""
    known = ", ".join(f"`{one.__name__}`" for one in answer_of.registry if one is not object)
    raise ValueError(
        f"C code knows the likelihoods {known}; for another one use `tfbnn.export.tflite` or "
        f"`tfbnn.export.saved_model`. Received: a likelihood `{type(likelihood).__name__}`"
    )


answer_of.register(Categorical, lambda _: CategoricalAnswer)
answer_of.register(Bernoulli, lambda _: BernoulliAnswer)
answer_of.register(Normal, lambda _: NormalAnswer)
