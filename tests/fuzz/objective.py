"""The objective of a network, by arithmetic of our own: quadrature, log densities, sums."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.fuzz import answers, laws
from tests.fuzz.checks import Checks, close
from tests.fuzz.models import Network
from tfbnn.layers import scopes
from tfbnn.layers.variational import variational_layers, variational_weights
from tfbnn.weights import noise

# Float32 sums in another order.
_TOLERANCE = 2e-4


def check(checks: Checks, network: Network, random: np.random.Generator) -> None:
    """Compare the two terms of the loss, and the whole of it, with our own."""
    with checks.part("KL of each weight"):
        for weight in variational_weights(network.model):
            _check_kl(weight, int(random.integers(1000)))
    with checks.part("NLL"):
        _check_nll(network, random)
    with checks.part("loss with noise"):
        _check_noisy_loss(network)
    if not _has_other_noise(network.model):
        with checks.part("estimators without noise"):
            _check_estimators(network)


def outputs_of(network: Network, model: Any = None) -> list[np.ndarray]:
    """What a model predicts at the posterior mean, for each output, in float64."""
    predicted = (model or network.model).predict(network.x, verbose=0)
    return [np.asarray(value).astype(np.float64) for value in tf.nest.flatten(predicted)]


def learned_scales(model: Any) -> list[np.ndarray]:
    """For each output the standard deviations that its loss has learned, or their unit, or 1."""
    return [_learned_scale(*_numbers_of(one.loss)) for one in model.likelihoods]


def _numbers_of(loss: Any) -> list[Any]:
    variables = [getattr(loss, f"{name}_variable", None) for name in ("rho", "unit")]
    return [None if v is None else np.asarray(v).astype(np.float64) for v in variables]


def _learned_scale(rho: Any, unit: Any) -> np.ndarray:
    # A unit of 0 is not known yet.
    unit = np.float64(1.0) if unit is None else np.where(unit > 0, unit, 1.0)
    return unit if rho is None else unit * answers.learned_scale(rho)


def own_nll(network: Network, values: list[np.ndarray], sample_weight: Any = None) -> float:
    """Our NLL of the network's targets, in nats per example."""
    return answers.nll(
        network.outputs,
        network.targets,
        values,
        learned_scales(network.model),
        network.model.objective.data_term.weights,
        network.masks,
        sample_weight,
    )


def _check_kl(weight: Any, seed: int) -> None:
    kept = np.ones(weight.shape, bool) if weight.mask is None else weight.mask.numpy() > 0
    loc = weight.loc.numpy().astype(np.float64)[kept]
    scale = laws.softplus(np.asarray(weight.rho_variable).astype(np.float64))[kept]
    draw, kl = weight.draw(noise.as_seed(seed))
    mean, difference, other = weight.perturbation(noise.as_seed(seed))
    if weight.kl_is_exact:
        expected = laws.expected_kl(loc, scale, weight.prior)
        close("KL by quadrature", kl, expected, _TOLERANCE)
        close("KL of moments", weight.kl(), expected, _TOLERANCE)
    else:
        close("KL at the draw", kl, laws.kl_at(draw.numpy()[kept], scale, weight.prior), _TOLERANCE)
    close("KL with a perturbation", other, kl, _TOLERANCE)
    close("draw", draw, mean + difference, 1e-5)
    close("variance", weight.moments(noise.as_seed(seed))[1].numpy()[kept], scale**2, 1e-5)


def _check_nll(network: Network, random: np.random.Generator) -> None:
    weights = _sample_weights(network, random)
    expected = own_nll(network, outputs_of(network), weights)
    given = [weights] * len(network.outputs) if len(network.outputs) > 1 else weights
    found = network.model.evaluate(
        network.x,
        network.targets if len(network.targets) > 1 else network.targets[0],
        sample_weight=given,
        batch_size=7,
        verbose=0,
        return_dict=True,
    )
    close("evaluate: nll", found["nll"], expected, _TOLERANCE)


def _sample_weights(network: Network, random: np.random.Generator) -> np.ndarray | None:
    return random.uniform(0, 2, network.rows).astype(np.float32) if random.random() < 0.4 else None


def _check_noisy_loss(network: Network) -> None:
    model = network.model
    kept = [(v, np.asarray(v)) for v in model.non_trainable_variables]
    targets = network.targets if len(network.targets) > 1 else network.targets[0]
    with scopes.collect_draws() as collector:
        outputs = model(tf.nest.map_structure(tf.convert_to_tensor, network.x), training=True)
        loss = model.compute_loss(network.x, targets, outputs, None, training=True)
        # Those of Keras: penalties of layers and regularizers of what has no law.
        others = sum(float(other) for other in keras.Layer.losses.fget(model))
    values = [np.asarray(value) for value in tf.nest.flatten(outputs)]
    weights = variational_weights(model)
    missing = [w.name for w in weights if w not in collector.divergences]
    if missing:
        raise AssertionError(f"The forward pass did not meet {missing}.")
    kl = sum(float(collector.divergences[weight]) for weight in weights)
    weight = float(model.objective.kl_weight(int(model.optimizer.iterations)))
    expected = own_nll(network, values) + weight * kl + others
    close("loss with noise", loss, expected, _TOLERANCE)
    for variable, value in kept:
        variable.assign(value)


def _has_other_noise(model: Any) -> bool:
    names = ("Dropout", "Noise", "BatchNormalization")
    return any(
        any(name in type(layer).__name__ for name in names) for layer in model._flatten_layers()
    )


def _check_estimators(network: Network) -> None:
    """With standard deviations of nothing, training and inference compute the same."""
    model = network.model
    weights = variational_weights(model)
    kept = [np.asarray(weight.rho_variable) for weight in weights]
    for weight in weights:
        weight.rho_variable.assign(tf.fill(weight.shape, -30.0))
    try:
        x = tf.nest.map_structure(tf.convert_to_tensor, network.x)
        noisy, mean = model(x, training=True), model(x, training=False)
    finally:
        for weight, rho in zip(weights, kept, strict=True):
            weight.rho_variable.assign(rho)
    for one, other in zip(tf.nest.flatten(noisy), tf.nest.flatten(mean), strict=True):
        close("outputs without noise", one, other, tolerance(model))


def tolerance(model: Any) -> float:
    """How far a model's outputs may be off when sums are taken in another order."""
    types = {layer.compute_dtype for layer in model._flatten_layers()}
    sizes = {"float16": 1e-2, "bfloat16": 8e-2}
    return max(sizes.get(dtype, 1e-4) for dtype in types)


def certain(model: Any) -> None:
    """Take all uncertainty out of a posterior, up to what no float32 shows."""
    for layer in variational_layers(model):
        for weight in layer.variational_weights:
            weight.rho_variable.assign(tf.fill(weight.shape, -30.0))
