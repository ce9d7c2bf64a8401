"""Variables of the noise: what a model keeps for targets whose noise is learned or has a unit.

| variable | what | trained |
|---|---|---|
| `noise_rho` | `scale = unit * softplus(rho)`, of `NormalNLL("learned")` | yes |
| `noise_unit` | what the noise is measured in; 0 until the first `fit` knows the data | no |

They are variables of the model, so that they are in its files, copies and traced functions. Each
has one number for each target, or one for all.
"""

from typing import Any

import keras
import numpy as np

from tfbnn.layers.keras_internals import take_away, unlocked
from tfbnn.likelihoods.base import AbstractLikelihood
from tfbnn.likelihoods.normal import NormalNLL
from tfbnn.training import outputs


def learned_noise(likelihoods: list[AbstractLikelihood]) -> list[NormalNLL]:
    """The losses whose scale is a variable of the model."""
    return [one.loss for one in likelihoods if one.noise_is_learned]


def settle_numbers(model: keras.Model, likelihoods: list[AbstractLikelihood]) -> None:
    """Settle how many scales there are, before anything is made.

    A loss may ask for 1 or the number of its targets; any other is a `ValueError`.
    """
    shapes = outputs.shapes(model) or [None] * len(likelihoods)
    for likelihood, shape in zip(likelihoods, shapes, strict=True):
        if not _has_variables(likelihood):
            continue
        loss, known = likelihood.loss, _num_targets(likelihood, shape)
        if loss.num_scales is None:
            # The first `fit` may see how many there are.
            loss.number_is_open = known is None
            loss.num_scales = known or 1
        elif known is not None and loss.num_scales not in (1, known):
            raise ValueError(
                f"`num_scales` must be 1 or the number of targets, {known}. "
                f"Received: num_scales={loss.num_scales}"
            )


def hand_over(
    model: keras.Model, old: list[AbstractLikelihood], new: list[AbstractLikelihood]
) -> None:
    """Give each of the new losses the variables of the old one in its place, or ones of its own.

    A scale that was learned goes on, also where the variables do not fit.
    """
    left = [one.loss for one in old if _has_variables(one)]
    for loss in (one.loss for one in new if _has_variables(one)):
        before = next((one for one in left if one.scale == loss.scale), None)
        if before is not None:
            left.remove(before)
        if before is not None and _layout(before) == _layout(loss):
            loss.rho_variable, loss.unit_variable = before.rho_variable, before.unit_variable
            continue
        _make(model, loss)
        if before is not None:
            _go_on(before, loss)
            left.append(before)
    for variable in (v for loss in left for v in loss.variables):
        take_away(model, variable)


def split(model: keras.Model, loss: NormalNLL, num_scales: int) -> None:
    """Make of the one scale that nothing has been learnt about yet one for each target."""
    for variable in loss.variables:
        take_away(model, variable)
    loss.num_scales, loss.number_is_open = num_scales, False
    with model.distribute_strategy.scope():
        _make(model, loss)


def _has_rho(loss: NormalNLL) -> bool:
    return loss.scale == "learned"


def _has_variables(likelihood: AbstractLikelihood) -> bool:
    return likelihood.noise_is_learned or likelihood.noise_has_unit


def _num_targets(likelihood: AbstractLikelihood, outputs_shape: Any) -> int | None:
    if outputs_shape is None or len(outputs_shape) < 2:
        return None
    return likelihood.targets_shape(outputs_shape)[-1]


def _layout(loss: NormalNLL) -> tuple[bool, int | None]:
    return loss.has_unit, loss.num_scales


def _make(model: keras.Model, loss: NormalNLL) -> None:
    if _has_rho(loss):
        loss.rho_variable = _variable(model, loss, "noise_rho", loss.initial_rho(), trainable=True)
    if loss.has_unit:
        loss.unit_variable = _variable(model, loss, "noise_unit", 0.0, trainable=False)


def _variable(
    model: keras.Model, loss: NormalNLL, name: str, value: float, trainable: bool
) -> keras.Variable:
    with unlocked(model):
        return model.add_weight(
            name=name,
            shape=() if loss.num_scales == 1 else (loss.num_scales,),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            autocast=False,
            trainable=trainable,
        )


def _go_on(before: NormalNLL, loss: NormalNLL) -> None:
    """Let the noise of a loss go on where that of another one was, if the numbers fit."""
    shape = loss.variables[0].shape
    if before.variables[0].shape not in ((), shape):
        return
    if _has_rho(loss) and not at_start(before):
        scale = np.broadcast_to(before.constant_scale().numpy(), shape)
        if loss.has_unit:
            loss.unit_variable.assign(scale)
        loss.assign_scale(scale)
    elif loss.has_unit and before.has_unit:
        loss.unit_variable.assign(np.broadcast_to(_value(before.unit_variable), shape))


def at_start(loss: NormalNLL) -> bool:
    """Whether nothing is known about the noise of a loss: no unit, and nothing learnt."""
    unit = 0.0 if loss.unit_variable is None else _value(loss.unit_variable)
    start = np.float32(loss.initial_rho())
    rho = start if loss.rho_variable is None else _value(loss.rho_variable)
    return bool(np.all(unit == 0) and np.all(rho == start))


def _value(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)
