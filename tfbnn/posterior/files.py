"""Files of posteriors: the Keras models, and what is to be known beside them.

A ZIP archive of `posterior.json` and `<number>.keras`, one for each model.
"""

import json
import pathlib
import tempfile
import warnings
import zipfile
from typing import Any

import keras

from tfbnn import arguments
from tfbnn.training.models import load_model
from tfbnn.whole_files import whole_file

_DESCRIPTION = "posterior.json"


def write(path: Any, posterior: Any) -> None:
    """Write a posterior; see `AbstractPosterior.save`."""
    path = arguments.path("path", path)
    models: list[keras.Model] = []
    description = json.dumps(_described(posterior, models), indent=2)
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_DESCRIPTION, description)
        with tempfile.TemporaryDirectory() as folder:
            for number, model in enumerate(models):
                one = pathlib.Path(folder) / f"{number}.keras"
                model.save(one)
                archive.write(one, one.name)


def _described(posterior: Any, models: list[keras.Model]) -> dict[str, Any]:
    """What is to be known of a posterior beside its models, which are put into the list."""
    if "route" not in vars(type(posterior)):
        raise TypeError(
            "A file says by its `route` which class a posterior is of, and this class has that of "
            f"its base: give it one of its own. Received: a posterior of type "
            f"{type(posterior).__name__}, route={posterior.route!r}"
        )
    parts = []
    for part in posterior.parts:
        if isinstance(part, keras.Model):
            parts.append(f"{len(models)}.keras")
            models.append(part)
        else:
            parts.append(_described(part, models))
    return {
        "route": posterior.route,
        "config": posterior.get_config(),
        "temperatures": [[one.temperature, one.mean_temperature] for one in posterior.likelihoods],
        "parts": parts,
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
                models = {name: archive.extract(name, folder) for name in _names(description)}
        except OSError:
            raise
        # Whatever a reader makes of bytes that were not written for it.
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as a posterior: it is damaged, or was not written by "
                f"`posterior.save` ({type(error).__name__}: {error})."
            ) from error
        loaded = {name: _loaded(file, kwargs) for name, file in models.items()}
    return _restored(path, description, loaded, routes)


def _loaded(path: str, kwargs: dict[str, Any]) -> keras.Model:
    with warnings.catch_warnings():
        # Of a model that was compiled and never trained; a posterior takes no steps.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return load_model(path, **kwargs)


def _names(description: dict[str, Any]) -> list[str]:
    """Names of the models in an archive, `<number>.keras`."""
    names = []
    for part in description["parts"]:
        names += _names(part) if isinstance(part, dict) else [f"{int(part[:-6])}.keras"]
    return names


def _restored(path: Any, description: dict[str, Any], models: dict[str, Any], routes: Any) -> Any:
    if description["route"] not in routes:
        raise ValueError(
            f"{path} is a posterior of a route that is not known here, which are {sorted(routes)}: "
            f"it was written by another version. Received: route={description['route']!r}"
        )
    parts = [
        _restored(path, part, models, routes) if isinstance(part, dict) else models[part]
        for part in description["parts"]
    ]
    posterior = routes[description["route"]].from_parts(parts, description["config"])
    pairs = zip(posterior.likelihoods, description["temperatures"], strict=True)
    for likelihood, temperatures in pairs:
        likelihood.take_temperatures(likelihood.at(*temperatures))
    return posterior
