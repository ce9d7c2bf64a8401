"""Exporters with all options as keywords of one call, for tests that go over grids of them.

`flat.<target>` is there for every target.
"""

import functools
import inspect

import tfbnn
from tfbnn.export.modes import MODES

_STORAGE = ("precision", "sparse", "standard_deviations", "representative_data", "tolerance")
_INPUTS = ("batch_size", "type", "preprocessing")
_MODE = ("num_samples", "num_points", "seed")
_SHORT = {"scale": "standard_deviations", "input_type": "type"}


def __getattr__(name):
    if name not in tfbnn.export.TARGETS:
        raise AttributeError(name)
    return functools.partial(_export, getattr(tfbnn.export, name))


def _export(export, model, path, uncertainty=None, **options):
    uncertainty = uncertainty or inspect.signature(export).parameters["uncertainty"].default
    options = {_SHORT.get(name, name): value for name, value in options.items()}
    storage = {name: options.pop(name) for name in _STORAGE if name in options}
    inputs = {name: options.pop(name) for name in _INPUTS if name in options}
    mode = {name: options.pop(name) for name in _MODE if name in options}
    if uncertainty in MODES and mode:
        fields = MODES[uncertainty].__dataclass_fields__
        # A count of networks is one of points where there are no networks.
        count = mode.pop("num_samples", None)
        if count is not None:
            mode["num_samples" if "num_samples" in fields else "num_points"] = count
        uncertainty = MODES[uncertainty](**{n: v for n, v in mode.items() if n in fields})
    if storage:
        options["storage"] = tfbnn.export.Storage(**storage)
    if inputs:
        options["inputs"] = tfbnn.export.Inputs(**inputs)
    return export(model, path, uncertainty, **options)
