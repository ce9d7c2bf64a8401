"""Predictions: the summary of what many drawn networks said about a batch.

Every prediction unpacks into the same pair, `prediction, uncertainty`, and has the two parts of the
uncertainty as `epistemic` and `aleatoric`: entropies in nats of classes, which add up, and standard
deviations of real numbers, whose squares do.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.prediction import uncertainty as measures
from tfbnn.training.likelihoods import AbstractLikelihood


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A prediction with its uncertainty; unpacks into the two.

    Attributes:
        prediction: Mean over the draws.
        uncertainty: One number for how unsure the prediction is.
        num_samples: Number of networks it is the mean of.
        samples: Parameters of the likelihood for each draw, `(num_samples, rows, ...)` each, or
            None if they were not kept.
        mask: Booleans `(rows, ...)`: True at the steps of a sequence that count, False at those
            that Keras' masking leaves out and `tfbnn.evaluate` does not score. None without masks.
    """

    prediction: np.ndarray
    uncertainty: np.ndarray
    num_samples: int
    samples: tuple[np.ndarray, ...] | None = dataclasses.field(repr=False)
    mask: np.ndarray | None = dataclasses.field(default=None, repr=False, kw_only=True)

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

    def _kept_samples(self) -> tuple[np.ndarray, ...]:
        if self.samples is None:
            raise ValueError(
                "Quantiles need the samples, which were not kept: call `predict` with "
                "`keep_samples=True`. Received: samples=None"
            )
        return self.samples


@dataclasses.dataclass(frozen=True)
class ClassPrediction(Prediction):
    """Prediction of classes. `prediction`: mean probabilities `(rows, ..., classes)`, or
    `(rows, 1)` for yes or no; `uncertainty`: predictive entropy in nats `(rows, ...)`.

    Attributes:
        expected_entropy: Aleatoric part of the uncertainty, in nats, `(rows, ...)`.
        mutual_information: Epistemic part of the uncertainty, in nats, `(rows, ...)`.
        variation_ratio: Share of the draws that vote against the majority, `(rows, ...)`.
        variance: Variance of the probabilities over draws, in the shape of `prediction`.
        mean_temperature: The temperature of the mean that `tfbnn.calibrate` chose. Other than 1,
            `prediction` and `uncertainty` are of the tempered mean, `p**(1 / T) / sum(p**(1 / T))`
            of the mean `p` over draws, and all else is of the draws before that: their difference
            of entropies stays the mutual information, and the two parts add up to the entropy of
            `p`, not to `uncertainty`.
    """

    expected_entropy: np.ndarray = dataclasses.field(repr=False)
    mutual_information: np.ndarray = dataclasses.field(repr=False)
    variation_ratio: np.ndarray = dataclasses.field(repr=False)
    variance: np.ndarray = dataclasses.field(repr=False)
    mean_temperature: float = dataclasses.field(default=1.0, repr=False, kw_only=True)

    @property
    def predictive_entropy(self) -> np.ndarray:
        """The uncertainty by its name: entropy of `prediction`, in nats."""
        return self.uncertainty

    @property
    def epistemic(self) -> np.ndarray:
        """What more data would remove: `mutual_information`, in nats."""
        return self.mutual_information

    @property
    def aleatoric(self) -> np.ndarray:
        """What more data would not remove: `expected_entropy`, in nats.

        The two add up to `uncertainty`, but for a `mean_temperature` other than 1.
        """
        return self.expected_entropy

    def quantile(self, q: float) -> np.ndarray:
        """Quantile over the draws of each probability, in the shape of `prediction`."""
        return measures.sample_quantile(self._kept_samples()[0], q)

    def credible_interval(self, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Central interval that holds `mass` of the draws of each probability."""
        mass = arguments.real_number("mass", mass, 0, 1, exclusive=True, single=False)
        return self.quantile((1 - mass) / 2), self.quantile((1 + mass) / 2)


@dataclasses.dataclass(frozen=True)
class NormalPrediction(Prediction):
    """Prediction of real numbers. `prediction`: mean; `uncertainty`: total standard deviation;
    both `(rows, ..., targets)` in the unit of the targets.

    Attributes:
        epistemic: Standard deviation of the mean over draws: what more data would remove.
        aleatoric: Standard deviation of the noise in the targets. The squares of the two add up
            to the square of `uncertainty`.
    """

    epistemic: np.ndarray = dataclasses.field(repr=False)
    aleatoric: np.ndarray = dataclasses.field(repr=False)

    @property
    def variance(self) -> np.ndarray:
        """Total variance, the square of `uncertainty`."""
        return np.square(self.uncertainty)

    def quantile(self, q: float) -> np.ndarray:
        """Quantile of the predictive distribution of each target, noise included."""
        return measures.mixture_quantile(*self._kept_samples(), q)

    def credible_interval(self, mass: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Central interval that holds a target with probability `mass`, noise included."""
        return measures.credible_interval(*self._kept_samples(), mass)


def summarise(
    likelihood: AbstractLikelihood,
    parameters: tuple[np.ndarray, ...],
    keep_samples: bool,
    mask: np.ndarray | None = None,
) -> Prediction:
    """The prediction for a block of rows.

    Args:
        likelihood: The likelihood of the output.
        parameters: Its parameters for each draw, `(num_samples, rows, ...)` each.
        keep_samples: Whether the prediction keeps them.
        mask: Booleans `(rows, ...)`, the steps that count, or None.

    Returns:
        A prediction; its arrays are float32.
    """
    kept = {"samples": parameters if keep_samples else None, "mask": mask}
    if likelihood.kind == "normal":
        return _normal(*parameters, kept)
    return _classes(likelihood, parameters[0], kept)


def _normal(loc: np.ndarray, scale: np.ndarray, kept: dict[str, Any]) -> NormalPrediction:
    return NormalPrediction(
        prediction=_float32(loc.mean(axis=0, dtype=np.float64)),
        uncertainty=_float32(measures.total_standard_deviation(loc, scale)),
        num_samples=len(loc),
        epistemic=_float32(np.sqrt(measures.epistemic_variance(loc))),
        aleatoric=_float32(np.sqrt(measures.aleatoric_variance(loc, scale))),
        **kept,
    )


def _classes(
    likelihood: AbstractLikelihood, probabilities: np.ndarray, kept: dict[str, Any]
) -> ClassPrediction:
    prediction = _float32(probabilities.mean(axis=0, dtype=np.float64))
    categories = _categories(likelihood.kind, probabilities)
    uncertainty = measures.predictive_entropy(categories)
    if likelihood.tempers_mean:
        prediction = likelihood.tempered_mean(prediction).numpy()
        uncertainty = measures.entropy(_categories(likelihood.kind, prediction))
    return ClassPrediction(
        prediction=prediction,
        uncertainty=_float32(uncertainty),
        num_samples=len(probabilities),
        expected_entropy=_float32(measures.expected_entropy(categories)),
        mutual_information=_float32(measures.mutual_information(categories)),
        variation_ratio=_float32(measures.variation_ratio(categories)),
        variance=_float32(probabilities.var(axis=0, dtype=np.float64)),
        mean_temperature=likelihood.mean_temperature,
        **kept,
    )


def _categories(kind: str, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of all categories on the last axis, those of yes and no too."""
    if kind != "bernoulli":
        return probabilities
    categories = np.stack([1 - probabilities, probabilities], axis=-1)
    return categories[..., 0, :] if probabilities.shape[-1] == 1 else categories


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)
