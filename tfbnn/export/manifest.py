"""Manifests: what is in an exported file, in JSON beside it."""

import hashlib
import importlib.metadata
import json
import pathlib
from typing import Any

from tfbnn.export.files import num_bytes, num_gzip_bytes
from tfbnn.pruning.masks import num_weights, prunable_weights, sparsity_of
from tfbnn.whole_files import whole_file

_PACKAGES = ("tfbnn", "tensorflow", "keras", "tensorflow-probability", "ai-edge-litert", "numpy")


def describe(
    target: Any, shipment: Any, path: pathlib.Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of an exported file.

    Args:
        target: The kind of file.
        shipment: What was exported.
        path: The written file or folder.
        facts: What the target knows beside.

    Returns:
        A dict for `json.dump`.
    """
    signature = shipment.signature
    shapes = dict(zip(signature.inputs, map(list, signature.shapes), strict=True))
    likelihoods = {name: _likelihood(one) for name, one in signature.outputs.items()}
    single = len(likelihoods) == 1
    return {
        "format": target.name,
        **shipment.mode.facts(shipment.posterior),
        "precision": shipment.storage.precision,
        "standard_deviations": shipment.deviations if shipment.mode.has_deviations else None,
        "input_type": shipment.inputs.type,
        "preprocessing": shipment.inputs.words,
        "class_names": shipment.class_names,
        "tolerance": shipment.tolerance,
        **({"input_shape": [*shapes.values()][0]} if len(shapes) == 1 else {"inputs": shapes}),
        **({"likelihood": likelihoods[""]} if single else {"outputs": likelihoods}),
        **signature.meanings(),
        **shipment.given.describe(),
        **_pruned(shipment.posterior.model),
        "bytes": num_bytes(path),
        "gzip_bytes": num_gzip_bytes(path),
        "sha256": digest(path),
        "versions": {name: _version(name) for name in _PACKAGES},
        **facts,
    }


def write(manifest: dict[str, Any], path: pathlib.Path) -> None:
    """Write a manifest as JSON."""
    path.write_text(_text(manifest))


def replace(manifest: dict[str, Any], path: pathlib.Path) -> None:
    """Write a manifest in the place of another one, which is there until the new one is whole."""
    with whole_file(path) as file:
        file.write(_text(manifest).encode())


def digest(path: pathlib.Path) -> str | None:
    """The checksum of a file; None of a folder."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def _pruned(model: Any) -> dict[str, Any]:
    if not prunable_weights(model):
        return {}
    return {"kernel_weights": num_weights(model), "sparsity": sparsity_of(model)}


def _likelihood(likelihood: Any) -> dict[str, Any]:
    return {
        "kind": likelihood.name,
        "loss": type(likelihood.loss).__name__,
        "temperature": likelihood.temperature,
        "mean_temperature": likelihood.mean_temperature,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
