"""Labelled answers: what a network says of rows whose answer is known, one array for each."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from tfbnn.decisions.networks import Networks
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.labelled import LabelledBlock, joined, labelled_blocks, with_one_output


@dataclasses.dataclass(frozen=True)
class LabelledAnswers:
    """Answers and labels.

    Attributes:
        likelihood: The likelihood, or its class: what labels are.
        prediction: `(rows, ...)`.
        uncertainty: `(rows, ...)`.
        labels: Classes, 0 or 1, or real numbers, `(rows, *event)`.
    """

    likelihood: AbstractLikelihood | type[AbstractLikelihood]
    prediction: np.ndarray
    uncertainty: np.ndarray
    labels: np.ndarray

    def mistakes(self, tolerance: float | None) -> np.ndarray:
        """Which rows are wrong, booleans `(rows,)`, of answers with one label a row."""
        if self.labels.size != len(self.labels):
            raise ValueError(
                "Whether a row is accepted is decided by one answer a row. "
                f"Received: labels of shape {self.labels.shape}"
            )
        wrong = self.likelihood.mistakes(self.prediction, self.labels, tolerance)
        return wrong.reshape(len(self.labels))


def labelled_answers(networks: Networks, x: Any, y: Any) -> LabelledAnswers:
    """What networks say of labelled rows, each of which counts once.

    Warns (`UserWarning`) of rows that the model was trained on, where it knows: of those that it
    has kept from `fit`.

    Raises:
        ValueError: If the model has several outputs, targets are missing or impossible, or a label
            has another weight than 1.
    """
    posterior = with_one_output(networks.model)
    _warn_if_seen(posterior, x)
    blocks = labelled_blocks(posterior, x, y, None, *networks.draws)
    parts = joined([_part(block) for (block,) in blocks])
    return LabelledAnswers(posterior.likelihoods[0], *parts)


def _part(block: LabelledBlock) -> tuple[np.ndarray, ...]:
    if (block.weights != 1).any():
        raise ValueError(
            "Every label has to count once: a guarantee is about rows that are as likely as each "
            "other. Leave out masks and sample weights. "
            f"Received: weights from {block.weights.min():g} to {block.weights.max():g}"
        )
    return (*block.answer.prediction(keep_samples=False), block.labels)


def _warn_if_seen(posterior: AbstractPosterior, x: Any) -> None:
    """Warn if at least half of the rows that were kept from `fit` are among `x`."""
    kept = posterior.example_rows
    if kept is None or np.shape(x)[1:] != kept.shape[1:]:
        return
    given = {row.tobytes() for row in np.asarray(x, kept.dtype)}
    seen = sum(row.tobytes() in given for row in kept)
    if 2 * seen >= len(kept):
        warnings.warn(
            f"{seen} of the {len(kept)} rows that the model has kept from `fit` are among `x`. A "
            "guarantee holds for rows that the model was not trained on: give others. (Inputs of "
            "few possible values repeat by themselves; then this can be ignored.)",
            stacklevel=4,
        )
