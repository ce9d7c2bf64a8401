"""`tfbnn.selective`: the uncertainty up to which predictions keep to a risk."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tfbnn import arguments
from tfbnn.decisions.answers import LabelledAnswers, labelled_answers
from tfbnn.decisions.bounds import Chosen, largest_threshold
from tfbnn.decisions.networks import Networks
from tfbnn.lite_rules import Accepted
from tfbnn.scores import diagrams
from tfbnn.scores.risk_coverage import RiskCoverage, risk_coverage


class Selected(NamedTuple):
    """What `Selective.predict` gives.

    Attributes:
        prediction: As of `tfbnn.predict`.
        uncertainty: As of `tfbnn.predict`.
        accepted: Whether the prediction may be acted on, booleans `(rows,)`.
    """

    prediction: np.ndarray
    uncertainty: np.ndarray
    accepted: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Selective:
    """Acceptance of predictions, of which at most the share `risk` is wrong.

    Attributes:
        risk: The share that was asked for.
        confidence: The probability with which it holds.
        threshold: The largest uncertainty that is accepted.
        bound: The upper bound of the share of wrong ones among what is accepted, at most `risk`.
        num_rows: Number of labelled rows that the threshold is of.
        num_kept: How many of them are accepted.
        curve: The risk of the most certain rows, for each number of them.
    """

    risk: float
    confidence: float
    threshold: float
    bound: float
    num_rows: int
    num_kept: int
    curve: RiskCoverage = dataclasses.field(repr=False)
    _wrong: np.ndarray = dataclasses.field(repr=False)
    _uncertainty: np.ndarray = dataclasses.field(repr=False)
    _networks: Networks = dataclasses.field(repr=False)

    @property
    def coverage(self) -> float:
        """The share of the labelled rows that is accepted."""
        return self.num_kept / self.num_rows

    @property
    def area(self) -> float:
        """The area under the curve, from 0; the error, if the uncertainty tells nothing."""
        return self.curve.area

    def predict(self, x: Any) -> Selected:
        """Prediction, uncertainty, and whether each row is accepted.

        Args:
            x: Inputs, as in `tfbnn.predict`.

        Returns:
            `Selected`, which unpacks into three arrays.

        Raises:
            ValueError: If the network has changed since, or as of `tfbnn.predict`.
        """
        prediction, uncertainty = self._networks.predict(x)
        accepted = Accepted(self.threshold)(prediction, uncertainty)
        return Selected(prediction, uncertainty, accepted)

    def accepted(self, x: Any) -> np.ndarray:
        """Whether each row is accepted, booleans `(rows,)`; `x` as in `predict`."""
        return self.predict(x).accepted

    def plot(self, path: Any = None, title: str | None = None) -> Any:
        """The curve with the risk and the threshold, a matplotlib figure, saved to `path` if given.

        `title` says which rows it shows; their number by default.
        """
        chosen = {"risk": self.risk, "coverage": self.coverage}
        return diagrams.risk_coverage_diagram(
            self._wrong, self._uncertainty, path=path, title=title, **chosen
        )


def selective(
    model: Any,
    x: Any,
    y: Any = None,
    risk: float = 0.05,
    confidence: float = 0.95,
    tolerance: float | None = None,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
) -> Selective:
    """Find the uncertainty up to which predictions are wrong in at most the share `risk`.

    With the probability `confidence` over labelled rows, the threshold `t` that comes out has

        P(prediction is wrong | uncertainty <= t) <= risk

    for rows that come from where the labelled ones came from. Of a class, wrong is one that is not
    the most probable; of a real number, a mean that is off by more than `tolerance`. It is the
    largest of up to 20 thresholds, for which the exact binomial bound of their risk, corrected for
    their number, keeps to `risk`. What is not accepted is for someone else to decide.

    The rows must be new to the model, as in `tfbnn.conformal`, which warns as this does.

    Args:
        model: As in `tfbnn.predict`, with one output and one label a row.
        x: Inputs of the labelled rows.
        y: Their labels, as in `fit`.
        risk: The share of wrong answers that is accepted, strictly between 0 and 1.
        confidence: The probability with which the risk is kept to, strictly between 0 and 1.
        tolerance: Of real numbers, by how much a right answer may be off, in their unit.
        num_samples, batch_size, seed: As in `tfbnn.predict`. The networks that are drawn are those
            of later predictions.

    Returns:
        A `Selective`, which has `accepted(x)`, `predict(x)`, `threshold`, `coverage`, `bound`, the
        `curve` of risk and coverage with its `area`, and `plot(path)`.

    Raises:
        ValueError: If there are fewer rows than can show the risk (the message says how many are
            needed), or no threshold keeps to it.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((2,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> _ = model.layers[0].kernel.loc_variable.assign([[4.0, 0.0], [0.0, 4.0]])
    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> y = (x + 0.3 * np.random.default_rng(1).normal(size=x.shape)).argmax(axis=1)
    >>> chosen = tfbnn.selective(model, x, y, risk=0.05, seed=0)
    >>> chosen.bound <= chosen.risk, bool(chosen.accepted(np.array([[2.0, -2.0]]))[0])
    (True, True)

    Reference:
        Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks", sec. 3.
    """
    risk = arguments.probability("risk", risk)
    confidence = arguments.probability("confidence", confidence)
    tolerance = None if tolerance is None else arguments.not_negative("tolerance", tolerance)
    networks = Networks.of(model, num_samples, batch_size, seed)
    answers = labelled_answers(networks, x, y)
    wrong, uncertainty, chosen = chosen_of(answers, risk, confidence, tolerance)
    return Selective(
        risk=risk,
        confidence=confidence,
        threshold=chosen.threshold,
        bound=chosen.bound,
        num_rows=len(wrong),
        num_kept=chosen.kept,
        curve=risk_coverage(wrong, uncertainty),
        _wrong=wrong,
        _uncertainty=uncertainty,
        _networks=networks,
    )


def chosen_of(
    answers: LabelledAnswers, risk: float, confidence: float, tolerance: float | None
) -> tuple[np.ndarray, np.ndarray, Chosen]:
    """Which rows are wrong, their uncertainties, and the threshold."""
    wrong = answers.mistakes(tolerance)
    uncertainty = answers.uncertainty.reshape(len(wrong))
    return wrong, uncertainty, largest_threshold(wrong, uncertainty, risk, confidence)
