"""Scores of a contender's answers, the same for networks of every kind."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.recipes_parts.tasks import Task
from tfbnn.scores import class_scores, class_uncertainty, number_uncertainty


@dataclasses.dataclass(frozen=True)
class Answers:
    """What several networks say of some inputs.

    Attributes:
        values: Probabilities `(networks, rows, classes)`, or means `(networks, rows, 1)`.
        scale: Standard deviation of the noise, for real numbers; broadcasts to `values`.
    """

    values: NDArray
    scale: NDArray | None = None


def nll(task: Task, answers: Answers, y: NDArray) -> float:
    """Negative log of the mean density, in nats, mean over rows."""
    if task.num_classes:
        return float(class_scores.negative_log_likelihood(answers.values.mean(0), y))
    error = (y - answers.values) / answers.scale
    logs = -0.5 * error**2 - np.log(answers.scale) - 0.5 * np.log(2 * np.pi)
    most = logs.max(0)
    return float(-(most + np.log(np.exp(logs - most).mean(0))).mean())


def error(task: Task, answers: Answers, y: NDArray) -> float:
    """Share of wrong answers, or root of the mean squared error."""
    mean = answers.values.mean(0)
    if task.num_classes:
        return float((mean.argmax(-1) != y).mean())
    return float(np.sqrt(((mean - y) ** 2).mean()))


def scores(task: Task, answer: Any) -> dict[str, float]:
    """All scores of a contender.

    Args:
        task: The task.
        answer: Function of inputs that gives `Answers`.
    """
    x, y = task.test
    test = answer(x)
    if task.name == "gap":
        return _gap(task, answer, test)
    found = {"nll": nll(task, test, y), "error": error(task, test, y)}
    if task.num_classes:
        mean = test.values.mean(0)
        found["ece"] = float(class_scores.expected_calibration_error(mean, y))
        wrong = mean.argmax(-1) != y
        if wrong.any():
            found["auroc own errors"] = float(
                roc_auc_score(wrong, class_uncertainty.predictive_entropy(test.values))
            )
        for name, unseen in task.unseen.items():
            other = answer(unseen)
            for measure in (
                class_uncertainty.predictive_entropy,
                class_uncertainty.mutual_information,
            ):
                values = measure(test.values), measure(other.values)
                found[f"auroc {name} {measure.__name__}"] = _auroc(*values)
        return found
    for level in (0.5, 0.9, 0.95):
        low, high = number_uncertainty.credible_interval(
            test.values, np.broadcast_to(test.scale, test.values.shape), level
        )
        found[f"cover {level:g}"] = float(((y >= low) & (y <= high)).mean())
    found["noise"] = float(np.mean(test.scale))
    for name, unseen in task.unseen.items():
        found[f"auroc {name} epistemic"] = _auroc(
            test.values.std(0)[:, 0], answer(unseen).values.std(0)[:, 0]
        )
    return found


def _gap(task: Task, answer: Any, test: Answers) -> dict[str, float]:
    deviation = test.values.std(0)
    over_data = answer(task.train[0]).values.std(0)
    inside = np.abs(test.values.mean(0) - task.test[1]) <= 1.96 * deviation
    return {
        "band ratio": float(deviation.mean() / np.maximum(over_data.mean(), 1e-9)),
        "truth in band": float(inside.mean()),
        "band": float(deviation.mean()),
        "error": error(task, answer(task.train[0]), task.train[1]),
        "noise": float(np.mean(test.scale)),
    }


def _auroc(known: NDArray, unseen: NDArray) -> float:
    labels = np.r_[np.zeros(len(known)), np.ones(len(unseen))]
    return float(roc_auc_score(labels, np.r_[known, unseen]))
