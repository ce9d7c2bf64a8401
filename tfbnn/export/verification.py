"""Verification: does the written file answer as the Keras model does?

A file is judged by its answers, not by whether it loads: some combinations of options run and
return garbage.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnn import arguments
from tfbnn.export.graph import Graph
from tfbnn.layers.keras_internals import all_layers
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.prediction.predictive import outputs_of_one, sampled_blocks
from tfbnn.training.data import check_arrays

# The outputs in the order of `answer_names`: prediction, uncertainty, and parts of it.
Run = Callable[[np.ndarray], Sequence[np.ndarray]]

_MAX_ROWS = 256
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
# Epsilon of the type a mixed-precision model computes in, five times: a file is in float32.
_KERAS_TOLERANCES = {"float16": 5e-3, "bfloat16": 4e-2}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well a file agreed with Keras.

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


def input_shape(model: Any) -> tuple[int | None, ...]:
    """Shape of the model's one input, `(None, ...)`."""
    shape = getattr(model, "input_shape", None)
    if shape is not None:
        return shape
    # A subclassed model remembers the batch that it was built on.
    shape = (model.get_build_config() or {}).get("input_shape", ())
    return (None, *shape[1:])


def check_model(posterior: AbstractPosterior) -> None:
    """Raise a `ValueError` if the model is not one array to one array, with finite weights."""
    shape = getattr(posterior.model, "input_shape", ())
    several = isinstance(shape, dict | list) or any(isinstance(s, tuple | list) for s in shape)
    if several or len(posterior.likelihoods) != 1:
        raise ValueError(
            "Only models with one input and one output are exported. "
            f"Received: input_shape={shape}, {len(posterior.likelihoods)} outputs"
        )
    check_arrays("the weights of the model", posterior.model.get_weights())


def keras_tolerance(posterior: AbstractPosterior) -> float:
    """How far the Keras model itself may be from float32, if it computes in less."""
    types = {layer.compute_dtype for layer in all_layers(posterior.model)}
    return max(_KERAS_TOLERANCES.get(dtype, 0.0) for dtype in types)


def check_rows(posterior: AbstractPosterior, check_data: Any, raw: bool = False) -> np.ndarray:
    """The rows to compare on: the caller's, or those the model kept from `fit`.

    Args:
        posterior: What is exported.
        check_data: The caller's rows, or None.
        raw: Whether the file prepares its inputs by itself; those kept from `fit` are prepared.

    Raises:
        ValueError: If there are none, or they have the wrong shape or are not finite.
    """
    rows = posterior.model.example_rows if check_data is None else check_data
    if check_data is None and raw:
        raise ValueError(
            "A file with the preprocessing inside is checked on inputs as they are before it: pass "
            "`check_data=` with some of them. Received: check_data=None"
        )
    if rows is None:
        raise ValueError(
            "The written file is compared with the Keras model on real rows, and a loaded model "
            "has kept none: pass `check_data=` with some rows of inputs. Received: check_data=None"
        )
    return checked_rows("check_data", rows, tuple(input_shape(posterior.model)[1:]))[:_MAX_ROWS]


def checked_rows(name: str, value: Any, expected: tuple[int | None, ...]) -> np.ndarray:
    """`value` as float32 rows of the expected shape, finite; a `ValueError` if it is none."""
    array = arguments.real_array(name, value)
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32)
    check_shape(name, rows, expected)
    return rows


def check_shape(name: str, rows: np.ndarray, expected: tuple[int | None, ...]) -> None:
    """Raise a `ValueError` unless there are rows, of the expected shape and finite."""
    fits = rows.ndim == len(expected) + 1 and all(
        size in (None, given) for size, given in zip(expected, rows.shape[1:], strict=True)
    )
    if not fits or not len(rows):
        raise ValueError(
            f"`{name}` must have the shape (rows, {', '.join(map(str, expected))}). "
            f"Received: {name} of shape {rows.shape}"
        )
    check_arrays(name, rows)


