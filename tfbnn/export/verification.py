"""Verification: does the written file answer as the Keras model does?

A file is judged by its answers, not by whether it loads: some combinations of options run and
return garbage.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn.export.answers import answer
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.predictive import sampled_blocks
from tfbnn.training.data import check_arrays

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_MAX_ROWS = 256
# Groups of draws in Keras that say how far the answers of a file with as many draws may scatter.
_GROUPS = 16
# The rows of one call share their networks, so the z-scores are correlated: with 16 groups on each
# side the mean scatters with up to sqrt(2 / 16) = 0.35. The limits are four times that, and twice
# the root mean square with room for the heavy tails of small entropies.
_MEAN_Z_LIMIT = 1.5
_RMS_Z_LIMIT = 2.5


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well a file agreed with Keras.

    Attributes:
        rows: Number of rows compared.
        max_error: Largest difference of a mean prediction; None for Monte Carlo.
        mean_z: Mean of the z-scores of the uncertainties; None without Monte Carlo.
        rms_z: Root mean square of the z-scores; about 1 if the file draws from the same law.
    """

    rows: int
    max_error: float | None = None
    mean_z: float | None = None
    rms_z: float | None = None


def check_rows(posterior: AbstractPosterior, check_data: Any) -> np.ndarray:
    """The rows to compare on: the caller's, or those the model kept from `fit`.

    Raises:
        ValueError: If there are none, or they have the wrong shape or are not finite.
    """
    rows = posterior.model.example_rows if check_data is None else check_data
    if rows is None:
        raise ValueError(
            "The written file is compared with the Keras model on real rows, and a loaded model has "
            "kept none: pass `check_data=` with some rows of inputs. Received: check_data=None"
        )
    rows = np.asarray(rows, np.float32)[:_MAX_ROWS]
    expected = tuple(posterior.model.input_shape[1:])
    fits = rows.ndim == len(expected) + 1 and all(
        size in (None, given) for size, given in zip(expected, rows.shape[1:], strict=True)
    )
    if not fits or not len(rows):
        raise ValueError(
            f"The rows to check on must have the shape (rows, {', '.join(map(str, expected))}). "
            f"Received: check_data of shape {rows.shape}"
        )
    check_arrays("check_data", rows)
    return rows


def verify_mean(
    posterior: AbstractPosterior, run: Run, rows: np.ndarray, tolerance: float
) -> Agreement:
    """Compare a file that answers at the posterior mean.

    Raises:
        RuntimeError: If a prediction is off by more than `tolerance`, or not finite.
    """
    outputs = posterior.network(posterior.mean(), tf.convert_to_tensor(rows))
    expected = answer(posterior.likelihoods[0], outputs[tf.newaxis])["prediction"].numpy()
    prediction = run(rows)[0]
    error = float(np.max(np.abs(prediction - expected))) if prediction.size else 0.0
    if not error <= tolerance:
        raise RuntimeError(
            "The written file disagrees with the Keras model, and was removed: predictions on "
            f"{len(rows)} rows differ by up to {error:.3g}, the tolerance is {tolerance:.3g}."
        )
    return Agreement(len(rows), max_error=error)


def verify_monte_carlo(
    posterior: AbstractPosterior, run: Run, rows: np.ndarray, num_samples: int, slack: float
) -> Agreement:
    """Compare a file that draws networks: uncertainties at the same number of draws.

    Keras answers `_GROUPS` times with `num_samples` networks; the z-score of a row is the file's
    uncertainty minus their mean, over their standard deviation. The z-scores of a right file have
    mean 0 and root mean square a little above 1.

    Args:
        posterior: What was exported.
        run: Runs the file.
        rows: Inputs.
        num_samples: Number of networks in the file.
        slack: By how much an uncertainty may be off beside the noise (reduced precision), in its
            unit: it is added to the standard deviations.

    Raises:
        RuntimeError: If the z-scores are not distributed as they should be.
    """
    expected = _replicated_uncertainty(posterior, rows, num_samples)
    # Several calls, as the rows of one call may share the drawn networks.
    calls = [run(part)[1] for part in np.array_split(rows, min(_GROUPS, len(rows)))]
    uncertainty = np.concatenate(calls).astype(np.float64)
    # Rows on which every network is certain have no noise to compare with.
    spread = np.sqrt(expected.var(axis=0, ddof=1) * (1 + 1 / _GROUPS) + slack**2 + 1e-6**2)
    z = (uncertainty - expected.mean(axis=0)) / spread
    mean_z, rms_z = float(z.mean()), float(np.sqrt(np.mean(np.square(z))))
    if not (abs(mean_z) <= _MEAN_Z_LIMIT and rms_z <= _RMS_Z_LIMIT):
        raise RuntimeError(
            "The written file disagrees with the Keras model, and was removed: the z-scores of its "
            f"uncertainties on {len(rows)} rows have mean {mean_z:.3g} (at most {_MEAN_Z_LIMIT} in "
            f"size) and root mean square {rms_z:.3g} (at most {_RMS_Z_LIMIT}); 0 and about 1 were "
            "expected."
        )
    return Agreement(len(rows), mean_z=mean_z, rms_z=rms_z)


def _replicated_uncertainty(
    posterior: AbstractPosterior, rows: np.ndarray, num_samples: int
) -> np.ndarray:
    """Uncertainties of `_GROUPS` independent predictions, `(_GROUPS, rows, ...)`."""
    likelihood = posterior.likelihoods[0]
    blocks = sampled_blocks(posterior, rows, _GROUPS * num_samples, seed=0, verbose=0, outputs=True)
    outputs = np.concatenate([block[0][0] for block in blocks], axis=1)
    groups = np.split(outputs, _GROUPS)
    return np.stack([answer(likelihood, group)["uncertainty"].numpy() for group in groups])
