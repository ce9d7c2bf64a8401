"""`tfbnn.decide`: a file that is there learns to answer with a set, an interval, or accepted.

The threshold is computed from the answers of the file itself, as it was written, and stands in its
manifest (of C in a header too). It is one about these bytes: another export has none.
"""

import os
import pathlib
from typing import Any

import numpy as np

from tfbnn import arguments, lite
from tfbnn.decisions.answers import LabelledAnswers
from tfbnn.decisions.conformal import fitted, untried
from tfbnn.decisions.selective import chosen_of
from tfbnn.export import manifest
from tfbnn.export.shipping import AbstractTarget
from tfbnn.export.targets import TARGETS
from tfbnn.likelihoods.table import likelihood_of
from tfbnn.lite_rules import Accepted, Rule


def decide(
    path: str | os.PathLike,
    x: Any,
    y: Any,
    coverage: float | None = None,
    risk: float | None = None,
    confidence: float = 0.95,
    tolerance: float | None = None,
    penalty: float = 0.0,
    num_unpenalised: int = 1,
) -> dict[str, Any]:
    """Give an exported file a threshold, or two, so that it answers with a decision.

    With `coverage` it answers with sets or intervals, as of `tfbnn.conformal`, with `risk` whether
    a prediction is accepted, as of `tfbnn.selective`: both with the guarantees told there, for the
    answers of this file, whatever its mode and precision. What was decided before is replaced.

    `tfbnn.lite.Model(path).predict(x)` then has `set` (booleans `(rows, classes)`) or `interval`
    (`lower, upper`), and `accepted` (booleans `(rows,)`). Beside C code lies a header
    `<name>_decisions.h` with the same in C. The thresholds belong to the bytes of the file: where
    they have changed, the reader says so, and the header does not compile with other code.

    Args:
        path: A `.tflite` file or a folder with C code, with its manifest. C is compiled with `cc`.
        x: Inputs of labelled rows, as the file takes them; new to the model, as in
            `tfbnn.conformal`. The file knows none that it could warn of.
        y: Their labels, as in `fit`.
        coverage: The probability that a set or an interval holds the truth; None for neither.
        risk: The share of wrong answers among those that are accepted; None to accept none.
        confidence, tolerance: Of the risk, as in `tfbnn.selective`.
        penalty, num_unpenalised: Of sets, as in `tfbnn.conformal`.

    Returns:
        The manifest, with `decisions`: the rules with their thresholds, and what they promise.

    Raises:
        FileNotFoundError: If there is no such file, or no manifest of it.
        ValueError: If nothing is asked for, there are too few rows, the file is no longer what its
            manifest describes, has several outputs, or is of a format that holds no decisions.
        RuntimeError: If there is no C compiler for C.

    Example:

    >>> import keras, numpy as np, os, tempfile, tfbnn
    >>> model = tfbnn.Sequential([keras.Input((3,)), tfbnn.layers.DenseFlipout(3)])
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.tflite")
    >>> _ = tfbnn.export.tflite(model, path, "moments", check_data=x)
    >>> _ = tfbnn.decide(path, x, x.argmax(axis=1), coverage=0.8)
    >>> tfbnn.lite.Model(path).predict(x[:5]).set.shape
    (5, 3)
    """
    path = arguments.path("path", path)
    coverage = None if coverage is None else arguments.probability("coverage", coverage)
    risk = None if risk is None else arguments.probability("risk", risk)
    confidence = arguments.probability("confidence", confidence)
    tolerance = None if tolerance is None else arguments.not_negative("tolerance", tolerance)
    if coverage is None and risk is None:
        raise ValueError(
            "Ask for sets and intervals with `coverage=`, for acceptance with `risk=`, or for "
            "both. Received: coverage=None, risk=None"
        )
    target, described, beside = _described(path)
    kind = _likelihood(described)
    answers = _labelled(kind, target.answers(path, described, x), y)
    rules, facts = [], {}
    if coverage is not None:
        rule = untried(kind.region_type, penalty, num_unpenalised)
        rules.append(fitted(rule, answers, coverage))
        facts |= {"coverage": coverage}
    if risk is not None:
        _, _, chosen = chosen_of(answers, risk, confidence, tolerance)
        rules.append(Accepted(chosen.threshold))
        facts |= {"risk": risk, "confidence": confidence, "tolerance": tolerance}
        facts |= {"num_kept": chosen.kept, "bound": chosen.bound}
    described["decisions"] = _in_json(described, rules, facts | {"num_rows": len(answers.labels)})
    target.write_rules(path, described, rules)
    manifest.replace(described, beside)
    return described


def _described(path: pathlib.Path) -> tuple[AbstractTarget, dict[str, Any], pathlib.Path]:
    """The kind of file, its manifest, and where that is."""
    places = [path.with_name(f"{path.name}.json"), path / f"{path.name}.json"]
    beside = [place for place in places if place.is_file()]
    if not beside or not path.exists():
        raise FileNotFoundError(
            f"There is no file {path} with a manifest beside it, as the exporters of "
            f"`tfbnn.export` write them. Received: path={str(path)!r}"
        )
    described = lite.read_manifest(beside[0])
    target = TARGETS.get(described.get("format"))
    if target is None or "likelihood" not in described:
        raise ValueError(
            "A decision is one about the one output of a file that tfbnn wrote. Received: "
            f"path={str(path)!r}, whose manifest has the format {described.get('format')!r} and "
            f"the outputs {sorted(described.get('outputs', ()))}"
        )
    return target(), described, beside[0]


def _likelihood(described: dict[str, Any]) -> Any:
    return likelihood_of(described["likelihood"]["loss"])


def _labelled(likelihood: Any, answers: dict[str, np.ndarray], y: Any) -> LabelledAnswers:
    prediction, uncertainty = answers["prediction"], answers["uncertainty"]
    y = arguments.real_array("y", y)
    if len(prediction) != len(np.atleast_1d(y)):
        raise ValueError(
            "`x` and `y` must have the same number of rows. "
            f"Received: {len(prediction)} rows of x, y of shape {y.shape}"
        )
    labels = likelihood.labels(y, prediction.shape, np.ones(uncertainty.shape, bool))
    return LabelledAnswers(likelihood, prediction, uncertainty, labels)


def _in_json(described: dict[str, Any], rules: list[Rule], facts: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says, with the checksum of the file that it is about."""
    configs = [rule.get_config() for rule in rules]
    return {"sha256": described["sha256"], "rules": configs, **facts}