def check_type(name: str, rows: np.ndarray, input_type: str) -> None:
    """Raise a `ValueError` if rows are no pixels where a file takes pixels."""
    whole = (rows >= 0) & (rows <= 255) & (rows == rows.round())
    if input_type == "uint8" and not whole.all():
        raise ValueError(
            f"With `input_type='uint8'` all values of `{name}` must be whole numbers from 0 to "
            "255. Put what scales them (`keras.layers.Rescaling`) into the model or the file. "
            f"Received: {name} from {rows.min()} to {rows.max()}"
        )


def verify(graph: Graph, run: Run, rows: np.ndarray, tolerance: float) -> Agreement:
    """Compare a file with what it was made from, in the way that its mode allows.

    Args:
        graph: What the file is to compute.
        run: Runs the file.
        rows: Inputs of the file.
        tolerance: Largest accepted difference of a mean prediction, relative to the largest.

    Raises:
        RuntimeError: If the two disagree.
    """
    posterior = graph.posterior
    prepared = graph.prepared(tf.constant(rows.astype(graph.input_type))).numpy()
    if graph.mode == "none":
        return verify_mean(posterior, run, rows, tolerance, prepared)
    if graph.mode == "monte_carlo":
        # Reduced precision moves answers beside their noise.
        slack = 0.0 if tolerance <= _EXACT else tolerance
        expected = _replicated_answers(graph, prepared)
        return verify_monte_carlo(expected, run, rows, slack)
    # These repeat, so TensorFlow gives the same from the same graph.
    answers = run(rows)
    agreement = same_answers(_in_tensorflow(graph, rows), answers, tolerance)
    if graph.mode != "moments":
        return agreement
    difference = draws_difference(posterior, answers[0], prepared)
    return dataclasses.replace(agreement, draws_difference=difference)


def verify_mean(
    posterior: AbstractPosterior,
    run: Run,
    rows: np.ndarray,
    tolerance: float,
    prepared: np.ndarray | None = None,
) -> Agreement:
    """Compare a file that answers at the posterior mean.

    Args:
        posterior: What was exported.
        run: Runs the file.
        rows: Inputs of the file.
        tolerance: As in `verify`.
        prepared: Inputs of the model, if they are others.

    Raises:
        RuntimeError: If a prediction is off by more than `tolerance`, an uncertainty by more than
            ten times that, or one is not finite.
    """
    inputs = tf.convert_to_tensor(rows if prepared is None else prepared)
    outputs = outputs_of_one(posterior, inputs, "check_data")
    expected = posterior.likelihoods[0].answer(outputs[tf.newaxis])
    return same_answers(listed(posterior, expected), run(rows), tolerance)


def same_answers(
    expected: Sequence[np.ndarray], answers: Sequence[np.ndarray], tolerance: float
) -> Agreement:
    """Compare answers that repeat with what they should be.

    Args:
        expected: The prediction, and each uncertainty.
        answers: Those of the file, as many.
        tolerance: As in `verify`.

    Raises:
        RuntimeError: As in `verify_mean`.
    """
    pairs = list(zip(answers, expected, strict=True))
    rows = len(answers[0])
    error, *errors = [_relative_error(*pair) for pair in pairs]
    # Not Python's `max`, which may lose a NaN.
    uncertainty_error = float(np.max(errors))
    mean_error = float(np.max([np.mean(np.abs(a - b)) / _size(b) for a, b in pairs[1:]]))
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


def draws_difference(
    posterior: AbstractPosterior, prediction: np.ndarray, rows: np.ndarray
) -> float:
    """How far predictions are from those of networks drawn in Keras, on average.

    Of classes, half the sum of absolute differences of probabilities; of real numbers, differences
    in standard deviations. With 128 draws, chance alone makes a difference of up to
    `1 / sqrt(128) = 0.09` standard deviations.
    """
    block = next(iter(sampled_blocks(posterior, rows, _NUM_DRAWS, seed=0, verbose=0)))
    drawn = block.answers[0].prediction(keep_samples=False)
    return float(posterior.likelihoods[0].difference(prediction, drawn).mean())


def listed(posterior: AbstractPosterior, answers: Mapping[str, Any]) -> list[np.ndarray]:
    """The outputs of a file, which come by their names, in the order of `answer_names`."""
    return [np.asarray(answers[name]) for name in posterior.likelihoods[0].answer_names]


