"""Manifests: what is in an exported file, in JSON beside it."""

import hashlib
import importlib.metadata
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from tfbnn.export.files import num_bytes, num_gzip_bytes
from tfbnn.posterior.base import AbstractPosterior
from tfbnn.pruning.masks import num_weights, sparsity_of
from tfbnn.weights import priors

_PACKAGES = ("tfbnn", "tensorflow", "keras", "tensorflow-probability", "ai-edge-litert", "numpy")


def manifest_path(path: pathlib.Path) -> pathlib.Path:
    """Where the manifest of the file or folder `path` is: `<path>.json`."""
    return path.with_name(f"{path.name}.json")


def describe(
    posterior: AbstractPosterior, path: pathlib.Path, sizes: Sequence[int | None], **facts: Any
) -> dict[str, Any]:
    """The manifest of an exported file.

    Args:
        posterior: What was exported.
        path: The written file or folder.
        sizes: Shape of one input as the file takes it, None for a size that may vary.
        **facts: What the exporter knows: format, mode, tolerances and so on.

    Returns:
        A dict for `json.dump`.
    """
    model = posterior.model
    likelihood = posterior.likelihoods[0]
    weights = posterior.weights
    return {
        **facts,
        "model": model.name,
        "input_shape": [None, *sizes],
        "likelihood": {
            "kind": likelihood.name,
            "loss": type(likelihood.loss).__name__,
            "temperature": likelihood.temperature,
            "mean_temperature": likelihood.mean_temperature,
        },
        **likelihood.meanings,
        "num_examples": model.num_examples,
        "priors": _distinct([priors.serialize(weight.prior) for weight in weights]),
        "kernel_weights": num_weights(model),
        "sparsity": sparsity_of(model),
        "bytes": num_bytes(path),
        "gzip_bytes": num_gzip_bytes(path),
        "sha256": _digest(path),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def write(manifest: dict[str, Any], path: pathlib.Path) -> None:
    """Write a manifest as JSON."""
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _distinct(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Class and settings of each prior in use, in the order of the layers."""
    described = [{"class": c["class_name"], **c["config"]} for c in configs]
    return [d for index, d in enumerate(described) if d not in described[:index]]


def _digest(path: pathlib.Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
