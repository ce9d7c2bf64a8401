"""Rules: from a prediction and its uncertainty to a set of classes, an interval, or yes or no.

A rule is a threshold and what is compared with it. All arithmetic is in float32, one operation at
a time and in one order, so that the C code of a rule gives the same bits. NumPy alone is needed:
this file may lie beside a copy of `lite.py`.

| rule | what it gives | what is at most the threshold |
|---|---|---|
| `ClassSet` | booleans `(rows, ..., classes)` | probability of all classes that are more likely |
| `YesNoSet` | booleans `(rows, ..., 2)`: no, yes | the same |
| `Interval` | `(2, rows, ..., targets)`: lower, upper | distance in standard deviations |
| `Accepted` | booleans `(rows,)` | uncertainty |
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

Thresholds = float | list[Any]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule. `threshold` is one for all rows, or one for each place of an example's answer.

    Attributes:
        name: What the rule gives, in answers.
    """

    name: ClassVar[str]
    threshold: Thresholds

    def __call__(self, prediction: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
        """What is decided of the rows."""
        raise NotImplementedError

    @property
    def thresholds(self) -> np.ndarray:
        """The threshold in float32."""
        return np.asarray(self.threshold, np.float32)

    def get_config(self) -> dict[str, Any]:
        """The rule as JSON has it, for `rule_of`."""
        return {"rule": type(self).__name__, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class ClassSet(Rule):
    """The most probable classes, as many as are needed.

    The score of the class of rank `r`, from 1, is what the classes before it have in all, and a
    penalty for each class beyond the first `num_unpenalised`:

        sum of p[1] to p[r - 1] + penalty * max(r - num_unpenalised, 0)

    It rises with the rank, and is 0 for the most probable class, which is always in the set.
    """

    name = "set"
    penalty: float = 0.0
    num_unpenalised: int = 1

    def __call__(self, prediction: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
        return self.holds(self.scores(prediction))

    def holds(self, scores: np.ndarray) -> np.ndarray:
        """Which classes are in the set, of the scores of all."""
        return scores <= self.thresholds[..., np.newaxis]

    def scores(self, prediction: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
        """The score of each class, float32, `(rows, ..., classes)`.

        With `shares`, from 0 to 1, `(rows, ..., 1)`, each score has that share of the class's own
        probability besides, which makes sets with uniform shares no larger than they need be.
        """
        p = self.categories(np.asarray(prediction, np.float32))
        # Of classes that are as probable the first comes first.
        order = np.argsort(-p, axis=-1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=-1)
        steps = np.concatenate([np.zeros_like(ranked[..., :1]), ranked[..., :-1]], axis=-1)
        beyond = np.arange(p.shape[-1]) >= self.num_unpenalised
        steps = steps + np.where(beyond, np.float32(self.penalty), np.float32(0))
        scores = np.empty_like(p)
        # NumPy's cumulative sum adds one after the other.
        np.put_along_axis(scores, order, np.cumsum(steps, axis=-1, dtype=np.float32), axis=-1)
        return scores if shares is None else scores + np.asarray(shares, np.float32) * p

    def of_labels(
        self,
        prediction: np.ndarray,
        uncertainty: np.ndarray,
        labels: np.ndarray,
        shares: np.ndarray | None = None,
    ) -> np.ndarray:
        """The score of each label, a whole number, `(rows, ...)`."""
        scores = self.scores(prediction, shares)
        labels = np.reshape(labels, (*scores.shape[:-1], 1))
        return np.take_along_axis(scores, labels, axis=-1)[..., 0]

    def categories(self, prediction: np.ndarray) -> np.ndarray:
        """Probabilities of all that a label may be, on the last axis."""
        return prediction


@dataclasses.dataclass(frozen=True)
class YesNoSet(ClassSet):
    """A `ClassSet` of the two classes no and yes, of the probability of yes."""

    def categories(self, prediction: np.ndarray) -> np.ndarray:
        one = prediction[..., 0] if prediction.shape[-1] == 1 else prediction
        return np.stack([np.float32(1) - one, one], axis=-1)


@dataclasses.dataclass(frozen=True)
class Interval(Rule):
    """The mean plus and minus `threshold` standard deviations."""

    name = "interval"

    def __call__(self, prediction: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
        half = self.thresholds * np.asarray(uncertainty, np.float32)
        return np.stack([prediction - half, prediction + half])

    @staticmethod
    def of_labels(
        prediction: np.ndarray, uncertainty: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """How many standard deviations each label is from the mean, in float32."""
        distance = np.abs(np.asarray(labels, np.float32) - prediction)
        with np.errstate(divide="ignore"):
            return np.divide(distance, uncertainty, np.zeros_like(distance), where=distance > 0)


@dataclasses.dataclass(frozen=True)
class Accepted(Rule):
    """Whether the uncertainty is at most the threshold."""

    name = "accepted"

    def __call__(self, prediction: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
        return np.reshape(uncertainty, len(uncertainty)) <= self.thresholds


RULES = {rule.__name__: rule for rule in (ClassSet, YesNoSet, Interval, Accepted)}
"""The rules by the names in manifests."""


def rule_of(config: dict[str, Any]) -> Rule:
    """The rule with a configuration made by its `get_config`, or a `ValueError`."""
    try:
        settings = dict(config)
        rule = RULES[settings.pop("rule")](**settings)
        values = [np.asarray(value) for value in settings.values()]
        if not all(one.dtype.kind in "if" and np.isfinite(one).all() for one in values):
            raise ValueError("what should be a number is none")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"A rule must be one of {sorted(RULES)} with its numbers; this one is damaged, or of a "
            f"newer version ({error}). Received: {config!r}"
        ) from error
    return rule


def rules_of(manifest: dict[str, Any]) -> list[Rule]:
    """The rules in a manifest, or a `ValueError` if they are damaged or about another file."""
    decisions = manifest.get("decisions", {"rules": [], "sha256": manifest.get("sha256")})
    if not isinstance(decisions, dict) or not isinstance(decisions.get("rules"), list):
        raise ValueError(f"The decisions in the manifest are damaged. Received: {decisions!r}")
    if decisions.get("sha256") != manifest.get("sha256"):
        raise ValueError(
            "The decisions in the manifest are about another file, one that was written before: "
            "call `tfbnn.decide` for this one. "
            f"Received: decisions of a file with the checksum {decisions.get('sha256')!r}"
        )
    return [rule_of(config) for config in decisions["rules"]]
