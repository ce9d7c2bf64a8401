"""tfbnn."""

import math
from typing import Any

import networks
import numpy as np
from contenders import deterministic

import tfbnn


class Contender(deterministic.Contender):
    """The same Keras model, with variational layers."""

    def model_class(self) -> Any:
        return tfbnn.Sequential

    def prepare_training(self) -> None:
        self.model.num_examples = networks.EXAMPLES

    def dense(self, units: int, activation: str | None) -> Any:
        layer = getattr(tfbnn.layers, "Dense" + networks.SUFFIXES[self.case["estimator"]])
        return layer(units, activation=activation, **self._laws())

    def convolution(self, filters: int, kernel: int) -> Any:
        layer = getattr(tfbnn.layers, "Convolution2D" + networks.SUFFIXES[self.case["estimator"]])
        return layer(filters, kernel, padding="same", activation="relu", **self._laws())

    def predict(self, rows: np.ndarray) -> None:
        """`num_samples` networks over `rows`, to the predictive distribution."""
        options = {"num_samples": self.case["num_samples"], "batch_size": self.case["batch"]}
        tfbnn.predict(self.model, rows, **options, seed=0, verbose=0)

    def _laws(self) -> dict[str, Any]:
        """The prior of the case, and point biases, as the others have them."""
        prior = tfbnn.priors.ScaleMixture(pi=0.25, sigma1=1.0, sigma2=math.exp(-6))
        if self.case["prior"] == "normal":
            prior = tfbnn.priors.Normal()
        return {"kernel_prior": prior, "bias_posterior": "point"}
