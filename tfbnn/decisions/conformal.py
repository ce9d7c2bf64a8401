"""`tfbnn.conformal`: sets of classes, and intervals, with a guarantee for a finite sample."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tfbnn import arguments
from tfbnn.decisions.answers import LabelledAnswers, labelled_answers
from tfbnn.decisions.networks import Networks
from tfbnn.decisions.quantiles import quantile
from tfbnn.lite_rules import ClassSet, Rule
from tfbnn.prediction.labelled import with_one_output


class Regions(NamedTuple):
    """What `Conformal.predict` gives.

    Attributes:
        prediction: As of `tfbnn.predict`.
        uncertainty: As of `tfbnn.predict`.
        region: Of classes the sets, booleans `(rows, classes)`; of yes or no with `no` before
            `yes`; of real numbers `lower` and `upper`, one array `(2, rows, targets)`.
    """

    prediction: np.ndarray
    uncertainty: np.ndarray
    region: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Conformal:
    """Sets or intervals that hold the truth with the probability `coverage` or more.

    Attributes:
        coverage: The probability that was asked for.
        num_rows: Number of labelled rows that the threshold is of.
        rule: What is compared with the threshold.
        randomised: Whether classes at the edge of a set are in it by chance.
    """

    coverage: float
    num_rows: int
    rule: Rule
    randomised: bool
    _networks: Networks = dataclasses.field(repr=False)

    @property
    def threshold(self) -> Any:
        """The largest score in a region: one number, or one for each label of a row."""
        return self.rule.threshold

    def predict(self, x: Any, seed: int | None = None) -> Regions:
        """Prediction, uncertainty, and the set or the interval of each row.

        Args:
            x: Inputs, as in `tfbnn.predict`.
            seed: Of the chance in randomised sets; another one each time if None.

        Returns:
            `Regions`, which unpack into three arrays.

        Raises:
            ValueError: If the network has changed since, or as of `tfbnn.predict`.
        """
        seed = None if seed is None else arguments.seed("seed", seed, minimum=0)
        prediction, uncertainty = self._networks.predict(x)
        if self.randomised:
            shares = _shares(prediction, self.rule, np.random.default_rng(seed))
            return Regions(
                prediction, uncertainty, self.rule.holds(self.rule.scores(prediction, shares))
            )
        return Regions(prediction, uncertainty, self.rule(prediction, uncertainty))


def conformal(
    model: Any,
    x: Any,
    y: Any = None,
    coverage: float = 0.9,
    penalty: float = 0.0,
    num_unpenalised: int = 1,
    randomised: bool = False,
    num_samples: int = 32,
    batch_size: int = 1024,
    seed: int | None = None,
) -> Conformal:
    """Turn predictions into sets or intervals that hold the truth as often as is asked.

    Split conformal prediction, on top of any model, right or wrong: for a row that comes from where
    the `n` labelled ones came from, seen neither by `fit` nor by what else was chosen,

        coverage <= P(y in region(x))

    on average over rows and labelled samples, and not for each `x`. A region holds all `y` whose
    score is at most that of rank `ceil((n + 1) * coverage)` among the labelled rows. Scores are

        classes:  probability of all classes that are more probable than y
                  + penalty * max(rank of y - num_unpenalised, 0)
        numbers:  abs(y - mean) / (standard deviation)

    so that sets and intervals are larger where the model is less sure. With `randomised` a uniform
    share of the probability of `y` is added: then the most probable class need not be in a set, and
    P is at most `coverage + 1 / (n + 1)`. Yes or no are two classes. Where a row has several labels
    (targets, steps of a sequence) each place has a threshold of its own, and the guarantee is about
    each, not about all at once.

    The rows must be new to the model: not those of `fit`, of `tfbnn.calibrate` or of a choice of
    sparsity. A model knows some rows that it was trained on and warns of these (`UserWarning`);
    of others nothing can be seen.

    Args:
        model: As in `tfbnn.predict`, with one output.
        x: Inputs of the labelled rows.
        y: Their labels, as in `fit`.
        coverage: The probability that is asked for.
        penalty: What makes sets small and even in size, in probability; 0 for none.
        num_unpenalised: How many classes are in a set without a penalty.
        randomised: Whether a class at the edge is in a set by chance, of classes.
        num_samples, batch_size, seed: As in `tfbnn.predict`. The networks that are drawn are those
            of later predictions.

    Returns:
        A `Conformal`, which has `predict(x)`, `threshold`, `coverage` and `num_rows`.

    Raises:
        ValueError: If there are fewer rows than `coverage / (1 - coverage)`; the message says how
            many are needed.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(3)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> sets = tfbnn.conformal(model, x, x.argmax(axis=1), coverage=0.8, seed=0)
    >>> prediction, uncertainty, region = sets.predict(x[:5])
    >>> region.shape, region.dtype, sets.num_rows
    ((5, 3), dtype('bool'), 100)

    Reference:
        Romano, Sesia and Candes 2020, "Classification with Valid and Adaptive Coverage", sec. 2;
        Angelopoulos et al. 2021, "Uncertainty Sets for Image Classifiers using Conformal
        Prediction", sec. 2; Lei et al. 2018, "Distribution-Free Predictive Inference for
        Regression", sec. 5.2 (residuals in units of a deviation).
    """
    coverage = arguments.probability("coverage", coverage)
    randomised = arguments.boolean("randomised", randomised)
    networks = Networks.of(model, num_samples, batch_size, seed)
    kind = with_one_output(model).likelihoods[0].region_type
    rule = untried(kind, penalty, num_unpenalised, randomised)
    answers = labelled_answers(networks, x, y)
    # Not the stream of a later `predict` with the same seed.
    chance = np.random.default_rng([abs(networks.seed), 1]) if randomised else None
    fit = fitted(rule, answers, coverage, chance)
    return Conformal(coverage, len(answers.labels), fit, randomised, networks)


def untried(
    kind: type[Rule], penalty: float, num_unpenalised: int, randomised: bool = False
) -> Rule:
    """A rule for regions without its threshold, or a `ValueError` if it has no such settings."""
    penalty = arguments.share("penalty", penalty)
    num_unpenalised = arguments.count("num_unpenalised", num_unpenalised, minimum=0)
    if issubclass(kind, ClassSet):
        return kind(0.0, penalty, num_unpenalised)
    if penalty != 0 or num_unpenalised != 1 or randomised:
        raise ValueError(
            "`penalty`, `num_unpenalised` and `randomised` are for sets of classes: leave them out "
            f"for intervals. Received: penalty={penalty:g}, num_unpenalised={num_unpenalised}, "
            f"randomised={randomised}"
        )
    return kind(0.0)


def fitted(
    rule: Rule,
    answers: LabelledAnswers,
    coverage: float,
    chance: np.random.Generator | None = None,
) -> Rule:
    """The rule with the threshold whose regions hold the truth with the probability `coverage`.

    `chance` is what randomises sets, or None.
    """
    shares = [] if chance is None else [_shares(answers.prediction, rule, chance)]
    scores = rule.of_labels(answers.prediction, answers.uncertainty, answers.labels, *shares)
    threshold = quantile(scores, coverage)
    if not np.isfinite(threshold).all():
        raise ValueError(
            "There is no interval: too many standard deviations are 0. Received: "
            f"{int(np.sum(answers.uncertainty == 0))} of {answers.uncertainty.size} that are 0"
        )
    return dataclasses.replace(rule, threshold=threshold.tolist())


def _shares(prediction: np.ndarray, rule: Rule, chance: np.random.Generator) -> np.ndarray:
    """A uniform number for each label, float32."""
    shape = rule.categories(prediction).shape
    return chance.random((*shape[:-1], 1), np.float32)
