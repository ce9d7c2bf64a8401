"""Objectives: the number that a trial is scored by, on validation data. Smaller is better.

An objective is an object with a `name` and a call `(model, x, y) -> scores`, a dict of numbers of
which `name` is one. The others are kept with the trial. Where validation data have sample weights,
they are the fourth argument.
"""

import dataclasses
import pathlib
import tempfile
from typing import Any

import numpy as np

from tfbnn import arguments
from tfbnn.export.modes import MonteCarlo
from tfbnn.export.tflite import tflite
from tfbnn.prediction.evaluation import evaluate
from tfbnn.pruning.curves import DEFAULT_SPARSITIES, pruning_curve
from tfbnn.pruning.prune import checked_sparsity, prune

_MEASURES = ("bytes", "gzip_bytes")
_SCORES = ("error", "nll", "brier", "ece", "rmse")


@dataclasses.dataclass(frozen=True)
class MonteCarloNLL:
    """The NLL of the average over networks, `-log(mean over draws of p(y | x, w))`.

    All trials are scored with the same seed and number of draws, so that they compare.

    Args:
        num_samples: Number of networks.
        seed: Seed of the draws.

    Example:

    >>> import keras, numpy as np, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(2)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> objective = tfbnn.search.MonteCarloNLL(num_samples=8)
    >>> sorted(objective(model, np.eye(3), np.array([0, 1, 1])))
    ['validation_ece', 'validation_error', 'validation_nll']
    """

    num_samples: int = 32
    seed: int = 0
    name = "validation_nll"

    def __post_init__(self) -> None:
        arguments.check_fields(self, num_samples=arguments.count, seed=arguments.seed)

    def __call__(self, model: Any, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """The scores of a trained model: NLL, and error and ECE (or RMSE and coverage)."""
        draws = {"num_samples": self.num_samples, "seed": self.seed, "verbose": 0}
        return _validation_scores(
            evaluate(model, x, y, sample_weight=sample_weight, **draws).scores()
        )


@dataclasses.dataclass(frozen=True)
class Bytes:
    """The size of the file that ships, at an error budget.

    The trained model is pruned to the largest of `sparsities` at which its validation error is
    within the budget, written by `tfbnn.export.tflite` to a temporary folder, checked there against
    the Keras model, and measured. A model that is over the budget even unpruned is infeasible: its
    score is `infeasible_bytes * (1 + error - error_budget)`, so that the search still sees which
    one is closer.

    Args:
        error_budget: Largest validation error, as a share.
        sparsities: Shares of the weights to remove that are tried.
        measure: `"gzip_bytes"`, after gzip, or `"bytes"`, as it is.
        score: Which score of `tfbnn.evaluate` has to be within the budget: `"error"`, or for a
            regression `"rmse"`, or `"nll"`.
        num_samples: Number of networks drawn to score a model.
        num_samples_in_file: Number of networks drawn inside the file.
        infeasible_bytes: More than any file of the search has. A factor of ten is enough; the
            further away, the less `"bayesian"` search can tell small files from each other.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of its range.
    """

    error_budget: float
    sparsities: tuple[float, ...] = DEFAULT_SPARSITIES
    measure: str = "gzip_bytes"
    score: str = "error"
    num_samples: int = 32
    num_samples_in_file: int = 16
    infeasible_bytes: float = 1e9
    seed: int = 0
    name = "deployment_bytes"

    def __post_init__(self) -> None:
        arguments.one_of("measure", self.measure, _MEASURES)
        arguments.one_of("score", self.score, _SCORES)
        arguments.check_fields(
            self,
            error_budget=arguments.not_negative,
            sparsities=_checked_sparsities,
            num_samples=arguments.count,
            num_samples_in_file=arguments.count,
            infeasible_bytes=arguments.positive,
            seed=arguments.seed,
        )

    def __call__(self, model: Any, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """The scores of a trained model: bytes or the penalty, `sparsity`, `feasible`, ..."""
        row = self.chosen(model, x, y, sample_weight)
        scores = {"sparsity": row["sparsity"], **_validation_scores(row)}
        excess = row[self.score] - self.error_budget
        if excess > 0:
            penalty = self.infeasible_bytes * (1 + excess)
            return {self.name: penalty, "feasible": 0.0, **scores}
        # Unpruned models are shipped as they are: masks of ones would only cost time.
        shipped = prune(model, sparsity=row["sparsity"]) if row["sparsity"] else model
        return {self.name: float(self._measured(shipped, x)), "feasible": 1.0, **scores}

    def chosen(self, model: Any, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """The row of the pruning curve with the largest sparsity within the budget.

        If there is none, the row with the best score.
        """
        draws = {"num_samples": self.num_samples, "seed": self.seed, "verbose": 0}
        rows = pruning_curve(
            model, x, y, self.sparsities, sample_weight=sample_weight, **draws
        ).rows
        within = [row for row in rows if row[self.score] <= self.error_budget]
        if within:
            return max(within, key=lambda row: row["sparsity"])
        return min(rows, key=lambda row: row[self.score])

    def _measured(self, model: Any, x: Any) -> int:
        with tempfile.TemporaryDirectory(prefix="tfbnn-search-") as folder:
            path = pathlib.Path(folder) / "model.tflite"
            mode = MonteCarlo(self.num_samples_in_file)
            written = tflite(model, path, mode, check_data=np.asarray(x))
            return written[self.measure]


def _checked_sparsities(name: str, value: Any) -> tuple[float, ...]:
    if not len(numbers := arguments.listed(name, value, checked_sparsity)):
        raise ValueError(f"`{name}` must be one or more. Received: {name}={value!r}")
    return tuple(numbers)


def _validation_scores(scores: dict[str, float]) -> dict[str, float]:
    names = ("nll", "error", "ece", "rmse", "coverage")
    return {f"validation_{name}": float(scores[name]) for name in names if name in scores}
