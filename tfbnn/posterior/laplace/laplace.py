"""Laplace's approximation: a normal law around the weights that training has found."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.layers.activity import recorded
from tfbnn.layers.variational import variational_layers
from tfbnn.posterior.laplace import evidence, prior_choice
from tfbnn.posterior.laplace.around_mode import AbstractAroundMode
from tfbnn.posterior.laplace.coverage import covered
from tfbnn.posterior.laplace.curvature import CURVATURES
from tfbnn.posterior.laplace.fitting import Fitted, Pass
from tfbnn.posterior.laplace.laws import independent_weights
from tfbnn.posterior.laplace.linearised import linearised
from tfbnn.posterior.laplace.structures import STRUCTURES, Diagonal
from tfbnn.posterior.learnt_rows import batches
from tfbnn.training.data import check_arrays
from tfbnn.training.plain_models import likelihoods_of

_PREDICTIVES = ("linearised", "sampled")
_CHOICES = ("consistent", "marginal_likelihood", "validation")


class Laplace(AbstractAroundMode):
    """A normal law around the weights of a trained Keras model.

        w ~ N(w*, temperature * (H + delta)^-1)

    with the curvature `H` of the log likelihood of the training data at the weights `w*`
    (generalised Gauss-Newton), and a prior `N(0, 1 / delta)` of each weight. Weights in `Dense`,
    `EinsumDense`, `Embedding`, convolutions and layers of normalisation are random, wherever these
    are in the model; `coverage` names the others. What the layers are called with is recorded in
    one pass over the data, in bounded memory.

    `structure` is what is kept of `H`: `"last_layer"`, all of it for the layer before each output,
    which is cheap and safe; `"kronecker"`, a product of two matrices for each layer, which tells
    best what is unlike the training data; `"diagonal"`, which is a law of each weight: with
    `predictive="sampled"` it is pruned and exported as any such law; `"full"`, for small networks.

    Args:
        model: A built Keras model, compiled with a likelihood and trained.
        x: The training inputs: an array, a structure of arrays, or a batched `tf.data.Dataset` that
            has the targets, too, and weights of rows if there are any. Of arrays, some are
            read at a time: at most 1024, with about a million numbers.
        y: The targets, for arrays.
        structure: See above.
        curvature: `"exact"`, with a backward pass for each output, or `"sampled"`, with one for
            all, from targets that are drawn from the model. By default the latter for structures
            whose elements are sums over many rows, `"kronecker"` and `"diagonal"`.
        prior_precision: `delta`: `"marginal_likelihood"`, under which the data are most likely;
            `"consistent"`, from there on the least one with which networks that are drawn fit the
            training data as well as the approximation says; `"validation"`, under which
            `validation_data` are predicted best; or a number.
        validation_data: `(x, y)`, for `prior_precision="validation"`.
        predictive: What a draw is: `"linearised"`, the network that is linear in its weights around
            `w*`, or `"sampled"`, the network with the weights drawn.
        temperature: Factor of the covariance.
        verbose: 0 for no progress bar, 1 for one, `"auto"` for one on work of more than 2 s.

    Raises:
        TypeError: If `model` is no Keras model, or has random weights of its own.
        ValueError: If the model is not built, has no likelihood or no layer that could be random,
            has weights that are NaN, is too large for the structure, or an argument is out of its
            range.

    Warns:
        UserWarning: If the weights are far from a mode of the likelihood.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.eye(3), np.array([0, 1, 1])
    >>> posterior = tfbnn.posteriors.Laplace(model, x, y, prior_precision=1.0)
    >>> prediction, uncertainty = tfbnn.predict(posterior, x, num_samples=8)
    >>> prediction.shape, uncertainty.shape
    ((3, 2), (3,))

    References:
        MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks"; Ritter et al.
        2018, "A Scalable Laplace Approximation for Neural Networks"; Daxberger et al. 2021,
        "Laplace Redux - Effortless Bayesian Deep Learning"; Immer et al. 2021, "Scalable Marginal
        Likelihood Estimation for Model Selection in Deep Learning".
    """

    route = "laplace"

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        structure: str = "last_layer",
        curvature: str | None = None,
        prior_precision: str | float = "consistent",
        validation_data: Any = None,
        predictive: str = "linearised",
        temperature: float = 1.0,
        verbose: Any = "auto",
    ):
        structure = arguments.one_of("structure", structure, tuple(STRUCTURES))
        if curvature is None:
            curvature = STRUCTURES[structure].curvature
        curvature = arguments.one_of("curvature", curvature, tuple(CURVATURES))
        prior_precision = _checked_precision(prior_precision)
        if (prior_precision == "validation") != (validation_data is not None):
            raise ValueError(
                "`validation_data=(x, y)` is what `prior_precision='validation'` chooses by, and "
                f"nothing else. Received: prior_precision={prior_precision!r}, validation_data of "
                f"type {type(validation_data).__name__}"
            )
        verbose = arguments.verbosity("verbose", verbose)
        self._begin(model, structure, predictive, temperature)
        run = Pass(model, self.likelihoods, self._structure, curvature, verbose)
        fitted = run.over(x, y)
        fitted.check_distance()
        self._take(fitted)
        if isinstance(prior_precision, float):
            self.prior_precisions = [prior_precision] * len(self._spectra)
            return
        self.maximise_marginal_likelihood()
        if prior_precision == "validation":
            held_out = list(batches(model, *validation_data))
            prior_choice.predict_best(self, held_out)
        elif prior_precision == "consistent":
            prior_choice.fit_as_said(self, fitted)

    def _begin(self, model: Any, structure: str, predictive: str, temperature: Any) -> None:
        arguments.instance("model", model, keras.Model, "a Keras model")
        if any(True for _ in variational_layers(model)):
            raise TypeError(
                "The weights of this model are random already, and `tfbnn.predict` takes it as it "
                "is; Laplace's approximation is for a plain Keras model. "
                f"Received: model={model.name!r}"
            )
        super().__init__(model, likelihoods_of(model))
        check_arrays("the weights of the model", model.get_weights())
        self.predictive = arguments.one_of("predictive", predictive, _PREDICTIVES)
        self.temperature = arguments.positive("temperature", temperature)
        kind = STRUCTURES[structure]
        parts, self.coverage = covered(model, kind.last_alone)
        self._structure, self._parts = kind(parts), parts

    def _take(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self._spectra = self._structure.spectra(fitted.sums)
        squares = iter(self._squares())
        self._blocks = [
            evidence.Block(
                spectrum.eigenvalues.numpy().astype(np.float64).ravel(),
                sum(next(squares) for _ in spectrum.shapes),
            )
            for spectrum in self._spectra
        ]
        self.prior_precisions = [1.0] * len(self._blocks)

    def _squares(self) -> list[float]:
        """Sums of the squares of the weights at the mode, one for each part."""
        return [
            sum(float(np.square(variable.numpy().astype(np.float64)).sum()) for variable in one)
            for one in (part.variables for part in self._parts)
        ]

    @property
    def structure(self) -> str:
        """What is kept of the curvature."""
        return self._structure.name

    @property
    def effective_weights(self) -> float:
        """How many weights the data have determined, the others are left to the prior."""
        pairs = zip(self._blocks, self.prior_precisions, strict=True)
        return sum(one.effective(delta) for one, delta in pairs)

    @property
    def log_marginal_likelihood(self) -> float:
        """`log p(y | x)` of the training data, all weights integrated out, in nats.

        A score to choose networks and priors by: higher is better.
        """
        pairs = zip(self._blocks, self.prior_precisions, strict=True)
        return self._fitted.log_likelihood + sum(one.log_ratio(delta) for one, delta in pairs)

    def maximise_marginal_likelihood(self, per_layer: bool = False) -> None:
        """Take the prior precision under which the training data are most likely.

        Args:
            per_layer: Whether each block of weights gets one of its own.
        """
        per_layer = arguments.boolean("per_layer", per_layer)
        if per_layer:
            found = [evidence.best_precision([block]) for block in self._blocks]
        else:
            found = [evidence.best_precision(self._blocks)] * len(self._blocks)
        self.prior_precisions = found

    def network(self, values: list[tf.Tensor], inputs: Any) -> Any:
        if self.predictive == "sampled":
            return super().network(values, inputs)
        return self._linearised(values, lambda: self.model(inputs, training=False))

    def activations(
        self, values: list[tf.Tensor], inputs: Any, layers: Sequence[str]
    ) -> list[tf.Tensor]:
        if self.predictive == "sampled":
            return super().activations(values, inputs, layers)

        def computation() -> list[tf.Tensor]:
            with recorded(self.model, layers) as found:
                self.model(inputs, training=False)
            return found.outputs

        return self._linearised(values, computation)

    def _linearised(self, values: list[tf.Tensor], computation: Callable[[], Any]) -> Any:
        return linearised(self.model, self.variables, values, computation)

    def with_laws(self) -> Any | None:
        """With `structure="diagonal"` and `predictive="sampled"` the weights are independent.

        None, too, if a layer that is random has no namesake in `tfbnn.layers`: with
        `trainable = False` such a layer (BatchNormalization) stays as it is.
        """
        if not isinstance(self._structure, Diagonal) or self.predictive != "sampled":
            return None
        # The same object as long as it says the same: what is made of it is made once.
        known, found = self.__dict__.get("_laws", (None, None))
        if known != (self.prior_precisions, self.temperature):
            precision = float(np.mean(self.prior_precisions))
            given = self.model, self.likelihoods, self._parts, self.scales
            found = independent_weights(*given, precision**-0.5)
            self.__dict__["_laws"] = (self.prior_precisions, self.temperature), found
        return found

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "structure": self.structure,
            "predictive": self.predictive,
            "prior_precisions": self.prior_precisions,
            "temperature": self.temperature,
            "num_examples": self._fitted.num_rows,
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(one, np.float32) for name, one in self._fitted.sums.items()}

    def get_config(self) -> dict[str, Any]:
        return {
            "structure": self.structure,
            "predictive": self.predictive,
            "temperature": self.temperature,
            "prior_precisions": self.prior_precisions,
            "num_rows": self._fitted.num_rows,
            "log_likelihood": self._fitted.log_likelihood,
            "distance": self._fitted.distance,
        }

    @classmethod
    def from_parts(
        cls, parts: list[Any], config: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> Self:
        (model,), config = parts, dict(config)
        posterior = cls.__new__(cls)
        begin = (config.pop(name) for name in ("structure", "predictive", "temperature"))
        posterior._begin(model, *begin)
        precisions = config.pop("prior_precisions")
        posterior._take(Fitted(arrays, **config))
        posterior.prior_precisions = precisions
        return posterior


def _checked_precision(value: Any) -> str | float:
    if isinstance(value, str) and value in _CHOICES:
        return str(value)
    limits = evidence.SMALLEST_PRECISION, evidence.LARGEST_PRECISION
    try:
        return arguments.real_number("prior_precision", value, *limits)
    except ValueError as error:
        words = " or ".join(map(repr, _CHOICES))
        raise ValueError(f"{words} or a number: {error}") from None
