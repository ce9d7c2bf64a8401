"""Random networks, through everything that can be done with one."""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.fuzz import exports, objective, routes
from tests.fuzz.checks import Checks
from tests.fuzz.kinds import Result, generator
from tests.fuzz.models import Network, random_network

SCHEDULES = (None, None, None, "minibatch_weights", "warm-up")


def run(seed: int, folder: pathlib.Path, prepared: pathlib.Path) -> Result:
    """One network through all routes, and two exports."""
    del prepared
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(seed)
    random = generator("networks", seed)
    checks = Checks()
    try:
        network = random_network(random)
        description = described(network)
        print(description)
        routes.compile_and_fit(checks, network, random)
        if not checks.failures:
            objective.check(checks, network, random)
            routes.check(checks, network, random, folder)
            exports.check(checks, network, random, folder)
    finally:
        keras.config.set_dtype_policy("float32")
    return checks.result("", description)


def described(network: Network) -> str:
    """A network in a few lines, for whoever looks at a failure."""
    lines = [f"{network.style}, {network.policy}, {network.rows} rows", *map(str, network.outputs)]
    for layer in network.model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.layers.InputLayer):
            lines.append(f"  {type(layer).__name__} {_config(layer)}")
    shapes = [np.shape(array) for array in tf.nest.flatten(network.x)]
    return "\n".join([*lines, f"  x of shape {shapes}"])


_TOLD = ("units", "filters", "kernel_size", "strides", "padding", "dilation_rate", "activation")
_TOLD += ("use_bias", "pool_size", "seed", "target_shape", "dims", "unroll", "return_sequences")


def _config(layer: Any) -> dict[str, Any]:
    config = {k: v for k, v in layer.get_config().items() if k in _TOLD}
    for name in ("kernel_prior", "bias_prior", "kernel_posterior", "bias_posterior"):
        if hasattr(layer, name):
            value = getattr(layer, name)
            config[name] = f"{type(value).__name__}{value.get_config()}"
    return config
