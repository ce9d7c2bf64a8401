"""Agreement: does the written file answer as the posterior does?

A file is judged by its answers, not by whether it loads: some combinations of options run and
return garbage. And it is compared with the posterior, not with what the exporter has made of it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfbnn.prediction.predictive import sampled_blocks

Answers = dict[str, np.ndarray]
# The answers of a file to its inputs, by name.
Run = Callable[[Sequence[np.ndarray]], Answers]

# Groups of draws in Keras that say how far the answers of a file with as many draws may scatter.
_GROUPS = 16
# The rows of one call share their networks, so the z-scores are correlated: with 16 groups on each
# side the mean scatters with up to sqrt(2 / 16) = 0.35. The limits are four times that, and twice
# the root mean square with room for the heavy tails of small entropies.
_MEAN_Z_LIMIT = 1.5
_RMS_Z_LIMIT = 2.5
# Beside the largest answer, less than this does not matter.
_NEGLIGIBLE = 1e-3
# No z-score counts as more; a file that is wrong everywhere still exceeds both limits.
_FAR = 5.0
# An entropy moves by up to |log p| times as much as a probability p, and log(1e-4) is -9.
UNCERTAINTY_FACTOR = 10.0
# That is for single rows; on average no such thing happens.
_MEAN_UNCERTAINTY_FACTOR = 3.0
_NUM_DRAWS = 128
# Float32 sums in another order differ by this much, beside the largest number of their kind.
_ROUNDING = 1e-5
# Up to this tolerance a file computes in float32.
_EXACT = 1e-4


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well a file agreed with its posterior.

    Attributes:
        rows: Number of rows compared.
        max_error: Largest difference of a mean prediction, relative to the largest prediction if
            that is above 1; None for Monte Carlo.
        mean_z: Mean of the z-scores of the uncertainties; None without Monte Carlo.
        rms_z: Root mean square of these z-scores; about 1 if the file draws from the same law.
        prediction_mean_z: The same for the predictions.
        prediction_rms_z: The same for the predictions.
        epistemic_mean_z: The same for the third output.
        epistemic_rms_z: The same for the third output.
        draws_difference: How far predictions of moments are from drawn networks; see the function.
    """

    rows: int
    max_error: float | None = None
    mean_z: float | None = None
    rms_z: float | None = None
    prediction_mean_z: float | None = None
    prediction_rms_z: float | None = None
    epistemic_mean_z: float | None = None
    epistemic_rms_z: float | None = None
    draws_difference: float | None = None


def same_as_outputs(source: Any, outputs: Any, answers: Answers) -> Agreement:
    """Compare the answers of a file with those that outputs of networks in Keras give.

    Args:
        source: The `Shipment`.
        outputs: `(networks, rows, ...)`.
        answers: Those of the file.

    Raises:
        RuntimeError: As of `same_answers`.
    """
    names, tolerance = source.signature.answers, source.tolerance
    return same_answers(source.answer(outputs), answers, names, tolerance)


def same_answers(
    expected: Answers, answers: Answers, names: Sequence[Sequence[str]], tolerance: float
) -> Agreement:
    """Compare answers that repeat with what they should be.

    Args:
        expected: What each answer should be, by name.
        answers: Those of the file.
        names: Of the answers about each output, the prediction first.
        tolerance: Largest accepted difference of a prediction, relative to the largest.

    Raises:
        RuntimeError: If a prediction is off by more than the tolerance, an uncertainty by more than
            ten times that, or one is not finite.
    """
    pairs = [[(answers[n], np.asarray(expected[n])) for n in of_one] for of_one in names]
    # Not Python's `max`, which may lose a NaN.
    error = float(np.max([_relative_error(*first) for first, *_ in pairs]))
    others = [pair for _, *rest in pairs for pair in rest]
    uncertainty_error = float(np.max([_relative_error(*pair) for pair in others]))
    mean_error = float(np.max([np.mean(np.abs(a - b)) / _size(b) for a, b in others]))
    rows = len(pairs[0][0][0])
    if not (
        error <= tolerance
        and uncertainty_error <= UNCERTAINTY_FACTOR * tolerance
        and mean_error <= _MEAN_UNCERTAINTY_FACTOR * tolerance
    ):
        raise RuntimeError(
            "The written file disagrees with the Keras model, and was removed: on "
            f"{rows} rows predictions differ by up to {error:.3g} (the tolerance is "
            f"{tolerance:.3g}), uncertainties by up to {uncertainty_error:.3g} (the tolerance is "
            f"{UNCERTAINTY_FACTOR * tolerance:.3g}) and by {mean_error:.3g} on average (the "
            f"tolerance is {_MEAN_UNCERTAINTY_FACTOR * tolerance:.3g})."
        )
    return Agreement(rows, max_error=error)