def _in_tensorflow(graph: Graph, rows: np.ndarray) -> list[np.ndarray]:
    """The answers of the graph in TensorFlow, before any conversion."""
    serve = graph.with_rows(len(rows)).module().serve
    return listed(graph.posterior, serve(tf.constant(rows.astype(graph.input_type))))


def verify_monte_carlo(
    expected: dict[str, np.ndarray], run: Run, rows: np.ndarray, slack: float
) -> Agreement:
    """Compare a file that draws networks: its answers at the same number of draws.

    Keras answers `_GROUPS` times with `num_samples` networks; the z-score of an answer is the
    file's minus their mean, over their standard deviation. The z-scores of a right file have mean 0
    and root mean square a little above 1.

    Args:
        expected: What `replicated_answers` gives for as many networks as the file draws.
        run: Runs the file.
        rows: Inputs of the file.
        slack: By how much an answer may be off beside the noise (reduced precision), relative to
            the largest: it is added to the standard deviations.

    Raises:
        RuntimeError: If the z-scores are not distributed as they should be.
    """
    # Several calls, as the rows of one call may share the drawn networks.
    # Few rows are asked again, so that a single z-score, with its heavy tail, does not decide.
    asked = np.arange(max(len(rows), _GROUPS)) % len(rows)
    calls = [run(rows[part]) for part in np.array_split(asked, _GROUPS)]
    found = [np.concatenate(part) for part in zip(*calls, strict=True)]
    pairs = [
        _mean_and_rms(_z_scores(value, expected_[:, asked], slack))
        for value, expected_ in zip(found, expected.values(), strict=True)
    ]
    prediction, uncertainty, epistemic = pairs[:3]
    agreement = Agreement(len(rows), None, *uncertainty, *prediction, *epistemic)
    if not all(abs(mean) <= _MEAN_Z_LIMIT and rms <= _RMS_Z_LIMIT for mean, rms in pairs):
        described = ", ".join(f"{mean:.3g} and {rms:.3g}" for mean, rms in pairs)
        raise RuntimeError(
            "The written file disagrees with the Keras model, and was removed: the z-scores of its "
            f"predictions, uncertainties and third output on {len(rows)} rows have mean and root "
            f"mean square {described}; 0 (at most {_MEAN_Z_LIMIT} in size) and about 1 (at most "
            f"{_RMS_Z_LIMIT}) were expected."
        )
    return agreement


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


def replicated_answers(
    posterior: AbstractPosterior, rows: np.ndarray, num_samples: int
) -> dict[str, np.ndarray]:
    """Answers of `_GROUPS` independent predictions in Keras, `(_GROUPS, rows, ...)` each."""
    blocks = sampled_blocks(posterior, rows, _GROUPS * num_samples, seed=0, verbose=0)
    outputs = np.concatenate([block.answers[0].outputs for block in blocks], axis=1)
    likelihood = posterior.likelihoods[0]
    return _stacked(likelihood, [likelihood.answer(g) for g in np.split(outputs, _GROUPS)])


def _replicated_answers(graph: Graph, prepared: np.ndarray) -> dict[str, np.ndarray]:
    if graph.scale == "full":
        return replicated_answers(graph.posterior, prepared, graph.num_samples)
    # The law of the file is another one than that of the model: networks are drawn from it.
    ensemble = dataclasses.replace(graph.with_rows(len(prepared)), mode="ensemble")
    graphs = [
        dataclasses.replace(ensemble, seed=seed, preprocessing=None, input_type="float32")
        for seed in range(_GROUPS)
    ]
    answers = [g.module().serve(tf.constant(prepared)) for g in graphs]
    return _stacked(graph.posterior.likelihoods[0], answers)


def _stacked(
    likelihood: AbstractLikelihood, answers: list[dict[str, tf.Tensor]]
) -> dict[str, np.ndarray]:
    return {
        name: np.stack([a[name].numpy() for a in answers]).astype(np.float64)
        for name in likelihood.answer_names
    }
