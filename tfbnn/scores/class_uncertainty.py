"""How sure are predicted classes? Pure functions of posterior draws.

Axis 0 is always the draw: one network from the posterior, applied to the whole batch.
`probabilities` have the shape `(num_samples, batch, ..., classes)`.

| function | question | unit | result |
|---|---|---|---|
| `predictive_entropy` | how unsure in all? | nats | `(batch, ...)` |
| `expected_entropy` | how much of it is noise in the labels (aleatoric)? | nats | `(batch, ...)` |
| `mutual_information` | how much would more data remove (epistemic)? | nats | `(batch, ...)` |
| `variation_ratio` | what share of the draws votes against the majority? | share | `(batch, ...)` |
| `variance` | how far apart are the draws, by class? | share**2 | `(batch, ..., classes)` |

Everything is computed in float64. A single draw (`num_samples=1`) is allowed: its epistemic parts
are zero. Binary probabilities `(num_samples, batch, 1)` first go through
`tfbnn.scores.class_scores.as_categorical`.
"""

import numpy as np
from numpy.typing import ArrayLike

from tfbnn.scores.arrays import finite_array

# Wide enough for float16 (eps 1e-3) and int8 (steps of 1/256) softmax outputs, narrow enough to
# catch logits and sigmoids.
_SUM_TOLERANCE = 1e-2


def entropy(probabilities: ArrayLike) -> np.ndarray:
    """Entropy of categorical distributions.

    `H[p] = -sum(p * log(p))`, with `0 * log(0) = 0`: between 0 (certain) and `log(classes)`.

    Args:
        probabilities: Shape `(..., classes)`; there is no axis of draws.

    Returns:
        Entropy in nats, float64, shape `(...)`.

    Raises:
        ValueError: If `probabilities` are not finite, not probabilities, or of one class only.

    Example:

    >>> from tfbnn.scores import class_uncertainty
    >>> class_uncertainty.entropy([[0.5, 0.5], [0.0, 1.0]]).round(4).tolist()
    [0.6931, 0.0]

    Reference:
        Shannon 1948, "A Mathematical Theory of Communication", sec. 6.
    """
    return _entropy(checked_probabilities(probabilities, min_rank=1))


def predictive_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Entropy of the mean prediction: the total uncertainty.

    `H[mean(p, axis=draws)]`, where `H[p] = -sum(p * log(p))`.

    Args:
        probabilities: Shape `(num_samples, batch, ..., classes)`.

    Returns:
        Entropy in nats, float64, shape `(batch, ...)`, between 0 and `log(classes)`.

    Raises:
        ValueError: If `probabilities` are not finite or not probabilities.

    Example:

    >>> from tfbnn.scores import class_uncertainty
    >>> draws_disagree = [[[1.0, 0.0]], [[0.0, 1.0]]]
    >>> class_uncertainty.predictive_entropy(draws_disagree).round(4).tolist()
    [0.6931]

    Reference:
        Gal 2016, "Uncertainty in Deep Learning", sec. 3.3.1.
    """
    return _entropy(checked_probabilities(probabilities).mean(axis=0))


def expected_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Mean entropy of the draws: the aleatoric part of the predictive entropy.

    `mean(H[p], axis=draws)`: what stays when the weights are known.

    Args:
        probabilities: Shape `(num_samples, batch, ..., classes)`.

    Returns:
        Entropy in nats, float64, shape `(batch, ...)`.

    Raises:
        ValueError: If `probabilities` are not finite or not probabilities.

    Example:

    >>> from tfbnn.scores import class_uncertainty
    >>> draws_disagree = [[[1.0, 0.0]], [[0.0, 1.0]]]
    >>> class_uncertainty.expected_entropy(draws_disagree).tolist()
    [0.0]

    Reference:
        Depeweg et al. 2018, "Decomposition of Uncertainty in Bayesian Deep Learning for Efficient
        and Risk-sensitive Learning", the entropy decomposition.
    """
    return _entropy(checked_probabilities(probabilities)).mean(axis=0)


