"""Exports of a network in random forms, run without tfbnn and compared with Keras."""

import pathlib
from typing import Any

import numpy as np

import tfbnn
from tests.export import flat
from tests.fuzz import objective
from tests.fuzz.checks import Checks, Coarse, close
from tests.fuzz.models import Network
from tests.targets import READERS
from tfbnn.posterior import posterior_of

# What the exporters promise of uncertainties, as a multiple of that of predictions.
_UNCERTAINTY_FACTOR = 10.0
# Of a file whose activations have 8 bits.
_COARSE = 0.1


def check(
    checks: Checks, network: Network, random: np.random.Generator, folder: pathlib.Path
) -> None:
    """Two exports in random forms; of some networks without uncertainty, so that all must agree."""
    certain = random.random() < 0.5
    if certain:
        objective.certain(network.model)
    targets = [name for name, reader in READERS.items() if not reader.missing]
    for number in range(2):
        name = str(random.choice(targets))
        options = _options(tfbnn.export.TARGETS[name], random)
        part = f"{name} {options['uncertainty']} {options['precision']}"
        with checks.part(part, may_refuse=True):
            _check_file(network, name, folder / f"export{number}", certain, options)


def _options(target: Any, random: np.random.Generator) -> dict[str, Any]:
    """Of all that a target says it has; what goes together only it knows, and refuses the rest."""
    return {
        "uncertainty": str(random.choice([mode.name for mode in target.modes])),
        "precision": str(random.choice(["float32", *target.tolerances])),
        "scale": str(random.choice(["full", "full", *target.deviations])),
        "batch_size": int(random.choice([1, 1, 4])),
        "num_samples": 4,
    }


def _check_file(
    network: Network, name: str, path: pathlib.Path, certain: bool, options: dict[str, Any]
) -> None:
    exact = options["precision"] == "float32"
    manifest = _export(getattr(flat, name), network, path, exact, **options)
    run = READERS[name].read(path, posterior_of(network.model))
    answers = run(_rows(network))
    tolerance = max(manifest["tolerance"], objective.tolerance(network.model))
    at_mean = certain or options["uncertainty"] == "none"
    single = len(network.outputs) == 1
    names = [""] if single else [f"{one}_" for one in network.model.output_names]
    for number, (output, begin) in enumerate(zip(network.outputs, names, strict=True)):
        values = objective.outputs_of(network)[number]
        scale = objective.learned_scales(network.model)[number]
        expected = output.answer(values[np.newaxis], scale)
        answer = {name: np.asarray(answers[begin + name]) for name in expected}
        _check_answer(output, answer, expected, tolerance, at_mean)


def _check_answer(
    output: Any,
    answer: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    tolerance: float,
    at_mean: bool,
) -> None:
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
        slack = 1e-4 if tolerance < _COARSE else tolerance
        close("entropy of the prediction", answer["uncertainty"], entropy, slack)
        if output.is_categorical:
            sums = answer["prediction"].sum(-1)
            close("sum of probabilities", sums, np.ones_like(sums), max(1e-4, tolerance / 10))


def _export(export: Any, network: Network, path: pathlib.Path, exact: bool, **options: Any) -> Any:
    """Export; where weights or the model's own arithmetic are coarse, it may find itself wrong."""
    try:
        return export(network.model, path, check_data=network.x, **options)
    except RuntimeError as error:
        is_coarse = not exact or network.policy.startswith("mixed")
        if is_coarse and "disagrees" in str(error) and not path.exists():
            raise Coarse from error
        raise


def _rows(network: Network) -> Any:
    """Inputs as a file takes them: an array, or arrays by their names."""
    if not isinstance(network.x, list):
        return np.asarray(network.x, np.float32)
    pairs = zip(network.model.inputs, network.x, strict=True)
    return {entry.name: np.asarray(one, np.float32) for entry, one in pairs}
