"""Files of posteriors: the Keras models, and what is to be known beside them.

A ZIP archive of `posterior.json`, `<number>.keras`, one for each model, and `<number>.npz`, one for
each posterior that has arrays of its own.
"""

import json
import pathlib
import tempfile
import warnings
import zipfile
from typing import Any

import keras
import numpy as np

from tfbnn import arguments
from tfbnn.training.models import load_model
from tfbnn.whole_files import whole_file

_DESCRIPTION = "posterior.json"


def write(path: Any, posterior: Any) -> None:
    """Write a posterior; see `AbstractPosterior.save`."""
    path = arguments.path("path", path)
    pieces: dict[str, Any] = {}
    description = json.dumps(_described(posterior, pieces), indent=2)
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_DESCRIPTION, description)
        with tempfile.TemporaryDirectory() as folder:
            for name, piece in pieces.items():
                one = pathlib.Path(folder) / name
                if isinstance(piece, keras.Model):
                    piece.save(one)
                else:
                    np.savez(one, **piece)
                archive.write(one, name)


def _described(posterior: Any, pieces: dict[str, Any]) -> dict[str, Any]:
    """What is to be known of a posterior beside models and arrays, which are put into `pieces`."""
    if "route" not in vars(type(posterior)):
        raise TypeError(
            "A file says by its `route` which class a posterior is of, and this class has that of "
            f"its base: give it one of its own. Received: a posterior of type "
            f"{type(posterior).__name__}, route={posterior.route!r}"
        )

    def put(piece: Any, ending: str) -> str:
        name = f"{len(pieces)}.{ending}"
        pieces[name] = piece
        return name

    return {
        "route": posterior.route,
        "config": keras.saving.serialize_keras_object(posterior.get_config()),
        "temperatures": [[one.temperature, one.mean_temperature] for one in posterior.likelihoods],
        "parts": [
            put(part, "keras") if isinstance(part, keras.Model) else _described(part, pieces)
            for part in posterior.parts
        ],
        "arrays": put(posterior.arrays, "npz") if posterior.arrays else None,
    }


def read(path: Any, routes: dict[str, Any], **kwargs: Any) -> Any:
    """The posterior that was given to `write`; see `tfbnn.load_posterior`.

    Args:
        path: The file.
        routes: The classes of posteriors by their names.
        **kwargs: As in `tfbnn.load_model`.
    """
    path = arguments.path("path", path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                description = json.loads(archive.read(_DESCRIPTION))
                # By name, so that no member is written anywhere else; checksums are compared.
                found = {name: archive.extract(name, folder) for name in _names(description)}
        except OSError:
            raise
        # Whatever a reader makes of bytes that were not written for it.
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as a posterior: it is damaged, or was not written by "
                f"`posterior.save` ({type(error).__name__}: {error})."
            ) from error
        pieces = {name: _loaded(file, kwargs) for name, file in found.items()}
    return _restored(path, description, pieces, routes)


def _loaded(path: str, kwargs: dict[str, Any]) -> Any:
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    with warnings.catch_warnings():
        # Of a model that was compiled and never trained; a posterior takes no steps.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return load_model(path, **kwargs)


def _names(description: dict[str, Any]) -> list[str]:
    """Names of the pieces in an archive, `<number>.keras` and `<number>.npz`."""
    names = []
    for part in description["parts"]:
        names += _names(part) if isinstance(part, dict) else [f"{int(part[:-6])}.keras"]
    arrays = description.get("arrays")
    return [*names, f"{int(arrays[:-4])}.npz"] if arrays else names


def _restored(path: Any, description: dict[str, Any], pieces: dict[str, Any], routes: Any) -> Any:
    if description["route"] not in routes:
        raise ValueError(
            f"{path} is a posterior of a route that is not known here, which are {sorted(routes)}: "
            f"it was written by another version. Received: route={description['route']!r}"
        )
    parts = [
        _restored(path, part, pieces, routes) if isinstance(part, dict) else pieces[part]
        for part in description["parts"]
    ]
    arrays = pieces.get(description.get("arrays"), {})
    config = keras.saving.deserialize_keras_object(description["config"])
    posterior = routes[description["route"]].from_parts(parts, config, arrays)
    pairs = zip(posterior.likelihoods, description["temperatures"], strict=True)
    for likelihood, temperatures in pairs:
        likelihood.take_temperatures(likelihood.at(*temperatures))
    return posterior
