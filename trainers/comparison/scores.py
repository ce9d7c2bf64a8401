"""Scores of a posterior on a task."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import tfbnn
from tfbnn.scores import class_uncertainty
from tfbnn.scores.risk_coverage import area_under_risk_coverage
from trainers.comparison.tasks import Task


def scores(posterior: Any, task: Task, num_samples: int, seed: int = 0) -> dict[str, Any]:
    """Scores on the test rows, and how well unseen inputs are told from them.

    Args:
        posterior: Any posterior.
        task: The task.
        num_samples: Networks that are drawn.
        seed: Of the draws.

    Returns:
        `error`, `nll`, `brier`, `ece`; `risk_coverage`, an area; `own_errors` and, by the names of
        `task.unseen`, `unseen`: areas under the ROC curve of the predictive entropy, which tells
        wrong answers from right ones, and unseen inputs from test rows.
    """
    draws = {"num_samples": num_samples, "seed": seed, "verbose": 0}
    found = tfbnn.evaluate(posterior, *task.test, **draws)
    entropy = class_uncertainty.entropy(found.probabilities)
    wrong = found.probabilities.argmax(axis=-1) != found.labels
    others = {
        name: tfbnn.predict(posterior, x, **draws).uncertainty for name, x in task.unseen.items()
    }
    return {
        **{name: float(getattr(found, name)) for name in ("error", "nll", "brier", "ece")},
        "risk_coverage": area_under_risk_coverage(wrong, entropy),
        "own_errors": area_under_roc(entropy[~wrong], entropy[wrong]),
        "unseen": {name: area_under_roc(entropy, other) for name, other in others.items()},
    }


def area_under_roc(low: np.ndarray, high: np.ndarray) -> float | None:
    """The share of pairs in which `high` is above `low`; None if there are none.

    Example:

    >>> area_under_roc(np.array([0.1, 0.3]), np.array([0.2, 0.4]))
    0.75
    """
    if not len(low) or not len(high):
        return None
    labels = np.repeat([0, 1], [len(low), len(high)])
    return float(roc_auc_score(labels, np.concatenate([low, high])))
