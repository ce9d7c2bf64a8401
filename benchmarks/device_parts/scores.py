"""Scores: what answers are worth, of a file or of Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import tfbnn
from tfbnn.scores import class_scores, class_uncertainty

Answers = tuple[np.ndarray, np.ndarray, np.ndarray]
_REFERENCE_SAMPLES = 256


def scores(
    run: Callable[[np.ndarray], Answers], images: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, Any]:
    """Scores of whatever answers with probabilities, entropy and mutual information.

    Returns:
        `error`, `nll` (nats), `ece` on the test images; areas under the ROC curve by entropy and by
        mutual information for telling letters from digits and for finding the model's own errors;
        the mean entropy (nats) of each changed set of images.
    """
    answers = {name: run(x) for name, x in images.items()}
    probabilities, entropy, information = answers["test"]
    # Probabilities of 8 bits do not add up to 1.
    probabilities = probabilities / probabilities.sum(-1, keepdims=True)
    wrong = probabilities.argmax(-1) != labels
    strange = answers["letters"]
    return {
        "error": class_scores.error(probabilities, labels),
        "nll": class_scores.negative_log_likelihood(probabilities, labels),
        "ece": class_scores.expected_calibration_error(probabilities, labels),
        "auroc_letters": _area(entropy, strange[1]),
        "auroc_letters_information": _area(information, strange[2]),
        "auroc_errors": _area(entropy[~wrong], entropy[wrong]),
        "auroc_errors_information": _area(information[~wrong], information[wrong]),
        "entropy": {name: float(answer[1].mean()) for name, answer in answers.items()},
    }


def at_mean(model: tfbnn.Sequential) -> Callable[[np.ndarray], Answers]:
    """A Keras model at its posterior mean."""

    def run(x: np.ndarray) -> Answers:
        logits = model.predict(x, batch_size=1000, verbose=0)
        probabilities = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        return probabilities, class_uncertainty.entropy(probabilities), np.zeros(len(x))

    return run


def over_draws(model: tfbnn.Sequential) -> Callable[[np.ndarray], Answers]:
    """A Keras model over many drawn networks, the same ones for all images."""

    def run(x: np.ndarray) -> Answers:
        answer = tfbnn.predict(model, x, _REFERENCE_SAMPLES, seed=0, keep_samples=False)
        return (*answer, answer.mutual_information)

    return run


def _area(usual: np.ndarray, strange: np.ndarray) -> float:
    """Area under the ROC curve of telling the two apart by a number that is larger for one."""
    labels = np.repeat([0, 1], [len(usual), len(strange)])
    return float(roc_auc_score(labels, np.concatenate([usual, strange])))