def mutual_information(probabilities: ArrayLike) -> np.ndarray:
    """Information a label would give about the weights: the epistemic part.

    `I[y; w] = H[mean(p)] - mean(H[p])`, means over draws. It is never negative in exact arithmetic
    (entropy is concave); a difference below zero is rounding and is returned as 0.

    Args:
        probabilities: Shape `(num_samples, batch, ..., classes)`.

    Returns:
        Mutual information in nats, float64, shape `(batch, ...)`, between 0 and the predictive
        entropy. With few draws it is too small: it cannot exceed `log(num_samples)`.

    Raises:
        ValueError: If `probabilities` are not finite or not probabilities.

    Example:

    >>> from tfbnn.scores import class_uncertainty
    >>> draws_disagree, draws_agree = [[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]
    >>> class_uncertainty.mutual_information([draws_disagree, draws_agree]).round(4).tolist()
    [0.6931, 0.0]

    Reference:
        Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning",
        eq. 2 (BALD); Depeweg et al. 2018, the entropy decomposition.
    """
    checked = checked_probabilities(probabilities)
    total, aleatoric = _entropy(checked.mean(axis=0)), _entropy(checked).mean(axis=0)
    return np.maximum(total - aleatoric, 0.0)


def variation_ratio(probabilities: ArrayLike) -> np.ndarray:
    """Share of the draws that do not vote for the most voted class.

    `1 - count(votes == mode(votes)) / num_samples`, where a draw votes for its most probable class
    (for the first one, if several are equally probable).

    Args:
        probabilities: Shape `(num_samples, batch, ..., classes)`.

    Returns:
        Share, float64, shape `(batch, ...)`, between 0 (unanimous) and `1 - 1 / classes`.

    Raises:
        ValueError: If `probabilities` are not finite or not probabilities.

    Example:

    >>> from tfbnn.scores import class_uncertainty
    >>> three_votes_to_one = [[[0.9, 0.1]], [[0.6, 0.4]], [[0.7, 0.3]], [[0.2, 0.8]]]
    >>> class_uncertainty.variation_ratio(three_votes_to_one).tolist()
    [0.25]

    Reference:
        Gal 2016, "Uncertainty in Deep Learning", sec. 3.3.1; Freeman 1965.
    """
    votes = checked_probabilities(probabilities).argmax(axis=-1)
    shares = [np.mean(votes == label, axis=0) for label in np.unique(votes)]
    return 1.0 - np.max(shares, axis=0)


def variance(probabilities: ArrayLike) -> np.ndarray:
    """Variance of each class probability over the draws.

    `mean(p**2) - mean(p)**2`, means over draws: the variance of the draws themselves, not the
    unbiased estimate, so that one draw has variance 0.

    Args:
        probabilities: Shape `(num_samples, batch, ..., classes)`.

    Returns:
        Variance (probability squared), float64, shape `(batch, ..., classes)`, at most 1/4.

    Raises:
        ValueError: If `probabilities` are not finite or not probabilities.

    Example:

    >>> from tfbnn.scores import class_uncertainty
    >>> class_uncertainty.variance([[[1.0, 0.0]], [[0.0, 1.0]]]).tolist()
    [[0.25, 0.25]]
    """
    return checked_probabilities(probabilities).var(axis=0)


def checked_probabilities(probabilities: ArrayLike, min_rank: int = 3) -> np.ndarray:
    """`probabilities` in float64, or an error if the last axis does not hold probabilities."""
    array = finite_array("probabilities", probabilities, min_rank)
    if array.shape[-1] < 2:
        raise ValueError(
            "`probabilities` need two classes or more on the last axis; pass probabilities of one "
            f"event through `class_scores.as_categorical`. Received: shape={array.shape}"
        )
    if array.min() < 0:
        raise ValueError(
            "`probabilities` must not be negative; are these logits? "
            f"Received: minimum={array.min():.6g}"
        )
    sums = array.sum(axis=-1)
    worst = sums.flat[np.argmax(np.abs(sums - 1.0))]
    if abs(worst - 1.0) > _SUM_TOLERANCE:
        raise ValueError(
            "`probabilities` must sum to 1 over the last axis; are these logits or sigmoids? "
            f"Received: a sum of {worst:.6g}"
        )
    return array


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    log = np.log(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
    # 0.0 - x rather than -x: certainty is 0.0, not -0.0.
    return 0.0 - np.sum(probabilities * log, axis=-1)
