"""Likelihoods and answers by formulas of our own, in float64."""

import dataclasses
from typing import Any

import numpy as np
from scipy import special, stats

from tests.fuzz.laws import softplus

# Keras' distance of probabilities from 0 and 1 under a logarithm.
_EPSILON = 1e-7
_SMALLEST_SCALE = 1e-6


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a network, and the law of its targets.

    Attributes:
        kind: `"sparse"`, `"one_hot"`, `"binary"`, `"fixed"`, `"learned"`, `"head"` or
            `"count"`.
        size: Number of classes, or of targets.
        from_logits: Whether the network gives logits.
        scale: Of `"fixed"`.
    """

    kind: str
    size: int
    from_logits: bool = True
    scale: float = 1.0

    @property
    def units(self) -> int:
        """Number of outputs of the network."""
        return 2 * self.size if self.kind == "head" else self.size

    @property
    def is_categorical(self) -> bool:
        return self.kind in ("sparse", "one_hot")

    @property
    def is_real(self) -> bool:
        """Whether the targets have a mean and a standard deviation."""
        return self.kind in ("fixed", "learned", "head", "count")

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Of classes, `(..., classes)`, or of yes, `(..., outputs)`."""
        if not self.from_logits:
            return outputs
        return special.softmax(outputs, -1) if self.is_categorical else special.expit(outputs)

    def loc_and_scale(self, outputs: np.ndarray, learned: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the targets; `learned` is the latter, or its unit."""
        if self.kind == "head":
            loc, rho = np.split(outputs, 2, axis=-1)
            return loc, learned * (softplus(rho) + _SMALLEST_SCALE)
        if self.kind == "count":
            # From 2**24 on along the tangent.
            logs = np.minimum(outputs, np.log(2**24))
            rate = np.exp(logs) * (1 + outputs - logs)
            return rate, np.sqrt(rate)
        scale = self.scale if self.kind == "fixed" else learned
        return outputs, np.full_like(outputs, scale)

    def log_prob(self, targets: np.ndarray, outputs: np.ndarray, learned: Any) -> np.ndarray:
        """`log(p(y | outputs))` of each label `(rows, ...)` or target `(rows, ..., size)`."""
        outputs = outputs.astype(np.float64)
        if self.kind == "count":
            rate, _ = self.loc_and_scale(outputs, learned)
            return stats.poisson.logpmf(targets.reshape(rate.shape), rate)
        if self.is_real:
            loc, scale = self.loc_and_scale(outputs, learned)
            z = (targets.reshape(loc.shape) - loc) / scale
            return -0.5 * z**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
        if self.kind == "binary":
            y = targets.reshape(outputs.shape)
            if self.from_logits:
                return y * outputs - np.logaddexp(0, outputs)
            p = np.clip(outputs, _EPSILON, 1 - _EPSILON)
            return y * np.log(p) + (1 - y) * np.log1p(-p)
        if self.kind == "sparse":
            targets = np.eye(self.size)[targets.reshape(outputs.shape[:-1])]
        if self.from_logits:
            return np.sum(targets * special.log_softmax(outputs, -1), -1)
        p = outputs / outputs.sum(-1, keepdims=True)
        return np.sum(targets * np.log(np.clip(p, _EPSILON, 1 - _EPSILON)), -1)

    def answer(self, outputs: np.ndarray, learned: Any) -> dict[str, np.ndarray]:
        """Prediction and uncertainties of several networks' outputs, `(networks, rows, ...)`."""
        outputs = outputs.astype(np.float64)
        if self.is_real:
            loc, scale = self.loc_and_scale(outputs, learned)
            epistemic = loc.var(0)
            total = np.sqrt(epistemic + np.mean(scale**2, 0))
            return {
                "prediction": loc.mean(0),
                "uncertainty": total,
                "epistemic": np.sqrt(epistemic),
            }
        probabilities = self.probabilities(outputs)
        mean = probabilities.mean(0)
        entropy = self.entropy(mean)
        return {
            "prediction": mean,
            "uncertainty": entropy,
            "mutual_information": entropy - self.entropy(probabilities).mean(0),
        }

    def entropy(self, probabilities: np.ndarray) -> np.ndarray:
        """In nats."""
        if self.is_categorical:
            return special.entr(probabilities).sum(-1)
        entropy = special.entr(probabilities) + special.entr(1 - probabilities)
        return entropy[..., 0] if self.size == 1 else entropy

    def targets(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Random targets for outputs of a shape `(rows, ...)` without its last axis."""
        if self.kind == "count":
            return random.poisson(2.0, (*shape, self.size)).astype(np.float32)
        if self.is_real:
            return random.normal(size=(*shape, self.size)).astype(np.float32)
        if self.kind == "binary":
            return random.integers(0, 2, (*shape, self.size)).astype(np.float32)
        labels = random.integers(0, self.size, shape)
        return labels if self.kind == "sparse" else np.eye(self.size, dtype=np.float32)[labels]


def nll(
    outputs: list[Output],
    targets: list[np.ndarray],
    values: list[np.ndarray],
    learned: list[float],
    weights: list[float],
    masks: list[np.ndarray | None],
    sample_weight: Any = None,
) -> float:
    """Negative log likelihood in nats per example: summed over events and outputs."""
    total = 0.0
    columns = zip(outputs, targets, values, learned, weights, masks, strict=True)
    for output, y, value, scale, weight, mask in columns:
        per_row = rows_of(output.log_prob(y, value, scale), mask)
        if sample_weight is not None:
            per_row = per_row * sample_weight
        total -= weight * per_row.mean()
    return total


def rows_of(log_prob: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The sum over the labels of each row that count."""
    if mask is not None:
        log_prob = (log_prob.T * mask.T).T
    return log_prob.reshape(len(log_prob), -1).sum(1)


def mean_over_networks(log_prob: np.ndarray) -> np.ndarray:
    """`log(mean(p))` over the first axis."""
    return special.logsumexp(log_prob, axis=0) - np.log(len(log_prob))


def learned_scale(rho: np.ndarray) -> np.ndarray:
    """The standard deviations that a variable of the model stands for, in their unit."""
    return softplus(rho) + _SMALLEST_SCALE
