"""Options: what all exporters take, checked before any of them begins."""

from collections.abc import Callable
from typing import Any

from tfbnn import arguments
from tfbnn.posterior.base import AbstractPosterior


def checked_class_names(posterior: AbstractPosterior, names: Any) -> list[str] | None:
    """The names of the classes, as many as there are; None if none are given."""
    if names is None:
        return None
    checked = arguments.listed("class_names", names, arguments.text)
    shape = getattr(posterior.model, "output_shape", None)
    classes = posterior.likelihoods[0].num_classes(shape) if shape else None
    if classes not in (None, len(checked)):
        raise ValueError(
            f"`class_names` must be the names of all {classes} classes. "
            f"Received: class_names={checked}"
        )
    return checked


def checked_tolerance(tolerance: Any, default: Callable[[], float]) -> float:
    """The tolerance, or what `default` gives."""
    if tolerance is None:
        return default()
    return arguments.real_number("tolerance", tolerance, 0)


def checked_words(preprocessing: Any) -> str | None:
    """What the inputs have gone through, in words."""
    return None if preprocessing is None else arguments.text("preprocessing", preprocessing)
