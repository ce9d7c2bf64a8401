"""Exports of a network in random forms, run without tfbnn and compared with Keras."""

import pathlib
import subprocess
from typing import Any

import numpy as np
import tensorflow as tf

import tfbnn
from tests.export import flat
from tests.fuzz import objective
from tests.fuzz.checks import Checks, Coarse, close
from tests.fuzz.models import Network

# How far answers at the posterior mean may be off, by the precision of the stored weights: what
# the exporters promise.
_TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "int8": 5e-2, "posterior": 0.1, "full_int8": 0.1}
# What the exporters promise of uncertainties, as a multiple of that of predictions.
_UNCERTAINTY_FACTOR = 10.0


def check(
    checks: Checks, network: Network, random: np.random.Generator, folder: pathlib.Path
) -> None:
    """Two exports in random forms; of some networks without uncertainty, so that all must agree."""
    certain = random.random() < 0.5
    if certain:
        objective.certain(network.model)
    for number in range(2):
        form = (_tflite, _tflite, _saved_model, _c)[random.integers(4)]
        form(checks, network, random, folder / f"export{number}", certain)


def _tflite(
    checks: Checks,
    network: Network,
    random: np.random.Generator,
    folder: pathlib.Path,
    certain: bool,
) -> None:
    uncertainty = str(random.choice(["moments", "monte_carlo", "ensemble", "none"]))
    allowed = ["float32", "float32", "float16", "int8"]
    if uncertainty != "ensemble":
        allowed.append("posterior")
    if uncertainty in ("none", "ensemble"):
        allowed.append("full_int8")
    options: dict[str, Any] = {
        "uncertainty": uncertainty,
        "precision": str(random.choice(allowed)),
        "batch_size": int(random.choice([1, 1, 4])),
        "num_samples": 1 if uncertainty == "none" else 4,
    }
    if uncertainty in ("moments", "monte_carlo") and random.random() < 0.3:
        options["scale"] = str(random.choice(["rank_one", "unit"]))
    with checks.part(f"tflite {uncertainty} {options['precision']}", may_refuse=True):
        path = folder / "model.tflite"
        exact = options["precision"] == "float32"
        _export(flat.tflite, network, path, exact, **options)
        answer = tfbnn.lite.Model(path).predict(_rows(network)).outputs
        tolerance = max(_TOLERANCES[options["precision"]], objective.tolerance(network.model))
        _check_answer(network, answer, tolerance, certain or uncertainty == "none")


def _saved_model(
    checks: Checks,
    network: Network,
    random: np.random.Generator,
    folder: pathlib.Path,
    certain: bool,
) -> None:
    uncertainty = str(random.choice(["monte_carlo", "none"]))
    with checks.part(f"saved_model {uncertainty}", may_refuse=True):
        path = folder / "saved_model"
        options = {"uncertainty": uncertainty, "num_samples": 4}
        _export(flat.saved_model, network, path, True, **options)
        loaded = tf.saved_model.load(str(path))
        tolerance = max(1e-4, objective.tolerance(network.model))
        x = tf.constant(_rows(network))
        answer = loaded.signatures["serving_default"](inputs=x)
        _check_answer(network, answer, tolerance, True)
        if uncertainty == "monte_carlo":
            answer = loaded.signatures["predict_with_uncertainty"](inputs=x)
            _check_answer(network, answer, tolerance, certain)


def _c(
    checks: Checks,
    network: Network,
    random: np.random.Generator,
    folder: pathlib.Path,
    certain: bool,
) -> None:
    options: dict[str, Any] = {
        "uncertainty": str(random.choice(["moments", "none"])),
        "precision": str(random.choice(["float32", "float32", "int8"])),
        "scale": str(random.choice(["full", "full", "rank_one", "unit"])),
    }
    with checks.part(f"c {options['uncertainty']} {options['precision']}", may_refuse=True):
        path = folder / "network"
        exact = options["precision"] == "float32"
        _export(flat.c, network, path, exact, **options)
        answer = _compiled_answer(network, path)
        tolerance = max(1e-3, _TOLERANCES[options["precision"]])
        tolerance = max(tolerance, objective.tolerance(network.model))
        _check_answer(network, answer, tolerance, certain or options["uncertainty"] == "none")


def _compiled_answer(network: Network, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What the compiled program answers for each row."""
    for command in (["make", "-s", "test"], []):
        program = folder / f"test_{folder.name}"
        ended = subprocess.run(
            command or [str(program), "--stdin"],
            cwd=folder,
            input=None if command else _rows(network).tobytes(),
            capture_output=True,
            timeout=120,
        )
        if ended.returncode:
            raise AssertionError(f"{command or program}: {ended.stdout!r} {ended.stderr!r}")
    expected = _expected(network)
    shapes = [value.shape[1:] for value in expected.values()]
    table = np.frombuffer(ended.stdout, np.float32).reshape(network.rows, -1)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return {
        name: part.reshape(-1, *shape)
        for name, part, shape in zip(expected, np.split(table, ends, axis=1), shapes, strict=True)
    }


def _expected(network: Network) -> dict[str, np.ndarray]:
    """Our answer for the network at the posterior mean."""
    values = objective.outputs_of(network)[0]
    scale = objective.learned_scales(network.model)[0]
    return network.outputs[0].answer(values[np.newaxis], scale)


def _check_answer(network: Network, answer: Any, tolerance: float, at_mean: bool) -> None:
    expected, output = _expected(network), network.outputs[0]
    answer = {name: np.asarray(answer[name]) for name in expected}
    third = "epistemic" if output.is_real else "mutual_information"
    if at_mean:
        close("prediction", answer["prediction"], expected["prediction"], tolerance)
        for name in ("uncertainty", third):
            close(name, answer[name], expected[name], _UNCERTAINTY_FACTOR * tolerance)
    for name, value in answer.items():
        if value.shape != expected[name].shape or not np.isfinite(value).all():
            raise AssertionError(f"{name} is not finite, or of shape {value.shape}: {value}")
    if (answer[third] < 0).any() or (answer[third] > answer["uncertainty"] + 1e-5).any():
        raise AssertionError(f"{third} is not a part of the uncertainty: {answer}")
    if not output.is_real:
        entropy = output.entropy(answer["prediction"].astype(np.float64))
        # Activations of 8 bits are coarser than float32.
        slack = 1e-4 if tolerance < _TOLERANCES["full_int8"] else tolerance
        close("entropy of the prediction", answer["uncertainty"], entropy, slack)
        if output.is_categorical:
            sums = answer["prediction"].sum(-1)
            close("sum of probabilities", sums, np.ones_like(sums), max(1e-4, tolerance / 10))


def _export(export: Any, network: Network, path: pathlib.Path, exact: bool, **options: Any) -> None:
    """Export; where weights or the model's own arithmetic are coarse, it may find itself wrong."""
    try:
        export(network.model, path, check_data=network.x, **options)
    except RuntimeError as error:
        is_coarse = not exact or network.policy.startswith("mixed")
        if is_coarse and "disagrees" in str(error) and not path.exists():
            raise Coarse from error
        raise


def _rows(network: Network) -> np.ndarray:
    return np.asarray(network.x, np.float32)
