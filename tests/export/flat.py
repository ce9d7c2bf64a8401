"""Exporters with all options as keywords of one call, for tests that go over grids of them."""

import tfbnn
from tfbnn.export.modes import MODES

_STORAGE = ("precision", "sparse", "standard_deviations", "representative_data", "tolerance")
_INPUTS = ("batch_size", "type", "preprocessing")
_MODE = ("num_samples", "num_points", "seed")
_SHORT = {"scale": "standard_deviations", "input_type": "type"}


def tflite(model, path, uncertainty="monte_carlo", **options):
    return _export(tfbnn.export.tflite, model, path, uncertainty, options)


def saved_model(model, path, uncertainty="monte_carlo", **options):
    return _export(tfbnn.export.saved_model, model, path, uncertainty, options)


def c(model, path, uncertainty="moments", **options):
    return _export(tfbnn.export.c, model, path, uncertainty, options)


def _export(export, model, path, uncertainty, options):
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
