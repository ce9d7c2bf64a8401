"""tfbnn: Bayesian neural networks for Keras 3.

The flow is the layout:

    weights -> layers -> scores -> likelihoods -> training -> conversion -> posterior -> prediction
    -> decisions -> inspection -> pruning -> export

with `search`, which needs keras-tuner, and the trainers on top. Names are loaded when they are
first used, so that `import tfbnn.lite` works on a device without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfbnn import registration

if TYPE_CHECKING:
    # For editors and type checkers, which do not call `__getattr__`.
    from tfbnn import callbacks as callbacks
    from tfbnn import export as export
    from tfbnn import families as families
    from tfbnn import layers as layers
    from tfbnn import lite as lite
    from tfbnn import losses as losses
    from tfbnn import optimizers as optimizers
    from tfbnn import posteriors as posteriors
    from tfbnn import priors as priors
    from tfbnn import recipes as recipes
    from tfbnn import schedules as schedules
    from tfbnn import search as search
    from tfbnn.conversion.to_bayesian import to_bayesian as to_bayesian
    from tfbnn.conversion.to_deterministic import to_deterministic as to_deterministic
    from tfbnn.conversion.with_prior import with_prior as with_prior
    from tfbnn.decisions.conformal import conformal as conformal
    from tfbnn.decisions.selective import selective as selective
    from tfbnn.export.deciding import decide as decide
    from tfbnn.inspection.layer_uncertainty import layer_uncertainty as layer_uncertainty
    from tfbnn.inspection.network_picture import plot_network as plot_network
    from tfbnn.posterior.next_prior import continue_from as continue_from
    from tfbnn.posterior.routes import load_posterior as load_posterior
    from tfbnn.prediction.calibration import calibrate as calibrate
    from tfbnn.prediction.evaluation import evaluate as evaluate
    from tfbnn.prediction.predictive import predict as predict
    from tfbnn.pruning.compaction import compact as compact
    from tfbnn.pruning.curves import pruning_curve as pruning_curve
    from tfbnn.pruning.distillation import distill as distill
    from tfbnn.pruning.prune import prune as prune
    from tfbnn.training.convergence import ConvergenceWarning as ConvergenceWarning
    from tfbnn.training.diagnostics import check_elbo as check_elbo
    from tfbnn.training.models import Model as Model
    from tfbnn.training.models import Sequential as Sequential
    from tfbnn.training.models import clone_model as clone_model
    from tfbnn.training.models import load_model as load_model
    from tfbnn.training.target_units import TargetsFarOffWarning as TargetsFarOffWarning

__version__ = "0.1.0"

_HOMES = {
    "Model": "tfbnn.training.models",
    "Sequential": "tfbnn.training.models",
    "clone_model": "tfbnn.training.models",
    "load_model": "tfbnn.training.models",
    "to_bayesian": "tfbnn.conversion.to_bayesian",
    "to_deterministic": "tfbnn.conversion.to_deterministic",
    "with_prior": "tfbnn.conversion.with_prior",
    "continue_from": "tfbnn.posterior.next_prior",
    "load_posterior": "tfbnn.posterior.routes",
    "check_elbo": "tfbnn.training.diagnostics",
    "ConvergenceWarning": "tfbnn.training.convergence",
    "TargetsFarOffWarning": "tfbnn.training.target_units",
    "predict": "tfbnn.prediction.predictive",
    "evaluate": "tfbnn.prediction.evaluation",
    "calibrate": "tfbnn.prediction.calibration",
    "conformal": "tfbnn.decisions.conformal",
    "selective": "tfbnn.decisions.selective",
    "decide": "tfbnn.export.deciding",
    "layer_uncertainty": "tfbnn.inspection.layer_uncertainty",
    "plot_network": "tfbnn.inspection.network_picture",
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
    "optimizers",
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
