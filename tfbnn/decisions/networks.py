"""The same drawn networks at each call: a guarantee is one about them, and not about others."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.likelihoods.results import Prediction
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.posterior.routes import posterior_of
from tfbnn.prediction.predictive import predict


@dataclasses.dataclass(frozen=True)
class Networks:
    """Networks of a model, the same whenever they are asked.

    Attributes:
        model: A model or a posterior.
        num_samples, batch_size, seed: As of `tfbnn.predict`; the seed is a number.
        digest: Of all that they were made of, when they were asked first.
    """

    model: Any = dataclasses.field(repr=False)
    num_samples: int
    batch_size: int
    seed: int
    digest: str = dataclasses.field(repr=False)

    @classmethod
    def of(cls, model: Any, num_samples: int, batch_size: int, seed: int | None) -> "Networks":
        """As they are now; a seed is chosen if there is none."""
        num_samples = arguments.count("num_samples", num_samples)
        batch_size = arguments.count("batch_size", batch_size)
        seed = arguments.seed_or_any("seed", seed)
        return cls(model, num_samples, batch_size, seed, digest_of(posterior_of(model)))

    @property
    def draws(self) -> tuple[int, int, int, int]:
        """`num_samples`, `batch_size`, `seed` and `verbose`."""
        return (self.num_samples, self.batch_size, self.seed, 0)

    def predict(self, x: Any) -> Prediction:
        """What they say of rows, or a `ValueError` if they are others than they were."""
        if digest_of(posterior_of(self.model)) != self.digest:
            raise ValueError(
                "The guarantee is one about the network as it was when the threshold was computed, "
                "and the network has changed since, by a fit, another temperature or another "
                "prior: compute it anew, on rows that the network was not trained on. "
                f"Received: model={posterior_of(self.model).model.name!r}"
            )
        num_samples, batch_size, seed, verbose = self.draws
        return predict(self.model, x, num_samples, batch_size, seed, False, verbose)


def digest_of(posterior: AbstractPosterior) -> str:
    """A text that changes if a weight, a temperature or a setting of the posterior does."""
    found = hashlib.sha256()
    for model in posterior.models:
        for weight in model.weights:
            found.update(np.ascontiguousarray(weight.numpy()).tobytes())
    found.update(repr((posterior.temperatures, posterior.describe())).encode())
    return found.hexdigest()
