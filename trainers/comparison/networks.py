"""The network of each task, as plain Keras layers, which every route starts from."""

import dataclasses
import functools
from collections.abc import Callable

import keras

from trainers.comparison.tasks import Task


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Convolutions, each with max pooling behind it, and dense layers.

    Attributes:
        filters: Of each convolution.
        window: Size of their windows.
        padding: Of the convolutions.
        widths: Units of each hidden dense layer.
    """

    filters: tuple[int, ...] = ()
    window: int = 3
    padding: str = "same"
    widths: tuple[int, ...] = ()


ARCHITECTURES = {
    "digits": Architecture(filters=(16, 32), widths=(64,)),
    "moons": Architecture(widths=(50, 50)),
    # LeNet-5.
    "mnist": Architecture(filters=(6, 16), window=5, padding="valid", widths=(120, 84)),
}

Build = Callable[..., keras.Sequential]


def builder(task: Task, architecture: Architecture | None = None) -> Build:
    """A function that makes an untrained network for a task; `dropout` is its only argument."""
    return functools.partial(_network, architecture or ARCHITECTURES[task.name], task)


def _network(architecture: Architecture, task: Task, dropout: float = 0.0) -> keras.Sequential:
    layers = []

    def add(*made: keras.layers.Layer) -> None:
        layers.extend(made)
        if dropout:
            layers.append(keras.layers.Dropout(dropout))

    for filters in architecture.filters:
        window, padding = architecture.window, architecture.padding
        add(
            keras.layers.Conv2D(filters, window, padding=padding, activation="relu"),
            keras.layers.MaxPooling2D(),
        )
    layers.append(keras.layers.Flatten())
    for width in architecture.widths:
        add(keras.layers.Dense(width, activation="relu"))
    layers.append(keras.layers.Dense(task.num_classes))
    return keras.Sequential([keras.Input(task.train[0].shape[1:]), *layers], name=task.name)
