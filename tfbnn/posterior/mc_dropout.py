"""MC dropout: the posterior of a network that was trained with dropout.

A network with dropout, trained with weight decay, is a variational approximation of a deep Gaussian
process: each unit that is dropped has its weights set to zero. A draw is one set of dropped units.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.activity import recorded
from tfbnn.layers.keras_internals import all_layers
from tfbnn.layers.variational import variational_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.normal import NormalNLL
from tfbnn.likelihoods.table import likelihood_of
from tfbnn.posterior.base import AbstractRandomNetwork
from tfbnn.posterior.noisy_places import noisy_places
from tfbnn.training.plain_models import likelihoods_of
from tfbnn.weights import noise


class MCDropout(AbstractRandomNetwork):
    """The networks that dropout leaves, with equal right: Monte Carlo dropout.

    A draw is one network: one mask for each place of noise, which serves all rows and all batches.
    `Dropout`, `SpatialDropout1D` to `3D`, `GaussianDropout`, `GaussianNoise` and `AlphaDropout` are
    on, alone; recurrent layers with `dropout` or `recurrent_dropout` have one mask for all steps of
    a sequence. All other layers, BatchNormalization too, run as in inference.

    Real numbers: a network that was trained on the mean squared error with weight decay
    `keras.regularizers.L2(weight_decay)` has a noise of precision

        precision = keep * length_scale**2 / (num_examples * weight_decay * targets)

    where `keep` is the share of units that dropout keeps. (The paper's equation, with its factor
    of a half in the error, and its sum over targets where Keras takes their mean.)

    Args:
        model: A built Keras model with such layers.
        loss: The likelihood, in the place of the loss that the model was compiled with, such as
            `tfbnn.losses.NormalNLL(scale=0.1)`.
        length_scale: Prior length scale of the functions, for the precision above.
        num_examples: Number of training examples, for the precision above.
        weight_decay: Factor of the squared weights in the loss, for the precision above.

    Raises:
        TypeError: If the model has random weights of its own.
        ValueError: If the model has no layer of noise, sizes of its noise are not known, or no
            likelihood: the mean squared error is none without a precision.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> layers = [keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    >>> model = keras.Sequential(layers)
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> posterior = tfbnn.posteriors.MCDropout(model)
    >>> prediction, uncertainty = tfbnn.predict(posterior, np.eye(3), num_samples=8)
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))

    Reference:
        Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", sec. 3 and eq. 7; for
        recurrent layers "A Theoretically Grounded Application of Dropout in Recurrent Neural
        Networks", sec. 4.
    """

    route = "mc_dropout"

    def __init__(
        self,
        model: keras.Model,
        loss: Any = None,
        length_scale: float | None = None,
        num_examples: int | None = None,
        weight_decay: float | None = None,
    ):
        arguments.instance("model", model, keras.Model, "a Keras model")
        if any(True for _ in variational_layers(model)):
            raise TypeError(
                "The weights of this model are random already, and `tfbnn.predict` takes it as it "
                f"is; MC dropout is for a plain Keras model. Received: model={model.name!r}"
            )
        tied = (length_scale, num_examples, weight_decay)
        if any(one is not None for one in tied):
            if loss is not None:
                raise ValueError(
                    "The noise is given by `loss`, or follows from `length_scale`, `num_examples` "
                    f"and `weight_decay`, not both. Received: loss={loss!r}"
                )
            loss = _tied_noise(model, *tied)
        found = _likelihoods(model) if loss is None else [likelihood_of(loss)]
        super().__init__(model, found)
        self._loss = None if loss is None else found[0].loss
        self._places = noisy_places(model)
        if not self._places:
            raise ValueError(
                "The network has no dropout: MC dropout needs layers such as "
                "`keras.layers.Dropout(0.5)`, and training with them. Without, use "
                f"`tfbnn.posteriors.Ensemble`. Received: model={model.name!r}"
            )

    @property
    def random(self) -> list[tf.TensorSpec]:
        return [
            tf.TensorSpec(shape, tf.float32) for place in self._places for shape in place.shapes
        ]

    def draw(self, seed: tf.Tensor) -> list[tf.Tensor]:
        seeds = noise.split(seed, len(self._places))
        pairs = zip(self._places, seeds, strict=True)
        return [value for place, one in pairs for value in place.draw(one)]

    def mean(self) -> list[tf.Tensor]:
        """All units, as in inference."""
        return [value for place in self._places for value in place.without_noise()]

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        with self._fixed(values):
            return self.model(inputs, training=False)

    def activations(
        self, values: list[tf.Tensor], inputs: Any, layers: Sequence[str]
    ) -> list[tf.Tensor]:
        # Inside, so that layers of noise are recorded with what they do here.
        with self._fixed(values), recorded(self.model, layers) as found:
            self.model(inputs, training=False)
        return found.outputs

    @contextlib.contextmanager
    def _fixed(self, values: list[tf.Tensor]) -> Iterator[None]:
        """Within this block noise has these values."""
        rest = iter(values)
        with contextlib.ExitStack() as stack:
            for place in self._places:
                stack.enter_context(place.fixed([next(rest) for _ in place.shapes]))
            yield

    def get_config(self) -> dict[str, Any]:
        return {"loss": self._loss}


def _likelihoods(model: keras.Model) -> list[AbstractLikelihood]:
    try:
        return likelihoods_of(model)
    except ValueError as error:
        raise ValueError(
            f"{error} For a model that was trained on the mean squared error give `length_scale`, "
            "`num_examples` and `weight_decay`, which tie its noise, or "
            "`loss=tfbnn.losses.NormalNLL(scale=...)`."
        ) from error


def _tied_noise(
    model: keras.Model, length_scale: Any, num_examples: Any, weight_decay: Any
) -> NormalNLL:
    """The normal likelihood whose precision follows from dropout and weight decay."""
    length_scale = arguments.real_number("length_scale", length_scale, 0, exclusive=True)
    num_examples = arguments.count("num_examples", num_examples)
    weight_decay = arguments.real_number("weight_decay", weight_decay, 0, exclusive=True)
    layers = all_layers(model)
    rates = {layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)}
    if len(rates) != 1:
        raise ValueError(
            "The precision is tied to one rate of dropout; give `loss=tfbnn.losses.NormalNLL(...)` "
            f"where layers have several. Received: rates {sorted(rates)}"
        )
    keep, targets = 1 - rates.pop(), model.output_shape[-1]
    precision = keep * length_scale**2 / (num_examples * weight_decay * targets)
    name = "scale by length_scale, num_examples and weight_decay"
    return NormalNLL(scale=arguments.standard_deviation(name, precision**-0.5))