def draws_difference(source: Any, answers: Answers) -> float:
    """How far predictions are from those of networks drawn in Keras, on average.

    Of classes, half the sum of absolute differences of probabilities; of real numbers, differences
    in standard deviations. With 128 draws, chance alone makes a difference of up to
    `1 / sqrt(128) = 0.09` standard deviations.
    """
    blocks = sampled_blocks(source.posterior, source.prepared, _NUM_DRAWS, seed=0, verbose=0)
    drawn = next(iter(blocks)).answers[0].prediction(keep_samples=False)
    likelihood = source.posterior.likelihoods[0]
    prediction = answers[source.signature.answers[0][0]]
    return float(likelihood.difference(prediction, drawn).mean())


def drawn_alike(source: Any, num_samples: int, run: Run) -> Agreement:
    """Compare a file that draws networks: its answers at the same number of draws.

    Keras answers `_GROUPS` times with `num_samples` networks; the z-score of an answer is the
    file's minus their mean, over their standard deviation. The z-scores of a right file have mean 0
    and root mean square a little above 1.

    Args:
        source: The `Shipment`.
        num_samples: Networks that the file draws.
        run: Runs the file.

    Raises:
        RuntimeError: If the z-scores are not distributed as they should be.
    """
    # Reduced precision moves answers beside their noise.
    slack = 0.0 if source.tolerance <= _EXACT else source.tolerance
    scores = required_scores(replicated_answers(source, num_samples), run, source.rows, slack)
    prediction, uncertainty, epistemic = (scores[n] for n in source.signature.answers[0][:3])
    return Agreement(len(source.rows[0]), None, *uncertainty, *prediction, *epistemic)


def required_scores(
    expected: Answers, run: Run, rows: Sequence[np.ndarray], slack: float
) -> dict[str, tuple[float, float]]:
    """Mean and root mean square of the z-scores of each answer; see `drawn_alike`.

    Args:
        expected: What `replicated_answers` gives.
        run: Runs the file.
        rows: Inputs of the file.
        slack: By how much an answer may be off beside the noise, relative to the largest: it is
            added to the standard deviations.
    """
    count = len(rows[0])
    # Several calls, as the rows of one call may share the drawn networks.
    # Few rows are asked again, so that a single z-score, with its heavy tail, does not decide.
    asked = np.arange(max(count, _GROUPS)) % count
    calls = [run([x[part] for x in rows]) for part in np.array_split(asked, _GROUPS)]
    scores = {
        name: _mean_and_rms(
            _z_scores(np.concatenate([call[name] for call in calls]), value[:, asked], slack)
        )
        for name, value in expected.items()
    }
    if not all(abs(mean) <= _MEAN_Z_LIMIT and rms <= _RMS_Z_LIMIT for mean, rms in scores.values()):
        described = ", ".join(f"{mean:.3g} and {rms:.3g}" for mean, rms in scores.values())
        raise RuntimeError(
            "The written file disagrees with the Keras model, and was removed: the z-scores of its "
            f"predictions, uncertainties and third output on {count} rows have mean and root "
            f"mean square {described}; 0 (at most {_MEAN_Z_LIMIT} in size) and about 1 (at most "
            f"{_RMS_Z_LIMIT}) were expected."
        )
    return scores


def replicated_answers(source: Any, num_samples: int) -> dict[str, np.ndarray]:
    """Answers of `_GROUPS` independent predictions in Keras, `(_GROUPS, rows, ...)` each."""
    count = _GROUPS * num_samples
    blocks = sampled_blocks(source.as_stored, source.prepared, count, seed=0, verbose=0)
    blocks = [[one.outputs for one in block.answers] for block in blocks]
    outputs = [np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True)]
    groups = zip(*(np.split(one, _GROUPS) for one in outputs), strict=True)
    answers = [source.answer(list(group)) for group in groups]
    return {
        name: np.stack([answer[name] for answer in answers]).astype(np.float64)
        for name in answers[0]
    }


def _relative_error(value: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, beside the largest expected number if that is above 1."""
    return float(np.max(np.abs(value - expected)) / _size(expected))


def _size(values: np.ndarray) -> float:
    return max(1.0, float(np.max(np.abs(values))))


def _z_scores(value: np.ndarray, expected: np.ndarray, slack: float) -> np.ndarray:
    """Of one answer among the `_GROUPS` expected ones, `(_GROUPS, *value.shape)`."""
    floor = (slack + _NEGLIGIBLE) * np.max(np.abs(expected)) + _ROUNDING**2
    spread = np.sqrt(expected.var(axis=0, ddof=1) * (1 + 1 / _GROUPS) + floor**2)
    z = (value.astype(np.float64) - expected.mean(axis=0)) / spread
    # Small probabilities are far from normal; a few of them must not decide. NaN stays NaN.
    return np.clip(z, -_FAR, _FAR)


def _mean_and_rms(z: np.ndarray) -> tuple[float, float]:
    return float(z.mean()), float(np.sqrt(np.mean(np.square(z))))
