"""The strategy of a contender that is measured on several devices: parts of the CPU."""

from typing import Any

import tensorflow as tf


def strategy(case: dict[str, Any]) -> tf.distribute.Strategy:
    """TensorFlow's default strategy, or one that mirrors the model over `case["devices"]` CPUs."""
    number = case.get("devices", 1)
    if number == 1:
        return tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * number
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(number)])
