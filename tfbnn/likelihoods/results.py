"""Results: what drawn networks said about a batch, and how well they did on labelled data.

Every prediction unpacks into the same pair, `prediction, uncertainty`, and has the two parts of the
uncertainty as `epistemic` and `aleatoric`: entropies in nats of classes, which add up, and standard
deviations of real numbers, whose squares do.
"""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from tfbnn import arguments


class Activations(NamedTuple):
    """What a layer gives, over drawn networks, arrays `(rows, ...)`."""

    mean: np.ndarray
    standard_deviation: np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction(abc.ABC):
    """A prediction with its uncertainty; unpacks into the two.

    Attributes:
        prediction: Mean over the draws.
        uncertainty: One number for how unsure the prediction is.
        num_samples: Number of networks it is the mean of.
        samples: Parameters of the likelihood for each draw, `(num_samples, rows, ...)` each, or
            None if they were not kept.
        mask: Booleans `(rows, ...)`: True at the steps of a sequence that count, False at those
            that Keras' masking leaves out and `tfbnn.evaluate` does not score. None without masks.
        layers: For each layer that `tfbnn.predict` was asked for, the mean and the standard
            deviation of what it gives, over the networks.
    """

    prediction: np.ndarray
    uncertainty: np.ndarray
    num_samples: int
    samples: tuple[np.ndarray, ...] | None = dataclasses.field(repr=False)
    mask: np.ndarray | None = dataclasses.field(default=None, repr=False, kw_only=True)
    layers: dict[str, Activations] | None = dataclasses.field(
        default=None, repr=False, kw_only=True
    )

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.prediction, self.uncertainty))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int | slice) -> Any:
        """As of the pair `(prediction, uncertainty)`."""
        return (self.prediction, self.uncertainty)[index]

    @classmethod
    def concatenate(cls, parts: list["Prediction"]) -> "Prediction":
        """One prediction for the rows of several, in order."""
        if len(parts) == 1:
            return parts[0]
        shapes = sorted({part.prediction.shape[1:] for part in parts})
        if len(shapes) > 1:
            raise ValueError(
                "The answers for all rows have one shape: pad the sequences to one length, or "
                f"predict batch by batch. Received: rows that give answers of shapes {shapes}"
            )
        joined = {}
        for field in dataclasses.fields(parts[0]):
            values = [getattr(part, field.name) for part in parts]
            if field.name in ("num_samples", "mean_temperature"):
                joined[field.name] = values[0]
            elif any(value is None for value in values):
                joined[field.name] = None
            elif field.name == "samples":
                pairs = zip(*values, strict=True)
                joined[field.name] = tuple(np.concatenate(v, axis=1) for v in pairs)
            else:
                joined[field.name] = np.concatenate(values)
        return type(parts[0])(**joined)

    @abc.abstractmethod
    def quantile(self, q: float) -> np.ndarray:
        """Quantile of what is predicted, in the shape of `prediction`."""

    def credible_interval(self, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Central interval that holds `mass` of what `quantile` is of."""
        mass = arguments.probability("mass", mass)
        return self.quantile((1 - mass) / 2), self.quantile((1 + mass) / 2)

    def _kept_samples(self) -> tuple[np.ndarray, ...]:
        if self.samples is None:
            raise ValueError(
                "Quantiles need the samples, which were not kept: call `predict` with "
                "`keep_samples=True`. Received: samples=None"
            )
        return self.samples


class Evaluation(abc.ABC):
    """Scores of predictions on labelled data; what is no score is not shown."""

    @classmethod
    @abc.abstractmethod
    def of(
        cls, judged: Sequence[np.ndarray], labels: np.ndarray, weights: np.ndarray, **counts: Any
    ) -> Self:
        """The scores of the labels that count `(labels,)`, by what the likelihood's `judged` gave.

        `weights` say how many observations each counts as; `counts` are `nll` in nats per example,
        `num_samples` and `num_rows`.
        """

    def scores(self) -> dict[str, float]:
        """The scores without the data, for a table or a JSON file."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.repr}


def float32(array: Any) -> np.ndarray:
    """An array, or an eager tensor, as results hold it."""
    return np.asarray(array, np.float32)
