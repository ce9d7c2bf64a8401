"""tfbnn: Bayesian neural networks for Keras 3.

The flow is the layout:

    weights -> layers -> scores -> likelihoods -> training -> posterior -> prediction -> pruning
    -> export

with `search`, which needs keras-tuner, and the trainers on top. Names are loaded when they are
first used, so that `import tfbnn.lite` works on a device without TensorFlow.
"""

import importlib
from typing import Any

from tfbnn import registration

__version__ = "0.1.0"

_HOMES = {
    "Model": "tfbnn.training.models",
    "Sequential": "tfbnn.training.models",
    "clone_model": "tfbnn.training.models",
    "load_model": "tfbnn.training.models",
    "load_posterior": "tfbnn.posterior.routes",
    "check_elbo": "tfbnn.training.diagnostics",
    "predict": "tfbnn.prediction.predictive",
    "evaluate": "tfbnn.prediction.evaluation",
    "calibrate": "tfbnn.prediction.calibration",
    "prune": "tfbnn.pruning.prune",
    "compact": "tfbnn.pruning.compaction",
    "distill": "tfbnn.pruning.distillation",
    "pruning_curve": "tfbnn.pruning.curves",
}
_MODULES = (
    "callbacks",
    "export",
    "families",
    "layers",
    "lite",
    "losses",
    "posteriors",
    "priors",
    "recipes",
    "schedules",
    "search",
)

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"tfbnn.{name}")
    raise AttributeError(f"module 'tfbnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


registration.install()
